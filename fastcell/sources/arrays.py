"""Source: stacks of images in `.npy`, `.npz`, `.h5`, `.hdf5` and `.mat`, with labels and features (`array_fields`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from fastcell.dataset.open_files import stamp_of
from fastcell.errors import BadCell, DataError, invalid
from fastcell.sources import hdf5
from fastcell.sources.array_fields import (
    KNOWN_ARRAYS,
    ArrayFile,
    Fields,
    OtherArrays,
    Stack,
    pick_images,
    read_fields,
    read_label_file,
)
from fastcell.sources.base import Listing, SourceItem, file_stamp
from fastcell.sources.containers import PIECE_CELLS, Collector, Container, check_count, find_containers
from fastcell.sources.hdf5_links import find
from fastcell.sources.image_folder import Pattern, check_fields_used
from fastcell.sources.matlab import Mat5File, Mat73File
from fastcell.sources.numpy_files import NpyFile, NpzFile, read_column
from fastcell.system.text import storable

NAMED_ENDINGS = (".npz", ".h5", ".hdf5", ".mat")
ARRAY_ENDINGS = (".npy", *NAMED_ENDINGS)
_BESIDE = ("_labels.npy", ".labels.npy", "_labels.csv", ".labels.csv", "_labels.txt", ".labels.txt", ".csv", ".txt")
_FREE_CELLS = 4_096
_HDF5 = b"\x89HDF\r\n\x1a\n"


class H5File:
    """An HDF5 file with its arrays at the top level.

    Args:
        path: path of the file.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._shapes: dict[str, tuple[int, ...]] = {}
        with hdf5.opened(path) as file:
            for name in file:
                try:
                    dataset = find(file, name)
                except DataError:
                    if name in KNOWN_ARRAYS:
                        raise
                    continue
                if hasattr(dataset, "shape") and dataset.shape is not None:
                    self._shapes[name] = tuple(map(int, dataset.shape))

    def shapes(self) -> dict[str, tuple[int, ...]]:
        return self._shapes

    def stack(self, name: str) -> Stack:
        with hdf5.opened(self.path) as file:
            dataset, size = find(file, name), stamp_of(self.path)[0]
            images = hdf5.describe_images(file, dataset, size)
            written = hdf5.written(dataset, images.num) if images.num <= max(_FREE_CELLS, 8 * size) else None
        return Stack(
            images.num,
            images.height,
            images.width,
            images.channels,
            images.dtype,
            images.run_cells,
            lambda number: hdf5.load_images(self.path, images, number),
            written,
        )

    def values(self, name: str, num: int) -> np.ndarray | None:
        with hdf5.opened(self.path) as file:
            return hdf5.read_values(find(file, name), num)


@dataclass(frozen=True)
class Arrays:
    """One file that holds images as an array, or a folder of such files.

    Attributes:
        root: file or folder.
        pattern: pattern of the file paths; None for `{class}/{name}` in subfolders, else the labels in the files.
        labels: file with one label per cell, for a single file of images.
        endings: extensions of the files that are read from a folder.
    """

    root: Path
    pattern: str | None = None
    labels: Path | None = None
    endings: tuple[str, ...] = ARRAY_ENDINGS

    @property
    def name(self) -> str:
        return self.root.resolve().stem

    def describe(self) -> str:
        told = f", labels {self.labels}" if self.labels else ""
        return f"arrays {self.root}, pattern {self.pattern or 'by folders'}{told}"

    def scan(self) -> Listing:
        """List the cells, and add a note on files without cells.

        Raises:
            ArgumentError: If `labels` is given and there is not exactly one file.
            DataError: If there is no file or no cell, a file cannot be read, or the number of labels is wrong.
        """
        containers, notes = find_containers(self.root, self.endings, self.pattern, group_by_file=False)
        containers = [container for container in containers if not _is_labels(container.path)]
        if self.labels is not None and len(containers) != 1:
            hint = "Put labels beside each file, as x_labels.npy beside x.npy"
            raise invalid("--labels", "given for one file of images", f"{len(containers)} files", hint)
        found = Collector(self.root, notes, "image")
        there, orders, others = [], [], OtherArrays()
        told: list[set[str]] = []
        for container in containers:
            with found.reading(container):
                size = stamp_of(container.path)[0]
                if not size:
                    found.empty(container)
                    continue
                file = open_arrays(container.path)
                images = pick_images(file)
                stack = file.stack(images)
                check_count(container, stack.num, size * _densest(container.path))
                if not stack.num:
                    found.empty(container)
                    continue
                fields = self._read_fields(file, images, stack.num)
                values = {"class": fields.labels, "group": fields.groups, "collection": fields.collections}
                told.append({name for name, each in values.items() if each is not None})
                if fields.labels is not None:
                    orders.append(fields.classes)
                features = others.sort(file, fields, stack.num, container.class_name is not None)
                good = np.arange(stack.num) if stack.written is None else np.flatnonzero(stack.written)
                for number in sorted(set(range(stack.num)) - set(good.tolist())) if len(good) < stack.num else ():
                    found.reject(container, number, "its chunk was never written")
                found.name_features(features)
                found.add(
                    _of(container, fields),
                    good.tolist(),
                    ((container.path, number) for number in good.tolist()),
                    classes=_chosen(fields.labels, good),
                    groups=_chosen(fields.groups, good),
                    collections=_chosen(fields.collections, good),
                    runs=good // stack.run_cells if stack.run_cells else None,
                    cell_bytes=stack.height * stack.width * np.dtype(stack.dtype).itemsize,
                )
                there.append((container, stack.num, features))
        if self.pattern is not None and told:
            names = [name for name in ("class", "group", "collection") if all(name in each for each in told)]
            check_fields_used(Pattern(self.pattern, needs_name=False), names, "each file")
        if orders and orders[0] is not None and all(order == orders[0] for order in orders):
            found.classes = orders[0]
        found.notes += others.notes()
        return found.finish(lambda: _features(there))

    def load(self, item: SourceItem) -> np.ndarray:
        path = str(item.place[0])
        pixels = _stack(path, stamp_of(path)).load(int(item.place[1]))
        if pixels.ndim == 2:
            return pixels
        if pixels.shape[2] == 1:
            return pixels[:, :, 0]
        native = np.ascontiguousarray(pixels[:, :, :3], pixels.dtype.newbyteorder("="))
        return cv2.cvtColor(native, cv2.COLOR_RGB2GRAY)

    def stamp(self, item: SourceItem) -> str:
        return file_stamp(str(item.place[0]))

    def _read_fields(self, file: ArrayFile, images: str, num: int) -> Fields:
        fields = read_fields(file, images, num)
        path = self.labels
        if path is None and fields.labels is None and file.path.lower().endswith(".npy"):
            front = file.path[:-4]
            path = next((Path(front + end) for end in _BESIDE if Path(front + end).is_file()), None)
        if path is None:
            return fields
        told = read_label_file(path, num, read_column)
        return fields._replace(labels=told.labels, classes=None, groups=told.groups or fields.groups)


def open_arrays(path: str) -> ArrayFile:
    """Open a file of arrays; its first bytes and its extension determine the reader.

    Raises:
        DataError: If the file cannot be read.
    """
    with open(path, "rb") as file:
        header = file.read(520)
    is_hdf5 = header[:8] == _HDF5 or header[512:520] == _HDF5
    if path.lower().endswith(".mat"):
        return Mat73File(path) if is_hdf5 else Mat5File(path)
    if is_hdf5:
        return H5File(path)
    if header[:4] == b"PK\x03\x04":
        return NpzFile(path)
    if header[:6] == b"\x93NUMPY":
        return NpyFile(path)
    raise DataError(
        f"{storable(path)} must be a file of NumPy, HDF5 or MATLAB, got other contents. Copy or create it again, or "
        "move it out of the folder."
    )


def is_array_stack(path: str) -> bool:
    """Return True if an `.npy` file holds many images: it has four axes, or three of which neither the first nor the
    last is 1.
    """
    try:
        shape = NpyFile(path).shapes()["images"]
    except (OSError, DataError):
        return False
    return len(shape) == 4 or (len(shape) == 3 and shape[0] != 1 and shape[2] != 1)


def _is_labels(path: str) -> bool:
    return path.lower().endswith(("_labels.npy", ".labels.npy"))


def _densest(path: str) -> int:
    return 1 if path.lower().endswith(".npy") else 8


def _chosen(values: list[str | None] | None, numbers: np.ndarray) -> list[str | None] | None:
    return values if values is None or len(numbers) == len(values) else [values[number] for number in numbers.tolist()]


def _of(container: Container, fields: Fields) -> Container:
    """Return the container without its class name if the file itself contains labels, which take precedence."""
    return container if fields.labels is None else container._replace(class_name=None)


@lru_cache(maxsize=32)
def _stack(path: str, stamp: tuple[int, int]) -> Stack:
    try:
        file = open_arrays(path)
        return file.stack(pick_images(file))
    except DataError as error:
        raise BadCell(f"damaged: {error}") from None


def _features(
    there: Sequence[tuple[Container, int, list[str]]],
) -> Iterator[tuple[Sequence[str], Mapping[str, np.ndarray]]]:
    for container, num, names in there:
        if not names:
            continue
        file = open_arrays(container.path)
        columns: dict[str, Any] = {name: file.values(name, num) for name in names}
        numbers = {
            name: np.asarray(values, np.float64)
            for name, values in columns.items()
            if values is not None and values.dtype.kind in "biuf"
        }
        for first in range(0, num, PIECE_CELLS):
            last = min(first + PIECE_CELLS, num)
            keys = [f"{container.key}/{number:06d}" for number in range(first, last)]
            yield keys, {name: values[first:last] for name, values in numbers.items()}
