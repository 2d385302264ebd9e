"""Source: `.rtdc` files of real-time deformability cytometry: HDF5 with an image and scalar features of each event.

Format: https://dclab.readthedocs.io/en/stable/sec_av_datasets.html ; `events/image` is (N, H, W) uint8, `events/NAME`
is a feature (N,), and the attribute `imaging:pixel size` is in micrometres per pixel.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from fastcell.dataset.open_files import damaged, stamp_of
from fastcell.errors import BadCell, DataError
from fastcell.sources import hdf5
from fastcell.sources.base import Listing, SourceItem, file_stamp
from fastcell.sources.containers import DECODED_RUNS, PIECE_CELLS, Collector, Container, check_count, find_containers

RTDC_ENDINGS = (".rtdc",)
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
            if not stamp_of(container.path)[0]:
                found.empty(container)
                continue
            images, names, pitch = self._read_header(container)
            if not images.num:
                found.empty(container)
                continue
            numbers = range(images.num)
            found.name_features(names)
            found.add(
                container,
                numbers,
                ((container.path, number) for number in numbers),
                um_per_px=pitch,
                runs=np.arange(images.num) // images.run_cells if images.run_cells else None,
                cell_bytes=images.cell_bytes,
            )
            there.append((container, images.num, names))
        return found.finish(lambda: _features(there))

    def load(self, item: SourceItem) -> np.ndarray:
        path, number = str(item.place[0]), int(item.place[1])
        images = _images(path, stamp_of(path), "events/image")
        if not self.subtract_background:
            return hdf5.load_images(path, images, number)
        run = number // max(images.run_cells, 1)
        key = (path, stamp_of(path), "corrected", run)
        step = max(images.run_cells, 1)
        corrected = DECODED_RUNS.get(key, lambda: _subtract(path, images, run * step, step))
        return corrected[number - run * step]

    def stamp(self, item: SourceItem) -> str:
        return file_stamp(str(item.place[0]))

    def _read_header(self, container: Container) -> tuple[hdf5.Images, list[str], float]:
        """Return a description of the images, the names of the features, and the pixel size."""
        path = container.path
        size = stamp_of(path)[0]
        with hdf5.opened(path) as file:
            dataset = hdf5.find(file, "events/image")
            if dataset is None or not hasattr(dataset, "shape"):
                basins = " Its images lie in another file, a basin: pack that one." if "basins" in file else ""
                raise DataError(f"{path} must hold images in events/image, got none.{basins or ' Leave it out.'}")
            images = hdf5.describe_images(file, dataset, size)
            check_count(container, images.num, size)
            if self.subtract_background and images.num:
                ground = hdf5.find(file, "events/image_bg")
                if ground is None or tuple(ground.shape or ()) != tuple(dataset.shape):
                    raise DataError(
                        f"{path} must hold a background events/image_bg of each image, got none. Pack it without "
                        "--subtract-background."
                    )
                hdf5.describe_images(file, ground, size)
            names = [] if not images.num else _feature_names(file, images.num)
            return images, names, _pitch(file)


def _feature_names(file: Any, num: int) -> list[str]:
    events = hdf5.find(file, "events")
    return [name for name in hdf5.children(events) if _is_feature(hdf5.find(events, name), num)]


def _is_feature(dataset: Any, num: int) -> bool:
    """Return True if a dataset holds one number per image; some files have one more."""
    shape = getattr(dataset, "shape", None)
    return shape is not None and len(shape) == 1 and shape[0] >= num and dataset.dtype.kind in "biuf"


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
            events = {name: hdf5.find(file, f"events/{name}") for name in names}
            for first in range(0, num, PIECE_CELLS):
                last = min(first + PIECE_CELLS, num)
                keys = [f"{container.key}/{number:06d}" for number in range(first, last)]
                values = {name: np.asarray(data[first:last], np.float64) for name, data in events.items()}
                if any(len(column) != last - first for column in values.values()):
                    raise damaged(container.path, "it was changed while it was read")
                yield keys, values


@lru_cache(maxsize=64)
def _images(path: str, stamp: tuple[int, int], name: str) -> hdf5.Images:
    try:
        with hdf5.opened(path) as file:
            return hdf5.describe_images(file, hdf5.find(file, name), stamp[0])
    except DataError as error:
        raise BadCell(f"damaged: {error}") from None


def _subtract(path: str, images: hdf5.Images, first: int, num: int) -> np.ndarray:
    """Return images minus background plus the background's mean, (n, H, W) uint8; `bg_off` adds to the background."""
    last = min(first + num, images.num)
    ground = _images(path, stamp_of(path), "events/image_bg")
    pixels = np.stack([hdf5.load_images(path, images, i) for i in range(first, last)]).astype(np.float32)
    below = np.stack([hdf5.load_images(path, ground, i) for i in range(first, last)]).astype(np.float32)
    with hdf5.opened(path) as file:
        offset = hdf5.find(file, "events/bg_off")
        if offset is not None and _is_feature(offset, images.num):
            below += np.asarray(offset[first:last], np.float32)[:, None, None]
    pixels += below.mean(axis=(1, 2), keepdims=True) - below
    return np.clip(np.rint(pixels), 0, 255).astype(np.uint8)
