"""JSON files of this program alone, with a hash of their values: a file in which a value has changed is not read.

A flipped bit leaves most JSON valid: 1.5 becomes 1.7, and class ``a`` becomes ``c``. The hash finds that.
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
    """Write values as JSON with the hash of what a reader gets from them, atomically, in ASCII."""
    read = json.loads(json.dumps(values))
    write_text(path, json.dumps({**read, HASH: _hash_of(read)}, indent=1) + "\n")


def read_checked_json(path: Path) -> dict[str, Any] | None:
    """Return what `write_checked_json` was given, as JSON represents it; None if the file is missing or damaged."""
    values = read_json_file(path)
    if not isinstance(values, dict) or values.pop(HASH, None) != _hash_of(values):
        return None
    return values


def _hash_of(values: Mapping[str, Any]) -> str:
    return blake2b(json.dumps(values, sort_keys=True).encode(), digest_size=16).hexdigest()
