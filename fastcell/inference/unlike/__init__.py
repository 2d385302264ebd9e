"""Cells unlike those of training: image features, statistics of training cells, scores and reasons."""
