"""Marks that people set on cells of a data set: corrected labels, unsure cells, tags, and the history of verdicts."""
