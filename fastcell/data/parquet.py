"""Reading a Parquet file that somebody else may have made: its claims are held against its size before it is read."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fastcell.errors import DataError

_WAY_OUT = "Pack or index the data again"
_FREE_BYTES = 1 << 26  # a table that small needs no second look
_MOST_EXPANSION = 1_000  # of the compression; cell_ids that count upwards reach 7, one name for all rows some hundred
_MOST_TEXT = 4_096  # bytes of text per row, on average: the longest path that a file system takes


def read_table(path: Path, schema: pa.Schema, most_rows: int | None = None) -> pa.Table:
    """Read the columns of `schema`, one chunk each.

    Memory stays within some multiples of the file's size: rows and decompressed sizes are looked at first, and texts
    are read as dictionaries, so that a text which is stored once and used in every row is counted before it is copied.

    Args:
        path: of the file.
        schema: names and types; the file's types are cast to these.
        most_rows: that the file may have, None for at most one row per byte.

    Raises:
        DataError: the file is missing, damaged, has other columns, or claims more than it can hold.
    """
    if not path.is_file():
        raise DataError(f"{path} is missing or no file. {_WAY_OUT}.")
    try:
        with open(path, "rb") as file:
            _check_claims(path, file.fileno(), pq.read_metadata(file), most_rows)
        texts = [field.name for field in schema if pa.types.is_string(field.type)]
        table = pq.read_table(path, columns=schema.names, partitioning=None, read_dictionary=texts)
        table = table.select(schema.names)
        _check_texts(path, table)
        table = table.cast(schema).combine_chunks()
        table.validate(full=True)
    except PermissionError:
        raise
    except (pa.ArrowException, KeyError, ValueError, OSError, OverflowError) as error:
        raise DataError(f"{path} cannot be read ({_first_line(error)}). {_WAY_OUT}.") from None
    return table


def _check_claims(path: Path, handle: int, metadata: pq.FileMetaData, most_rows: int | None) -> None:
    size = os.fstat(handle).st_size
    rows = metadata.num_rows
    most = max(size, 1) if most_rows is None else most_rows
    if not 0 <= rows <= most:
        raise DataError(f"{path} must have at most {most:,} rows, got {rows:,}. {_WAY_OUT}.")
    claimed = [metadata.row_group(number).total_byte_size for number in range(metadata.num_row_groups)]
    if min(claimed, default=0) < 0 or sum(claimed) > max(_FREE_BYTES, size * _MOST_EXPANSION):
        raise DataError(f"{path} has {size:,} bytes and claims to hold {sum(claimed):,}. {_WAY_OUT}.")


def _check_texts(path: Path, table: pa.Table) -> None:
    """Hold what the texts take once they stand in every row against a plain limit."""
    for name in table.column_names:
        total = 0
        for chunk in table.column(name).chunks:
            if pa.types.is_dictionary(chunk.type) and len(chunk.dictionary):
                lengths = pc.binary_length(chunk.dictionary)
                if pc.max(lengths).as_py() * len(chunk) > _FREE_BYTES:
                    total += pc.sum(lengths.cast(pa.int64()).take(chunk.indices)).as_py() or 0
        if total > max(_FREE_BYTES, _MOST_TEXT * table.num_rows):
            raise DataError(f"{path}: column {name!r} claims to hold {total:,} bytes of text. {_WAY_OUT}.")


def _first_line(error: Exception) -> str:
    text = str(error).strip().splitlines() or [type(error).__name__]
    return text[0][:300].rstrip(".")
