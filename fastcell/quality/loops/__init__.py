"""Compiled loops of `fastcell.quality.features`: pixels to a grid, its segmentation, its numbers."""
