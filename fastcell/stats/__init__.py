"""Statistics on NumPy arrays: scores, intervals, calibration and permutation tests."""
