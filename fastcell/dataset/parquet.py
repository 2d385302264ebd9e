"""Reading a Parquet file that somebody else may have made: its claims are held against its size before it is read."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fastcell.errors import DataError
from fastcell.storage.whole_files import replace_file

_HINT = "Pack or index the data again"
_FREE_BYTES = 1 << 26  # a table that small needs no second look
_FREE_ROWS = 1 << 20
_MOST_ROWS = 16  # per byte: keys that count upwards take 0.7 bytes each, hashes 16
_MOST_EXPANSION = 1_000  # of the compression; cell_ids that count upwards reach 7, one name for all rows some hundred


def read_parquet(path: Path, schema: pa.Schema, most_rows: int | None = None, hint: str = _HINT) -> pa.Table:
    """Read the columns of `schema`, one chunk each.

    Rows and decompressed sizes that the file claims are held against its size first, and texts are read as
    dictionaries, so that a text which is stored once and used in every row is counted before it is copied.

    Args:
        path: of the file.
        schema: names and types; the file's types are cast to these.
        most_rows: that the file may have, None for what its size allows.
        hint: of the errors, what to do.

    Raises:
        DataError: the file is missing, damaged, has other columns, or claims more than it can hold.
    """
    if not path.is_file():
        raise DataError(f"{path} is missing or no file. {hint}.")
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            num_rows = check_claims(path, size, pq.read_metadata(file), most_rows, hint)
        texts = [field.name for field in schema if pa.types.is_string(field.type)]
        if num_rows > _FREE_ROWS:  # another one in each row: as a dictionary ten million take five seconds longer
            texts = [name for name in texts if name != "key"]
        table = pq.read_table(path, columns=schema.names, partitioning=None, read_dictionary=texts)
        table = table.select(schema.names)
        _check_texts(path, size, table, hint)
        table = table.cast(schema).combine_chunks()
        table.validate(full=True)
    except PermissionError:
        raise
    except (pa.ArrowException, KeyError, ValueError, OSError, OverflowError) as error:
        raise DataError(f"{path} cannot be read ({first_line(error)}). {hint}.") from None
    return table


def check_claims(
    path: Path, size: int, metadata: pq.FileMetaData, most_rows: int | None = None, hint: str = _HINT
) -> int:
    """Number of rows, where they and their bytes can be in a file of `size` bytes. Raises DataError otherwise."""
    rows = metadata.num_rows
    most = max(_FREE_ROWS, size * _MOST_ROWS) if most_rows is None else most_rows
    if not 0 <= rows <= most:
        raise DataError(f"{path} must have at most {most:,} rows, got {rows:,}. {hint}.")
    claimed = [metadata.row_group(number).total_byte_size for number in range(metadata.num_row_groups)]
    if min(claimed, default=0) < 0 or sum(claimed) > max(_FREE_BYTES, size * _MOST_EXPANSION):
        raise DataError(f"{path} has {size:,} bytes and claims to hold {sum(claimed):,}. {hint}.")
    return rows


def _check_texts(path: Path, size: int, table: pa.Table, hint: str) -> None:
    """Hold what the texts take once they stand in every row against the file's size."""
    chunks = [chunk for column in table.columns for chunk in column.chunks if pa.types.is_dictionary(chunk.type)]
    most = max(_FREE_BYTES, size * _MOST_EXPANSION)
    lengths = [pc.binary_length(chunk.dictionary).cast(pa.int64()) for chunk in chunks]
    total = sum((pc.max(length).as_py() or 0) * len(chunk) for length, chunk in zip(lengths, chunks, strict=True))
    if total > most:  # not all of them need be as long as the longest
        total = sum(
            pc.sum(length.take(chunk.indices)).as_py() or 0 for length, chunk in zip(lengths, chunks, strict=True)
        )
    if total > most:
        raise DataError(f"{path} has {size:,} bytes and claims to hold {total:,} of text. {hint}.")


def first_line(error: Exception) -> str:
    """First line of an error's text, at most 300 characters, without its full stop; its class where it has no text."""
    text = str(error).strip().splitlines() or [type(error).__name__]
    return text[0][:300].rstrip(".")


def write_parquet(path: Path, table: pa.Table) -> None:
    """Write a Parquet file that is there whole or not at all."""
    replace_file(path, lambda file: pq.write_table(table, file, compression="zstd"))
