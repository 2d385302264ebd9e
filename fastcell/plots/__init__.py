"""Basic figures and how figures are written to files."""
