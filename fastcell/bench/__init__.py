"""What this machine does with the cells, and which part limits it."""
