"""Files that appear whole or not at all, locks, staging folders and saved pieces of long commands."""
