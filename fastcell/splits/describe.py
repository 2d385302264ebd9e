"""Text output of `fastcell split`: copies and recall, classes and groups by subset, folds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fastcell.dataset.manifest import Manifest
from fastcell.dataset.rows.count_codes import count_codes
from fastcell.dataset.rows.split_table import subset_codes
from fastcell.splits.by_group import SUBSETS
from fastcell.splits.copies.exact import Duplicates
from fastcell.splits.copies.planting import NOT_PLANTED
from fastcell.splits.linked_groups import LinkedCells
from fastcell.splits.read_groups import Grouping
from fastcell.system.text import align_columns, largest_rows, list_names, natural_sorted

LARGE_SHARE = 0.01
_MOST_SETS = 10
_MOST_GROUPS = 6
_UNLABELLED = "(unlabelled)"


def large_sets(manifest: Manifest, found: Duplicates) -> list[int]:
    """Return the numbers of the sets of copies that hold more than 1 % of a class and more than two of its cells.

    The largest sets come first.
    """
    labels = manifest.cell_labels[found.cell_ids]
    num_classes = len(manifest.info.classes) + 1
    counts = np.zeros((len(found), num_classes), np.int64)
    np.add.at(counts, (found.sets, labels), 1)  # label -1 (unlabelled) indexes the last column
    totals = count_codes((manifest.class_codes, num_classes - 1))
    large = np.flatnonzero(((counts > LARGE_SHARE * totals) & (counts > 2)).any(1))
    return large[np.argsort(-counts[large].sum(1), kind="stable")].tolist()


def describe_copies(manifest: Manifest, found: Duplicates, apart: Sequence[int]) -> list[str]:
    """Return lines on sets and cells by kind of copy, cells without copies, recall by kind of planted copy, large sets.

    Args:
        manifest: manifest of the data set.
        found: the copies.
        apart: numbers of the sets that are not kept together.
    """
    exact = found.kinds == "exact"
    num = len(manifest)
    sets_with_exact = len(np.unique(found.sets[exact]))
    lines = [
        f"{manifest.info.name}: {num:,} cell{'s' * (num != 1)}, {num - len(found.cell_ids):,} of them without copies"
    ]
    rows = [["copies", "sets", "cells"], ["exact, rotated or mirrored", f"{sets_with_exact:,}", f"{exact.sum():,}"]]
    if found.near is not None:
        rows.append(["near", f"{len(found) - sets_with_exact:,}", f"{(~exact).sum():,}"])
    lines += align_columns(rows)
    lines += _describe_recall(found)
    lines += _describe_large(manifest, found, apart)
    return lines + [f"note: {text}" for text in found.note_classes(manifest.class_codes)]


def _describe_recall(found: Duplicates) -> list[str]:
    near = found.near
    if near is None:
        return ["near copies were not searched for"]
    bounds = f"{near.correlation:.3f} (details: {near.detail:.3f})"
    lines = [
        "",
        f"near copies: {near.num_pairs:,} pairs of neighbours compared; correlation of copies at least {bounds}",
    ]
    if near.num_plain:
        lines.append(f"cells with too little structure to be compared (small, or uniformly grey): {near.num_plain:,}")
    if near.recall:
        rows = [["recall of planted copies", "found", "planted", "recall", "95 % interval"]]
        for item in near.recall:
            low, high = item.interval()
            share = f"{item.found / max(item.planted, 1):.3f}"
            rows.append([item.kind, f"{item.found:,}", f"{item.planted:,}", share, f"{low:.3f}..{high:.3f}"])
        lines += align_columns(rows)
        lines.append(f"not planted, so recall unknown: {NOT_PLANTED}")
    return lines


def _describe_large(manifest: Manifest, found: Duplicates, apart: Sequence[int]) -> list[str]:
    large = large_sets(manifest, found)
    if not large:
        return ["no set holds more than 1 % of a class"] if len(found) else []
    members, keys = found.members(), manifest.table.column("key")
    names = [*manifest.info.classes, _UNLABELLED]
    lines = [f"{len(large):,} set{'s hold' if len(large) > 1 else ' holds'} more than 1 % of a class:"]
    for number in large[:_MOST_SETS]:
        cells = members[number]
        labels, counts = np.unique(manifest.cell_labels[cells], return_counts=True)
        label = int(labels[np.argmax(counts)])
        total = int((manifest.class_codes == label).sum())
        lowest = found.correlations[found.sets == number].min()
        kept = "not kept together (--merge-large keeps them)" if number in apart else "kept together"
        lines.append(
            f"  {len(cells):,} cells, {counts.max() / total:.1%} of {names[label]}, e.g. "
            f"{keys[int(cells[0])].as_py()}, lowest correlation {lowest:.4f}: {kept}"
        )
    if len(large) > _MOST_SETS:
        lines.append(f"  and {len(large) - _MOST_SETS:,} more")
    return lines


def describe_splits(
    manifest: Manifest,
    splits: Mapping[str, np.ndarray],
    linked: LinkedCells,
    grouping: Grouping,
    shares: Sequence[float],
) -> list[str]:
    """Return lines on classes by subset with achieved shares, on groups by subset, and on each fold.

    Args:
        manifest: manifest of the data set.
        splits: subsets by name of the split, (N,) int8 each, index into `SUBSETS`, -1 for none; the main split first,
            then the folds.
        linked: groups after linking by copies.
        grouping: groups that were requested.
        shares: requested shares of train, valid and test.
    """
    (title, subsets), *folds = splits.items()
    lines = [f"split {title}, grouped by {grouping.by}:", *_class_table(manifest, subsets, shares)]
    if grouping.groups is not None:
        lines += _groups_by_subset(linked, subsets)
    notes = summarize_split(subsets, manifest.class_codes, manifest.info.classes, shares).notes
    lines += [f"note: {note}" for note in notes]
    if folds:
        rows = [["fold", *SUBSETS, "groups tested"]]
        for name, fold in folds:
            tested = natural_sorted(linked.groups.subset(fold == SUBSETS.index("test")).names)
            counts = [f"{np.count_nonzero(fold == number):,}" for number in range(len(SUBSETS))]
            rows.append([name, *counts, _listed(tested) if tested else "-"])
        lines += ["", *align_columns(rows)]
    return lines


def _class_table(manifest: Manifest, subsets: np.ndarray, shares: Sequence[float]) -> list[str]:
    rows = [["class", *SUBSETS, *(f"{subset} %" for subset in SUBSETS), "no subset"]]
    classes, codes = manifest.info.classes, subset_codes(subsets)
    table = count_codes((manifest.class_codes, len(classes)), (codes, len(SUBSETS)))  # the last row: unlabelled cells
    shown, others = largest_rows(table[:-1].sum(axis=1).tolist())
    counted = [(classes[row], table[row]) for row in shown]
    counted += [(f"{len(others):,} smaller classes", table[others].sum(axis=0))] if others else []
    counted += [(_UNLABELLED, table[-1])] if table[-1].any() else []
    for name, row in [*counted, ("all", table.sum(axis=0))]:
        *counts, without = row.tolist()
        total = max(sum(counts), 1)
        percent = [f"{100 * count / total:.1f}" for count in counts]
        rows.append([name, *(f"{count:,}" for count in counts), *percent, f"{without:,}"])
    rows.append(["asked", "", "", "", *(f"{100 * share:.1f}" for share in shares), ""])
    return align_columns(rows)


def _groups_by_subset(linked: LinkedCells, subsets: np.ndarray) -> list[str]:
    lines = []
    for number, subset in enumerate(SUBSETS):
        names = natural_sorted(linked.groups.subset(subsets == number).names)
        if not names:
            continue
        lines.append(f"{subset}: {len(names):,} group{'' if len(names) == 1 else 's'} ({_listed(names)})")
    return lines


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:_MOST_GROUPS]) + (", ..." if len(names) > _MOST_GROUPS else "")


@dataclass(frozen=True)
class SplitSummary:
    """Counts of a split.

    Attributes:
        counts: (K, 3) int64, cells by class and subset.
        shares: achieved shares of train, valid and test, among the cells that have a subset.
        notes: notes for the user, one sentence each.
    """

    counts: np.ndarray
    shares: tuple[float, float, float]
    notes: tuple[str, ...]


def summarize_split(
    subsets: np.ndarray, labels: np.ndarray, classes: Sequence[str], shares: Sequence[float] | None = None
) -> SplitSummary:
    """Count the cells of a split by class and subset.

    Args:
        subsets: (N,) subset of each cell, as names or as numbers of `fastcell.dataset.rows.split_table.subset_codes`.
        labels: (N,) int, index into `classes`, or -1.
        classes: names of the classes.
        shares: requested shares. A note is added for each requested subset that is empty.
    """
    subset_index = subset_codes(subsets)
    known = [(subset_index == number) & (labels >= 0) for number in range(3)]
    counts = np.stack([np.bincount(labels[mine], minlength=len(classes)) for mine in known], axis=1)
    totals = np.bincount(subset_index[subset_index >= 0], minlength=3)
    achieved = totals / max(int(totals.sum()), 1)
    asked = totals > 0 if shares is None else np.asarray(shares) > 0
    notes = [f"The {subset} subset is empty." for j, subset in enumerate(SUBSETS) if asked[j] and totals[j] == 0]
    for j, subset in enumerate(SUBSETS):
        absent = [name for name, row in zip(classes, counts, strict=True) if row.sum() > 0 and row[j] == 0]
        if asked[j] and totals[j] > 0 and absent:
            notes.append(
                f"The {subset} subset has no cell of class {list_names(absent)}: all cells or groups of it are in "
                "other subsets."
            )
    return SplitSummary(counts, (float(achieved[0]), float(achieved[1]), float(achieved[2])), tuple(notes))
