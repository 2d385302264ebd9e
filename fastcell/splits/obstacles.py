"""Find obstacles to valid scores of a split: classes confounded with their recording, and absent classes.

Three kinds of obstacles are found among the labelled cells of a split:

- A class comes from one group (or collection) alone, and that group holds no other class. A network can then learn the
  recording instead of the class, and no score shows which.
- In a scored subset, all cells of a class are from groups that hold no other class and that also have training cells.
- A subset lacks a class that other subsets have.

Subsets without labelled cells are left out: they are empty on purpose (``--split 0/0/100``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from fastcell.dataset.manifest import Manifest, subset_codes
from fastcell.dataset.schema import SPLITS
from fastcell.errors import ArgumentError

ORIGINS = ("group", "collection")
"""Columns of the manifest that name the recording of a cell."""
FEWEST_SPLIT_CELLS = 10
"""Fewer labelled cells than this are packed whatever their split, because scores of so few have no precision."""
_MOST_NAMES = 6
_HINTS = {
    "alike": "Record several classes in a {0}, or each class in several of them, and name them when packing",
    "seen": "Split by {0} (fastcell split DATA --group-by {0}), with several of them for each class",
    "absent": "Add cells or groups of that class, use smaller groups, or leave the class out",
    "absent of three": "Ask for fewer subsets (--split 80/0/20), add cells or groups of that class, use smaller "
    "groups, or leave the class out",
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


class Origin(NamedTuple):
    """Recordings of N cells.

    Attributes:
        names: names of the G recordings.
        codes: (N,) signed integers, index into `names`, -1 for a cell without one.
    """

    names: list[str]
    codes: np.ndarray

    @classmethod
    def of(cls, values: pa.ChunkedArray | pa.Array) -> Origin | None:
        """Return the recordings of a column of strings; None if no cell has one. Null and empty count as none."""
        chunked = values if isinstance(values, pa.ChunkedArray) else pa.chunked_array([values])
        chunks = chunked.dictionary_encode().unify_dictionaries().chunks
        told = chunks[0].dictionary.to_pylist() if chunks else []
        names = [name for name in told if name]
        if not names:
            return None
        numbers = {name: number for number, name in enumerate(names)}
        kind = np.min_scalar_type(-len(names) - 1)
        of_code = np.array([*(numbers.get(name, -1) for name in told), -1], kind)
        indices = [chunk.indices.fill_null(-1).to_numpy(zero_copy_only=False) for chunk in chunks]
        return cls(names, np.concatenate([of_code[index] for index in indices]))


def origins_of(manifest: Manifest) -> dict[str, Origin]:
    """Return group and collection of the cells, if the data set has them."""
    found = {name: Origin.of(manifest.table.column(name)) for name in ORIGINS}
    return {name: origin for name, origin in found.items() if origin is not None}


def find_obstacles(
    labels: np.ndarray,
    classes: Sequence[str],
    splits: Sequence[np.ndarray],
    origins: Mapping[str, Origin],
    *,
    torn_on_purpose: bool = False,
) -> list[Obstacle]:
    """Return the obstacles of one split, or of several whose scored cells are pooled (folds).

    Args:
        labels: (N,) int, index into `classes`, -1 for a cell without a class.
        classes: names of the K classes.
        splits: one or more arrays (N,), subset of each cell, as names or as numbers of
            `fastcell.dataset.manifest.subset_codes`. Training must have every class in each of them; the
            other subsets are checked with the cells of all splits together.
        origins: recording of each cell by column, as `origins_of` returns them.
        torn_on_purpose: groups are ignored on request; training may know the groups of scored cells.

    Returns:
        The obstacles, each once.
    """
    labels = np.asarray(labels)
    splits = [subsets if subsets.dtype == np.int8 else subset_codes(subsets) for subsets in splits]
    inside = (labels >= 0) & np.any([subsets >= 0 for subsets in splits], axis=0)
    if len(np.unique(labels[inside])) < 2:
        return []
    found: list[Obstacle] = []
    if any((subsets[inside] == SPLITS.index("train")).any() for subsets in splits):
        for column, origin in origins.items():
            table = _count(labels, origin, inside)
            alike = _alike(table)
            if alike:
                found.append(_describe_alike(alike, classes, column, origin.names))
            if not torn_on_purpose:
                found += _known_groups(labels, classes, splits, column, origin, table, inside, set(alike))
    return found + _absent(labels, classes, splits, inside)


def _count(labels: np.ndarray, origin: Origin, inside: np.ndarray) -> np.ndarray:
    """Return (K, G + 1) counts of the cells inside by class and recording; the last column is for cells without one."""
    table = np.zeros((int(labels.max(initial=-1)) + 1, len(origin.names) + 1), np.int64)
    np.add.at(table, (labels[inside], origin.codes[inside]), 1)
    return table


def _alike(table: np.ndarray) -> dict[int, int]:
    """Return the classes of one recording that holds no other class, with that recording."""
    pure = (table[:, :-1] > 0).sum(axis=0) == 1
    single = ((table[:, :-1] > 0).sum(axis=1) == 1) & (table[:, -1] == 0)
    where = table[:, :-1].argmax(axis=1)
    return {label: int(where[label]) for label in np.flatnonzero(single & pure[where]).tolist()}


def _known_groups(
    labels: np.ndarray,
    classes: Sequence[str],
    splits: Sequence[np.ndarray],
    column: str,
    origin: Origin,
    table: np.ndarray,
    inside: np.ndarray,
    skip: set[int],
) -> list[Obstacle]:
    """Return an obstacle for each scored subset in which a class comes only from groups that training has as that
    class.
    """
    pure = np.append((table[:, :-1] > 0).sum(axis=0) == 1, False)
    found = []
    for number, part in list(enumerate(SPLITS))[1:]:
        answers, scored = np.zeros(len(classes), bool), np.zeros(len(classes), bool)
        for subsets in splits:
            mine, seen = inside & (subsets == number), np.zeros(len(pure), bool)
            seen[origin.codes[inside & (subsets == SPLITS.index("train"))]] = True
            scored[labels[mine]] = True
            answers[labels[mine & ~(pure & seen)[origin.codes]]] = True
        known = [label for label in np.flatnonzero(scored & ~answers).tolist() if label not in skip]
        if known:
            text = (
                f"class and {column} cannot be told apart in the {part} subset: its cells of class "
                f"{_listed([classes[label] for label in known])} are all from {column}s that hold no other class and "
                "are in the train subset too"
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
        names = _listed([classes[label] for label in np.flatnonzero(lacks).tolist()])
        text = f"the {name} subset has no cell of class {names}"
        found.append(Obstacle("absent", text, num_subsets=num_subsets))
    return found


def _describe_alike(alike: Mapping[int, int], classes: Sequence[str], column: str, names: Sequence[str]) -> Obstacle:
    pairs = _listed([f"{classes[label]} is from {column} {names[place]} only" for label, place in alike.items()])
    holders = f"this {column} holds" if len(alike) == 1 else f"these {column}s hold"
    return Obstacle("alike", f"class and {column} cannot be told apart: {pairs}, and {holders} no other class", column)


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _MOST_NAMES
    return ", ".join(names[:_MOST_NAMES]) + (f" and {more} more" if more > 0 else "")


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
