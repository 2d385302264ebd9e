"""Finished pieces of a long command, written down so that a rerun takes them over: tables and a few facts.

A file is BLAKE2b (16 bytes) of the rest, then one Arrow stream for each table, the first with the facts as JSON in its
schema. It appears whole; a torn or foreign one counts as none.
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
    """What a file holds: `facts` as JSON can hold them, `tables` in the order in which they were given."""

    facts: dict[str, Any]
    tables: list[pa.Table]


def save_pieces(path: Path, facts: dict[str, Any], tables: Sequence[pa.Table]) -> None:
    """Write `tables` (at least one) and `facts` to `path`.

    Raises:
        OSError: it cannot be written, or its folder is gone.
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
    """What `save` has written, or None: no such file, not whole, or another `stamp` among its facts."""
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
