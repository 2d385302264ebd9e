"""Views: which cells of a data set are used, and how often. A view holds cell_ids, not copies of pixels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fastcell.dataset.class_balance import check_balance, repeat_counts, resolve_balance, weights_of_counts
from fastcell.dataset.manifest import Manifest
from fastcell.dataset.rows.row_set import RowSet
from fastcell.dataset.rows.subset_codes import SubsetCodes
from fastcell.dataset.schema import SPLITS
from fastcell.errors import ArgumentError, invalid

_PART = 1 << 17  # rows that are looked at together: numbers of some of them are held, a megabyte each


@dataclass(frozen=True, repr=False)
class SteadyManifest(Manifest):
    """A manifest whose splits and verdicts do not change after the first read, even if their files change.

    Attributes:
        source: manifest that reads the files.
        kept: values that were read, by name.
    """

    source: Manifest = field(kw_only=True)
    kept: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, manifest: Manifest) -> SteadyManifest:
        """Return a steady manifest of the same data set and the same splits."""
        return cls.like(manifest, source=manifest)

    def packed_split(self, name: str = "default") -> SubsetCodes:
        key = f"split {name}"
        if key not in self.kept:
            self.kept[key] = self.source.packed_split(name)
        return self.kept[key]  # type: ignore[no-any-return]

    def split_names(self) -> list[str]:
        return self.source.split_names()

    def verdict_bits(self) -> np.ndarray | None:
        if "verdicts" not in self.kept:
            self.kept["verdicts"] = self.source.verdict_bits()
        return self.kept["verdicts"]

    def reread(self) -> None:
        """Read the files again at the next call."""
        self.kept.clear()


@dataclass(frozen=True)
class ViewConfig:
    """Selection of cells from a manifest.

    Attributes:
        split: subset, ``train``, ``valid`` or ``test``; None for every cell.
        split_name: name of the split that defines the subset.
        subsample: None for all cells; a float in (0, 1] keeps that share of every class; an integer keeps that many
            cells, distributed over the classes in proportion to their size.
        balance: ``none``; ``oversample`` repeats cells of smaller classes until all classes have the same number of
            rows; ``weights`` keeps the cells and computes loss weights; ``auto`` oversamples classes of very different
            sizes (`fastcell.dataset.class_balance`).
        balance_cap: largest mean number of repeats of a cell, at least 1; None for no limit, or 10 with ``auto``.
        seed: seed of the subsample and of the choice of repeated cells.
        quality: leave out the cells that ``verdicts.csv`` drops.
        labelled: leave out cells without a class (for training and scores).

    Examples:
        >>> ViewConfig("train", subsample=0.5).seed
        0
        >>> ViewConfig("training")
        Traceback (most recent call last):
        ...
        fastcell.errors.ArgumentError: split must be one of train, valid, test, got 'training'. ...
    """

    split: str | None = None
    split_name: str = "default"
    subsample: int | float | None = None
    balance: str = "none"
    seed: int = 0
    quality: bool = True
    labelled: bool = False
    balance_cap: float | None = None

    def __post_init__(self) -> None:
        if self.split is not None and self.split not in SPLITS:
            raise invalid("split", f"one of {', '.join(SPLITS)}", self.split, "Leave it out for every cell")
        check_balance(self.balance, self.balance_cap)
        if self.subsample is not None:
            share = isinstance(self.subsample, float)
            if isinstance(self.subsample, bool) or self.subsample <= 0 or (share and self.subsample > 1):
                raise invalid(
                    "subsample", "a share in (0, 1] or a number of cells", self.subsample, "Leave it out for all"
                )


@dataclass(frozen=True)
class View:
    """Selected rows of a manifest.

    Attributes:
        manifest: manifest of the data set.
        cells: the rows: a set in stored order, or (n,) int64 cell_ids in any order; a cell that is used twice occurs
            twice.
        class_weights: (K,) float32, loss weights with mean 1 over the rows; None if all classes have equal weight.
    """

    manifest: Manifest
    cells: RowSet | np.ndarray
    class_weights: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.cells)

    @property
    def rows(self) -> np.ndarray:
        """(n,) int64, cell_ids of all rows; made again from a set, 8 bytes for each row."""
        return self.part(0, len(self))

    def part(self, begin: int, stop: int) -> np.ndarray:
        """Return the cell_ids of the rows `begin` to `stop`, exclusive, of the view, (m,) int64."""
        return self.cells[begin:stop] if isinstance(self.cells, np.ndarray) else self.cells.part(begin, stop)

    def parts(self, begin: int = 0, stop: int | None = None) -> Iterator[np.ndarray]:
        """Yield the cell_ids of the rows `begin` to `stop`, exclusive, in their order, some at a time."""
        stop = len(self) if stop is None else min(stop, len(self))
        for first in range(begin, stop, _PART):
            yield self.part(first, min(first + _PART, stop))

    def different(self) -> Iterator[np.ndarray]:
        """Yield the different cell_ids of the view in stored order, some at a time."""
        if isinstance(self.cells, np.ndarray):
            yield np.unique(self.cells)
            return
        for begin in range(0, len(self.manifest), _PART):
            yield np.flatnonzero(self.cells.distinct(begin, min(begin + _PART, len(self.manifest)))) + begin

    def shard_starts(self, begin: int, stop: int) -> np.ndarray:
        """Return the places at which rows of another shard begin, (m,) int64, among the rows `begin` to `stop`.

        Places count from `begin`; the first one is 0.
        """
        edges = self.manifest.shard_edges
        if isinstance(self.cells, np.ndarray) or edges is None:
            return np.flatnonzero(np.diff(self.manifest.shards_of(self.part(begin, stop)), prepend=-1))
        places = np.unique(self.cells.places_of(edges[:-1]))
        return np.append(0, places[(places > begin) & (places < stop)] - begin)

    @property
    def labels(self) -> np.ndarray:
        """(n,) int64, index into the data set's classes, -1 for a cell without a class."""
        return self.manifest.cell_labels[self.rows]

    def class_counts(self) -> np.ndarray:
        """Return the number of rows per class, (K,) int64, including repeats."""
        return self._count(self.parts())

    def cell_counts(self) -> np.ndarray:
        """Return the number of different cells per class, (K,) int64."""
        return self._count(self.different())

    def _count(self, parts: Iterator[np.ndarray]) -> np.ndarray:
        num_classes, labels = len(self.manifest.info.classes), self.manifest.cell_labels
        return sum((_count_classes(labels[rows], num_classes) for rows in parts), np.zeros(num_classes, np.int64))

    def emphasis(self) -> np.ndarray | None:
        """Return the weight of a cell of each class in training, (K,) float32: mean number of repeats, or loss weight.

        None if all cells count equally.
        """
        if self.class_weights is not None:
            return self.class_weights
        rows, cells = self.class_counts(), self.cell_counts()
        if np.array_equal(rows, cells):
            return None
        return (rows / np.maximum(cells, 1)).astype(np.float32)


def select(manifest: Manifest, config: ViewConfig) -> View:
    """Select the cells that ``config`` describes. Quarantined cells are never selected.

    Raises:
        ArgumentError: the selection is empty, or `subsample` exceeds the number of cells.
    """
    cells = RowSet.of_masks(_masks(manifest, config))
    if config.subsample is not None:
        rows = cells.part(0, len(cells))
        keep = np.zeros(len(manifest), bool)
        keep[_subsample(rows, manifest.class_codes[rows], config.subsample, config.seed)] = True
        cells = RowSet(keep)
    if not len(cells):
        what = "labelled cell" if config.labelled else "cell"
        where = "" if config.split is None else f" in the {config.split} subset of split {config.split_name!r}"
        raise ArgumentError(f"{manifest.place} has no {what}{where}. Look at it with `fastcell info {manifest.place}`.")
    view = View(manifest, cells)
    counts = view.class_counts()
    balance, cap = resolve_balance(config.balance, config.balance_cap, counts)
    if balance == "oversample":
        rows = view.rows
        repeats = repeat_counts(manifest.class_codes[rows], config.seed, cap)
        each = np.zeros(len(manifest), repeats.dtype)
        each[rows] = repeats
        return View(manifest, RowSet(each))
    return View(manifest, cells, weights_of_counts(counts) if balance == "weights" else None)


def _masks(manifest: Manifest, config: ViewConfig) -> Iterator[np.ndarray]:
    """Yield which cells a view may have, (n,) bool, for adjacent cells of the manifest, some at a time."""
    banned = np.sort(manifest.quarantine().column("cell_id").drop_null().to_numpy())
    kept = manifest.verdict_bits() if config.quality else None
    subsets = None if config.split is None else manifest.packed_split(config.split_name)
    for begin in range(0, len(manifest), _PART):
        end = min(begin + _PART, len(manifest))
        mask = np.ones(end - begin, bool)
        if kept is not None:
            mask &= np.unpackbits(kept[begin // 8 : -(-end // 8)], count=end - begin).view(bool)
        if subsets is not None:
            mask &= subsets.part(begin, end) == SPLITS.index(config.split)  # type: ignore[arg-type]
        if config.labelled:
            mask &= manifest.class_codes[begin:end] >= 0
        first, last = np.searchsorted(banned, (begin, end))
        mask[banned[first:last] - begin] = False
        yield mask


def _count_classes(codes: np.ndarray, num_classes: int) -> np.ndarray:
    """Return the number of cells per class, (K,) int64, given (n,) class numbers, -1 for none."""
    return np.bincount(codes[codes >= 0], minlength=num_classes)


def _subsample(rows: np.ndarray, labels: np.ndarray, amount: int | float, seed: int) -> np.ndarray:
    """Keep a share of every class (at least one cell each), or a number of cells distributed by largest remainder."""
    if not isinstance(amount, float) and amount > len(rows):
        raise invalid("subsample", f"at most {len(rows)}, the number of cells", amount, "Leave it out for all")
    names, counts = np.unique(labels, return_counts=True)
    wanted = counts * (amount if isinstance(amount, float) else amount / len(rows))
    if isinstance(amount, float):
        quota = np.maximum(np.floor(wanted + 0.5).astype(np.int64), 1)
    else:
        quota = np.floor(wanted).astype(np.int64)
        rest = int(amount) - int(quota.sum())
        quota[np.argsort(quota - wanted, kind="stable")[:rest]] += 1
    kept = [
        np.random.default_rng([seed, 1, int(name) + 1]).permutation(rows[labels == name])[:count]
        for name, count in zip(names, quota, strict=True)
    ]
    return np.sort(np.concatenate(kept))
