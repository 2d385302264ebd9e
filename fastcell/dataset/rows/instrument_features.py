"""Instrument features: `features.parquet`, per-cell measurements in addition to the pixels, written once by `pack`.

The table has a column `cell_id` and one float64 column for each feature. A value is null if the cell has no value or
NaN. Rows are in the order of the source, several thousand per row group, so that the memory needed for writing does not
depend on the number of features. `read_instrument_features` sorts them by cell_id.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fastcell.dataset.parquet import read_parquet
from fastcell.dataset.rows.manifest_checks import check_features
from fastcell.errors import DataError, invalid
from fastcell.storage.whole_files import replace_file
from fastcell.system.text import one_name, storable

FILE = "features.parquet"
MAX_FEATURES = 1_000


def write_features(folder: Path, features: Features, keys: pa.ChunkedArray) -> None:
    """Write the features of the cells that are in the data set.

    Args:
        folder: folder of the data set.
        features: features of the source.
        keys: keys of the cells; position = cell_id.

    Raises:
        ArgumentError: there are more than 1,000 features.
    """
    if len(features.names) > MAX_FEATURES:
        hint = "Leave out what is not needed"
        raise invalid("features", f"at most {MAX_FEATURES:,} columns of numbers", len(features.names), hint)
    titles = _titles(features.names)
    schema = pa.schema([("cell_id", pa.int64()), *((title, pa.float64()) for title in titles.values())])
    cell_id = {key: i for i, key in enumerate(keys.to_pylist())}

    def write(file: Path) -> None:
        with pq.ParquetWriter(file, schema, compression="zstd", write_page_checksum=True) as writer:
            for piece_keys, values in features.pieces():
                ids = np.array([cell_id.get(one_name(key), -1) for key in piece_keys], np.int64)
                there = np.flatnonzero(ids >= 0)
                if not len(there):
                    continue
                columns = [pa.array(ids[there])]
                for name in titles:
                    column = values.get(name)
                    columns.append(
                        pa.nulls(len(there), pa.float64())
                        if column is None
                        else pa.array(np.asarray(column, np.float64)[there], from_pandas=True)
                    )
                writer.write_table(pa.table(columns, schema=schema))

    replace_file(folder / FILE, write)


def read_instrument_features(folder: Path, num_cells: int) -> pa.Table | None:
    """Read the instrument features of all cells.

    Args:
        folder: folder of the data set.
        num_cells: number of cells, N.

    Returns:
        N rows in the order of cell_id: `cell_id` and one float64 column for each feature, null for a missing value.
        None if the data set has no features.

    Raises:
        DataError: the file is damaged, or does not match the manifest.
    """
    path = folder / FILE
    if not path.exists():
        return None
    names = read_feature_names(folder)
    table = read_parquet(path, pa.schema([("cell_id", pa.int64()), *((name, pa.float64()) for name in names)]))
    check_features(table, num_cells, path)
    ids = table.column("cell_id").to_numpy()
    columns = [pa.array(np.arange(num_cells))]
    for name in names:
        column = table.column(name)
        known = column.is_valid().to_numpy()
        values, there = np.zeros(num_cells), np.zeros(num_cells, bool)
        values[ids[known]], there[ids[known]] = column.drop_null().to_numpy(), True
        columns.append(pa.array(values, mask=~there))
    return pa.table(columns, names=["cell_id", *names])


def read_feature_names(folder: Path) -> list[str]:
    """Return the names of the features without reading their values; an empty list if the data set has no features.

    Args:
        folder: folder of the data set.

    Raises:
        DataError: the file is damaged, or has other columns.
    """
    path = folder / FILE
    if not path.exists():
        return []
    try:
        schema = pq.read_schema(path) if path.is_file() else pa.schema([])
    except PermissionError:
        raise
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read ({str(error)[:200]}). Pack the data again, or remove it.") from None
    names = schema.names
    right = names[:1] == ["cell_id"] and len(set(names)) == len(names) <= MAX_FEATURES + 1
    if not right or any(kind != pa.float64() for kind in schema.types[1:]):
        got = ", ".join(names[:5])
        raise DataError(f"{path} must have a column cell_id and columns of float64, got {got!r}. Pack the data again.")
    return names[1:]


def _titles(names: list[str]) -> dict[str, str]:
    """Map feature names to unique column names: the source's name, if Parquet can store it."""
    titles: dict[str, str] = {}
    used = {"cell_id"}
    for name in names:
        title, number = storable(name), 2
        while title in used:
            title, number = f"{storable(name)}_{number}", number + 1
        used.add(title)
        titles[name] = title
    return titles


class Features(NamedTuple):
    """Features that the instrument measured for each cell in addition to the image.

    Attributes:
        names: names of all features.
        pieces: function that reads the features, several thousand cells at a time. It yields the keys of the cells, and
            one numeric array of shape (n,) for each feature that these cells have.
    """

    names: list[str]
    pieces: Callable[[], Iterator[tuple[Sequence[str], Mapping[str, np.ndarray]]]]
