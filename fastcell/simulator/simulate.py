"""Simulated ATOM cells of the four classes of Meng et al. 2019 (doi 10.1109/JBHI.2018.2878878).

They exist so that everything can be tried, tested and timed with no data at hand. **They measure nothing real**: an
accuracy on them says whether a program works, never how well real cells can be told apart.

What is measured, and on what
-----------------------------
30 real cells (8 THP1 and 8 PBMC of collection 1, 8 MCF7 and 6 MB231 of collection 2: the samples of the paper's
released code, resized there to 128 x 128) were measured once. Background: the median of the outermost 12 pixels; its
column and row means away from the cell, their slow part (drift, bands) and the rest (stripes); spread and
autocorrelation of what is left (noise). Cell: the contour at 25 grey levels off the background and its sides; mean
brightness by radius from 0.1 to 1.5 contour radii, and by side at 0.85 and 1.12; spread of the inner 0.65 of the
radius after a Gaussian of 5 pixels is taken away (texture). `MEASURED` holds what came out, `MORPHOLOGY` and `OPTICS`
what the simulator makes of it. Size limits, counts and which class is in which collection are the paper's.

What is assumed
---------------
The samples show each class in one collection only. THP1 in collection 2 and MCF7 in collection 1 are drawn from their
morphology through the other collection's optics. Diameters in micrometres are textbook sizes; the pixel pitch follows
from them and the measured cells. It differs along x and y (the flow stretches the frames), so `um_per_px` of a
synthetic cell is unknown. The samples' raw sizes are lost: the medians by collection are set so that cells take the
measured share of a frame. Every sample uses the full range of grey levels, and so do simulated cells, by amplitudes
tied to the background; the background depends on collection and recording, never on the class. Three things in the
samples are left out: the shifted, padded frames of PBMC (an augmentation), burst cells, and background levels that
differ between THP1 and PBMC (recordings, not classes, are taken to be the cause).

How hard it is
--------------
Fixed from the parameters alone, before any image was classified: with the spreads within a class times `SPREAD`, a
linear discriminant on the true parameters (the eight of `MORPHOLOGY`, size as the share of the frame, one rule for
each collection) is right for 98.1 % of good cells of recordings that it has not seen (97.8 to 98.5 % over four seeds;
the quadratic one likewise). An image classifier sees these parameters through focus, texture, noise and JPEG. Of the
defects, an `empty` frame holds nothing and a `ghost` next to nothing of its class, but both keep their label, as in a
raw recording: with the default 5 % of defects 2 % of all cells are a guess, and accuracy ends near 0.97.

Recordings (`group`) hold one class each, as a tube holds one cell line: 10 or 20 per class and collection, of unequal
size, each with its illumination, focus, frame size and a biological offset. Cell `i` follows from (seed, i) alone:
same pixels whatever the number of workers and of cells.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
import numpy.typing as npt

from fastcell.errors import invalid
from fastcell.simulator import render
from fastcell.simulator.cell_classes import (
    CLASSES,
    DEFECTS,
    JPEG_QUALITY,
    MAX_SIZE,
    MIN_SIZE,
    MORPHOLOGY,
    RECORDING_SPREAD,
    SPREAD,
    STRATA,
    UM_TO_PX,
    morphology_of,
    optics_of,
)
from fastcell.simulator.parameter_columns import F
from fastcell.simulator.sample_parameters import draw_rows

GENERATOR = "synthetic-atom 1"
DEFAULT_DEFECT_SHARE = 0.05
_ATLAS_SEED = 20190905
_NOISE_SHAPE = (192, 1536)
_TEXTURE_SIDE = 256


@dataclass(frozen=True)
class SyntheticCell:
    """One simulated cell.

    Attributes:
        index: number of the cell in its series, >= 0.
        key: path-like name, unique in the series, e.g. ``run-1-03/THP1/00000017.jpg``.
        class_name: one of `CLASSES`.
        group: the recording.
        collection: ``collection-1`` or ``collection-2``.
        defect: one of `DEFECTS`.
        pixels: (H, W) uint8.
        parameters: (len(F),) float64, the latent truth, columns as in `F`.
    """

    index: int
    key: str
    class_name: str
    group: str
    collection: str
    defect: str
    pixels: npt.NDArray[np.uint8]
    parameters: npt.NDArray[np.float64]

    def encode(self) -> bytes:
        """Return the cell as a grey JPEG of quality `JPEG_QUALITY`."""
        done, data = cv2.imencode(".jpg", self.pixels, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
        if not done:
            raise RuntimeError("OpenCV cannot write JPEG")
        return data.tobytes()


@dataclass(frozen=True)
class Recordings:
    """All recordings of one seed, R of them in the order of `STRATA`.

    Attributes:
        groups: R names such as ``run-1-03``.
        collections: R names.
        class_index: (R,) int64, index in `CLASSES`.
        upper: (R,) float64, cumulative share of the cells, the last one 1.
        offsets: (R, 8) float64, the recording's means of `MORPHOLOGY`.
        optics: (R, 11) float64, the recording's means of `OPTICS`.
    """

    groups: tuple[str, ...]
    collections: tuple[str, ...]
    class_index: npt.NDArray[np.int64]
    upper: npt.NDArray[np.float64]
    offsets: npt.NDArray[np.float64]
    optics: npt.NDArray[np.float64]


@lru_cache(maxsize=8)
def recordings(seed: int) -> Recordings:
    """Return the recordings of `seed`. Which cell falls into which is settled by (seed, index)."""
    rng = np.random.Generator(np.random.Philox(key=[check_series_seed(seed), 1]))
    total = sum(cells for _, _, cells, _ in STRATA)
    groups, collections, labels, shares, offsets, optics = [], [], [], [], [], []
    run = {"collection-1": 0, "collection-2": 0}
    for collection, name, cells, count in STRATA:
        sizes = np.exp(0.2 * rng.standard_normal(count))
        shares.extend(cells / total * sizes / sizes.sum())
        for _ in range(count):
            run[collection] += 1
            groups.append(f"run-{collection[-1]}-{run[collection]:02d}")
            collections.append(collection)
            labels.append(CLASSES.index(name))
            spread = SPREAD * RECORDING_SPREAD * morphology_of(name, 1)
            offsets.append(morphology_of(name, 0) + spread * np.clip(rng.standard_normal(len(MORPHOLOGY)), -2, 2))
            mean, spread = optics_of(collection, 0), optics_of(collection, 1)
            optics.append(mean + spread * np.clip(rng.standard_normal(len(mean)), -2, 2))
    upper = np.cumsum(shares)
    upper[-1] = 1.0
    return Recordings(
        tuple(groups), tuple(collections), np.array(labels, np.int64), upper, np.array(offsets), np.array(optics)
    )


def check_series_seed(seed: int) -> int:
    """`seed`, a whole number from 0 to 2**63 - 1. Raises ArgumentError where it is none."""
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or not 0 <= seed < 2**63:
        raise invalid("seed", "a whole number from 0 to 2**63 - 1", seed, "Give another seed")
    return int(seed)


def draw_parameters(
    indices: npt.ArrayLike, seed: int = 0, defect_share: float = DEFAULT_DEFECT_SHARE
) -> npt.NDArray[np.float64]:
    """Draw the true parameters of some cells, without drawing the cells.

    Args:
        indices: (n,) whole numbers >= 0, in any order.
        seed: 0 to 2**63 - 1.
        defect_share: 0 to 1.

    Returns:
        (n, len(F)) float64, columns as in `F`.

    Raises:
        ArgumentError: an index, the seed or the share is out of range.
    """
    wanted = np.array(indices, dtype=np.int64)  # a copy: a read-only array would be compiled for once more
    if wanted.ndim != 1 or (wanted.size and wanted.min() < 0):
        raise invalid("indices", "a list of whole numbers >= 0", indices, "Count cells from 0")
    if not 0 <= defect_share <= 1:
        raise invalid("defects", "a share from 0 to 1", defect_share, f"The default is {DEFAULT_DEFECT_SHARE}")
    made = recordings(seed)
    rows = np.zeros((len(wanted), len(F)), np.float64)
    draw_rows(
        wanted, np.uint64(check_series_seed(seed)), float(defect_share), made.upper, made.class_index,
        np.array([float(name == "collection-1") for name in made.collections]), made.offsets,
        np.stack([SPREAD * morphology_of(name, 1) for name in CLASSES]), made.optics,
        np.stack([optics_of(name, 2) for name in made.collections]), np.array([*MIN_SIZE, *MAX_SIZE], np.float64),
        np.array(UM_TO_PX), rows,
    )  # fmt: skip
    return rows


_Plane = npt.NDArray[np.float64]


@lru_cache(maxsize=1)
def _atlases() -> tuple[npt.NDArray[np.float32], ...]:
    """Noise of both collections, stripes of both, texture: fixed, unit variance, from one seed for all series."""
    rng = np.random.Generator(np.random.Philox(_ATLAS_SEED))

    def unit(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
        return np.ascontiguousarray((values - values.mean()) / values.std(), dtype=np.float32)

    def smooth(values: npt.NDArray[np.float64], sigma_x: float, sigma_y: float, lines: float = 0.0) -> _Plane:
        """Periodic Gaussian filter by Fourier transform; `lines` > 0 lifts what changes from row to row."""
        fy, fx = np.meshgrid(np.fft.fftfreq(values.shape[0]), np.fft.fftfreq(values.shape[1]), indexing="ij")
        gain = np.exp(-2 * math.pi**2 * (fx * sigma_x) ** 2) * np.exp(-2 * math.pi**2 * (fy * sigma_y) ** 2)
        gain *= 1 + lines * (1 - np.cos(2 * math.pi * fy))
        return np.fft.ifft2(np.fft.fft2(values) * gain).real

    # The residual's autocorrelation at one pixel of the square is 0.8 along x in both collections: sampling there is
    # finer than the optics. Across, neighbouring rows differ more than white noise would (0.6 to 0.8 after resizing).
    white = rng.standard_normal(_NOISE_SHAPE)
    relief_noise, bright_noise = unit(smooth(white, 2.0, 0.0, lines=2.5)), unit(smooth(white, 2.5, 0.0, lines=0.6))
    line = rng.standard_normal((1, _NOISE_SHAPE[1]))
    relief_stripes, bright_stripes = unit(smooth(line, 1.9, 0.0))[0], unit(smooth(line, 2.6, 0.0))[0]
    tile = rng.standard_normal((_TEXTURE_SIDE, _TEXTURE_SIDE))
    texture = unit(smooth(tile, 1.5, 1.5) - smooth(tile, 5.0, 5.0))
    return relief_noise, bright_noise, relief_stripes, bright_stripes, texture


def draw_cell(parameters: npt.NDArray[np.float64]) -> npt.NDArray[np.uint8]:
    """Draw one cell from a row of `draw_parameters`.

    Args:
        parameters: (len(F),) float64.

    Returns:
        (H, W) uint8 grey levels.
    """
    row = parameters
    relief_noise, bright_noise, relief_stripes, bright_stripes, texture = _atlases()
    relief, defect, strength = row[F.relief] > 0.5, DEFECTS[int(row[F.defect])], row[F.defect_strength]
    layer = np.zeros((int(row[F.height]), int(row[F.width])), np.float32)
    if defect != "empty":
        weights = np.empty((render.NUM_ANGLES + 1, 5), np.float32)
        profiles = np.empty((render.NUM_RADII + 1, 5), np.float32)
        render.draw_body(row, layer, texture, weights, profiles)
        if defect in ("doublet", "ghost"):
            partner = row.copy()
            partner[F.center_x], partner[F.center_y] = row[F.partner_x], row[F.partner_y]
            partner[[F.half_width, F.half_height]] *= row[F.partner_scale]
            partner[[F.texture_x, F.texture_y]] += 97.0
            partner[[F.phase_2, F.phase_3, F.phase_4, F.phase_5]] += 2.0
            render.draw_body(partner, layer, texture, weights, profiles)
        render.draw_debris(row, layer)
    if defect in ("defocused", "ghost"):
        blur = strength if defect == "defocused" else 0.012
        sizes = blur * layer.shape[1], blur * layer.shape[0]
        cv2.GaussianBlur(layer, (0, 0), dst=layer, sigmaX=sizes[0], sigmaY=sizes[1], borderType=cv2.BORDER_REPLICATE)
    if defect == "ghost":
        layer *= strength / 2
    out = np.empty(layer.shape, np.uint8)
    noise, stripes = (relief_noise, relief_stripes) if relief else (bright_noise, bright_stripes)
    render.compose(row, layer, noise, stripes, out)
    return out


def make_cells(
    indices: Iterable[int], seed: int = 0, defect_share: float = DEFAULT_DEFECT_SHARE
) -> Iterator[SyntheticCell]:
    """Yield the cells `indices` of the series `seed`, in that order. Arguments and errors as in `draw_parameters`."""
    wanted = np.fromiter(indices, np.int64)
    made = recordings(seed)
    for start in range(0, len(wanted), 1024):
        chunk = wanted[start : start + 1024]
        for index, row in zip(chunk, draw_parameters(chunk, seed, defect_share), strict=True):
            recording, name = int(row[F.recording]), CLASSES[int(row[F.class_index])]
            group = made.groups[recording]
            yield SyntheticCell(
                int(index), f"{group}/{name}/{index:08d}.jpg", name, group, made.collections[recording],
                DEFECTS[int(row[F.defect])], draw_cell(row), row,
            )  # fmt: skip


def simulate(num_cells: int, seed: int = 0, defect_share: float = DEFAULT_DEFECT_SHARE) -> Iterator[SyntheticCell]:
    """Yield cells 0 to num_cells - 1 of the series `seed`: a longer series begins with the shorter one.

    Args:
        num_cells: >= 0.
        seed: 0 to 2**63 - 1.
        defect_share: 0 to 1, share of empty, cut, defocused, ghost and doublet frames, in equal parts.

    Raises:
        ArgumentError: an argument is out of range.
    """
    if num_cells < 0:
        raise invalid("cells", "a whole number >= 0", num_cells, "Give how many cells to make")
    return make_cells(range(num_cells), seed, defect_share)
