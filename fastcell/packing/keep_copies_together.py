"""Keep exact copies of a cell in one subset while a data set is packed."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from fastcell.dataset.dataset_info import DatasetInfo
from fastcell.dataset.manifest import Manifest
from fastcell.dataset.rows.cell_groups import CellGroups
from fastcell.packing.records import ShardResult
from fastcell.remote.remote_dataset import RemoteDataset
from fastcell.splits.copies.exact import exact_sets
from fastcell.splits.leakproof import Copies, Splits, make_leakproof_splits, spanning_cells
from fastcell.splits.make_splits import SplitOptions


def keep_exact_copies_together(
    base: Path,
    results: Sequence[ShardResult],
    info: DatasetInfo,
    key_of: Callable[[int], str],
    places: np.ndarray,
    splits: Splits,
    labels: np.ndarray,
    groups: CellGroups | Sequence[str | None] | np.ndarray | None,
    options: SplitOptions,
    given: Sequence[str] = (),
    remote: RemoteDataset | None = None,
) -> tuple[Splits, list[str]]:
    """Put exact copies into one subset in the splits of a data set that is being written.

    If there are no exact copies, the splits are returned unchanged. Otherwise only the copies change their subset, and
    as many other cells as are needed to keep the shares. In the block layout a cell that changes its subset stays in
    its block, because every reader selects cells by cell_id.

    Args:
        base: folder that the shard names are relative to.
        results: one result per shard.
        info: description of the data set; its window is used.
        key_of: function that returns the key of a cell by its place in the splits.
        places: (M,) int64, place in the splits of each row of the results.
        splits: the splits made so far, by name, each (N,) int8 as from `fastcell.splits.make_splits.make_splits`.
        labels: (N,) int, the strata of the split.
        groups: groups of the cells, or (N,) names, None or empty for a cell without group; None if there are no groups.
        options: shares, seed and folds, with which the splits are made again if there are copies.
        given: names of the splits that the source defines, which are not changed.
        remote: where the shards are; None for `base`.

    Returns:
        The splits, and notes for the user.
    """
    if not any((subsets >= 0).any() for name, subsets in splits.items() if name not in given):
        return splits, []
    table = pa.concat_tables([result.rows for result in results])  # numbers of cells and blocks are not needed
    whole = _with_whole_paths(table, base) if remote is None else table
    found = exact_sets(Manifest(base, info, whole, remote=remote))
    if not len(found):
        return splits, []
    cells = places[found.cell_ids]
    copies = Copies(np.full(len(labels), -1, np.int64), np.zeros(len(labels), bool))
    copies.sets[cells], copies.blank[cells] = found.sets, found.blank
    remade, notes = make_leakproof_splits(labels, groups, options, copies, key_of)
    sets = f"{len(found):,} set{'s' * (len(found) != 1)}"
    notes.insert(0, f"{len(cells):,} cells are exact copies, some rotated or mirrored, in {sets}.")
    notes[1:1] = found.note_classes(labels[places])
    for name in given:
        notes += note_spanning(name, splits[name], copies)
    return {**splits, **remade}, notes


def _with_whole_paths(table: pa.Table, base: Path) -> pa.Table:
    """Return the rows with absolute shard paths, because `..` after a folder `base` that does not exist yet cannot be
    resolved.
    """
    different = table.column("shard").unique()
    if not any(name.startswith("../") for name in different.to_pylist()):
        return table
    names = table.column("shard").combine_chunks().dictionary_encode()
    paths = [os.path.normpath(base / name) for name in names.dictionary.to_pylist()]
    whole = pa.DictionaryArray.from_arrays(names.indices, pa.array(paths, pa.string())).cast(pa.string())
    return table.set_column(table.schema.get_field_index("shard"), "shard", whole)


def note_spanning(name: str, subsets: np.ndarray, copies: Copies) -> list[str]:
    """Return a note if exact copies are in two subsets of a split that the source defines, else an empty list.

    Args:
        name: name of the split.
        subsets: (N,) subset of each cell, see `fastcell.dataset.rows.split_table.subset_codes`.
        copies: sets of exact copies among the cells.
    """
    torn = spanning_cells(copies.sets, subsets)
    num = len(np.unique(copies.sets[torn]))
    if not num:
        return []
    what = f"exact copies of {num:,} cell{'s' if num > 1 else ''} in more than one subset"
    return [f"The split {name!r} of the source has {what}; it is not changed."]
