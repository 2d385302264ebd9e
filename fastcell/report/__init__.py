"""Scores, figures and tables of data sets and runs."""
