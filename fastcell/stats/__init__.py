"""Scores, intervals, calibration and permutation tests; arrays in, numbers out."""
