"""Cells in memory: conversion to the grey levels of a run, in one array, and to input images of its network."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Any, NamedTuple

import numpy as np

from fastcell.dataset.grey_window import Window, window_table
from fastcell.errors import invalid
from fastcell.loading.preprocessing import Preprocessing
from fastcell.ops.border import border_median
from fastcell.ops.cpu.transform import transform_pool
from fastcell.ops.matrices import matrices
from fastcell.sources.load_cells import on_host, without_channel_axis

_MOST_8_BIT = 255
_LEVELS_16_BIT = 257  # grey levels of 16 bits per grey level of 8 bits


class GreyCells(NamedTuple):
    """Cells of different sizes, stored one after another in one array.

    Attributes:
        pixels: (P,) uint8, or uint16 with 65535 for grey level 255.
        heights, widths: (N,) int32 [px].
        border: (N,) float32, grey level 0 to 255 outside each cell; None for the fit ``stretch``, which needs none.
    """

    pixels: np.ndarray
    heights: np.ndarray
    widths: np.ndarray
    border: np.ndarray | None

    def __len__(self) -> int:
        return len(self.heights)

    def images(self, preprocessing: Preprocessing, um_per_px: np.ndarray | float | None, threads: int) -> np.ndarray:
        """Return the preprocessed images (N, 1, S, S) float32.

        Args:
            preprocessing: preprocessing of the run, the same that `grey_cells` received.
            um_per_px: micrometres per pixel, one number or one per cell; NaN or None if unknown. Used by the fit
                ``scale``.
            threads: threads that share the cells.
        """
        num, size = len(self), preprocessing.image_size
        sizes = self.heights.astype(np.int64) * self.widths
        zeros = np.zeros(num, np.float32)
        return transform_pool(
            self.pixels,
            np.cumsum(sizes) - sizes,
            self.heights,
            self.widths,
            matrices(
                self.heights,
                self.widths,
                size,
                preprocessing.fit,
                scale_um_per_px=preprocessing.scale_um_per_px,
                um_per_px=um_per_px,
            ),
            np.full(num, np.nan, np.float32) if self.border is None else self.border,
            zeros,
            zeros,
            zeros.astype(np.uint64),
            np.empty((num, 1, size, size), np.float32),
            preprocessing.normalization,
            threads,
            preprocessing.antialias,
        )


def cell_arrays(values: Any) -> Sequence[np.ndarray] | np.ndarray:
    """Return cells given as arrays as N arrays (H, W).

    Args:
        values: (N, H, W), (N, 1, H, W) or (N, H, W, 1) array or tensor; one cell (H, W); or a list of such cells of any
            sizes, each with or without an axis of one channel.

    Raises:
        ArgumentError: a cell is not grey, has no pixels, has masked pixels, or is not an array.
    """
    values = as_array(values)
    if isinstance(values, np.ndarray) and values.dtype != object:
        if values.shape == (0,):
            return []
        _refuse_mask(values, "X")
        images = values[None] if values.ndim == 2 else without_channel_axis(values, "X", "(N, H, W)")
        if len(images) and not images[0].size:
            raise invalid("X", "images of at least 1 pixel", images.shape, "Leave empty images out")
        return np.asarray(images)
    if isinstance(values, str | bytes | Mapping | Set) or not isinstance(values, Iterable):
        rule = "an array (N, H, W), a list of cells (H, W), or paths of files"
        raise invalid("X", rule, type(values).__name__, "Convert it")
    cells = []
    for number, value in enumerate(values):
        value = on_host(value)
        _refuse_mask(value, f"X[{number}]")
        cell = np.asarray(value)
        if cell.ndim == 3:
            cell = without_channel_axis(cell[None], f"X[{number}]", "(H, W)")[0]
        if cell.ndim != 2 or not cell.size:
            raise invalid(f"X[{number}]", "a grey image (H, W)", f"{cell.dtype} {cell.shape}", "Leave it out")
        cells.append(cell)
    return cells


def as_array(values: Any) -> Any:
    """Return a tensor, or another object with an array interface, as an array, and anything else unchanged."""
    values = on_host(values)
    if isinstance(values, np.ndarray | list | tuple):
        return values
    return np.asarray(values) if hasattr(values, "__array__") or hasattr(values, "__array_interface__") else values


def _refuse_mask(values: Any, name: str) -> None:
    if isinstance(values, np.ma.MaskedArray) and np.ma.is_masked(values):
        raise invalid(name, "without masked pixels", f"{np.ma.count_masked(values):,} of them", "Fill them: .filled()")


def grey_cells(
    cells: Sequence[np.ndarray] | np.ndarray, preprocessing: Preprocessing, window: Window, first: int = 0
) -> GreyCells:
    """Convert arrays to the grey levels of a run and store them in one array.

    8-bit cells are used unchanged. 16-bit cells are mapped by `window`, as ``fastcell pack --window`` does.

    Args:
        cells: N arrays (H, W) uint8 or uint16; other types if all values are whole numbers from 0 to 255.
        preprocessing: preprocessing of the run.
        window: grey levels (low, high) of 16-bit cells that become black and white.
        first: number of the first cell, for messages.

    Raises:
        ArgumentError: a 16-bit cell has no window, or values of a cell are not grey levels.
    """
    depth = preprocessing.depth
    if isinstance(cells, np.ndarray) and cells.dtype == np.uint8:
        levels: Sequence[np.ndarray] | np.ndarray = cells
    else:
        levels = [_levels(cell, window, 8, first + number) for number, cell in enumerate(cells)]
    border = None
    if preprocessing.fit != "stretch":
        border = np.array([border_median(cell) for cell in levels], np.float32)
    if depth != 8:
        levels = [_levels(cell, window, depth, first + number) for number, cell in enumerate(cells)]
    if isinstance(levels, np.ndarray):
        num, height, width = levels.shape
        pixels, heights, widths = levels.reshape(-1), np.full(num, height, np.int32), np.full(num, width, np.int32)
        return GreyCells(np.ascontiguousarray(pixels), heights, widths, border)
    sides = np.array([cell.shape for cell in levels], np.int32).reshape(-1, 2)
    dtype = np.uint8 if depth == 8 else np.uint16
    pixels = np.concatenate([cell.ravel() for cell in levels]) if len(levels) else np.empty(0, dtype)
    return GreyCells(pixels, sides[:, 0].copy(), sides[:, 1].copy(), border)


def _levels(cell: np.ndarray, window: Window, depth: int, number: int) -> np.ndarray:
    if cell.dtype == np.uint16 and window is None:
        got = f"16-bit levels from {cell.min()} to {cell.max()}"
        hint = "Give the grey levels that become black and white: window=(LOW, HIGH)"
        raise invalid(f"X[{number}]", "8 bit, as the cells that the run was trained on", got, hint)
    if cell.dtype == np.uint16:
        assert window is not None
        return window_table(float(window[0]), float(window[1]), depth)[cell]
    if cell.dtype != np.uint8:
        whole = cell.astype(np.uint8) if cell.dtype.kind in "iuf" and _is_8_bit(cell) else None
        if whole is None or not np.array_equal(whole, cell):
            got = f"values of type {cell.dtype}{_range_of(cell)}"
            raise invalid(f"X[{number}]", "uint8 or uint16 grey levels", got, "Convert it as the training cells were")
        cell = whole
    return cell if depth == 8 else cell.astype(np.uint16) * np.uint16(_LEVELS_16_BIT)


def _range_of(cell: np.ndarray) -> str:
    """Return words for the range of numbers; empty for other values."""
    if cell.dtype.kind not in "iuf":
        return ""
    if not np.isfinite(cell).all():
        return " that are NaN or infinite"
    return f" from {cell.min():g} to {cell.max():g}"


def _is_8_bit(cell: np.ndarray) -> bool:
    return bool(cell.min() >= 0 and cell.max() <= _MOST_8_BIT)
