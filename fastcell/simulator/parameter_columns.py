"""Names of the parameters of a synthetic cell: columns of the parameter rows and of ``truth.parquet``."""

from __future__ import annotations

from enum import IntEnum, auto


class F(IntEnum):
    """Columns of a parameter row (float64).

    Unless stated otherwise, lengths are in frame units (0 to 1 along each axis), angles in radians, and brightness in
    grey levels.
    """

    @staticmethod
    def _generate_next_value_(name: str, start: int, count: int, last_values: list[int]) -> int:
        return count  # columns count from 0

    class_index = auto()
    """Index in :data:`fastcell.simulator.cell_classes.CLASSES`."""
    recording = auto()
    """Index in the table of recordings."""
    defect = auto()
    """Index in :data:`fastcell.simulator.cell_classes.DEFECTS`; 0 for a good cell."""
    height = auto()
    """Height of the image in pixels."""
    width = auto()
    """Width of the image in pixels."""
    diameter_um = auto()
    deformation = auto()
    """Logarithm of height / width of the cell, without the stretch of the frame."""
    irregularity = auto()
    """Standard deviation of the contour's radius, relative to the radius."""
    nucleus_ratio = auto()
    """Radius of the nucleus / radius of the cell."""
    nucleus_contrast = auto()
    """Grey levels of the nucleus relative to the body around it."""
    density = auto()
    """Brightness (collection 1) or darkness (collection 2) of the body, as a share of 100 grey levels."""
    granularity = auto()
    """Standard deviation of the inner texture in grey levels."""
    rim_width = auto()
    """Width of the rim in radii of the cell."""
    center_x = auto()
    center_y = auto()
    half_width = auto()
    half_height = auto()
    tilt = auto()
    relief = auto()
    """1: asymmetric detection, which gives a relief (collection 1); 0: bright field (collection 2)."""
    amplitude = auto()
    """Factor on the brightness inside the cell."""
    background = auto()
    focus = auto()
    """Half width of the cell's edge; smaller values are sharper."""
    rim = auto()
    side = auto()
    """Relative difference between the left and the right part of the rim."""
    halo = auto()
    shadow = auto()
    shadow_angle = auto()
    light_angle = auto()
    nucleus_x = auto()
    """Position of the nucleus relative to the cell's centre, in radii of the cell."""
    nucleus_y = auto()
    grain = auto()
    """Pixels of the texture tile per radius of the cell."""
    texture_x = auto()
    texture_y = auto()
    wave_2 = auto()
    """Relative amplitude of the contour's second harmonic; the next three columns are the third to fifth."""
    wave_3 = auto()
    wave_4 = auto()
    wave_5 = auto()
    phase_2 = auto()
    phase_3 = auto()
    phase_4 = auto()
    phase_5 = auto()
    bleb_size = auto()
    """Size of a bleb in radii of the cell; 0 for none."""
    bleb_angle = auto()
    debris = auto()
    """Depth of a speck beside the cell in grey levels; 0 for none."""
    debris_x = auto()
    debris_y = auto()
    stripes = auto()
    """Standard deviation of the stripes."""
    noise = auto()
    """Standard deviation of the noise."""
    drift = auto()
    """Drift along x, largest minus smallest level."""
    drift_phase = auto()
    band = auto()
    """Difference by which rows between band_top and band_bottom are brighter."""
    band_top = auto()
    band_bottom = auto()
    stripe_at = auto()
    noise_x = auto()
    noise_y = auto()
    defect_strength = auto()
    """Defocused: sigma of the blur; cut: share of the cell outside the frame; ghost: share of the contrast; else 0."""
    partner_x = auto()
    """Doublet and ghost: centre of the second body."""
    partner_y = auto()
    partner_scale = auto()
