"""Compiled loops of `fastcell.quality.features`: resampling to a grid, segmentation and measurement."""
