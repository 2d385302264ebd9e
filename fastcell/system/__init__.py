"""Resources of the process, settings of libraries, worker processes, progress and messages."""
