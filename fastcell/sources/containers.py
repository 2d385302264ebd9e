"""Containers, i.e. files of many cells: find them, read class and group from their paths, and list their cells.

The key of a cell is the path of its file followed by its number, e.g. `day1/M001.rtdc/000012`. Other programs can find
the event by this key, and the keys keep the order of acquisition.
"""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fastcell.dataset.open_files import damaged, look_again, read_at
from fastcell.dataset.rows.instrument_features import Features
from fastcell.errors import BadCell, DataError, FastcellError, invalid
from fastcell.sources.base import Listing, Rejected, Runs, SourceItem
from fastcell.sources.image_folder import Pattern, find_files, unread
from fastcell.system.optional_packages import install_hint_of
from fastcell.system.text import natural_key, natural_sorted, storable

#: Size in bytes of the decoded cells in one mixing span; a worker holds twice as much. With a larger value, memory use
#: would grow with the data set; with a smaller one, fewer cells would be mixed.
WINDOW_BYTES = 1 << 26
CACHE_BYTES = 2 * WINDOW_BYTES
PIECE_CELLS = 65_536

_FREE_CELLS = 4096
_MOST_SHOWN = 3
_MOST_REASON = 200


class Container(NamedTuple):
    """A file of many cells.

    Attributes:
        key: path of the file in the source, with "/".
        path: path of the file on disk.
        class_name, group, collection: names for all cells of the file, taken from its path; None if the path has none.
    """

    key: str
    path: str
    class_name: str | None = None
    group: str | None = None
    collection: str | None = None


def find_containers(
    root: Path, endings: Sequence[str], pattern: str | None, group_by_file: bool
) -> tuple[list[Container], list[str]]:
    """List the files with the given extensions in natural order.

    Without a pattern, files directly in the folder have no class, and the class of files in subfolders is the name of
    the subfolder.

    Args:
        root: a folder, or one file.
        endings: extensions in lower case, e.g. `.rtdc`.
        pattern: pattern of the file paths, see `Pattern`; `{name}` is not required.
        group_by_file: treat each file of a folder as a recording, so that it is a group unless the pattern defines
            groups.

    Returns:
        The containers, and notes on files that were left out.

    Raises:
        ArgumentError: If the pattern is invalid.
        DataError: If there is no such file, or the pattern does not fit the paths.
    """
    look_again()
    alone = not root.is_dir()
    keys = [root.name]
    notes: list[str] = []
    if not alone:
        keys, notes = find_files(root, lambda name: name.lower().endswith(tuple(endings)))
        keys.sort(key=natural_key)
    if not keys:
        raise DataError(f"{storable(str(root))} must hold files {' '.join(endings)}, got none. Check the path.")
    by_folder = all(key.count("/") == 1 for key in keys)
    rule = Pattern(pattern or ("{class}/{name}" if by_folder else "{name}"), needs_name=False)
    found = []
    for key in keys:
        fields = rule.match(key)
        if fields is None:
            raise unread(root, keys, key, pattern, "file")
        told = {name: storable(text) for name, text in fields.items()}
        group = told.get("group", storable(key) if group_by_file and not alone else None)
        path = str(root) if alone else f"{root}/{key}"
        found.append(Container(key, path, told.get("class"), group, told.get("collection")))
    return found, notes


@dataclass
class Collector:
    """Builder of a listing, container by container.

    Args:
        root: path of the source, for messages.
        notes: notes for the user.
        unit: noun for one cell of a container, for messages.
    """

    root: Path
    notes: list[str] = field(default_factory=list)
    unit: str = "cell"
    classes: list[str] | None = None
    _items: list[SourceItem] = field(default_factory=list)
    _rejected: list[Rejected] = field(default_factory=list)
    _empty: list[str] = field(default_factory=list)
    _bad_files: list[str] = field(default_factory=list)
    _errors: list[Exception] = field(default_factory=list)
    _runs: list[np.ndarray] = field(default_factory=list)
    _num_runs: int = 0
    _num_bytes: int = 0
    _names: dict[str, None] = field(default_factory=dict)

    def add(
        self,
        container: Container,
        numbers: Iterable[int],
        places: Iterable[tuple[int | str, ...]],
        *,
        encoding: str = "raw",
        classes: Sequence[str | None] | None = None,
        groups: Sequence[str | None] | None = None,
        collections: Sequence[str | None] | None = None,
        um_per_px: float = math.nan,
        runs: np.ndarray | None = None,
        cell_bytes: int = 0,
    ) -> None:
        """Add cells of one container.

        Args:
            container: container of the cells.
            numbers: numbers of the cells in the container.
            places: values with which the source finds the cells again.
            encoding: encoding of the data that the source loads.
            classes, groups, collections: names for each cell; None for those of the container.
            um_per_px: micrometres per pixel.
            runs: (n,) run of each cell, from 0; None if each cell is its own run.
            cell_bytes: size of one decoded cell in bytes, used if `runs` is given.
        """
        first = len(self._items)
        front = container.key + "/"
        kind, group, collection = container.class_name, container.group, container.collection
        for i, (number, place) in enumerate(zip(numbers, places, strict=True)):
            self._items.append(
                SourceItem(
                    f"{front}{number:06d}",
                    encoding,
                    kind if classes is None else classes[i],
                    group if groups is None else groups[i],
                    collection if collections is None else collections[i],
                    um_per_px,
                    place,
                )
            )
        num = len(self._items) - first
        if not num:
            return
        if runs is None:
            self._runs.append(np.arange(self._num_runs, self._num_runs + num))
        else:
            self._runs.append(np.asarray(runs, np.int64) + self._num_runs)
            self._num_bytes += num * cell_bytes
        self._num_runs = int(self._runs[-1].max()) + 1

    def reject(self, container: Container, number: int, reason: str) -> None:
        """Add a cell for the quarantine."""
        item = SourceItem(f"{container.key}/{number:06d}", "raw", container.class_name, container.group)
        self._rejected.append(Rejected(item, container.key, reason))

    def empty(self, container: Container) -> None:
        """Quarantine a container without any cell."""
        self._empty.append(storable(container.key))
        no_bytes = Path(container.path).is_file() and not Path(container.path).stat().st_size
        reason = "empty file" if no_bytes else f"no {self.unit} in the file"
        self._reject_file(container, reason)

    @contextmanager
    def reading(self, container: Container) -> Iterator[None]:
        """Quarantine a container if the body of the `with` statement cannot read it.

        If no file of the source can be read, `finish` raises the first error.
        """
        try:
            yield
        except (FastcellError, BadCell, OSError) as error:
            self._errors.append(damaged(container.path, error.reason) if isinstance(error, BadCell) else error)
            self._reject_file(container, file_reason(container.path, error))

    def _reject_file(self, container: Container, reason: str) -> None:
        item = SourceItem(container.key, "raw", container.class_name, container.group, container.collection)
        self._rejected.append(Rejected(item, container.key, reason))
        self._bad_files.append(storable(container.key))

    def name_features(self, names: Iterable[str]) -> None:
        """Register names of features that some of the cells have."""
        self._names.update(dict.fromkeys(names))

    def finish(self, pieces: Callable[[], Iterator[tuple[Sequence[str], Mapping[str, np.ndarray]]]]) -> Listing:
        """Return the listing.

        Args:
            pieces: function that reads the registered features piece by piece.

        Raises:
            DataError: If there is no cell.
        """
        if not self._items and self._errors:
            raise self._errors[0]  # a single file, or none of many that can be read
        if not self._items and len(self._rejected) == len(self._empty):
            raise DataError(
                f"{storable(str(self.root))}: no usable cell: no {self.unit} in "
                f"{_shown(self._empty) or 'any file'}. Choose other files."
            )
        if self._bad_files:
            files = f"{len(self._bad_files):,} file{'s' * (len(self._bad_files) > 1)}"
            self.notes.append(f"quarantined {files} without a usable {self.unit} ({_shown(self._bad_files)}).")
        names = self.classes
        if names is None:
            names = natural_sorted({item.class_name for item in self._items if item.class_name is not None})
        runs = None
        if self._num_bytes > WINDOW_BYTES:
            runs = Runs(np.concatenate(self._runs), self._num_bytes)
        features = Features(list(self._names), pieces) if self._names else None
        return Listing(self._items, names, {}, self._rejected, self.notes, features, runs)


def _shown(names: Sequence[str]) -> str:
    return ", ".join(names[:_MOST_SHOWN]) + (", ..." if len(names) > _MOST_SHOWN else "")


def file_reason(path: str, error: Exception) -> str:
    """Return the reason why a file of many cells cannot be read, for the quarantine: the message of an error without
    the path.
    """
    if isinstance(error, BadCell):
        return error.reason
    if isinstance(error, OSError):
        return f"cannot be read: {error.strerror or error}"
    text = str(error)
    for shown in (storable(path), path):
        text = text.replace(shown, "").removeprefix(":").strip()
    reason = f"file that cannot be used: {text}"
    return reason[:_MOST_REASON]


def check_count(container: Container, num: int, size: int) -> None:
    """Reject a file whose header gives more cells than the file has bytes: their list would fill the memory.

    Args:
        container: container of the cells.
        num: number of cells according to its header.
        size: size of the file in bytes, or an upper limit of the cells that it can hold.

    Raises:
        DataError: If `num` is larger than both `size` (in bytes) and 4,096.
    """
    if num > max(_FREE_CELLS, size):
        raise DataError(
            f"{storable(container.path)} has {size:,} bytes, too few for the {num:,} cells in its header. "
            "Copy or create it again."
        )


def needs(package: str, path: str) -> DataError:
    """Return the error for a package that is not installed."""
    return DataError(f"{storable(path)} needs the package {package}. {install_hint_of(package)}")


def check_tile(tile: tuple[int, int] | None) -> None:
    """Check the height and width of a tile in pixels.

    Raises:
        ArgumentError: If one of them is below 1.
    """
    if tile is not None and min(tile) < 1:
        raise invalid("--tile", "height x width in pixels", "x".join(map(str, tile)), "For example --tile 40x40")


class RunCache:
    """Cache of decoded runs in this process; least recently used ones are removed first, and at least one is kept."""

    def __init__(self, most_bytes: int = CACHE_BYTES) -> None:
        self._most = most_bytes
        self._held: OrderedDict[tuple[object, ...], np.ndarray] = OrderedDict()
        self._num_bytes = 0
        self._lock = threading.RLock()  # reentrant, because making a run may request other runs

    def get(self, key: tuple[object, ...], make: Callable[[], np.ndarray]) -> np.ndarray:
        """Return the array for `key`, calling `make` if it is not cached. One thread at a time calls `make`."""
        with self._lock:
            found = self._held.get(key)
            if found is not None:
                self._held.move_to_end(key)
                return found
            made = make()
            self._held[key] = made
            self._num_bytes += made.nbytes
            while self._num_bytes > self._most and len(self._held) > 1:
                self._num_bytes -= self._held.popitem(last=False)[1].nbytes
            return made


DECODED_RUNS = RunCache()


def read_bare(
    path: str, offset: int, number: int, height: int, width: int, channels: int, dtype: str, transposed: bool = False
) -> np.ndarray:
    """Read image `number` of uncompressed images that are stored one after another.

    Args:
        path: path of the file.
        offset: position of the first image in bytes.
        number: number of the image, from 0.
        height, width, channels: shape of an image in pixels.
        dtype: type of a grey level.
        transposed: images are stored column by column.

    Returns:
        (H, W) pixels, or (H, W, C) if there are several channels.

    Raises:
        OSError: If the file cannot be read.
        BadCell: If the file ends before the image does.
    """
    num = height * width * channels * np.dtype(dtype).itemsize
    data = read_at(path, offset + number * num, num)
    if transposed:
        return np.frombuffer(data, dtype).reshape(width, height).T
    return np.frombuffer(data, dtype).reshape((height, width) if channels == 1 else (height, width, channels))
