"""Keep exact copies of a cell in one subset while a data set is packed."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from fastcell.dataset.manifest import DatasetInfo, Manifest
from fastcell.packing.finish_dataset import number_cells
from fastcell.packing.records import ShardResult
from fastcell.splits.copies.exact import exact_sets
from fastcell.splits.leakproof import Copies, Splits, make_leakproof_splits, spanning_cells
from fastcell.splits.make_splits import SplitOptions


def keep_exact_copies_together(
    base: Path,
    results: Sequence[ShardResult],
    info: DatasetInfo,
    keys: Sequence[str],
    splits: Splits,
    labels: np.ndarray,
    groups: Sequence[str | None] | np.ndarray | None,
    options: SplitOptions,
    given: Sequence[str] = (),
) -> tuple[Splits, list[str]]:
    """The splits of a data set in the making, with exact copies in one subset, and what the user should know.

    Where there are no exact copies, the splits come back as they are; else only cells of the copies move, and as many
    others as the shares ask for. In the block layout a moved cell stays in its block: every reader goes by cell_id.

    Args:
        base: folder that the names of the shards are relative to.
        results: of the shards.
        info: of the data set; its window is used.
        keys: (N,) of the cells, in the order of the splits.
        splits: as they are so far.
        labels: (N,) int, the strata of the split.
        groups: (N,) names, None or empty for a cell without group; or None as a whole.
        options: shares, seed and folds; the splits are made by them anew where there are copies.
        given: names of splits that the source brings, which stay as they are.
    """
    if not any((subsets != "").any() for name, subsets in splits.items() if name not in given):
        return splits, []
    table, _ = number_cells(results)
    found = exact_sets(Manifest(base, info, _with_whole_paths(table, base)))
    if not len(found):
        return splits, []
    place = {key: number for number, key in enumerate(keys)}
    cells = np.array([place[key] for key in table.column("key").take(found.cell_ids).to_pylist()], np.int64)
    copies = Copies(np.full(len(keys), -1, np.int64), np.zeros(len(keys), bool))
    copies.sets[cells], copies.blank[cells] = found.sets, found.blank
    remade, notes = make_leakproof_splits(labels, groups, options, copies, keys.__getitem__)
    notes.insert(0, f"{len(cells):,} cells are exact copies of each other in {len(found):,} sets, turned or mirrored.")
    for name in given:
        notes += note_spanning(name, splits[name], copies)
    return {**splits, **remade}, notes


def _with_whole_paths(table: pa.Table, base: Path) -> pa.Table:
    """The rows with whole paths of shards: `base` may not be there yet, so that `..` behind it leads nowhere."""
    names = table.column("shard").combine_chunks().dictionary_encode()
    paths = [os.path.normpath(base / name) for name in names.dictionary.to_pylist()]
    whole = pa.DictionaryArray.from_arrays(names.indices, pa.array(paths, pa.string())).cast(pa.string())
    return table.set_column(table.schema.get_field_index("shard"), "shard", whole)


def note_spanning(name: str, subsets: np.ndarray, copies: Copies) -> list[str]:
    """A sentence where copies are in two subsets of a split that was given."""
    torn = spanning_cells(copies.sets, subsets)
    num = len(np.unique(copies.sets[torn]))
    if not num:
        return []
    what = f"{num:,} cell{'s' if num > 1 else ''} with exact copies on two sides"
    return [f"The split {name!r}, which the source brings, has {what}; it is kept as it is."]
