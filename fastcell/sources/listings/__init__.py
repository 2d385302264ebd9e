"""What a source lists: its cells as columns."""
