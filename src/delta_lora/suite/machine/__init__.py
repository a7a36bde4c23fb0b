"""What a run finds on this machine: processes, GPUs, locks, memory and disk."""
