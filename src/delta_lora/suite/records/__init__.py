"""What runs leave behind: records, finished phases, intact checkpoints."""
