"""Column indices of the features, named like `fastcell.quality.features.FEATURES` in capitals."""

from __future__ import annotations

(
    HEIGHT, WIDTH, MEAN_INTENSITY, BACKGROUND, BACKGROUND_SPREAD, NOISE, SATURATED_LOW, SATURATED_HIGH, CONTRAST, SNR,
    FOCUS, SHARPNESS, SPECTRAL_SLOPE, FOREGROUND, BORDER_CONTACT, FLAT_SIDE, OBJECTS, SECOND_OBJECT, NECK, SOLIDITY,
    ELONGATION, GHOST,
) = range(22)  # fmt: skip
