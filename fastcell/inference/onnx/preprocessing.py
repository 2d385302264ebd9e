"""Preprocessing of a raw cell in torch for torch's ONNX exporter: `fastcell.ops.cpu.transform` without augmentation.

Without a rotation the affine map works on each axis by itself, so the square is ``Wy (cell - pivot) Wx^T + pivot`` with
one matrix of tap weights per axis: the hat of linear interpolation, or the triangle of the antialias filter. The pivot
is the grey level outside of the cell, or any level of the cell where its edge continues; a cell of one level gives that
level exactly.

Source points are whole multiples of a fraction of a pixel, which keeps them exact for every size of a cell. Height and
width are tensors, because the exporter assumes that a variable side has at least 2 pixels: it would resolve a Python
comparison under this assumption, which is wrong for cells of one pixel.
"""

from __future__ import annotations

import math

import torch

from fastcell.errors import invalid
from fastcell.loading.preprocessing import Preprocessing
from fastcell.ops.constants import EPS

_PIXEL_FRACTIONS = 1 << 20  # of a source point with fit scale, whose pixel size is no ratio of whole numbers


def source_px_per_output_px(preprocessing: Preprocessing, um_per_px: float | None) -> float:
    """Return raw pixels per output pixel for ``fit="scale"``; 1 for other fits, which use the size of the cell.

    Raises:
        ArgumentError: `um_per_px` is required but missing, or not positive.
    """
    scale = preprocessing.scale_um_per_px
    if preprocessing.fit != "scale" or scale is None:
        return 1.0
    if um_per_px is None:
        raise invalid(
            "--um-per-px",
            f"given for a model with {scale:g} micrometres per pixel (fit scale)",
            None,
            "A graph applies to one instrument: give the micrometres per pixel of its images",
        )
    if not (math.isfinite(um_per_px) and um_per_px > 0):
        raise invalid("--um-per-px", "above 0", um_per_px, "Give micrometres per pixel of the cells")
    return scale / um_per_px


class CellPreprocessing(torch.nn.Module):
    """Module from raw cells of one size to the input images of the network.

    Args:
        preprocessing: preprocessing of the model.
        scale: result of `source_px_per_output_px`.
    """

    def __init__(self, preprocessing: Preprocessing, scale: float) -> None:
        super().__init__()
        self.preprocessing = preprocessing
        self.scale = scale

    def forward(self, cell: torch.Tensor) -> torch.Tensor:
        """Return the (N, 1, S, S) float32 images of (N, 1, H, W) uint8 or uint16 cells; N, H and W >= 1."""
        return normalize_square(*self.square(cell), self.preprocessing.normalization)[:, None]

    def square(self, cell: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the grey levels of each cell minus its pivot, (N, S, S) float32, and the pivots, (N, 1, 1)."""
        preprocessing = self.preprocessing
        grey = cell[:, 0].to(torch.float32)
        if preprocessing.depth == 16:
            grey = grey / 257
        height, width = grey.shape[1:]
        pivot = grey[:, :1, :1] if preprocessing.fit == "stretch" else _border_median(grey)
        longest = torch.maximum(_whole(height), _whole(width))
        down = _tap_weights(height, longest, preprocessing, self.scale)
        across = _tap_weights(width, longest, preprocessing, self.scale)
        return down @ (grey - pivot) @ across.T, pivot


def _tap_weights(length: int, longest: torch.Tensor, preprocessing: Preprocessing, scale: float) -> torch.Tensor:
    """Return the share of each source pixel in each output pixel along one axis, (S, length) float32.

    The centre of output pixel x is `centre` / `unit` pixels from that of source pixel 0. A row sums to less than 1 if
    part of the output pixel is outside the cell.
    """
    size, fit, side = preprocessing.image_size, preprocessing.fit, _whole(length)
    odd = 2 * torch.arange(size)[:, None] + 1
    if fit == "scale":
        unit = _PIXEL_FRACTIONS
        start = (((odd - size).to(torch.float64) / 2 * scale - 0.5) * unit).round().to(torch.int64)
        centre = side * (unit // 2) + start
        span = _whole(round(scale * unit))
    else:  # in units of half an output pixel's share
        unit = 2 * size
        steps, span = (odd, side) if fit == "stretch" else (odd - size, longest)
        centre = span * steps - size
        if fit == "contain":
            centre = centre + side * size
        span = span * 2
    if fit == "stretch":
        centre = torch.minimum(centre.clamp(min=0), (side - 1) * unit)
    reach = span.clamp(min=unit) if preprocessing.antialias else _whole(unit)
    places = torch.arange(length) * unit
    weights = (reach - (centre - places).abs()).clamp(min=0).to(torch.float32)
    if not preprocessing.antialias:
        return weights / unit
    if fit == "stretch":
        return weights / weights.sum(dim=1, keepdim=True)
    # Pixels outside the cell count too: the sum of the triangle over all whole pixels, left and right of the centre,
    # in closed form. A floor division takes seven nodes of the graph, a remainder one.
    within = torch.remainder(centre, unit)
    left, right = reach - within, reach + within
    left_pixels, right_pixels = left - torch.remainder(left, unit), right - torch.remainder(right, unit)
    every = (left_pixels + unit) * (2 * left - left_pixels) + right_pixels * (2 * right - right_pixels - unit)
    return weights / (every.to(torch.float32) / (2 * unit))


def _border_median(grey: torch.Tensor) -> torch.Tensor:
    """Return `fastcell.ops.border.border_median` of (N, H, W) cells in 8-bit levels, (N, 1, 1) float32."""
    height, width = grey.shape[1:]
    row, infinite = torch.arange(height), torch.full((1,), torch.inf)
    inner = (row > 0) & (row < height - 1)
    frame = (
        grey[:, 0],
        torch.where(_whole(height) > 1, grey[:, -1], infinite),
        torch.where(inner, grey[:, :, 0], infinite),
        torch.where(inner & (_whole(width) > 1), grey[:, :, -1], infinite),
    )
    levels = torch.cat(frame, dim=1).sort(dim=1).values
    num = (levels[0] < torch.inf).sum()  # the same for all cells of a batch
    middle = (num + torch.arange(-1, 1)) // 2
    return (levels.index_select(1, middle).round().sum(dim=1) * 0.5)[:, None, None]


def normalize_square(square: torch.Tensor, pivot: torch.Tensor, mode: str) -> torch.Tensor:
    """Normalise by the mean of the image.

    Args:
        square: (N, S, S) float32, grey levels minus the pivot.
        pivot: (N, 1, 1) float32, pivots from `CellPreprocessing.square`.
        mode: one of `fastcell.ops.constants.MODES`.

    Returns:
        (N, S, S) float32.
    """
    mean = square.mean(dim=(1, 2), keepdim=True)
    if mode == "divide":
        return (square + pivot) / (mean + pivot).clamp(min=EPS)
    centred = square - mean
    if mode == "subtract":
        return centred
    return centred / (centred * centred).mean(dim=(1, 2), keepdim=True).sqrt().clamp(min=EPS)


def _whole(number: int) -> torch.Tensor:
    return torch.full((1,), number, dtype=torch.int64)
