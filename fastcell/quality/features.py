"""Physical features of single cells that describe image quality: focus, contrast, cuts, number of cells.

The features use two scales. Levels, focus and size are measured on the original pixels of the cell. Shapes, sharpness
and spectrum are measured on the cell resampled to a grid of 64 x 64 points (area averages, or linear interpolation of
smaller cells). They are therefore shares of the frame and comparable across frame sizes. The background is modelled
from the outermost lines of the grid: its level, and its changes by row and by column (bands, stripes, drift, channel
walls).

Sources: variance of the Laplacian as a measure of focus, Pech-Pacheco et al., ICPR 2000, doi 10.1109/ICPR.2000.903548;
spectral slope of images, Field, JOSA A 4:2379 (1987), doi 10.1364/JOSAA.4.002379.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed

import numpy as np
import numpy.typing as npt
import scipy.fft

from fastcell.dataset.decode import decode
from fastcell.dataset.manifest import Manifest
from fastcell.dataset.shard_reader import ShardFiles, Stored
from fastcell.errors import BadCell, DataError, invalid
from fastcell.quality.loops.grid import SIDE
from fastcell.quality.loops.pixels import measure_pixels
from fastcell.quality.loops.segment import foreground
from fastcell.quality.loops.shape import measure_shapes
from fastcell.quality.loops.spectrum import measure_ghosts, measure_slope
from fastcell.system.worker_processes import num_threads

FEATURES: tuple[str, ...] = (
    "height",
    "width",
    "mean_intensity",
    "background",
    "background_spread",
    "noise",
    "saturated_low",
    "saturated_high",
    "contrast",
    "snr",
    "focus",
    "sharpness",
    "spectral_slope",
    "foreground",
    "border_contact",
    "flat_side",
    "objects",
    "second_object",
    "neck",
    "solidity",
    "elongation",
    "ghost",
)
"""Columns of `cell_features`. Grey levels are 8-bit (16-bit cells: after the window).

height, width: size of the image [px].
mean_intensity: [grey levels].
background: median of the outermost frame of pixels [grey levels].
background_spread: 1.4826 x median absolute deviation of that frame's pixels from it [grey levels].
noise: robust spread of the outer eighth of the grid after background subtraction, at least 0.5 [grey levels].
saturated_low, saturated_high: share of the pixels at 0 and at 255.
contrast: 99 % quantile of the distance from the background, on the grid [grey levels].
snr: log10(contrast / noise).
focus: log10(variance of the 4-neighbour Laplacian + 0.1), on the original pixels [squared grey levels].
sharpness: 99.5 % quantile of the gradient on the grid / contrast [1 / grid line].
spectral_slope: slope of ln power over ln frequency, 2 to 24 periods per frame; lower values mean more blur.
foreground: share of the frame that differs from the background.
border_contact: largest share of an edge of the frame that an object covers.
flat_side: largest filled share of an object's outermost rows and columns; near 1 if a straight edge cuts the object,
    either that of the frame or one inside a padded frame.
objects: number of foreground objects; those below a quarter of the largest area do not count.
second_object: area of the second largest object / area of the largest.
neck: narrowness of the largest object between two thick parts: 0 for one part, up to 0.8 for two that just touch.
solidity: area of the largest object / area of its convex hull.
elongation: ratio of the axes of the ellipse with the same second moments, on the square grid.
ghost: highest second peak of the autocorrelation of the edges, as a share of the first; a displaced copy raises it.
"""

_CHUNK = 128  # number of cells whose grids are in memory at the same time
_PART_CELLS = 1024
_PART_PIXELS = 1 << 24
_MASK_CLOSE, _MASK_GROW = 6, 3  # grid points
_WINDOW = np.hanning(SIDE + 2)[1:-1].astype(np.float32)

ReportProgress = Callable[[int], object]


def cell_features(
    pixels: npt.NDArray[np.uint8],
    offsets: npt.NDArray[np.int64],
    heights: npt.NDArray[np.int32],
    widths: npt.NDArray[np.int32],
) -> npt.NDArray[np.float32]:
    """Measure the features of cells in one thread, which releases the interpreter lock most of the time.

    Args:
        pixels: uint8 1-D, pool of cells of different sizes, each stored row by row.
        offsets: (n,) int64, start of each cell in `pixels`.
        heights, widths: (n,) int32 [px], >= 1.

    Returns:
        (n, F) float32, columns as in `FEATURES`; finite for any pixels.

    Raises:
        ArgumentError: a cell has no pixels or lies outside the pool.
    """
    pixels = np.ascontiguousarray(pixels, np.uint8)
    starts = np.ascontiguousarray(offsets, np.int64)
    sides = [np.ascontiguousarray(side, np.int32) for side in (heights, widths)]
    if len(starts):
        area = sides[0].astype(np.int64) * sides[1]
        if min(sides[0].min(), sides[1].min()) < 1:
            raise invalid("heights and widths", "at least 1", int(min(map(np.min, sides))), "Leave empty cells out")
        if starts.min() < 0 or (starts + area).max() > len(pixels):
            raise invalid("offsets", "offsets of cells in the pool", int(starts.max()), "Give the pool they belong to")
    out = np.empty((len(starts), len(FEATURES)), np.float32)
    for begin in range(0, len(starts), _CHUNK):
        part = slice(begin, begin + _CHUNK)
        _measure_chunk(pixels, starts[part], sides[0][part], sides[1][part], out[part])
    return out


def _measure_chunk(
    pixels: np.ndarray, offsets: np.ndarray, heights: np.ndarray, widths: np.ndarray, out: np.ndarray
) -> None:
    grids = np.empty((len(offsets), SIDE, SIDE), np.float32)
    flats = np.empty_like(grids)
    measure_pixels(pixels, offsets, heights, widths, grids, out)
    measure_shapes(grids, _WINDOW, flats, out)
    spectrum = scipy.fft.rfft2(flats)
    power = (spectrum.real**2 + spectrum.imag**2).astype(np.float32, copy=False)
    measure_slope(power, grids, out)
    measure_ghosts(scipy.fft.rfft2(grids), out)


def background_mask(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    """Return a mask of the pixels that certainly show background.

    The mask may miss background, but should not contain cell. Around all foreground, bright or dark, a margin of 3/64
    of each edge also counts as cell (its halo, its blurred edge). If cells fill the frame, the mask may be empty.

    Args:
        pixels: (H, W) uint8.

    Returns:
        (H, W) bool, True for background.
    """
    height, width = pixels.shape
    grid = np.empty((1, SIDE, SIDE), np.float32)
    out = np.empty((1, len(FEATURES)), np.float32)
    size = (np.array([height], np.int32), np.array([width], np.int32))
    measure_pixels(np.ascontiguousarray(pixels, np.uint8).ravel(), np.zeros(1, np.int64), *size, grid, out)
    grown = np.empty((SIDE, SIDE), np.uint8)
    foreground(grid[0], _MASK_CLOSE, _MASK_GROW, grown)
    # A pixel is background if all grid points that it covers are background.
    rows, columns = (_covered(side) for side in (height, width))
    dirty = np.maximum.reduceat(grown, rows[0], axis=0) | grown[rows[1]]
    dirty = np.maximum.reduceat(dirty, columns[0], axis=1) | dirty[:, columns[1]]
    return dirty == 0


def _covered(side: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the first and the last grid line that each of `side` pixels covers, (side,) int64 each."""
    pixel = np.arange(side)
    first = pixel * SIDE // side
    last = np.maximum(((pixel + 1) * SIDE - 1) // side, first)
    return first, last


def measure_cells(
    manifest: Manifest,
    rows: npt.ArrayLike | None = None,
    jobs: int | None = None,
    *,
    problems: dict[int, str] | None = None,
    report: ReportProgress | None = None,
) -> npt.NDArray[np.float32]:
    """Measure the features of cells of a data set; threads read, decode and measure some hundred cells at a time.

    Args:
        manifest: data set in either layout.
        rows: (n,) cell_ids in any order; None measures all cells.
        jobs: number of threads; None for one per CPU.
        problems: filled with the reason by cell_id of each cell that cannot be read. With None, a warning gives their
            number.
        report: function that receives the number of cells measured since its last call.

    Returns:
        (n, F) float32 in the order of `rows`, columns as in `FEATURES`; NaN for a cell that cannot be read.

    Raises:
        ArgumentError: `jobs` is not a number of threads, or a row is not a cell_id of the data set.
    """
    threads = num_threads(jobs)
    wanted = np.arange(len(manifest)) if rows is None else np.asarray(rows, np.int64).reshape(-1)
    ids, back = np.unique(wanted, return_inverse=True)
    if len(ids) and (ids[0] < 0 or ids[-1] >= len(manifest)):
        raise invalid("rows", f"cell_ids from 0 to {len(manifest) - 1}", int(ids[-1]), "Give cells of this data set")
    out = np.full((len(ids), len(FEATURES)), np.nan, np.float32)
    bad: dict[int, str] = {}
    own = threading.local()

    def work(part: slice) -> int:
        if not hasattr(own, "files"):
            own.files = ShardFiles(manifest, {})
        _measure_part(manifest, own.files, ids[part], out[part], bad)
        return part.stop - part.start

    with ThreadPoolExecutor(threads) as pool:
        try:
            for future in as_completed([pool.submit(work, part) for part in _parts(manifest, ids)]):
                done = future.result()
                if report is not None:
                    report(done)
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    if problems is not None:
        problems.update(sorted(bad.items()))
    elif bad:
        cell_id, reason = min(bad.items())
        warnings.warn(
            f"{len(bad):,} of {len(ids):,} cells cannot be read, the first is cell_id {cell_id}: {reason}", stacklevel=2
        )
    return out[back]


def _parts(manifest: Manifest, ids: np.ndarray) -> list[slice]:
    """Return slices of `ids` with at most `_PART_CELLS` cells and, for more than one cell, `_PART_PIXELS` pixels."""
    area = manifest.column("height").astype(np.int64)[ids] * manifest.column("width")[ids]
    ends = np.cumsum(area)
    parts, begin = [], 0
    while begin < len(ids):
        most = np.searchsorted(ends, (ends[begin - 1] if begin else 0) + _PART_PIXELS, side="right")
        end = min(max(int(most), begin + 1), begin + _PART_CELLS)
        parts.append(slice(begin, end))
        begin = end
    return parts


def _measure_part(manifest: Manifest, files: ShardFiles, ids: np.ndarray, out: np.ndarray, bad: dict[int, str]) -> None:
    columns = manifest.select_cells(["encoding", "height", "width"], ids)
    encodings = columns.column("encoding").to_pylist()
    sizes = list(zip(*(columns.column(name).to_pylist() for name in ("height", "width")), strict=True))
    stored = files.read(ids)
    cells, places = [], []
    for place, (cell_id, encoding, size) in enumerate(zip(ids.tolist(), encodings, sizes, strict=True)):
        try:
            cells.append(_pixels(stored, place, cell_id, encoding, size, manifest))
            places.append(place)
        except (BadCell, DataError) as error:
            bad[cell_id] = error.reason if isinstance(error, BadCell) else str(error)
    if cells:
        heights, widths = (np.array([cell.shape[axis] for cell in cells], np.int32) for axis in (0, 1))
        area = heights.astype(np.int64) * widths
        pool = np.concatenate([cell.ravel() for cell in cells])
        out[places] = cell_features(pool, np.cumsum(area) - area, heights, widths)


def _pixels(
    stored: Stored, place: int, cell_id: int, encoding: str, size: tuple[int, int], manifest: Manifest
) -> np.ndarray:
    """Return the pixels of one cell, (H, W) uint8.

    Raises:
        BadCell: the cell is corrupt, or its size differs from that in the manifest.
    """
    if cell_id in stored.reasons:
        raise BadCell(stored.reasons[cell_id])
    data = stored.bytes_of(place)
    if manifest.info.layout == "block" or encoding == "raw":
        return data.reshape(size)
    window = None if manifest.info.window is None else (manifest.info.window[0], manifest.info.window[1])
    pixels = decode(data.tobytes(), encoding, window).pixels
    if pixels.shape != size:
        raise BadCell(f"{pixels.shape[1]} x {pixels.shape[0]} pixels, {size[1]} x {size[0]} in the manifest")
    return pixels
