"""Groups of the cells of a data set (donors, runs, files), looked up from numbers of one to four bytes a cell."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import overload

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fastcell.system.text import natural_sorted


class CellGroups:
    """Group names by cell_id, like an array of N names in less memory.

    Args:
        codes: (N,) signed integers, index into `names`, -1 for a cell without a group.
        names: names of the groups, sorted, each of at least one cell.
    """

    def __init__(self, codes: np.ndarray, names: Sequence[str]) -> None:
        self.codes, self.names = codes, list(names)
        self._texts = np.array([*self.names, ""], object)

    @classmethod
    def of(cls, column: pa.ChunkedArray) -> CellGroups | None:
        """Return the groups in a column of text; None if every value is null. An empty text is no group."""
        if column.null_count == len(column):
            return None
        numbering = GroupNumbers()
        codes = np.concatenate([numbering.add(chunk) for chunk in column.chunks])
        names, rank = numbering.sorted()
        return cls(rank.astype(np.min_scalar_type(-len(names) - 1))[codes], names)

    @classmethod
    def of_column(cls, column: pa.ChunkedArray) -> CellGroups:
        """Return the groups in a column of text, also if every value is null."""
        return cls.of(column) or cls(np.full(len(column), -1, np.int8), [])

    @classmethod
    def of_names(cls, names: CellGroups | Iterable[str | None] | None, num_cells: int) -> CellGroups:
        """Return the groups in N names, None or empty for a cell without one; None for N cells without groups."""
        if isinstance(names, CellGroups):
            return names
        given = [None] * num_cells if names is None else [None if name is None else str(name) for name in names]
        return cls.of_column(pa.chunked_array([pa.array(given, pa.string())]))

    def __len__(self) -> int:
        return len(self.codes)

    @property
    def different(self) -> list[str]:
        """Names of the groups, and an empty text if a cell has none."""
        return [*self.names, *([""] if (self.codes < 0).any() else [])]

    def subset(self, which: np.ndarray | slice) -> CellGroups:
        """Return the groups of some cells, given a mask (N,) bool, cell_ids or a slice; other groups are left out."""
        codes = self.codes[which]
        used = np.zeros(len(self.names) + 1, bool)
        used[codes] = True
        used[-1] = False
        place = np.where(used, np.cumsum(used) - 1, -1).astype(self.codes.dtype)
        return CellGroups(place[codes], [self.names[number] for number in np.flatnonzero(used).tolist()])

    def in_natural_order(self) -> tuple[list[str], npt.NDArray[np.int64]]:
        """Return the names in natural order (``b2`` before ``b10``), and the place of each cell's group in it.

        Returns:
            G names, and (N,) int64, -1 for a cell without a group.
        """
        place = {name: number for number, name in enumerate(natural_sorted(self.names))}
        return list(place), np.array([*(place[name] for name in self.names), -1], np.int64)[self.codes]

    @overload
    def __getitem__(self, cell_ids: int) -> str: ...
    @overload
    def __getitem__(self, cell_ids: np.ndarray | slice) -> np.ndarray: ...
    def __getitem__(self, cell_ids: int | np.ndarray | slice) -> str | np.ndarray:
        """Return the groups of cells, str, empty for a cell without a group."""
        found: str | np.ndarray = self._texts[self.codes[cell_ids]]
        return found if isinstance(found, str) else found.astype(str)

    def units(self) -> npt.NDArray[np.int64]:
        """Number the independent units of the cells: the groups, and each cell that has no group by itself.

        Returns:
            (N,) int64, numbers as from `fastcell.stats.intervals.unit_numbers`.
        """
        units = self.codes.astype(np.int64)
        loose = np.flatnonzero(units < 0)
        units[loose] = len(self.names) + np.arange(len(loose))
        return units


class GroupNumbers:
    """Numbers for the names in the parts of a column, in the order of their first rows."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def add(self, part: pa.Array) -> npt.NDArray[np.int32]:
        """Return the numbers of the names in a part, (n,) int32, -1 for null or an empty text."""
        coded = part.dictionary_encode()
        numbers = [self._number(name) for name in coded.dictionary.to_pylist()]
        index = coded.indices.fill_null(len(numbers)).to_numpy(zero_copy_only=False)
        return np.array([*numbers, -1], np.int32)[index]

    def _number(self, name: str) -> int:
        return self._numbers.setdefault(name, len(self._numbers)) if name else -1

    def sorted(self) -> tuple[list[str], npt.NDArray[np.int64]]:
        """Return the names in sorted order, and the place of each number in it, (G + 1,), with -1 as the last entry."""
        names = list(self._numbers)
        order = np.array(sorted(range(len(names)), key=names.__getitem__), np.int64)
        rank = np.empty(len(names) + 1, np.int64)
        rank[order], rank[-1] = np.arange(len(names)), -1
        return [names[place] for place in order.tolist()], rank
