"""From the command line to a checked cell and its key."""
