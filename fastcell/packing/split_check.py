"""Splits of a listing, and the check that their scores can be meaningful."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from fastcell.dataset.rows.cell_groups import CellGroups
from fastcell.dataset.rows.split_table import subset_codes
from fastcell.sources.base import Listing
from fastcell.sources.listings.item_columns import ItemColumns
from fastcell.splits.make_splits import SplitOptions, make_splits
from fastcell.splits.obstacles import FEWEST_SPLIT_CELLS, describe_few_groups, find_obstacles, refuse_obstacles


@dataclass(frozen=True)
class SplitCheck:
    """Check that the scores of the new splits can be meaningful, see `fastcell.splits.obstacles`.

    Attributes:
        listing: the cells.
        labels: (N,) int64, class number of each cell.
        origins: recordings of the cells.
        what: name of the split, for messages.
        shares: shares of the subsets of the split; empty for no split.
        allowed: whether to continue despite obstacles; always with fewer than `FEWEST_SPLIT_CELLS` labelled cells.
    """

    listing: Listing
    labels: np.ndarray
    origins: dict[str, CellGroups]
    what: str
    shares: tuple[float, ...]
    allowed: bool

    @classmethod
    def of(
        cls, listing: Listing, options: SplitOptions, collection: str | None, what: str, allowed: bool
    ) -> SplitCheck:
        labels = _labels(listing)
        found = {"group": _origin(listing, "group", None), "collection": _origin(listing, "collection", collection)}
        origins = {name: origin for name, origin in found.items() if origin is not None and origin.names}
        allowed = allowed or int(np.count_nonzero(labels >= 0)) < FEWEST_SPLIT_CELLS
        return cls(listing, labels, origins, what, options.shares or (), allowed)

    def recordings(self) -> None:
        """Raise an error if a class is one recording, whatever the split."""
        if self.shares and self.shares[0] > 0 and not self.allowed:
            self._refuse([np.full(len(self.labels), "train")])

    def splits(self, made: Mapping[str, np.ndarray]) -> None:
        """Raise an error if the scores of the split, or of the folds together, cannot be meaningful.

        Splits of the source are not checked.
        """
        if not self.allowed and self.listing.classes:
            self._refuse([made["default"]])
            folds = [made[name] for name in made if name.startswith("fold-") and name not in self.listing.splits]
            if folds:
                self._refuse(folds)

    def given(self, made: Mapping[str, np.ndarray]) -> list[str]:
        """Return a note for each obstacle of a split that the source defines."""
        return [
            f"The split {name!r} of the source: {obstacle.text}."
            for name in self.listing.splits
            for obstacle in find_obstacles(self.labels, self.listing.classes, [made[name]], self.origins)
        ]

    def _refuse(self, splits: list[np.ndarray]) -> None:
        obstacles = find_obstacles(self.labels, self.listing.classes, splits, self.origins)
        few = describe_few_groups(columns_of(self.listing).different("group"), self.shares)
        only = f"with --split none, {few} (then fastcell split --group-by none)" if few else ""
        refuse_obstacles(obstacles, self.what, only)


def possible_options(listing: Listing, options: SplitOptions, say: Callable[[str], None]) -> SplitOptions:
    """Return the split options, without shares if no cell is labelled and there are fewer groups than subsets, as for a
    recording to be classified.
    """
    groups = columns_of(listing).different("group")
    asked = sum(share > 0 for share in options.shares or ())
    if listing.classes or options.folds or None in groups or len(groups) >= asked:
        return options
    say(f"note: no split: no cell is labelled, and {counted(len(groups), 'group')} cannot fill {asked} subsets.")
    return replace(options, shares=None)


def make_subsets(listing: Listing, options: SplitOptions) -> dict[str, np.ndarray]:
    """Return all splits, each (N,) int8 in the order of the listing: the ones made here and those of the source."""
    splits = make_splits(*strata_of(listing), options)
    return splits | {name: subset_codes(np.array(subsets, str)) for name, subsets in listing.splits.items()}


def strata_of(listing: Listing) -> tuple[np.ndarray, CellGroups | None]:
    """Return the class number and the group of each cell of a listing; the groups are None if no cell has one."""
    return _labels(listing), _origin(listing, "group", None)


def columns_of(listing: Listing) -> ItemColumns:
    """Return the cells of a listing as columns."""
    return ItemColumns.of(listing.items)


def _labels(listing: Listing) -> np.ndarray:
    """Return the class number of each cell of a listing, (N,) int64, -1 for a cell without a class."""
    number, columns = {name: i for i, name in enumerate(listing.classes)}, columns_of(listing)
    of_value = np.array([number.get(name or "", -1) for name in columns.different("class_name")], np.int64)
    return of_value[columns.numbers("class_name")] if len(columns) else np.empty(0, np.int64)


def _origin(listing: Listing, name: str, default: str | None) -> CellGroups | None:
    """Return the recordings of the cells of a listing by `group` or `collection`; None if no cell has one."""
    columns = columns_of(listing)
    values = pa.array([value or default for value in columns.different(name)], pa.string())
    return CellGroups.of(pa.chunked_array([values.take(pa.array(columns.numbers(name)))]))


def counted(num: int, what: str, plural: str = "s") -> str:
    """Return a number and what it counts, such as ``1 cell`` and ``2,000 cells``."""
    return f"{num:,} {what}{'' if num == 1 else plural}"
