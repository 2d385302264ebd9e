"""Cells of a source as columns: some tens of bytes for each cell, where an object each would take hundreds."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, overload

import numpy as np

from fastcell.sources.base import SourceItem

_NAMES = ("encoding", "class_name", "group", "collection")


class ItemColumns(Sequence[SourceItem]):
    """Sequence of cells that makes a `SourceItem` when it is asked for one.

    Args:
        keys: UTF-8 of all keys one after another; bytes that are no UTF-8 stand for themselves.
        ends: (N,) int64, end of each key in `keys`.
        codes: for each column of `_NAMES`, (N,) unsigned integers, index into its entry of `values`.
        values: different values of each of these columns.
        um_per_px: (N,) float64, or (1,) for one value of all cells.
        places: place of each cell; None if no cell has one.
    """

    def __init__(
        self,
        keys: bytes,
        ends: np.ndarray,
        codes: dict[str, np.ndarray],
        values: dict[str, list[Any]],
        um_per_px: np.ndarray,
        places: list[tuple[int | str, ...]] | None,
    ) -> None:
        self._keys, self._ends, self._codes, self._values = keys, ends, codes, values
        self._um_per_px, self._places = um_per_px, places

    @classmethod
    def of(cls, items: Iterable[SourceItem]) -> ItemColumns:
        """Return the columns of cells, which are read once."""
        if isinstance(items, cls):
            return items
        keys, ends = bytearray(), array("q")
        numbers: dict[str, dict[Any, int]] = {name: {} for name in _NAMES}
        codes = {name: array("I") for name in _NAMES}
        pitches, places = array("d"), []
        for item in items:
            keys += item.key.encode("utf-8", "surrogateescape")
            ends.append(len(keys))
            for name, value in zip(_NAMES, item[1:5], strict=True):
                known = numbers[name]
                codes[name].append(known.setdefault(value, len(known)))
            pitches.append(item.um_per_px)
            places.append(item.place)
        pitch = np.frombuffer(pitches, np.float64) if len(pitches) else np.full(1, math.nan)
        if len(np.unique(pitch)) == 1:  # all NaN count as one value
            pitch = pitch[:1].copy()
        return cls(
            bytes(keys),
            np.array(ends, np.int64),
            {name: _smallest(np.array(codes[name], np.uint32), len(numbers[name])) for name in _NAMES},
            {name: list(numbers[name]) for name in _NAMES},
            pitch,
            places if any(places) else None,
        )

    def __len__(self) -> int:
        return len(self._ends)

    @overload
    def __getitem__(self, index: int) -> SourceItem: ...
    @overload
    def __getitem__(self, index: slice) -> ItemColumns: ...
    def __getitem__(self, index: int | slice) -> SourceItem | ItemColumns:
        if isinstance(index, slice):
            return self.take(np.arange(len(self))[index])
        number = range(len(self))[index]
        pitch = float(self._um_per_px[number if len(self._um_per_px) > 1 else 0])
        names = [self._values[name][self._codes[name][number]] for name in _NAMES]
        place = () if self._places is None else self._places[number]
        pitch = math.nan if math.isnan(pitch) else pitch  # one object, so that equal items compare equal
        return SourceItem._make([self._key(number), *names, pitch, place])

    def __iter__(self) -> Iterator[SourceItem]:
        return map(self.__getitem__, range(len(self)))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]

    @property
    def is_ascii(self) -> bool:
        """Whether all keys and names are ASCII."""
        texts = (value for name in _NAMES for value in self._values[name] if value is not None)
        return self._keys.isascii() and all(map(str.isascii, texts))

    def update(self, digest: Any) -> None:
        """Add all columns except the places to a hash, which has a method `update`."""
        digest.update(self._keys)
        digest.update(self._ends.tobytes())
        for name in _NAMES:
            digest.update("\0".join(map(repr, self._values[name])).encode())
            digest.update(self._codes[name].tobytes())
        digest.update(self._um_per_px.tobytes())

    def different(self, name: str) -> list[Any]:
        """Return the different values of a column: encoding, class_name, group or collection."""
        return list(self._values[name])

    def numbers(self, name: str) -> np.ndarray:
        """Return for each cell the index of its value in `different`, (N,) unsigned integers."""
        return self._codes[name]

    def column(self, name: str) -> list[Any]:
        """Return the value of a column for each cell; equal values are one object."""
        values = self._values[name]
        return [values[code] for code in self._codes[name].tolist()]

    @property
    def um_per_px(self) -> np.ndarray:
        """(N,) float64, micrometres per pixel, NaN if unknown."""
        return np.broadcast_to(self._um_per_px, len(self))

    def take(self, rows: np.ndarray) -> ItemColumns:
        """Return the cells with the indices `rows`, (n,) integers, in this order, as a copy of their columns."""
        rows = rows.astype(np.int64)
        starts = np.where(rows > 0, self._ends[rows - 1], 0) if len(self) else rows
        ends = self._ends[rows]
        pairs = zip(starts.tolist(), ends.tolist(), strict=True)
        return ItemColumns(
            b"".join([self._keys[start:end] for start, end in pairs]),
            np.cumsum(ends - starts),
            {name: codes[rows] for name, codes in self._codes.items()},
            self._values,
            self._um_per_px if len(self._um_per_px) == 1 else self._um_per_px[rows],
            None if self._places is None else [self._places[row] for row in rows.tolist()],
        )

    def _key(self, number: int) -> str:
        start = self._ends[number - 1] if number else 0
        return self._keys[start : self._ends[number]].decode("utf-8", "surrogateescape")


class SomeItems(Sequence[SourceItem]):
    """Cells of `ItemColumns` by their indices; only these cells are sent to another process.

    Args:
        items: all cells.
        rows: (n,) integers, indices of the cells.
    """

    def __init__(self, items: ItemColumns, rows: np.ndarray) -> None:
        self._items, self._rows = items, rows

    @property
    def rows(self) -> np.ndarray:
        """(n,) integers, indices of the cells among all of a listing."""
        return self._rows

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> SourceItem: ...
    @overload
    def __getitem__(self, index: slice) -> SomeItems: ...
    def __getitem__(self, index: int | slice) -> SourceItem | SomeItems:
        if isinstance(index, slice):
            return SomeItems(self._items, self._rows[index])
        return self._items[int(self._rows[index])]

    def __iter__(self) -> Iterator[SourceItem]:
        return map(self._items.__getitem__, self._rows.tolist())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]

    def __reduce__(self) -> tuple[Any, ...]:
        return _whole, (self._items.take(self._rows),)


def _whole(items: ItemColumns) -> SomeItems:
    return SomeItems(items, np.arange(len(items)))


def _smallest(codes: np.ndarray, num_values: int) -> np.ndarray:
    return codes.astype(np.min_scalar_type(max(num_values - 1, 0)))
