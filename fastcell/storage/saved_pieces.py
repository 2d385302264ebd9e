"""Save finished pieces of a long command, tables and a few facts, so that a rerun reuses them.

A file starts with a 16-byte BLAKE2b hash of the remaining bytes. One Arrow stream for each table follows; the schema of
the first table holds the facts as JSON. Files are written atomically. A damaged file, or one with another stamp, is
ignored.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

_FACTS = b"facts"
_DIGEST_BYTES = 16


class SavedPieces(NamedTuple):
    """Content of a file.

    Attributes:
        facts: values that JSON can represent.
        tables: tables in the order in which they were saved.
    """

    facts: dict[str, Any]
    tables: list[pa.Table]


def save_pieces(path: Path, facts: dict[str, Any], tables: Sequence[pa.Table]) -> None:
    """Write `tables` (at least one) and `facts` to `path`.

    Raises:
        OSError: the file cannot be written, or its folder no longer exists.
    """
    sink = pa.BufferOutputStream()
    header = {_FACTS: json.dumps({**facts, "num_tables": len(tables)}).encode()}
    for number, table in enumerate(tables):
        table = table.replace_schema_metadata(header if number == 0 else None)
        with pa.ipc.new_stream(sink, table.schema) as stream:
            stream.write_table(table)
    payload = sink.getvalue()
    temporary = path.with_name(f"{path.name}.{os.getpid()}-{os.urandom(4).hex()}")
    with open(temporary, "xb") as file:
        file.write(blake2b(payload, digest_size=_DIGEST_BYTES).digest())
        file.write(payload)
    temporary.replace(path)


def load_pieces(path: Path, stamp: str) -> SavedPieces | None:
    """Read a file written by `save_pieces`.

    Args:
        path: path of the file.
        stamp: required value of the fact `stamp`.

    Returns:
        The pieces; None if the file is missing or damaged, or has another stamp.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    payload = memoryview(data)[_DIGEST_BYTES:]
    if blake2b(payload, digest_size=_DIGEST_BYTES).digest() != data[:_DIGEST_BYTES]:
        return None
    source = pa.BufferReader(payload)
    tables = [pa.ipc.open_stream(source).read_all()]
    facts = json.loads(tables[0].schema.metadata[_FACTS])
    if facts["stamp"] != stamp:
        return None
    tables += [pa.ipc.open_stream(source).read_all() for _ in range(facts["num_tables"] - 1)]
    return SavedPieces(facts, [table.replace_schema_metadata(None) for table in tables])


def map_pieces(path: Path) -> list[pa.Table] | None:
    """Return the tables of a file that this run has written, mapped into memory instead of read.

    Returns:
        The tables; None if the file is missing or cannot be mapped.
    """
    try:
        source = pa.memory_map(str(path))
        source.seek(_DIGEST_BYTES)
        tables = [pa.ipc.open_stream(source).read_all()]
        num_tables = json.loads(tables[0].schema.metadata[_FACTS])["num_tables"]
        tables += [pa.ipc.open_stream(source).read_all() for _ in range(num_tables - 1)]
    except (OSError, pa.ArrowException):
        return None
    return [table.replace_schema_metadata(None) for table in tables]
