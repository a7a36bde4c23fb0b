"""What a sweep will cost, and what it downloads."""
