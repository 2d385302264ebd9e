"""Basic figures, and functions that write figures to files."""
