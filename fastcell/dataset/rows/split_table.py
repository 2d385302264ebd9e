"""A split as a file, ``splits/NAME.parquet``, and as numbers: one byte for each cell."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fastcell.dataset.parquet import GROUP_ROWS, group_rows, read_parquet_parts, write_parquet
from fastcell.dataset.rows.manifest_checks import check_split_part
from fastcell.dataset.rows.subset_codes import SubsetCodes
from fastcell.dataset.schema import SPLIT_SCHEMA, SPLITS
from fastcell.errors import DataError, invalid
from fastcell.system.own_memory import own_zeros


def read_split(path: Path, num_cells: int) -> SubsetCodes:
    """Read a split.

    Args:
        path: ``splits/NAME.parquet``.
        num_cells: number of cells of the data set, N.

    Returns:
        Index into `SPLITS` of each cell's subset, -1 for none.

    Raises:
        DataError: the file is damaged, or does not match the manifest.
    """
    codes, num_rows = own_zeros(num_cells, np.int8), 0
    codes[:] = -1
    for part in read_parquet_parts(path, SPLIT_SCHEMA, most_rows=num_cells):
        check_split_part(part, num_cells, path)
        numbers = pc.index_in(part.column("split"), value_set=pa.array(SPLITS)).to_numpy()
        codes[part.column("cell_id").to_numpy()] = numbers
        num_rows += part.num_rows
    if sum(np.count_nonzero(some >= 0) for some in np.array_split(codes, num_cells // GROUP_ROWS + 1)) < num_rows:
        raise DataError(f"{path}: cell_id must occur once for each cell. Make the split again.")
    return SubsetCodes(codes)


def write_split(path: Path, name: str, subsets: np.ndarray) -> None:
    """Write ``splits/NAME.parquet``.

    Args:
        path: folder of the data set.
        name: name of the split.
        subsets: (N,) subset of each cell in the order of cell_id, see `subset_codes`; cells without a subset are left
            out.
    """
    codes = subset_codes(subsets)
    (path / "splits").mkdir(exist_ok=True)
    names, step = pa.array(SPLITS), group_rows(len(codes))

    def parts() -> Iterator[pa.Table]:
        for begin in range(0, max(len(codes), 1), step):
            places = np.flatnonzero(codes[begin : begin + step] >= 0)
            ids = pa.array(places + begin, pa.int64())
            yield pa.table([ids, names.take(pa.array(codes[begin + places]))], schema=SPLIT_SCHEMA)

    write_parquet(path / "splits" / f"{name}.parquet", parts())


def subset_codes(subsets: np.ndarray) -> np.ndarray:
    """Return the index into `SPLITS` of each subset, (N,) int8, -1 for none.

    Args:
        subsets: (N,) str, empty for none; or (N,) int8, which are returned as they are.

    Raises:
        ArgumentError: a subset has another name.
    """
    if subsets.dtype == np.int8:
        return subsets
    codes = np.full(len(subsets), -1, np.int8)
    for number, name in enumerate(SPLITS):
        codes[subsets == name] = number
    unknown = (codes < 0) & (subsets != "")
    if unknown.any():
        raise invalid("split", f"one of {', '.join(SPLITS)}, or empty", str(subsets[unknown][0]), "Name it so")
    return codes


def subset_names(codes: np.ndarray) -> np.ndarray:
    """Return the names of subsets, (N,) str, empty for none, given (N,) int8 as from `subset_codes`."""
    return np.array([*SPLITS, ""])[codes]  # type: ignore[no-any-return]
