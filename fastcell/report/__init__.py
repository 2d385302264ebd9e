"""Write a run, its data and its comparisons to one self-contained HTML page."""
