"""Formats that other installed packages read."""
