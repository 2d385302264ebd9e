"""Gather, save, count and convert tables of predictions."""
