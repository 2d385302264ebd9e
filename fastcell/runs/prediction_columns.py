"""Columns of a table of predictions, and reading them from files of any origin.

A table has one row per cell, both in the output of ``fastcell predict`` and in a run folder for its test subset:

    key             key of the cell
    group           donor, run or slide; empty if unknown
    event           number of the cell in its file (RT-DC event, IFCB region, page of a stack), else its cell_id
    true_class      class in the manifest, if requested
    class           most probable class; empty for a cell without a prediction, ``unsure`` below the minimum confidence
    confidence      probability of the most probable class
    p_<class>       probability of each class
    reason          reason for a missing or unsure prediction

Tables of ``fastcell predict`` also have these columns, which are empty if the checkpoint has no statistics of training
cells:

    unlike_training true if the cell is unlike the cells of training
    unlike_score    degree of difference; above 1 for a cell unlike the cells of training
    unlike_reason   features outside their usual range, such as ``larger, smoother``
"""

from __future__ import annotations

import csv
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from fastcell import __version__
from fastcell.dataset.parquet import read_parquet
from fastcell.dataset.tables.dialect import Dialect, read_dialect
from fastcell.dataset.tables.read_table import csv_options
from fastcell.errors import DataError
from fastcell.storage.formats import FORMATS, check_format

PROBABILITY_PREFIX = "p_"
_EVENT = r"[/](?P<event>\d{1,15})$"
NOT_READ = "could not be read during the run"
NOT_FINITE = "the network gives it no finite probability"
TEXT_COLUMNS = ("key", "group", "true_class", "class", "reason", "unlike_reason")
UNSURE = "unsure"
"""Entry in the column `class` for a cell whose confidence is below the requested minimum."""
FORMAT_METADATA = {"fastcell.format": str(FORMATS["predictions"].number), "fastcell.version": __version__}
"""Metadata of a .parquet file of predictions."""

_MOST_CSV_BYTES = 1 << 34


def below_confidence(min_confidence: float) -> str:
    """Return the reason of a cell that is unsure."""
    return f"confidence below {min_confidence:.3g}"


def event_numbers(keys: pa.ChunkedArray, otherwise: np.ndarray) -> np.ndarray:
    """Return the event number of each cell, (N,) int64: the number at the end of its key, for files of many cells.

    Args:
        keys: N keys, such as ``recording.rtdc/000017``.
        otherwise: (N,) int64, numbers used for cells whose key has no event number.
    """
    found = pc.struct_field(pc.extract_regex(keys, _EVENT), "event").cast(pa.int64())
    numbers = found.to_numpy(zero_copy_only=False)
    known = pc.is_valid(found).to_numpy(zero_copy_only=False)
    return np.where(known, np.nan_to_num(numbers), otherwise).astype(np.int64)


def prediction_columns(path: Path) -> list[str]:
    """Return the column names of a .csv or .parquet file without reading its values.

    Raises:
        NewerFormatError: a newer version of fastcell wrote it.
        pyarrow.ArrowException, ValueError, OSError: the file cannot be read.
    """
    if path.suffix != ".csv":
        schema = pq.read_schema(path)
        told = {key: (schema.metadata or {}).get(key.encode(), b"").decode(errors="replace") for key in FORMAT_METADATA}
        number, version = told.values()
        if number:
            check_format("predictions", int(number) if number.isdecimal() else number, path, version)
        return schema.names  # type: ignore[no-any-return]
    return read_dialect(path, ("key", "class")).names


def read_prediction_columns(path: Path, schema: pa.Schema, hint: str) -> pa.Table:
    """Read some columns of a .csv or .parquet file.

    An empty field of a CSV file is null unless it is quoted. Text is kept as written, even if it looks like a number.

    Args:
        path: path of the file.
        schema: names and types of the columns; the values are cast to these.
        hint: hint for error messages about a .parquet file, without a full stop.

    Raises:
        DataError: a .csv file is too large, or a .parquet file is damaged or has other columns.
        pyarrow.ArrowException, ValueError, OSError: a .csv file cannot be read.
    """
    if path.suffix != ".csv":
        return read_parquet(path, schema, hint=hint)
    if path.stat().st_size > _MOST_CSV_BYTES:
        raise DataError(f"{path} must have at most {_MOST_CSV_BYTES:,} bytes. Write .parquet instead.")
    dialect = read_dialect(path, ("key", "class"))
    reading, parsing = csv_options(dialect)
    places = {name: str(dialect.names.index(name)) for name in schema.names}
    options = pyarrow.csv.ConvertOptions(
        column_types={places[field.name]: field.type for field in schema},
        include_columns=list(places.values()),
        null_values=["", "nan"],
        strings_can_be_null=True,
        quoted_strings_can_be_null=False,
        decimal_point="," if dialect.delimiter != "," and _has_comma(path, dialect) else ".",
    )
    return pyarrow.csv.read_csv(path, reading, parsing, options).rename_columns(schema.names)


def _has_comma(path: Path, dialect: Dialect) -> bool:
    """Return True if the first rows have a probability with a decimal comma."""
    columns = [place for place, name in enumerate(dialect.names) if name.startswith(PROBABILITY_PREFIX)]
    with open(path, encoding=dialect.encoding, newline="") as file:
        rows = csv.reader(islice(file, dialect.num_skipped, dialect.num_skipped + 64), delimiter=dialect.delimiter)
        return any("," in row[place] for row in rows for place in columns if place < len(row))
