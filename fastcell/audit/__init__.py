"""Audit of a data set: class information outside the cell, and doubtful labels."""
