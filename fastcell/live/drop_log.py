"""List of cells that were received but not classified: a CSV file, and an occasional line for the user."""

from __future__ import annotations

import csv
import threading
import time
from datetime import datetime, timezone
from pathlib import Path

import numpy as np

from fastcell.errors import invalid
from fastcell.storage.places import check_output_file
from fastcell.system.messages import Say, print_remark
from fastcell.system.text import printable

COLUMNS = ("time", "client", "first_id", "last_id", "cells", "reason")
SAY_EVERY_S = 5.0


class DropLog:
    """CSV file with one row per range of ids of unclassified cells. It is created with the first row.

    Args:
        path: file; rows are appended to an existing one.
        say: function that receives a line for the user, at most once in 5 s.
    """

    def __init__(self, path: Path, say: Say = print_remark) -> None:
        self._path, self._say = path, say
        self._lock = threading.Lock()
        self._unsaid = 0
        self._said = -SAY_EVERY_S
        self._failed = False

    def add(self, client: str, ids: np.ndarray, reason: str) -> None:
        """Add cells of a client.

        Args:
            client: name of the client.
            ids: (N,) uint64, in the order of the frames.
            reason: such as ``queue full``.
        """
        if not len(ids):
            return
        now = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
        rows = [(now, client, first, last, last - first + 1, reason) for first, last in id_ranges(ids)]
        with self._lock:
            self._write(rows)
            self._unsaid += len(ids)
            if time.monotonic() - self._said >= SAY_EVERY_S:
                self._tell()

    def close(self) -> None:
        """Report the cells that have not been reported yet."""
        with self._lock:
            if self._unsaid:
                self._tell()

    def _tell(self) -> None:
        self._say(f"{self._unsaid:,} cells without a class (dropped, or their client is gone): {printable(self._path)}")
        self._unsaid, self._said = 0, time.monotonic()

    def _write(self, rows: list[tuple[str, str, int, int, int, str]]) -> None:
        try:
            fresh = not self._path.exists() or not self._path.stat().st_size
            with open(self._path, "a", newline="", encoding="utf-8") as file:
                writer = csv.writer(file, lineterminator="\n")
                if fresh:
                    writer.writerow(COLUMNS)
                writer.writerows(rows)
            self._failed = False
        except OSError as error:  # a full disk must not end the classification
            if not self._failed:
                self._say(f"{printable(self._path)} cannot be written ({error.strerror}); ids of cells are not logged")
            self._failed = True


def check_drop_log(path: str) -> Path:
    """Check that rows can be appended to a file, or that it can be created.

    Raises:
        ArgumentError: the file cannot be written, or is another table.
    """
    file = check_output_file("--drop_log", path)
    if file.exists():
        with open(file, "rb") as there:
            first = there.readline(200)
        if first and first != ",".join(COLUMNS).encode() + b"\n":
            raise invalid("--drop_log", "a list of dropped cells, or a new file", path, "Choose another name")
    return file


def id_ranges(ids: np.ndarray) -> list[tuple[int, int]]:
    """Return the first and last id of each range of consecutive numbers in N ids, N >= 1."""
    ids = np.asarray(ids, np.uint64)
    ends = np.flatnonzero(ids[1:] != ids[:-1] + np.uint64(1))
    firsts, lasts = ids[np.concatenate([[0], ends + 1])], ids[np.concatenate([ends, [len(ids) - 1]])]
    return list(zip(firsts.tolist(), lasts.tolist(), strict=True))
