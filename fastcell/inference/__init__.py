"""Compute class probabilities of cells with a trained network."""
