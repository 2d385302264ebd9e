"""Verdicts of ``verdicts.csv``, one bit for each cell."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fastcell.dataset.tables.read_table import read_text_columns
from fastcell.errors import DataError


def read_kept_cells(path: Path, num_cells: int) -> np.ndarray:
    """Read which cells are kept.

    Args:
        path: ``verdicts.csv``.
        num_cells: number of cells of the data set, N.

    Returns:
        `numpy.packbits` of (N,) bool, False for the cells that the file drops.

    Raises:
        DataError: the file has no columns ``cell_id`` and ``verdict``, has invalid values, or names a cell twice.
    """
    if not path.is_file():
        raise DataError(f"{path} must be a file. Correct or remove it.")
    table = read_text_columns(path, ("cell_id", "verdict"), "Correct or remove it")
    if table.num_columns < 2:
        raise DataError(f"{path} must have columns cell_id and verdict. Correct or remove it.")
    told, words = table.column("cell_id"), table.column("verdict")
    number = pc.match_substring_regex(told, "^[0-9]{1,18}$")
    ids = pc.if_else(number, told, None).cast(pa.int64())
    known = pc.less(ids, num_cells)
    right = pc.and_(known, pc.is_in(words, value_set=pa.array(["keep", "drop"]))).fill_null(False)
    if not pc.all(right, min_count=0).as_py():
        row = pc.index(right, False).as_py()
        raise DataError(
            f"{path}: verdicts must be keep or drop, of cells in the manifest, got {words[row].as_py()!r} for "
            f"{told[row].as_py()!r}. Correct or remove it."
        )
    named, counts = np.unique(ids.to_numpy(), return_counts=True)
    if (counts > 1).any():
        cell = int(named[np.argmax(counts > 1)])
        told = words.filter(pc.equal(ids, cell)).to_pylist()
        raise DataError(f"{path}: cell {cell} must have one verdict, got {', '.join(told)}. Leave one of the lines.")
    keep = np.ones(num_cells, bool)
    keep[ids.filter(pc.equal(words, "drop")).to_numpy()] = False
    return np.packbits(keep)
