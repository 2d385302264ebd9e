"""Atomic file writes, locks, staging folders, and saved pieces of long commands."""
