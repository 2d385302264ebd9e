"""What a trained network looks at, how calibrated it is, and where it is wrong."""
