"""Finished pieces of a long command, written down so that a rerun takes them over: tables and a few facts.

A file is BLAKE2b (16 bytes) of the rest, then one Arrow stream for each table, the first with the facts as JSON in its
schema. It appears whole; a torn or foreign one counts as none.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from fastcell.data.records import ShardResult

_FACTS = b"facts"
_DIGEST_BYTES = 16


class Saved(NamedTuple):
    """What a file holds: `facts` as JSON can hold them, `tables` in the order in which they were given."""

    facts: dict[str, Any]
    tables: list[pa.Table]


def save(path: Path, facts: dict[str, Any], tables: Sequence[pa.Table]) -> None:
    """Write `tables` (at least one) and `facts` to `path`.

    Raises:
        OSError: it cannot be written, or its folder is gone.
    """
    sink = pa.BufferOutputStream()
    head = {_FACTS: json.dumps({**facts, "num_tables": len(tables)}).encode()}
    for number, table in enumerate(tables):
        table = table.replace_schema_metadata(head if number == 0 else None)
        with pa.ipc.new_stream(sink, table.schema) as stream:
            stream.write_table(table)
    payload = sink.getvalue()
    temporary = path.with_name(f"{path.name}.{os.getpid()}-{os.urandom(4).hex()}")
    with open(temporary, "xb") as file:
        file.write(blake2b(payload, digest_size=_DIGEST_BYTES).digest())
        file.write(payload)
    temporary.replace(path)


def load(path: Path, stamp: str) -> Saved | None:
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
    return Saved(facts, [table.replace_schema_metadata(None) for table in tables])


def shard_once(path: Path, saved_dir: Path, stamp: str, write: Callable[[], ShardResult]) -> ShardResult:
    """The shard `path`: as it is where an earlier run has finished it from the same source, else written anew.

    Args:
        path: of the tar.
        saved_dir: `Staging.saved_dir`.
        stamp: of the source files, so that a change of one is seen.
        write: makes the tar.

    Raises:
        OSError: something cannot be written; what `write` raises.
    """
    saved_path = saved_dir / f"{path.name}.saved"
    saved = load(saved_path, stamp)
    if saved is not None and path.exists() and path.stat().st_size == saved.facts["bytes"]:
        return ShardResult(path.name, saved.facts["bytes"], *saved.tables)
    saved_path.unlink(missing_ok=True)
    path.unlink(missing_ok=True)
    result = write()
    tables = [table for table in (result.rows, result.quarantine, result.blocks) if table is not None]
    save(saved_path, {"stamp": stamp, "bytes": result.bytes}, tables)
    return result
