"""JSON files with a hash of their values, for use by fastcell alone.

After a flipped bit, JSON is usually still valid (1.5 becomes 1.7, or class ``a`` becomes ``c``). The hash detects such
changes, and the file is not read.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from hashlib import blake2b
from pathlib import Path
from typing import Any

from fastcell.storage.whole_files import read_json_file, write_text

HASH = "blake2b"
"""Name of the entry with the hash."""


def write_checked_json(path: Path, values: Mapping[str, Any]) -> None:
    """Write values and their hash as JSON, atomically and in ASCII. The hash is of the values as a reader gets them."""
    read = json.loads(json.dumps(values))
    write_text(path, json.dumps({**read, HASH: _hash_of(read)}, indent=1) + "\n")


def read_checked_json(path: Path) -> dict[str, Any] | None:
    """Return the values given to `write_checked_json`, as JSON values; None if the file is missing or damaged."""
    values = read_json_file(path)
    if not isinstance(values, dict) or values.pop(HASH, None) != _hash_of(values):
        return None
    return values


def _hash_of(values: Mapping[str, Any]) -> str:
    return blake2b(json.dumps(values, sort_keys=True).encode(), digest_size=16).hexdigest()
