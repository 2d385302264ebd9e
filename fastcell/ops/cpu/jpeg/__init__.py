"""Compiled loops that decode grey baseline JPEG, many cells in a call, to the bits that libjpeg-turbo gives."""
