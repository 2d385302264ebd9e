"""Compiled loops that decode many grey baseline JPEG images per call, bit-identical to libjpeg-turbo."""
