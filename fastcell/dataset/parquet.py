"""Read and write Parquet files. The claims of an untrusted file are checked against its size before it is read."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fastcell.errors import DataError
from fastcell.storage.whole_files import replace_file

_HINT = "Pack or index the data again"
PART_ROWS = 1 << 16
"""Rows of a part of a large table: some megabytes."""
GROUP_ROWS = 1 << 20
"""Maximum number of rows in a row group of written files."""
_FREE_BYTES = 1 << 26  # a table up to this size is always accepted
_FREE_ROWS = 1 << 20
_MOST_ROWS = 16  # rows per byte of the file: ascending keys take 0.7 bytes each, hashes 16
_MOST_EXPANSION = 1_000  # compression ratio: ascending cell_ids reach 7, one name in all rows several hundred


def read_parquet(path: Path, schema: pa.Schema, most_rows: int | None = None, hint: str = _HINT) -> pa.Table:
    """Read the columns of `schema`, one chunk each.

    The numbers of rows and of decompressed bytes that the file claims are first checked against its size. Strings are
    read as dictionaries, so that the size of a string that is stored once but used in every row is checked before it is
    copied. Pages are compared with their CRC-32, if they have one.

    Args:
        path: path of the file.
        schema: names and types; the columns of the file are cast to these types.
        most_rows: largest permitted number of rows; None: derived from the size of the file.
        hint: what to do, for the error message.

    Raises:
        DataError: the file is missing or damaged, has other columns, or claims more than it can hold.
    """
    with _readable(path, hint):
        size, dictionaries = _look_at(path, schema, most_rows, hint)
        table = pq.read_table(
            path,
            columns=schema.names,
            partitioning=None,
            read_dictionary=dictionaries,
            page_checksum_verification=True,
        )
        return _checked(table, path, size, schema, hint)


def read_parquet_parts(
    path: Path, schema: pa.Schema, most_rows: int | None = None, hint: str = _HINT, part_rows: int | None = None
) -> Iterator[pa.Table]:
    """Read the columns of `schema` as `read_parquet` does, but yield the rows in parts of at most `part_rows`.

    Without `part_rows`, parts have a sixteenth of the rows, at least 2**13 and at most `PART_ROWS`.

    Raises:
        DataError: the file is missing or damaged, has other columns, or claims more than it can hold.
    """
    with _readable(path, hint):
        size, dictionaries = _look_at(path, schema, most_rows, hint)
        opened = pq.ParquetFile(path, read_dictionary=dictionaries, page_checksum_verification=True, pre_buffer=False)
        step = part_rows or min(max(opened.metadata.num_rows // 16, 1 << 13), PART_ROWS)
        parts = opened.iter_batches(step, columns=schema.names, use_threads=False)
    with opened:
        while True:
            with _readable(path, hint):
                batch = next(parts, None)
                if batch is None:
                    pa.default_memory_pool().release_unused()  # it would keep some ten megabytes
                    return
                table = _checked(pa.Table.from_batches([batch]), path, size, schema, hint)
            yield table


def group_rows(num_rows: int) -> int:
    """Return the rows of a row group of a table: about an eighth, at least 2**14 and at most `GROUP_ROWS`.

    A row group is held in memory as it is encoded, which takes several times the memory of its rows.
    """
    return min(max(1 << (num_rows // 8).bit_length(), 1 << 14), GROUP_ROWS)


def join_parts(parts: list[pa.Table], schema: pa.Schema) -> pa.Table:
    """Return the rows of parts as a table of one chunk for each column, and empty the list.

    Columns are copied and released one after another, so that at most one of them is in memory twice. A column of text
    of more than 2 GiB has several chunks.
    """
    if len(parts) == 1:
        return parts.pop()
    columns = [[part.column(name) for part in parts] for name in schema.names]
    parts.clear()
    joined = []
    for field in schema:
        chunks = [chunk for column in columns.pop(0) for chunk in column.chunks]
        joined.append(pa.table([pa.chunked_array(chunks, field.type)], names=["x"]).combine_chunks().column(0))
        del chunks
    return pa.Table.from_arrays(joined, schema=schema)


def _look_at(path: Path, schema: pa.Schema, most_rows: int | None, hint: str) -> tuple[int, list[str]]:
    """Check the claims of a file; return its size in bytes, and the columns to read as dictionaries."""
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        num_rows = check_claims(path, size, pq.read_metadata(file), most_rows, hint)
    return size, _dictionaries(schema, num_rows)


def _checked(table: pa.Table, path: Path, size: int, schema: pa.Schema, hint: str) -> pa.Table:
    """Return rows that were read with the types of `schema`, one chunk for each column, after all checks."""
    table = table.select(schema.names)
    _check_texts(path, size, table, hint)
    table = table.cast(schema).combine_chunks()
    table.validate(full=True)
    return table


def _dictionaries(schema: pa.Schema, num_rows: int) -> list[str]:
    """Return the columns to read as dictionaries: of text, but not keys of a large table.

    Keys are all different: reading ten million as a dictionary takes 5 s longer.
    """
    texts = [field.name for field in schema if pa.types.is_string(field.type)]
    return [name for name in texts if name != "key" or num_rows <= _FREE_ROWS]


@contextmanager
def _readable(path: Path, hint: str) -> Iterator[None]:
    """Turn errors of Arrow about a damaged file into `DataError`."""
    if not path.is_file():
        raise DataError(f"{path} is missing or is not a file. {hint}.")
    try:
        yield
    except PermissionError:
        raise
    except (pa.ArrowException, KeyError, ValueError, OSError, OverflowError) as error:
        if isinstance(error, pa.ArrowMemoryError) or "Failed to launch worker thread" in str(error):
            raise MemoryError(str(error)) from None
        raise DataError(f"{path} cannot be read ({first_line(error)}). {hint}.") from None


def check_claims(
    path: Path, size: int, metadata: pq.FileMetaData, most_rows: int | None = None, hint: str = _HINT
) -> int:
    """Check the claims of a Parquet file against its size.

    Args:
        path: path of the file, for the message.
        size: size of the file in bytes.
        metadata: metadata of the file.
        most_rows: largest permitted number of rows; None: derived from `size`.
        hint: what to do, for the error message.

    Returns:
        Number of rows.

    Raises:
        DataError: the rows, or their decompressed bytes, do not fit into a file of this size.
    """
    rows = metadata.num_rows
    most = max(_FREE_ROWS, size * _MOST_ROWS) if most_rows is None else most_rows
    if not 0 <= rows <= most:
        raise DataError(f"{path} must have at most {most:,} rows, got {rows:,}. {hint}.")
    claimed = [metadata.row_group(number).total_byte_size for number in range(metadata.num_row_groups)]
    if min(claimed, default=0) < 0 or sum(claimed) > max(_FREE_BYTES, size * _MOST_EXPANSION):
        raise DataError(f"{path} has {size:,} bytes and claims to hold {sum(claimed):,}. {hint}.")
    return rows


def _check_texts(path: Path, size: int, table: pa.Table, hint: str) -> None:
    """Check the size of the strings, once copied into every row, against the size of the file."""
    chunks = [chunk for column in table.columns for chunk in column.chunks if pa.types.is_dictionary(chunk.type)]
    most = max(_FREE_BYTES, size * _MOST_EXPANSION)
    lengths = [pc.binary_length(chunk.dictionary).cast(pa.int64()) for chunk in chunks]
    total = sum((pc.max(length).as_py() or 0) * len(chunk) for length, chunk in zip(lengths, chunks, strict=True))
    if total > most:  # upper bound exceeded: compute the exact size
        total = sum(
            pc.sum(length.take(chunk.indices)).as_py() or 0 for length, chunk in zip(lengths, chunks, strict=True)
        )
    if total > most:
        raise DataError(f"{path} has {size:,} bytes and claims to hold {total:,} of text. {hint}.")


def first_line(error: Exception) -> str:
    """Return the first line of an error's message, at most 300 characters, without its full stop.

    If the message is empty, return the name of the error's class.
    """
    text = str(error).strip().splitlines() or [type(error).__name__]
    return text[0][:300].rstrip(".")


def write_parquet(path: Path, table: pa.Table | Iterable[pa.Table]) -> None:
    """Write a Parquet file atomically: it exists completely or not at all. Every page has a CRC-32.

    Args:
        path: path of the file.
        table: the table, or its parts in their order, at least one; every part of `GROUP_ROWS` rows or the last one
            gives the same bytes as the whole table.
    """
    parts = iter([table] if isinstance(table, pa.Table) else table)

    def write(file: Path) -> None:
        first = next(parts)
        with pq.ParquetWriter(file, first.schema, compression="zstd", write_page_checksum=True) as writer:
            writer.write_table(first, GROUP_ROWS)
            for part in parts:
                writer.write_table(part, GROUP_ROWS)

    replace_file(path, write)
