"""Sample of cells for an audit, read once: small images, quality features, background, extent and file properties."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from fastcell.audit.background import BACKGROUND_FEATURES, background_features
from fastcell.audit.file_properties import file_settings, plain_sizes
from fastcell.dataset.decode import decode
from fastcell.dataset.manifest import Manifest
from fastcell.dataset.rows.cell_groups import CellGroups
from fastcell.dataset.shard_reader import ShardFiles
from fastcell.errors import BadCell
from fastcell.quality.features import FEATURES, background_mask, cell_features
from fastcell.system.progress_line import Progress
from fastcell.system.text import natural_key
from fastcell.system.worker_processes import num_threads

SAMPLE_SIDE = 32
_LEAST_PER_STRATUM = 50
_MARGIN = 6 / 64  # added by background_mask around a cell, both sides together
_PART = 512


@dataclass(frozen=True)
class CellSample:
    """n cells of a data set in acquisition order: by collection, group, class and natural order of keys.

    Attributes:
        rows: (n,) int64, cell_ids.
        keys: (n,) str.
        labels: (n,) int64, -1 = none.
        classes: K names.
        groups: (n,) str, empty = none; None if no cell of the sample has a group.
        collections: (n,) str, empty = none; None if no cell of the sample has a collection.
        images: (n, 32, 32) uint8, stretched.
        quality: (n, F) float32, columns as in `fastcell.quality.features.FEATURES`.
        backgrounds: (n, B) float32, columns as in `BACKGROUND_FEATURES`; NaN if too little background is visible.
        extents: (n, 3) float32: number of foreground pixels, height and width of the cells' bounding box [px]; NaN if
            there are none.
        settings: (n,) str, see `file_settings`; also depth and channels.
        file_bytes: (n, 4) float64: stored bytes, bytes outside the pixel data, and the two numbers of `plain_sizes`.
        grey: (K + 1, 32, 32) float64, sum of background grey levels by class, unlabelled last.
        weight: (K + 1, 32, 32) float64, amount of background in that sum.
        num_bad: number of cells that could not be read and are left out.
    """

    rows: npt.NDArray[np.int64]
    keys: npt.NDArray[np.str_]
    labels: npt.NDArray[np.int64]
    classes: list[str]
    groups: npt.NDArray[np.str_] | None
    collections: npt.NDArray[np.str_] | None
    images: npt.NDArray[np.uint8]
    quality: npt.NDArray[np.float32]
    backgrounds: npt.NDArray[np.float32]
    extents: npt.NDArray[np.float32]
    settings: npt.NDArray[np.str_]
    file_bytes: npt.NDArray[np.float64]
    grey: npt.NDArray[np.float64]
    weight: npt.NDArray[np.float64]
    num_bad: int = 0

    def __len__(self) -> int:
        return len(self.rows)

    def feature(self, name: str) -> npt.NDArray[np.float32]:
        """Return one column of `FEATURES`, (n,)."""
        return self.quality[:, FEATURES.index(name)]


def names_of(manifest: Manifest, column: str) -> npt.NDArray[np.str_] | None:
    """Return a column as (N,) str, empty for null; None if every cell is null."""
    groups = CellGroups.of(manifest.table.column(column))
    return None if groups is None else groups[:]


def choose_rows(manifest: Manifest, most: int, seed: int = 0) -> npt.NDArray[np.int64]:
    """Choose about `most` cell_ids, or all if there are fewer, in ascending order.

    Each class of each recording gets cells in proportion to its size, but at least 50, or all if it has fewer. If
    `most` is too small for 50 each, this minimum is lower. Cells that ``verdicts.csv`` drops are left out.
    """
    rows = np.flatnonzero(manifest.verdicts())
    if len(rows) <= most:
        return rows
    strata = _strata(manifest)[rows]
    rng = np.random.default_rng([seed, 0xA0D17])
    order = np.lexsort((rng.random(len(rows)), strata))
    counts = np.bincount(strata)
    floor = max(1, min(_LEAST_PER_STRATUM, most // max(1, int((counts > 0).sum()))))
    quota = np.minimum(counts, np.maximum(np.floor(counts * (most / len(rows))), floor)).astype(np.int64)
    spare = int(quota.sum()) - most
    while spare > 0:  # take from large strata the cells that raise small ones to the floor
        large = np.flatnonzero(quota > floor)
        if not len(large):
            break
        cut = np.ceil((quota[large] - floor) * min(1.0, spare / (quota[large] - floor).sum())).astype(np.int64)
        quota[large] -= cut
        spare = int(quota.sum()) - most
    place = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
    return np.sort(rows[order[place < quota[strata[order]]]])


def _strata(manifest: Manifest) -> npt.NDArray[np.int64]:
    code = manifest.labels + 1
    for column in ("group", "collection"):
        names = names_of(manifest, column)
        if names is not None:
            _, part = np.unique(names, return_inverse=True)
            _, code = np.unique(code * (part.max() + 1) + part, return_inverse=True)
    return np.asarray(code).reshape(-1)


def acquisition_order(
    labels: np.ndarray, groups: np.ndarray | None, collections: np.ndarray | None, keys: np.ndarray
) -> npt.NDArray[np.int64]:
    """Return the order (n,) by collection, group and class, then by the natural order of keys (2 before 10)."""
    named = [column for column in (collections, groups) if column is not None]
    texts = [np.unique(column, return_inverse=True)[1].reshape(-1) for column in named]
    decorated = [natural_key(key) for key in keys.tolist()]
    by_key = np.array(sorted(range(len(keys)), key=decorated.__getitem__), np.int64)
    return by_key[np.lexsort([labels[by_key], *(text[by_key] for text in reversed(texts))])]


def read_sample(
    manifest: Manifest, rows: npt.NDArray[np.int64], jobs: int | None = None, verbose: bool = False
) -> CellSample:
    """Read and measure cells; unreadable cells are left out and counted.

    Args:
        manifest: data set in either layout.
        rows: (n,) cell_ids, increasing.
        jobs: number of threads; None for one per CPU.
        verbose: if True, print rate and remaining time to stderr.

    Raises:
        ArgumentError: `jobs` is not a number of threads.
    """
    num, num_classes = len(rows), len(manifest.info.classes)
    columns = manifest.select_cells(["encoding", "height", "width", "depth", "channels", "key"], rows)
    facts = {name: columns.column(name).to_numpy(zero_copy_only=False) for name in columns.column_names}
    out = _Arrays(num, num_classes)
    own = threading.local()

    def work(begin: int) -> int:
        if not hasattr(own, "files"):
            own.files = ShardFiles(manifest, {})
        return _read_part(manifest, own.files, rows, facts, slice(begin, min(begin + _PART, num)), out)

    threads = num_threads(jobs)
    with (
        Progress(num, "cells", show=verbose, warmup=threads) as progress,
        ThreadPoolExecutor(threads) as pool,
    ):
        try:
            for future in as_completed([pool.submit(work, begin) for begin in range(0, num, _PART)]):
                progress.advance(future.result())
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    labels = manifest.cell_labels[rows]
    groups, collections = (
        None if names is None else names[rows]
        for names in (names_of(manifest, "group"), names_of(manifest, "collection"))
    )
    keys = facts["key"].astype(str)
    order = acquisition_order(labels, groups, collections, keys)
    order = order[out.good[order]]
    return CellSample(
        rows=rows[order],
        keys=keys[order],
        labels=labels[order],
        classes=list(manifest.info.classes),
        groups=None if groups is None or not (groups != "").any() else groups[order],
        collections=None if collections is None or not (collections != "").any() else collections[order],
        images=out.images[order],
        quality=out.quality[order],
        backgrounds=out.backgrounds[order],
        extents=out.extents[order],
        settings=out.settings[order].astype(str),
        file_bytes=out.file_bytes[order],
        grey=out.grey,
        weight=out.weight,
        num_bad=num - len(order),
    )


class _Arrays:
    """Output arrays of the reading threads; each thread writes its own cells."""

    def __init__(self, num: int, num_classes: int) -> None:
        self.good = np.zeros(num, bool)
        self.images = np.zeros((num, SAMPLE_SIDE, SAMPLE_SIDE), np.uint8)
        self.quality = np.zeros((num, len(FEATURES)), np.float32)
        self.backgrounds = np.zeros((num, len(BACKGROUND_FEATURES)), np.float32)
        self.extents = np.full((num, 3), np.nan, np.float32)
        self.settings = np.full(num, "", object)
        self.file_bytes = np.zeros((num, 4))
        self.grey = np.zeros((num_classes + 1, SAMPLE_SIDE, SAMPLE_SIDE))
        self.weight = np.zeros((num_classes + 1, SAMPLE_SIDE, SAMPLE_SIDE))
        self.lock = threading.Lock()


def _read_part(
    manifest: Manifest,
    files: ShardFiles,
    rows: np.ndarray,
    facts: dict[str, np.ndarray],
    part: slice,
    out: _Arrays,
) -> int:
    stored = files.read(rows[part])
    window = None if manifest.info.window is None else (manifest.info.window[0], manifest.info.window[1])
    cells, places = [], []
    grey, weight = np.zeros_like(out.grey), np.zeros_like(out.weight)
    for at, place in enumerate(range(part.start, part.stop)):
        if int(rows[place]) in stored.reasons:
            continue
        data, size = stored.bytes_of(at), (int(facts["height"][place]), int(facts["width"][place]))
        encoding = "raw" if manifest.info.layout == "block" else str(facts["encoding"][place])
        if encoding == "raw":
            if data.size != size[0] * size[1]:
                continue
            pixels, setting, extra = data.reshape(size), "raw", 0
        else:
            content = data.tobytes()
            try:
                pixels = decode(content, encoding, window).pixels
            except BadCell:
                continue
            setting, extra = file_settings(content, encoding)
        mask = background_mask(pixels)
        label = int(manifest.cell_labels[rows[place]])
        _add_background(pixels, mask, grey[label], weight[label])
        out.images[place] = cv2.resize(pixels, (SAMPLE_SIDE, SAMPLE_SIDE), interpolation=_interpolation(pixels.shape))
        out.backgrounds[place] = background_features(pixels, mask)
        out.extents[place, 1:] = _extent(mask)
        out.settings[place] = f"{setting}, {facts['depth'][place]} bit, {facts['channels'][place]} channels"
        out.file_bytes[place] = data.size, extra, *plain_sizes(pixels, encoding, data.size)
        cells.append(pixels)
        places.append(place)
    if cells:
        heights, widths = (np.array([cell.shape[axis] for cell in cells], np.int32) for axis in (0, 1))
        area = heights.astype(np.int64) * widths
        pool = np.concatenate([cell.ravel() for cell in cells])
        out.quality[places] = cell_features(pool, np.cumsum(area) - area, heights, widths)
        foreground = out.quality[places, FEATURES.index("foreground")] * area
        out.extents[places, 0] = np.where(foreground > 0, foreground, np.nan)
        out.good[places] = True
    with out.lock:
        out.grey += grey
        out.weight += weight
    return part.stop - part.start


def _interpolation(shape: tuple[int, ...]) -> int:
    return cv2.INTER_AREA if min(shape) >= SAMPLE_SIDE else cv2.INTER_LINEAR


def _extent(mask: np.ndarray) -> tuple[float, float]:
    """Return height and width of the bounding box of the foreground [px].

    The margin that the mask adds around a cell is subtracted.
    """
    rows, columns = np.flatnonzero(~mask.all(1)), np.flatnonzero(~mask.all(0))
    if not len(rows):
        return float("nan"), float("nan")
    height, width = mask.shape
    return (
        max(1.0, rows[-1] - rows[0] + 1 - _MARGIN * height),
        max(1.0, columns[-1] - columns[0] + 1 - _MARGIN * width),
    )


def _add_background(pixels: np.ndarray, mask: np.ndarray, grey: np.ndarray, weight: np.ndarray) -> None:
    """Add the background of one image to the sums of its class, (32, 32) each."""
    share = cv2.resize(mask.astype(np.float32), (SAMPLE_SIDE, SAMPLE_SIDE), interpolation=cv2.INTER_AREA)
    kept = cv2.resize(
        np.where(mask, pixels, 0).astype(np.float32), (SAMPLE_SIDE, SAMPLE_SIDE), interpolation=cv2.INTER_AREA
    )
    grey += kept
    weight += share
