"""Simulate ATOM cells of the four classes of Meng et al. 2019 (doi 10.1109/JBHI.2018.2878878).

The simulated cells make it possible to try, test and time every function without real data. **They are not a
measurement of real cells**: an accuracy on them shows that a program works, not how well real cells can be classified.

Measured values and their samples
---------------------------------
30 real cells were measured once: 8 THP1 and 8 PBMC of collection 1, 8 MCF7 and 6 MB231 of collection 2. They are the
samples in the paper's released code, where they were resized to 128 x 128. Background: the median of the outermost 12
pixels. The column and row means outside the cell were separated into a slow part (drift, bands) and the rest (stripes).
The spread and autocorrelation of the residual describe the noise. Cell: the contour where the image differs from the
background by 25 grey levels, and its width and height; mean brightness as a function of the radius from 0.1 to 1.5
contour radii, and as a function of direction at 0.85 and 1.12 contour radii; spread within 0.65 of the radius after
subtraction of the image smoothed by a Gaussian of 5 pixels (texture). `MEASURED` holds the results, `MORPHOLOGY` and
`OPTICS` the values that the simulator derives from them. Size limits, counts, and the collections of each class are
taken from the paper.

Assumptions
-----------
The samples show each class in one collection only. THP1 in collection 2 and MCF7 in collection 1 are simulated from
their morphology with the optics of the other collection. Diameters in micrometres are textbook values; the pixel pitch
is computed from them and the measured cells. It differs between x and y because the flow stretches the frames, so
`um_per_px` of a synthetic cell is unknown. The original frame sizes of the samples are not available; the median frame
size of each collection is set so that cells fill the measured share of a frame. Every sample uses the full range of
grey levels. The simulated cells do the same, with amplitudes that depend on the background. The background depends on
collection and recording, never on the class. Three properties of the samples are not simulated: the shifted and padded
frames of PBMC (an augmentation), burst cells, and the difference in background level between THP1 and PBMC (which is
attributed to the recordings, not to the classes).

Difficulty
----------
The difficulty was fixed from the parameters alone, before any image was classified. The spreads within a class are
multiplied by `SPREAD`. A linear discriminant on the true parameters (the eight of `MORPHOLOGY`, with size as the share
of the frame, and one rule per collection) then classifies 98.1 % of the good cells of unseen recordings correctly (97.8
to 98.5 % over four seeds). The quadratic discriminant gives the same accuracy. An image classifier sees these
parameters through focus, texture, noise and JPEG. Among the defects, an `empty` frame contains no information on its
class and a `ghost` almost none, but both keep their label, as in a raw recording. With the default of 5 % defects the
class of 2 % of all cells can only be guessed, and accuracy is limited to about 0.97.

Recordings (`group`) hold one class each, as a tube holds one cell line. There are 10 or 20 per class and collection, of
unequal size, each with its own illumination, focus, frame size and biological offset. Cell `i` depends on (seed, i)
alone: its pixels do not depend on the number of workers or cells.
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
        key: name in the form of a path, unique in the series, e.g. ``run-1-03/THP1/00000017.jpg``.
        class_name: one of `CLASSES`.
        group: name of the recording.
        collection: ``collection-1`` or ``collection-2``.
        defect: one of `DEFECTS`.
        pixels: (H, W) uint8.
        parameters: (len(F),) float64, the true parameters, with columns as in `F`.
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
    """All R recordings of one seed, in the order of `STRATA`.

    Attributes:
        groups: R names such as ``run-1-03``.
        collections: R names.
        class_index: (R,) int64, index in `CLASSES`.
        upper: (R,) float64, cumulative share of the cells; the last value is 1.
        offsets: (R, 8) float64, means of `MORPHOLOGY` in each recording.
        optics: (R, 11) float64, means of `OPTICS` in each recording.
    """

    groups: tuple[str, ...]
    collections: tuple[str, ...]
    class_index: npt.NDArray[np.int64]
    upper: npt.NDArray[np.float64]
    offsets: npt.NDArray[np.float64]
    optics: npt.NDArray[np.float64]


@lru_cache(maxsize=8)
def recordings(seed: int) -> Recordings:
    """Return the recordings of `seed`. The recording of a cell is determined by (seed, index)."""
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
    """Return `seed` as an int.

    Raises:
        ArgumentError: If `seed` is not a whole number from 0 to 2**63 - 1.
    """
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or not 0 <= seed < 2**63:
        raise invalid("seed", "a whole number from 0 to 2**63 - 1", seed, "Give another seed")
    return int(seed)


def draw_parameters(
    indices: npt.ArrayLike, seed: int = 0, defect_share: float = DEFAULT_DEFECT_SHARE
) -> npt.NDArray[np.float64]:
    """Draw the true parameters of cells without rendering their images.

    Args:
        indices: (n,) whole numbers >= 0, in any order.
        seed: 0 to 2**63 - 1.
        defect_share: share of frames with a defect, 0 to 1.

    Returns:
        (n, len(F)) float64, with columns as in `F`.

    Raises:
        ArgumentError: If an index, the seed or the share is out of range.
    """
    wanted = np.array(indices, dtype=np.int64)  # a copy, because numba would compile again for a read-only array
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
    """Return noise and stripes for both collections, and texture: of unit variance, from one seed for all series."""
    rng = np.random.Generator(np.random.Philox(_ATLAS_SEED))

    def unit(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
        return np.ascontiguousarray((values - values.mean()) / values.std(), dtype=np.float32)

    def smooth(values: npt.NDArray[np.float64], sigma_x: float, sigma_y: float, lines: float = 0.0) -> _Plane:
        """Apply a periodic Gaussian filter in Fourier space; `lines` > 0 amplifies changes from row to row."""
        fy, fx = np.meshgrid(np.fft.fftfreq(values.shape[0]), np.fft.fftfreq(values.shape[1]), indexing="ij")
        gain = np.exp(-2 * math.pi**2 * (fx * sigma_x) ** 2) * np.exp(-2 * math.pi**2 * (fy * sigma_y) ** 2)
        gain *= 1 + lines * (1 - np.cos(2 * math.pi * fy))
        return np.fft.ifft2(np.fft.fft2(values) * gain).real

    # The autocorrelation of the residual at one pixel of the square is 0.8 along x in both collections, because the
    # sampling there is finer than the optical resolution. Across, neighbouring rows differ more than white noise would
    # (0.6 to 0.8 after resizing).
    white = rng.standard_normal(_NOISE_SHAPE)
    relief_noise, bright_noise = unit(smooth(white, 2.0, 0.0, lines=2.5)), unit(smooth(white, 2.5, 0.0, lines=0.6))
    line = rng.standard_normal((1, _NOISE_SHAPE[1]))
    relief_stripes, bright_stripes = unit(smooth(line, 1.9, 0.0))[0], unit(smooth(line, 2.6, 0.0))[0]
    tile = rng.standard_normal((_TEXTURE_SIDE, _TEXTURE_SIDE))
    texture = unit(smooth(tile, 1.5, 1.5) - smooth(tile, 5.0, 5.0))
    return relief_noise, bright_noise, relief_stripes, bright_stripes, texture


def draw_cell(parameters: npt.NDArray[np.float64]) -> npt.NDArray[np.uint8]:
    """Render one cell from a row of `draw_parameters`.

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
    """Yield the cells `indices` of the series `seed`, in that order.

    Args:
        indices: whole numbers >= 0.
        seed: 0 to 2**63 - 1.
        defect_share: share of frames with a defect, 0 to 1.

    Raises:
        ArgumentError: If an index, the seed or the share is out of range.
    """
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
    """Return an iterator over cells 0 to num_cells - 1 of the series `seed`.

    A longer series begins with the cells of a shorter one.

    Args:
        num_cells: >= 0.
        seed: 0 to 2**63 - 1.
        defect_share: 0 to 1, share of empty, cut, defocused, ghost and doublet frames, in equal parts.

    Raises:
        ArgumentError: If an argument is out of range.
    """
    if num_cells < 0:
        raise invalid("cells", "a whole number >= 0", num_cells, "Give how many cells to make")
    return make_cells(range(num_cells), seed, defect_share)
