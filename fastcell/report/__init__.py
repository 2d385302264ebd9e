"""One self-contained HTML page about a run, its data and its comparisons."""
