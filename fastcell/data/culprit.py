"""Which cell stopped the run, and what to do about it: DALI's message does not always say."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import blake2b
from typing import Any

import numpy as np

from fastcell.data import _dali
from fastcell.data.decode import BadCell, decode
from fastcell.data.manifest import Manifest
from fastcell.errors import DataError

_COLUMNS = ["key", "shard", "offset", "bytes", "encoding", "byte_hash", "block"]
_CHANGED = "The shard is not as it was packed: pack the data again, or restore the file from its copy."


def bad_cell_error(
    manifest: Manifest, rows: np.ndarray, error: Exception, decoded_by_dali: bool, device_id: int | None
) -> DataError:
    """Find the cell among `rows` that made a read or a decode fail, and make the error that names it.

    The stored bytes of all rows are compared with the manifest's hashes first (12 us a cell), then decoded by
    `fastcell.data.decode`, then by DALI one at a time.

    Args:
        manifest: that has the cells.
        rows: cell_ids, not yet delivered.
        error: what was raised.
        decoded_by_dali: DALI decoded the cells, not `fastcell.data.decode`.
        device_id: GPU that did it, or None.

    Returns:
        The error to raise: with shard and key where they were found.
    """
    rows = np.unique(rows)
    shard: _Shard | None = None
    for cell in _cells(manifest, rows):
        if shard is None or cell["shard"] != shard.name:
            if shard is not None:
                shard.close()
            try:
                shard = _Shard(manifest, cell["shard"])
            except OSError as missing:
                return DataError(f"cannot be read ({missing.strerror}). Restore the file.", cell["shard"])
        stored = shard.read(cell["offset"], cell["bytes"])
        if blake2b(stored, digest_size=16).digest() != cell["byte_hash"]:
            what = "ends before it" if len(stored) < cell["bytes"] else "holds other bytes than were packed"
            return DataError(f"the shard {what}. {_CHANGED}", cell["shard"], cell["key"])
    return _undecodable(manifest, rows, decoded_by_dali, device_id) or DataError(
        f"reading {manifest.path} failed, though every cell is as it was packed: {_first_line(error)}. "
        "Look at the machine (memory, disk); `fastcell doctor` prints what is installed."
    )


class _Shard:
    """An open tar, for reading single cells."""

    def __init__(self, manifest: Manifest, name: str) -> None:
        self.name = name
        self._file = open(manifest.path / name, "rb")  # noqa: SIM115, closed by close()

    def read(self, offset: int, size: int) -> bytes:
        self._file.seek(offset)
        return self._file.read(size)

    def close(self) -> None:
        self._file.close()


def _undecodable(
    manifest: Manifest, rows: np.ndarray, decoded_by_dali: bool, device_id: int | None
) -> DataError | None:
    pipeline = _dali.decoding_pipeline(device_id) if decoded_by_dali else None
    window = None if manifest.info.window is None else (manifest.info.window[0], manifest.info.window[1])
    for cell in _cells(manifest, rows):
        if cell["block"] >= 0:
            continue
        shard = _Shard(manifest, cell["shard"])
        stored = shard.read(cell["offset"], cell["bytes"])
        shard.close()
        try:
            decode(stored, cell["encoding"], window)
        except BadCell as bad:
            return DataError(
                f"cannot be decoded ({bad.reason}), though it could when it was packed. Pack the data again.",
                cell["shard"],
                cell["key"],
            )
        try:
            if pipeline is not None:
                pipeline.feed_input("data", [np.frombuffer(stored, np.uint8)])
                pipeline.run()
        except RuntimeError as error:
            return DataError(
                f"DALI cannot decode it ({_first_line(error)}). Save the image as PNG and pack the data again.",
                cell["shard"],
                cell["key"],
            )
    return None


def _cells(manifest: Manifest, rows: np.ndarray) -> Iterator[dict[str, Any]]:
    """Rows of the manifest, a few thousand in memory at a time."""
    for begin in range(0, len(rows), 4096):
        yield from manifest.table.select(_COLUMNS).take(rows[begin : begin + 4096]).to_pylist()


def _first_line(error: Exception) -> str:
    """The line of DALI's message that says most."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if "rror" in line and not line.startswith(("Error in", "Error when", "Current"))]
    return (telling or lines or [type(error).__name__])[0][:300].rstrip(".")
