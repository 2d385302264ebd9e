"""What a classifier could read from a data set besides the cell, and what makes labels doubtful."""
