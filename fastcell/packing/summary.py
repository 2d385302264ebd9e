"""Summary that a command prints after it has written a data set: classes by subset, quarantine, bytes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from fastcell.dataset.manifest import Manifest
from fastcell.splits.by_group import SUBSETS
from fastcell.splits.describe import SplitSummary, summarize_split
from fastcell.splits.obstacles import FEWEST_SPLIT_CELLS, cautions, split_obstacles
from fastcell.system.text import align_columns, join_lines, largest_rows

_UNLABELLED = "(unlabelled)"
_MAX_REASONS = 12


def describe_dataset(manifest: Manifest, shares: Sequence[float] | None = None) -> str:
    """Return the summary of a new data set: sizes, classes by subset of the split `default`, quarantine, notes.

    Args:
        manifest: manifest of the data set.
        shares: requested shares of train, valid and test, each 0 to 1; None if no split was requested.

    Returns:
        The lines to print, as one text.
    """
    info = manifest.info
    num_bytes = sum(shard["bytes"] for shard in info.shards)
    cells = f"{len(manifest):,} cell{'s' if len(manifest) != 1 else ''}"
    shards = f"{len(info.shards)} shard{'s' if len(info.shards) != 1 else ''}"
    lines = [f"{info.name}: {cells} in {shards}, {_megabytes(num_bytes)}, layout {info.layout}"]
    if info.synthetic:
        lines[0] += ", synthetic"
    classes = info.classes or [_UNLABELLED]
    labels = manifest.class_codes if info.classes else np.zeros(len(manifest), np.int8)
    subsets = manifest.split_codes() if "default" in manifest.split_names() else np.full(len(manifest), -1, np.int8)
    split = summarize_split(subsets, labels, classes, shares)
    bad = Counter(name or _UNLABELLED for name in manifest.quarantine().column("class").to_pylist())
    lines += _class_table(classes, labels, subsets, split, bad, shares)
    lines += _quarantine_lines(manifest)
    lines += [f"note: {note}" for note in (*split.notes, *_dataset_notes(manifest, labels), *_cautions(manifest))]
    return join_lines(lines)


def _class_table(
    classes: Sequence[str],
    labels: np.ndarray,
    subsets: np.ndarray,
    split: SplitSummary,
    bad: Counter[str],
    shares: Sequence[float] | None,
) -> list[str]:
    totals = np.bincount(labels[labels >= 0], minlength=len(classes))
    table = np.column_stack([split.counts, totals, [bad[name] for name in classes]])
    rows = [["class", *SUBSETS, "cells", "quarantined"]]
    shown, others = largest_rows(totals.tolist())
    rows += [[classes[row], *(f"{num:,}" for num in table[row])] for row in shown]
    if others:
        rows.append([f"{len(others):,} smaller classes", *(f"{num:,}" for num in table[others].sum(axis=0))])
    unlabelled = subsets[labels < 0]
    if len(unlabelled) or (bad[_UNLABELLED] and _UNLABELLED not in classes):
        by_subset = (f"{(unlabelled == number).sum():,}" for number in range(len(SUBSETS)))
        rows.append([_UNLABELLED, *by_subset, f"{len(unlabelled):,}", f"{bad[_UNLABELLED]:,}"])
    if len(rows) > 2:
        by_subset = (f"{(subsets == number).sum():,}" for number in range(len(SUBSETS)))
        rows.append(["all", *by_subset, f"{len(labels):,}", f"{sum(bad.values()):,}"])
    if shares is not None:
        rows.append(["share", *(f"{100 * share:.1f} %" for share in split.shares), "", ""])
        rows.append(["asked", *(f"{100 * share:.1f} %" for share in shares), "", ""])
    return align_columns(rows)


def _quarantine_lines(manifest: Manifest) -> list[str]:
    table = manifest.quarantine()
    if not table.num_rows:
        return []
    columns = (table.column(name).to_pylist() for name in ("class", "reason", "key"))
    found: Counter[tuple[str, str]] = Counter()
    example: dict[tuple[str, str], str] = {}
    for name, reason, key in zip(*columns, strict=True):
        kind = (name or _UNLABELLED, reason)
        found[kind] += 1
        example.setdefault(kind, key)
    lines = [
        f"quarantined {table.num_rows:,} cell{'' if table.num_rows == 1 else 's'} (quarantine.parquet lists them):"
    ]
    for kind, num in found.most_common(_MAX_REASONS):
        lines.append(f"  {num:,} of {kind[0]}: {kind[1]}, e.g. {example[kind]}")
    if len(found) > _MAX_REASONS:
        lines.append(f"  and {len(found) - _MAX_REASONS} more combinations of class and reason")
    return lines


def _dataset_notes(manifest: Manifest, labels: np.ndarray) -> list[str]:
    notes = []
    num_colour = int((manifest.column("channels") > 1).sum())
    if num_colour:
        notes.append(f"Images with colour or alpha are read as grey: {num_colour:,}.")
    if not manifest.info.classes:
        notes.append("No cell has a class: the data set can be predicted, but not trained on.")
    elif np.count_nonzero(np.bincount(labels[labels >= 0])) == 1:
        notes.append("All labelled cells are of one class: the data set can be predicted, but not trained on.")
    elif _num_labelled(manifest) < FEWEST_SPLIT_CELLS:
        notes.append(f"The number of labelled cells ({_num_labelled(manifest)}) is too small for training and scoring.")
    return notes


def can_train(manifest: Manifest) -> bool:
    """Return whether the split `default` can train a network and score it: it has training cells of two classes, as
    many labelled cells as a split needs to be scored, and no obstacle (see `fastcell.splits.obstacles`).
    """
    labels = manifest.class_codes
    if "default" not in manifest.split_names() or _num_labelled(manifest) < FEWEST_SPLIT_CELLS:
        return False
    trained = labels[(labels >= 0) & (manifest.split_codes() == SUBSETS.index("train"))]
    return len(np.unique(trained)) > 1 and not split_obstacles(manifest, "default")


def _num_labelled(manifest: Manifest) -> int:
    return int(np.count_nonzero(manifest.class_codes >= 0))


def _cautions(manifest: Manifest) -> list[str]:
    """Return a note for each class that its recording gives away in the split `default`."""
    if "default" not in manifest.split_names():
        return []
    return cautions([one for one in split_obstacles(manifest, "default") if one.kind != "absent"])


def _megabytes(num_bytes: int) -> str:
    return f"{num_bytes / 1e6:,.1f} MB" if num_bytes < 1e9 else f"{num_bytes / 1e9:,.2f} GB"
