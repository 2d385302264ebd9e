"""Designs of the permutation tests: cells that are held out together and units that are exchanged.

There are three cases, which depend on how classes are distributed over recordings (groups):

free      No recordings are named. Cells are exchanged, and held out in runs of neighbours in the order of keys.
crossed   Recordings hold several classes. Classes are exchanged within each recording. Whole recordings are held out,
          or runs of neighbours if there are fewer than three recordings.
nested    Each recording holds one class. Whole recordings are exchanged and held out, since their cells share
          illumination and focus whatever the class. A class in only one recording cannot be distinguished from it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fastcell.stats.permutation import Design, Ints

LEAST_CLASS_CELLS = 5
"""Smallest number of cells of a tested class, and of each class in a recording that counts as mixed."""
LEAST_OF_RECORDING = 10
MOST_RECORDINGS = 20
NUM_FOLDS = 5
_RUNS_PER_FOLD = 5
_MOST_FOLDS = 10


@dataclass(frozen=True)
class ClassDesign:
    """Design of the tests that predict the class.

    Attributes:
        kind: ``free``, ``crossed`` or ``nested``.
        design: the design; None if nothing can be tested.
        classes: classes of the design, as indices into those of the data set.
        alone: classes that occur in only one recording and cannot be distinguished from it.
        why_not: reason why there is no design, in one sentence; empty if there is one.
    """

    kind: str
    design: Design | None
    classes: tuple[int, ...] = ()
    alone: tuple[int, ...] = ()
    why_not: str = ""

    def describe(self) -> str:
        """Return a description of the test for the report."""
        if self.design is None:
            return self.why_not
        num_units = len(np.unique(self.design.units))
        by_group = len(np.unique(self.design.folds)) if self.kind == "nested" else 0
        return {
            "free": "runs of neighbouring cells held out, classes permuted over cells",
            "crossed": f"within {len(np.unique(self.design.strata))} groups, classes permuted inside each",
            "nested": f"whole groups held out ({num_units} in {by_group} folds), classes permuted over groups",
        }[self.kind]


def class_design(labels: Ints, groups: npt.NDArray[np.str_] | None, usable: npt.NDArray[np.bool_]) -> ClassDesign:
    """Choose the design that fits the distribution of the classes over groups.

    Args:
        labels: (n,) int64, -1 = none, in acquisition order.
        groups: (n,) str, empty = none; None without groups.
        usable: (n,) bool, cells with known features.
    """
    rows = np.flatnonzero(usable & (labels >= 0))
    counts = np.bincount(labels[rows], minlength=labels.max(initial=-1) + 1)
    enough = counts >= LEAST_CLASS_CELLS
    if enough.sum() < 2:
        what = "no class" if not enough.any() else "one class"
        return ClassDesign("free", None, why_not=f"{what} has {LEAST_CLASS_CELLS} usable cells or more")
    rows = rows[enough[labels[rows]]]
    if groups is None or len(np.unique(groups[rows][groups[rows] != ""])) < 2:
        return _free(rows, labels)
    rows = rows[groups[rows] != ""]
    _, code = np.unique(groups[rows], return_inverse=True)
    table = np.zeros((code.max() + 1, len(counts)), np.int64)
    np.add.at(table, (code, labels[rows]), 1)
    there = table >= LEAST_CLASS_CELLS
    mixed = there.sum(1) >= 2
    if table[mixed].sum() >= 0.5 * table.sum():
        keep = mixed[code] & there[code, labels[rows]]
        return _crossed(rows[keep], labels, code[keep])
    return _nested(rows, labels, code, table)


def _free(rows: Ints, labels: Ints) -> ClassDesign:
    classes, target = np.unique(labels[rows], return_inverse=True)
    design = Design(rows, target, block_folds(target), np.arange(len(rows)), np.zeros(len(rows), np.int64))
    return ClassDesign("free", design, tuple(classes.tolist()))


def _crossed(rows: Ints, labels: Ints, code: Ints) -> ClassDesign:
    _, code = np.unique(code, return_inverse=True)
    classes, target = np.unique(labels[rows], return_inverse=True)
    pairs = np.unique(code * len(classes) + target)
    in_groups = np.bincount(pairs % len(classes), minlength=len(classes))
    num_groups = int(code.max()) + 1
    if num_groups >= 3 and in_groups.min() >= 2:
        folds = code % _MOST_FOLDS if num_groups > MOST_RECORDINGS else code
    else:
        folds = block_folds(code * len(classes) + target)
    design = Design(rows, target, folds, np.arange(len(rows)), code, centered=True)
    return ClassDesign("crossed", design, tuple(classes.tolist()))


def _nested(rows: Ints, labels: Ints, code: Ints, table: npt.NDArray[np.int64]) -> ClassDesign:
    """Return the nested design; in a recording with cells of several classes, only its main class is used."""
    main = table.argmax(1)
    rows, code = rows[main[code] == labels[rows]], code[main[code] == labels[rows]]
    num_groups = np.bincount(main[np.unique(code)], minlength=table.shape[1])
    alone = tuple(np.flatnonzero(num_groups == 1).tolist())
    keep = num_groups[labels[rows]] >= 2
    rows, code = rows[keep], code[keep]
    classes, target = np.unique(labels[rows], return_inverse=True)
    if len(classes) < 2:
        why = "all classes but one" if len(classes) else "every class"
        return ClassDesign(
            "nested", None, alone=alone, why_not=f"{why} in one group only: class and group cannot be separated"
        )
    _, code, first = _codes(code)
    of_group = target[first]
    if len(first) <= MOST_RECORDINGS:
        folds = np.arange(len(first))
    else:
        order = np.argsort(of_group, kind="stable")
        folds = np.empty(len(first), np.int64)
        folds[order] = np.arange(len(first)) % _MOST_FOLDS
    design = Design(rows, target, folds[code], code, np.zeros(len(rows), np.int64))
    return ClassDesign("nested", design, tuple(classes.tolist()), alone)


def recording_designs(
    recordings: npt.NDArray[np.str_], labels: Ints, usable: npt.NDArray[np.bool_]
) -> list[tuple[Design, list[str]]]:
    """Build designs that predict the recording from cells of one class, for each class in two or more recordings.

    Recordings are exchanged only within the class.

    Args:
        recordings: (n,) str, group or collection, empty = none.
        labels: (n,) int64; unlabelled cells count as a class of their own.
        usable: (n,) bool.

    Returns:
        Designs with the names of their recordings: at most the 20 largest of a class, with at least 10 cells each.
    """
    found = []
    for label in np.unique(labels):
        rows = np.flatnonzero(usable & (labels == label) & (recordings != ""))
        names, code, counts = np.unique(recordings[rows], return_inverse=True, return_counts=True)
        large = np.argsort(-counts, kind="stable")[:MOST_RECORDINGS]
        chosen = np.sort(large[counts[large] >= LEAST_OF_RECORDING])
        if len(chosen) < 2:
            continue
        keep = np.isin(code, chosen)
        rows, target = rows[keep], np.searchsorted(chosen, code[keep])
        design = Design(rows, target, block_folds(target), np.arange(len(rows)), np.zeros(len(rows), np.int64))
        found.append((design, names[chosen].tolist()))
    return found


def block_folds(codes: Ints) -> Ints:
    """Return folds 0 to 4 of (n,) cells in acquisition order.

    The cells of each code are cut into 25 runs, or into single cells if there are fewer than 125. The runs are assigned
    to the folds in turn.
    """
    order = np.argsort(codes, kind="stable")
    counts = np.bincount(codes)
    sizes = counts[codes[order]]
    place = np.arange(len(codes)) - (np.cumsum(counts) - counts)[codes[order]]
    num_runs = np.where(sizes < NUM_FOLDS**2 * _RUNS_PER_FOLD, sizes, NUM_FOLDS * _RUNS_PER_FOLD)
    folds = np.empty(len(codes), np.int64)
    folds[order] = (place * num_runs // sizes) % NUM_FOLDS
    return folds


def _codes(values: Ints) -> tuple[Ints, Ints, Ints]:
    """Return the distinct values, the code of each value, and the first position of each distinct value."""
    distinct, first, code = np.unique(values, return_index=True, return_inverse=True)
    return distinct, code, first
