"""Source: `.rtdc` files of real-time deformability cytometry: HDF5 with an image and scalar features of each event.

Format: https://dclab.readthedocs.io/en/stable/sec_av_datasets.html ; `events/image` is (N, H, W) uint8, `events/NAME`
is a feature (N,), and the attribute `imaging:pixel size` is in micrometres per pixel.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fastcell.dataset.open_files import damaged, stamp_of
from fastcell.errors import BadCell, DataError
from fastcell.sources import hdf5
from fastcell.sources.base import Listing, SourceItem, file_stamp
from fastcell.sources.containers import DECODED_RUNS, PIECE_CELLS, Collector, Container, check_count, find_containers
from fastcell.sources.hdf5_links import children, find
from fastcell.sources.rtdc_basins import EventData, describe_basins, internal_basins, locate, read_mapping
from fastcell.system.messages import print_remark

RTDC_ENDINGS = (".rtdc",)
_FREE_EVENTS = 4_096
_PITCHES = (1e-3, 1e3)  # valid range in um per px


@dataclass(frozen=True)
class Rtdc:
    """One `.rtdc` file, or a folder of them; each file is a recording and therefore a group.

    Attributes:
        root: file or folder.
        pattern: pattern of the file paths; None for `{class}/{name}` in subfolders, else unlabelled.
        subtract_background: return `image - image_bg` plus the mean of the background instead of the image.
    """

    root: Path
    pattern: str | None = None
    subtract_background: bool = False

    @property
    def name(self) -> str:
        return self.root.resolve().stem

    def describe(self) -> str:
        less = ", background subtracted" if self.subtract_background else ""
        return f"RT-DC files {self.root}, pattern {self.pattern or 'by folders'}{less}"

    def scan(self) -> Listing:
        """List the events, and add a note on files without events.

        Raises:
            DataError: If there is no file or no event, or a file cannot be read.
        """
        containers, notes = find_containers(self.root, RTDC_ENDINGS, self.pattern, group_by_file=True)
        found = Collector(self.root, notes, "event")
        there = []
        for container in containers:
            with found.reading(container):
                if not stamp_of(container.path)[0]:
                    found.empty(container)
                    continue
                header = self._read_header(container)
                if not header.rows.size:
                    found.empty(container)
                    continue
                good = np.flatnonzero(header.written)
                for number in np.flatnonzero(~header.written).tolist():
                    found.reject(container, number, "its chunk was never written")
                found.name_features(header.features)
                runs = header.images.run_cells
                found.add(
                    container,
                    good.tolist(),
                    ((container.path, number) for number in good.tolist()),
                    um_per_px=header.um_per_px,
                    runs=header.rows[good] // runs if runs else None,
                    cell_bytes=header.images.cell_bytes,
                )
                there.append((container, len(header.rows), header.features))
        return found.finish(lambda: _features(there))

    def load(self, item: SourceItem) -> np.ndarray:
        path, number = str(item.place[0]), int(item.place[1])
        stamp = stamp_of(path)
        images = _pictures(path, stamp, "image")
        if not self.subtract_background:
            return images.load(path, number)
        step = max(images.images.run_cells, 1)
        run = number // step
        key = (path, stamp, "corrected", run)
        corrected = DECODED_RUNS.get(key, lambda: _subtract(path, images, run * step, step))
        return corrected[number - run * step]

    def stamp(self, item: SourceItem) -> str:
        return file_stamp(str(item.place[0]))

    def _read_header(self, container: Container) -> _Header:
        path = container.path
        size = stamp_of(path)[0]
        with hdf5.opened(path) as file:
            if find(file, "events") is None:
                raise DataError(f"{path} must be an RT-DC file with a group events, got none. Leave it out.")
            pictures = _describe(file, "image", size)
            if pictures is None:
                raise DataError(
                    f"{path} must hold images in events/image, got none.{describe_basins(file) or ' Leave it out.'}"
                )
            num = pictures.num
            check_count(container, num, size)
            ground = None
            if self.subtract_background and num:
                ground = _describe(file, "image_bg", size)
                if ground is None or ground.num != num or ground.shape != pictures.shape:
                    raise DataError(
                        f"{path} must hold the background images events/image_bg, got none. Pack it without "
                        "--subtract-background."
                    )
            written = pictures.written(file)
            if ground is not None:
                written &= ground.written(file)
            names = _feature_names(file) if num else []
            return _Header(pictures.images, pictures.all_rows(), written, names, _pitch(file))


class _Header(NamedTuple):
    """Facts that a scan reads from one file.

    Attributes:
        images: description of the images.
        rows: (N,) int64, row of each event in them.
        written: (N,) bool, False for an event whose image was never written.
        features: names of the features.
        um_per_px: micrometres per pixel, or NaN.
    """

    images: hdf5.Images
    rows: np.ndarray
    written: np.ndarray
    features: list[str]
    um_per_px: float


class _Pictures(NamedTuple):
    """A feature of images: their description, and the row of each event (None: row k is event k)."""

    images: hdf5.Images
    rows: np.ndarray | None

    @property
    def num(self) -> int:
        return self.images.num if self.rows is None else len(self.rows)

    @property
    def shape(self) -> tuple[int, int]:
        return self.images.height, self.images.width

    def all_rows(self) -> np.ndarray:
        return np.arange(self.images.num) if self.rows is None else self.rows

    def written(self, file: Any) -> np.ndarray:
        rows = self.all_rows()
        inside = (rows >= 0) & (rows < self.images.num)
        there = hdf5.written(find(file, self.images.name), self.images.num)
        if there is not None:
            inside[inside] = there[rows[inside]]
        return inside

    def load(self, path: str, number: int) -> np.ndarray:
        row = number if self.rows is None else min(max(int(self.rows[number]), 0), self.images.num - 1)
        return hdf5.load_images(path, self.images, row)


def _describe(file: Any, feature: str, size: int) -> _Pictures | None:
    """Return the images of a feature; None if the file does not hold them."""
    place = locate(file, feature)
    dataset = None if place is None else find(file, place.path)
    if place is None or not hasattr(dataset, "shape"):
        return None
    images = hdf5.describe_images(file, dataset, size)
    if place.mapping is None:
        return _Pictures(images, None)
    mapping = find(file, place.mapping)
    if mapping is not None and (getattr(mapping, "shape", None) or (0,))[0] > max(_FREE_EVENTS, size):
        raise damaged(file.filename, f"{place.mapping} states {mapping.shape[0]:,} events in a file of {size:,} bytes")
    return _Pictures(images, read_mapping(file, place.mapping))


def _feature_names(file: Any) -> list[str]:
    """Return the features of one number per event, in `events` and in basins inside the file."""
    events = find(file, "events")
    names = [name for name in children(events) if _is_feature(find(events, name))]
    mappings = {basin.mapping.rpartition("/")[2] for basin in internal_basins(file)}
    names = [name for name in names if name not in mappings]
    for basin in internal_basins(file):
        for name in basin.features:
            if name not in names and _is_feature(find(file, f"{basin.group}/{name}")):
                names.append(name)
    return names


def _is_feature(dataset: Any) -> bool:
    shape = getattr(dataset, "shape", None)
    return shape is not None and len(shape) == 1 and shape[0] > 0 and dataset.dtype.kind in "biuf"


def _pitch(file: Any) -> float:
    pitch = file.attrs.get("imaging:pixel size", math.nan)
    try:
        value = float(pitch)
    except (TypeError, ValueError):
        return math.nan
    return value if _PITCHES[0] <= value <= _PITCHES[1] else math.nan


def _features(
    there: Sequence[tuple[Container, int, list[str]]],
) -> Iterator[tuple[Sequence[str], Mapping[str, np.ndarray]]]:
    for container, num, names in there:
        with hdf5.opened(container.path) as file:
            places = {name: locate(file, name) for name in names}
            if None in places.values():
                raise damaged(container.path, "it changed during reading")
            read = {name: _reader(file, place, num) for name, place in places.items() if place is not None}
            lost: set[str] = set()
            for first in range(0, num, PIECE_CELLS):
                last = min(first + PIECE_CELLS, num)
                keys = [f"{container.key}/{number:06d}" for number in range(first, last)]
                values = {}
                for name in names:
                    try:
                        values[name] = read[name](first, last)
                    except (OSError, RuntimeError, DataError) as error:
                        values[name] = np.full(last - first, np.nan)
                        if name not in lost:
                            print_remark(
                                f"note: {container.key}: values of {name} are damaged and count as unknown ({error})."
                            )
                        lost.add(name)
                yield keys, values


def _reader(file: Any, place: EventData, num: int) -> Callable[[int, int], np.ndarray]:
    """Return a function that reads the values of a feature for some events."""
    if place.mapping is None:
        dataset = find(file, place.path)
        return lambda first, last: hdf5.read_numbers(dataset, first, last)
    return lambda first, last: _take(file, place, num)[first:last]


def _take(file: Any, place: EventData, num: int) -> np.ndarray:
    """Return the values of a feature in a basin for each event, (num,) float64."""
    dataset, rows = find(file, place.path), read_mapping(file, str(place.mapping))[:num]
    values = hdf5.read_numbers(dataset, 0, int(dataset.shape[0]))
    inside = (rows >= 0) & (rows < len(values))
    out = np.full(num, np.nan)
    out[: len(rows)][inside] = values[rows[inside]]
    return out


@lru_cache(maxsize=64)
def _pictures(path: str, stamp: tuple[int, int], feature: str) -> _Pictures:
    try:
        with hdf5.opened(path) as file:
            pictures = _describe(file, feature, stamp[0])
    except DataError as error:
        raise BadCell(f"damaged: {error}") from None
    if pictures is None:
        raise BadCell("damaged: its images no longer exist")
    return pictures


def _subtract(path: str, images: _Pictures, first: int, num: int) -> np.ndarray:
    """Return images minus background plus the background's mean, (n, H, W) uint8; `bg_off` adds to the background."""
    last = min(first + num, images.num)
    ground = _pictures(path, stamp_of(path), "image_bg")
    pixels = np.stack([images.load(path, i) for i in range(first, last)]).astype(np.float32)
    below = np.stack([ground.load(path, i) for i in range(first, last)]).astype(np.float32)
    with hdf5.opened(path) as file:
        offset = find(file, "events/bg_off")
        if offset is not None and _is_feature(offset) and offset.shape[0] >= last:
            below += np.asarray(offset[first:last], np.float32)[:, None, None]
    pixels += below.mean(axis=(1, 2), keepdims=True) - below
    return np.clip(np.rint(pixels), 0, 255).astype(np.uint8)
