"""What the process runs on: resources, library settings, worker processes, progress and messages."""
