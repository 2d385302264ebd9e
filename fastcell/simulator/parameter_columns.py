"""Names of the numbers that describe one synthetic cell: columns of the parameter rows, and of ``truth.parquet``."""

from __future__ import annotations

from enum import IntEnum, auto


class F(IntEnum):
    """Columns of a parameter row (float64). Unless said otherwise lengths are in frame units (0 to 1 along each side),
    angles in radians, brightness in grey levels."""

    @staticmethod
    def _generate_next_value_(name: str, start: int, count: int, last_values: list[int]) -> int:
        return count  # columns count from 0

    class_index = auto()
    """Index in :data:`fastcell.simulator.simulate.CLASSES`."""
    recording = auto()
    """Index in the table of recordings."""
    defect = auto()
    """Index in :data:`fastcell.simulator.simulate.DEFECTS`; 0 for a good cell."""
    height = auto()
    """Of the image, pixels."""
    width = auto()
    """Of the image, pixels."""
    diameter_um = auto()
    deformation = auto()
    """Logarithm of height / width of the cell, beyond the frame's own stretch."""
    irregularity = auto()
    """Standard deviation of the contour's radius, relative."""
    nucleus_ratio = auto()
    """Radius of the nucleus / radius of the cell."""
    nucleus_contrast = auto()
    """Grey levels of the nucleus above the body around it."""
    density = auto()
    """Brightness (collection 1) or darkness (collection 2) of the body, share of 100 grey levels."""
    granularity = auto()
    """Standard deviation of the inner texture, grey levels."""
    rim_width = auto()
    """In radii of the cell."""
    center_x = auto()
    center_y = auto()
    half_width = auto()
    half_height = auto()
    tilt = auto()
    relief = auto()
    """1: asymmetric detection shows as a relief (collection 1); 0: bright field (collection 2)."""
    amplitude = auto()
    """Factor on everything inside the cell."""
    background = auto()
    focus = auto()
    """Half width of the cell's edge; the smaller, the sharper."""
    rim = auto()
    side = auto()
    """Relative difference between the rim's left and right."""
    halo = auto()
    shadow = auto()
    shadow_angle = auto()
    light_angle = auto()
    nucleus_x = auto()
    """In radii of the cell, from its centre."""
    nucleus_y = auto()
    grain = auto()
    """Texture tile pixels per radius of the cell."""
    texture_x = auto()
    texture_y = auto()
    wave_2 = auto()
    """Relative amplitude of the contour's second harmonic; the next three follow."""
    wave_3 = auto()
    wave_4 = auto()
    wave_5 = auto()
    phase_2 = auto()
    phase_3 = auto()
    phase_4 = auto()
    phase_5 = auto()
    bleb_size = auto()
    """In radii of the cell; 0 for none."""
    bleb_angle = auto()
    debris = auto()
    """Depth of a speck beside the cell; 0 for none."""
    debris_x = auto()
    debris_y = auto()
    stripes = auto()
    """Standard deviation."""
    noise = auto()
    """Standard deviation."""
    drift = auto()
    """Along x, largest minus smallest level."""
    drift_phase = auto()
    band = auto()
    """Rows between band_top and band_bottom are this much brighter."""
    band_top = auto()
    band_bottom = auto()
    stripe_at = auto()
    noise_x = auto()
    noise_y = auto()
    defect_strength = auto()
    """Defocused: sigma of the blur; cut: part of the cell outside; ghost: part of the contrast left; else 0."""
    partner_x = auto()
    """Doublet and ghost: the second body's centre."""
    partner_y = auto()
    partner_scale = auto()
