"""Explain a trained network: regions it uses, layer outputs, calibration and most confident errors."""
