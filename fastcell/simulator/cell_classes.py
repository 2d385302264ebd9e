"""Constants of the simulated cells: classes, recordings, morphology and optics, as measured on real cells."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

CLASSES = ("MB231", "MCF7", "PBMC", "THP1")
DEFECTS = ("none", "empty", "cut", "defocused", "ghost", "doublet")
MIN_SIZE = (21, 102)
"""Smallest height and width in pixels (the range of raw images in the paper)."""
MAX_SIZE = (68, 440)
JPEG_QUALITY = 75
"""JPEG quality of the real files: they contain the standard luminance table at quality 75 (8 6 5 8 12 20 26 31 ...)."""
STRATA = (
    # collection, class, cells in the released data (table in the paper), simulated recordings
    ("collection-1", "THP1", 56_969, 10),
    ("collection-1", "MCF7", 8_483, 10),
    ("collection-1", "PBMC", 21_223, 20),
    ("collection-2", "THP1", 200_951, 20),
    ("collection-2", "MCF7", 374_427, 20),
    ("collection-2", "MB231", 343_394, 20),
)
MEASURED = {
    # Smallest and largest value over the samples of each collection, in grey levels or as shares of the frame. Darkest
    # and brightest are relative to the background. Excluded: PBMC_01 (rotated), PBMC_07 (cut), MCF7_04 (debris),
    # MCF7_08 (two cells), MB231_03 (burst).
    "collection-1": {
        "background": (41, 118),
        "noise": (1.3, 2.8),
        "stripes": (0.8, 3.1),
        "column_drift": (2.0, 8.2),
        "row_drift": (0.9, 4.4),
        "width": (0.23, 0.41),
        "height": (0.32, 0.59),
        "darkest": (-117, -40),
        "brightest": (136, 211),
        "center": (34, 114),
        "rim": (46, 98),
    },
    "collection-2": {
        "background": (168, 198),
        "noise": (1.5, 2.2),
        "stripes": (1.2, 3.1),
        "column_drift": (3.4, 17.4),
        "row_drift": (7.6, 11.3),
        "width": (0.20, 0.27),
        "height": (0.39, 0.47),
        "darkest": (-187, -167),
        "brightest": (55, 87),
        "center": (-72, -13),
        "rim": (-118, -88),
    },
}
"""``center`` is the mean at 0.2 to 0.4 contour radii, ``rim`` the mean at 0.8, both relative to the background."""
SPREAD = 0.75
"""Factor on the spreads below, which include the error of the contour at 128 x 128 pixels."""
RECORDING_SPREAD = 0.3
"""Spread of the offsets of recordings, in units of the spread within a class."""
MORPHOLOGY = {
    # Mean and measured spread within the class for    MB231, MCF7, PBMC, THP1
    "ln_diameter_um": ((2.741, 0.10), (2.833, 0.10), (2.219, 0.12), (2.565, 0.10)),
    "deformation": ((0.13, 0.08), (0.05, 0.08), (-0.03, 0.09), (-0.03, 0.08)),
    "ln_irregularity": ((-3.270, 0.35), (-3.730, 0.35), (-3.442, 0.35), (-2.996, 0.35)),
    "nucleus_ratio": ((0.50, 0.09), (0.45, 0.09), (0.72, 0.08), (0.62, 0.08)),
    "nucleus_contrast": ((-8.0, 14.0), (6.0, 12.0), (2.0, 12.0), (-20.0, 12.0)),
    "density": ((0.38, 0.10), (0.24, 0.09), (0.85, 0.13), (0.40, 0.11)),
    "ln_granularity": ((2.890, 0.28), (2.639, 0.28), (2.197, 0.28), (2.773, 0.28)),
    "rim_width": ((0.30, 0.045), (0.19, 0.040), (0.20, 0.040), (0.23, 0.040)),
}
"""Units as in `F`; ``ln_`` marks natural logarithms."""
UM_TO_PX = (4.37, 1.31)
"""Pixels per micrometre along x and y, computed from the measured shares and the median frame sizes."""
OPTICS = {
    # Mean, spread between recordings, spread within a recording.
    "collection-1": {
        "ln_height": (math.log(35.0), 0.07, 0.07),
        "ln_width": (math.log(150.0), 0.07, 0.07),
        "background": (82.0, 19.0, 4.0),
        "ln_focus": (math.log(0.0155), 0.13, 0.10),
        "halo": (9.0, 2.0, 3.0),
        "ln_noise": (math.log(2.4), 0.15, 0.12),
        "ln_stripes": (math.log(1.7), 0.25, 0.22),
        "ln_drift": (math.log(2.5), 0.25, 0.30),
        "band": (2.2, 0.8, 0.6),
        "rim": (60.0, 5.0, 9.0),
        "shadow_angle": (-0.30, 0.12, 0.25),
    },
    "collection-2": {
        "ln_height": (math.log(52.0), 0.05, 0.05),
        "ln_width": (math.log(300.0), 0.06, 0.06),
        "background": (190.0, 8.0, 4.0),
        "ln_focus": (math.log(0.0072), 0.13, 0.10),
        "halo": (66.0, 5.0, 5.0),
        "ln_noise": (math.log(1.95), 0.10, 0.10),
        "ln_stripes": (math.log(1.6), 0.25, 0.22),
        "ln_drift": (math.log(4.2), 0.30, 0.35),
        "band": (9.0, 0.8, 0.6),
        "rim": (100.0, 6.0, 9.0),
        "shadow_angle": (0.0, 0.0, 0.0),
    },
}


def morphology_of(class_name: str, column: int) -> npt.NDArray[np.float64]:
    """Return the means (column 0) or spreads (column 1) of `MORPHOLOGY` for a class, (8,) float64."""
    place = CLASSES.index(class_name)
    return np.array([pairs[place][column] for pairs in MORPHOLOGY.values()], np.float64)


def optics_of(collection: str, column: int) -> npt.NDArray[np.float64]:
    """Return means (column 0), or spreads between (1) or within recordings (2), of `OPTICS`, (11,) float64."""
    return np.array([values[column] for values in OPTICS[collection].values()], np.float64)
