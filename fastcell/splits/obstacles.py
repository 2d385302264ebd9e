"""Find obstacles to valid scores of a split: classes confounded with their recording, and absent classes.

Three kinds of obstacles are found among the labelled cells of a split:

- A class comes from one group (or collection) alone, and that group holds no other class. A network can then learn the
  recording instead of the class, and no score shows which.
- In a scored subset, all cells of a class are from groups that hold no other class and that also have training cells.
- A subset lacks a class that other subsets have.

In the first two, a share of `STRAYS` of the cells may be exceptions: one stray cell makes no valid score. Subsets
without labelled cells are left out: they are empty on purpose (``--split 0/0/100``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from fastcell.dataset.manifest import Manifest
from fastcell.dataset.rows.cell_groups import CellGroups
from fastcell.dataset.rows.split_table import subset_codes
from fastcell.dataset.schema import SPLITS
from fastcell.errors import ArgumentError
from fastcell.system.text import list_names

FEWEST_SPLIT_CELLS = 10
"""Number of labelled cells below which any split is accepted, because scores of so few cells have no precision."""
STRAYS = 0.05
"""Largest share of a class in other recordings, and of other classes in its recording, that is not counted."""
_HINTS = {
    "alike": "Record several classes in a {0}, or each class in several of them, and name them when packing",
    "seen": "Split by {0} (fastcell split DATA --group-by {0}), with several of them for each class",
    "absent": "Add cells or groups of that class, use smaller groups, or leave the class out",
    "absent of three": "Ask for fewer subsets (--split 80/0/20 of pack or split), add cells or groups of that class, "
    "use smaller groups, or leave the class out",
}


@dataclass(frozen=True)
class Obstacle:
    """One reason why scores of a split are not valid for some classes.

    Attributes:
        kind: ``alike`` (class and recording are one), ``seen`` (scored groups of one class are known from training), or
            ``absent`` (a subset lacks a class).
        text: the reason, as part of a sentence.
        origin: column that names the recording, ``group`` or ``collection``; empty for ``absent``.
        num_subsets: number of subsets with labelled cells; 0 for other kinds than ``absent``.
    """

    kind: str
    text: str
    origin: str = ""
    num_subsets: int = 0

    @property
    def hint(self) -> str:
        """What to do about it, as a sentence without its full stop."""
        kind = "absent of three" if self.num_subsets > 2 else self.kind
        return _HINTS[kind].format(self.origin)


def origins_of(manifest: Manifest) -> dict[str, CellGroups]:
    """Return group and collection of the cells, if the data set has them."""
    found = {"group": manifest.groups, "collection": CellGroups.of(manifest.table.column("collection"))}
    return {name: origin for name, origin in found.items() if origin is not None and origin.names}


def find_obstacles(
    labels: np.ndarray,
    classes: Sequence[str],
    splits: Sequence[np.ndarray],
    origins: Mapping[str, CellGroups],
    *,
    torn_on_purpose: bool = False,
) -> list[Obstacle]:
    """Return the obstacles of one split, or of several whose scored cells are pooled (folds).

    Args:
        labels: (N,) int, index into `classes`, -1 for a cell without a class.
        classes: names of the K classes.
        splits: one or more arrays (N,), subset of each cell, as names or as numbers of
            `fastcell.dataset.rows.split_table.subset_codes`. Training must have every class in each of them; the
            other subsets are checked with the cells of all splits together.
        origins: recording of each cell by column, as `origins_of` returns them.
        torn_on_purpose: groups are ignored on request; training may know the groups of scored cells.

    Returns:
        The obstacles, each once.
    """
    labels = np.asarray(labels)
    splits = [subset_codes(subsets) for subsets in splits]
    inside = (labels >= 0) & np.any([subsets >= 0 for subsets in splits], axis=0)
    if len(np.unique(labels[inside])) < 2:
        return []
    found: list[Obstacle] = []
    if any((subsets[inside] == SPLITS.index("train")).any() for subsets in splits):
        for column, origin in origins.items():
            table = _count(labels, origin, inside)
            alike = _alike(table)
            if alike:
                found.append(_describe_alike(alike, table, classes, column, origin.names))
            if not torn_on_purpose:
                skip = {one.label for one in alike}
                found += _known_groups(labels, classes, splits, column, origin, table, inside, skip)
    return found + _absent(labels, classes, splits, inside)


class _Table(NamedTuple):
    """Cells by class and recording: the pairs that occur.

    Attributes:
        labels, codes: (P,) class and recording of each pair, recording G for cells without one.
        counts: (P,) cells.
        of_class: (K,) cells of each class.
        of_code: (G + 1,) cells of each recording.
    """

    labels: np.ndarray
    codes: np.ndarray
    counts: np.ndarray
    of_class: np.ndarray
    of_code: np.ndarray


class _Alike(NamedTuple):
    """A class, and the recording that it cannot be told apart from."""

    label: int
    code: int


def _count(labels: np.ndarray, origin: CellGroups, inside: np.ndarray) -> _Table:
    """Return the cells inside by class and recording."""
    size = len(origin.names) + 1
    pairs = labels[inside].astype(np.int64) * size + origin.codes[inside].astype(np.int64) % size
    if len(pairs) * 8 >= (int(labels.max()) + 1) * size:
        every = np.bincount(pairs)
        values = np.flatnonzero(every)
        counts = every[values]
    else:
        values, counts = np.unique(pairs, return_counts=True)
    of, codes = np.divmod(values, size)
    totals = (np.bincount(column, counts, least).astype(np.int64) for column, least in ((of, 0), (codes, size)))
    return _Table(of, codes, counts, *totals)


def _alike(table: _Table) -> list[_Alike]:
    """Return the classes of one recording that holds no other class, but for a few stray cells."""
    found = []
    total = table.of_class.sum()
    largest = np.lexsort((table.counts, table.labels))
    last = np.append(table.labels[largest][1:] != table.labels[largest][:-1], True)
    for pair in largest[last].tolist():
        label, code, count = int(table.labels[pair]), int(table.codes[pair]), int(table.counts[pair])
        of_class, of_code = int(table.of_class[label]), int(table.of_code[code])
        elsewhere, others = of_class - count, of_code - count
        if code == len(table.of_code) - 1 or elsewhere > STRAYS * of_class:
            continue
        if others <= STRAYS * min(of_code, int(total) - of_class):
            found.append(_Alike(label, code))
    return found


def _known_groups(
    labels: np.ndarray,
    classes: Sequence[str],
    splits: Sequence[np.ndarray],
    column: str,
    origin: CellGroups,
    table: _Table,
    inside: np.ndarray,
    skip: set[int],
) -> list[Obstacle]:
    """Return an obstacle for each scored subset in which a class comes only from groups that training has as that
    class, but for a few stray cells.
    """
    class_of = np.full(len(table.of_code), -1)
    main = table.counts >= (1 - STRAYS) * table.of_code[table.codes]
    class_of[table.codes[main]] = table.labels[main]
    class_of[-1] = -1
    found = []
    for number, part in list(enumerate(SPLITS))[1:]:
        size = len(classes) + 1
        cells = np.zeros(len(classes) * size, np.int64)  # by class, and by the class of their group
        for subsets in splits:
            mine, seen = inside & (subsets == number), np.zeros(len(class_of), bool)
            seen[origin.codes[inside & (subsets == SPLITS.index("train"))]] = True
            told = np.where(seen, class_of, -1)[origin.codes[mine]]
            cells += np.bincount(labels[mine].astype(np.int64) * size + told % size, minlength=len(cells))
        by_group = cells.reshape(len(classes), size)
        scored, known = by_group.sum(axis=1), np.diagonal(by_group)
        wrong = by_group.sum(axis=0)[:-1] - known
        answered = (known < (1 - STRAYS) * scored) | (wrong > STRAYS * (scored.sum() - scored))
        few = [label for label in np.flatnonzero((scored > 0) & ~answered).tolist() if label not in skip]
        if few:
            names = list_names([classes[label] for label in few])
            by_group[few, few] = 0
            strays = int(by_group[few].sum() + np.delete(by_group, few, axis=0)[:, few].sum())
            text = (
                f"class and {column} cannot be told apart in the {part} subset: its cells of class {names} are all "
                f"from {column}s that hold no other class and are in the train subset too{_but_for(strays)}"
            )
            found.append(Obstacle("seen", text, column))
    return found


def _absent(
    labels: np.ndarray, classes: Sequence[str], splits: Sequence[np.ndarray], inside: np.ndarray
) -> list[Obstacle]:
    present = np.bincount(labels[inside], minlength=len(classes)) > 0
    lacking: dict[str, np.ndarray] = {}
    num_subsets = sum(any((inside & (subsets == number)).any() for subsets in splits) for number in range(len(SPLITS)))
    for number, part in enumerate(SPLITS):
        held = [np.bincount(labels[inside & (s == number)], minlength=len(classes)) > 0 for s in splits]
        if part != "train":
            held = [np.any(held, axis=0)]
        missing = [present & ~one for one in held if one.any()]
        if missing and np.any(missing):
            lacking[part] = np.any(missing, axis=0)
    found = []
    for name, lacks in lacking.items():
        names = list_names([classes[label] for label in np.flatnonzero(lacks).tolist()])
        text = f"the {name} subset has no cell of class {names}"
        found.append(Obstacle("absent", text, num_subsets=num_subsets))
    return found


def _describe_alike(
    alike: Sequence[_Alike], table: _Table, classes: Sequence[str], column: str, names: Sequence[str]
) -> Obstacle:
    pairs = list_names([f"{classes[one.label]} is from {column} {names[one.code]} only" for one in alike])
    holders = f"this {column} holds" if len(alike) == 1 else f"these {column}s hold"
    labels, codes = np.array(alike).T
    stray = np.isin(table.labels, labels) | np.isin(table.codes, codes)
    for label, code in alike:
        stray &= (table.labels != label) | (table.codes != code)
    strays = int(table.counts[stray].sum())
    text = f"class and {column} cannot be told apart: {pairs}, and {holders} no other class{_but_for(strays)}"
    return Obstacle("alike", text, column)


def _but_for(strays: int) -> str:
    return f", but for {strays:,} stray cell{'s' * (strays != 1)}" if strays else ""


def cautions(obstacles: Sequence[Obstacle]) -> list[str]:
    """Return the sentences to print above every score of such a split."""
    return [f"Caution: {obstacle.text}. The score is not valid for these classes." for obstacle in obstacles]


def refuse_obstacles(obstacles: Sequence[Obstacle], what: str, only: str = "") -> None:
    """Raise an error if there is an obstacle.

    Args:
        obstacles: result of `find_obstacles`.
        what: the split and data set, for the message.
        only: what --allow-absent needs beside it to continue, as the end of ``continues only ...``; empty for nothing.

    Raises:
        ArgumentError: there is an obstacle; the message has all of them and what to do.
    """
    if not obstacles:
        return
    found = "; ".join(obstacle.text for obstacle in obstacles)
    first = next(kind for kind in _HINTS if any(one.kind == kind for one in obstacles))  # the others follow from it
    hints = list(dict.fromkeys(one.hint for one in obstacles if one.kind == first))
    continues = "--allow-absent continues" + (f" only {only}" if only else "")
    raise ArgumentError(
        f"{what} must have every class in each subset, and no class confounded with its recording, got this: "
        f"{found}. {'. '.join(hints)}. {continues}; a caution is then printed above every score."
    )


def describe_few_groups(groups: Iterable[str | None], shares: Sequence[float]) -> str:
    """Return why the groups of the cells cannot fill the subsets of a split; empty if they can, or a cell has none."""
    names, num_subsets = set(groups), sum(share > 0 for share in shares)
    if names & {None, ""} or len(names) >= num_subsets:
        return ""
    return f"since {len(names)} group{'s' * (len(names) != 1)} cannot fill {num_subsets} subsets"


def split_obstacles(manifest: Manifest, split_name: str, quality: bool = True) -> list[Obstacle]:
    """Return the obstacles of a split of a data set.

    Args:
        manifest: the data set.
        split_name: name of the split.
        quality: leave out cells that ``verdicts.csv`` drops, as training does.

    Raises:
        ArgumentError: no split has this name.
        DataError: a file of the data set is damaged.
    """
    subsets = np.where(usable_cells(manifest, quality), manifest.split_codes(split_name), np.int8(-1))
    return find_obstacles(manifest.class_codes, manifest.info.classes, [subsets], origins_of(manifest))


def usable_cells(manifest: Manifest, quality: bool = True) -> np.ndarray:
    """Return True for the cells that views may select, (N,) bool: not quarantined, and not dropped by a verdict."""
    usable = np.ones(len(manifest), bool)
    usable[manifest.quarantine().column("cell_id").drop_null().to_numpy()] = False
    return usable & manifest.verdicts() if quality else usable
