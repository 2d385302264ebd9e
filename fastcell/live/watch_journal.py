"""Journal of the predictions for a watched source. They are stored as they are made, so that a killed run can resume.

Each piece is a file that is written atomically; many small ones become a large one now and then. An answer belongs to
the key of its cell and a hash of everything that it depends on besides the run: a cell whose file was still being
written when it was read has another hash later, and is classified again.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from fastcell.dataset.grey_window import Window
from fastcell.inference.network_answers import ChunkAnswers
from fastcell.inference.unlike.reasons import UnlikeScores
from fastcell.predictions.saved_parts import UNLIKE_PIECES
from fastcell.storage.saved_pieces import load_pieces, save_pieces

_STAMP = "watch"
_HASH_BYTES = 16
_MOST_SMALL = 256  # pieces that become one
_LEAST_LARGE = 1 << 14


def cell_hash(cell: np.ndarray, um_per_px: float, window: Window) -> bytes:
    """Return the hash of a cell (H, W): size, type and grey levels, micrometres per pixel, window (128-bit BLAKE2b)."""
    digest = blake2b(f"{cell.dtype} {cell.shape} {um_per_px} {window}".encode(), digest_size=_HASH_BYTES)
    digest.update(np.ascontiguousarray(cell).data)
    return digest.digest()


class WatchJournal:
    """Answers by key, with a copy on disk.

    Args:
        folder: folder of the pieces; those of an earlier run are read.
        num_classes: K.
        scored: whether answers have scores of unlike cells.
    """

    def __init__(self, folder: Path, num_classes: int, scored: bool) -> None:
        self._folder, self._scored = folder, scored
        self._names = [str(number) for number in range(num_classes)]
        self._places: dict[str, int] = {}
        self._parts: list[_Part] = []
        self._starts: list[int] = []
        self._num = self._number = 0
        self._small: list[tuple[Path, pa.Table]] = []
        for path in sorted(folder.glob("*.saved")):
            saved = load_pieces(path, _STAMP)
            self._number = int(path.stem) + 1
            if saved is None:
                path.unlink()
            else:
                self._keep(path, saved.tables[0])

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, key: str) -> bool:
        return key in self._places

    def find(self, key: str, digest: bytes) -> int:
        """Return the place of the answer to a cell; -1 if there is none for this hash."""
        place = self._places.get(key, -1)
        if place < 0:
            return -1
        part, row = self._part(place)
        return place if part.hashes[row] == digest else -1

    def at(self, places: Sequence[int]) -> ChunkAnswers:
        """Return the answers at N places, N >= 1."""
        rows = [self._part(place) for place in places]
        probabilities = np.stack([part.probabilities[row] for part, row in rows])
        if not self._scored:
            return ChunkAnswers(probabilities, None)
        scores = np.array([part.scores[row] for part, row in rows], np.float32)
        return ChunkAnswers(probabilities, UnlikeScores(scores, np.stack([part.off[row] for part, row in rows])))

    def add(self, keys: Sequence[str], hashes: Sequence[bytes], answers: ChunkAnswers) -> None:
        """Add N answers, N >= 1, in memory and on disk.

        Raises:
            OSError: the piece cannot be written.
        """
        columns: dict[str, pa.Array] = {
            "key": pa.array(keys, pa.string()),
            "hash": pa.array(hashes, pa.binary(_HASH_BYTES)),
        }
        if answers.unlike is not None:
            values = (answers.unlike.scores, *answers.unlike.off.T)
            columns |= {name: pa.array(value) for name, value in zip(UNLIKE_PIECES, values, strict=True)}
        columns |= {name: pa.array(column) for name, column in zip(self._names, answers.probabilities.T, strict=True)}
        table = pa.table(columns)
        self._keep(self._save(table), table)
        if len(self._small) >= _MOST_SMALL:
            self._merge()

    def _save(self, table: pa.Table) -> Path:
        path = self._folder / f"{self._number:09d}.saved"
        save_pieces(path, {"stamp": _STAMP}, [table])
        self._number += 1
        return path

    def _merge(self) -> None:
        """Write the small pieces as one; a kill in between leaves some answers twice, which are the same."""
        self._save(pa.concat_tables([table for _, table in self._small]))
        for path, _ in self._small:
            path.unlink()
        self._small.clear()

    def _keep(self, path: Path, table: pa.Table) -> None:
        if table.num_rows < _LEAST_LARGE:
            self._small.append((path, table))
        part = _part_of(table, self._names, self._scored)
        self._places |= {key: self._num + row for row, key in enumerate(table.column("key").to_pylist())}
        self._parts.append(part)
        self._starts.append(self._num)
        self._num += table.num_rows

    def _part(self, place: int) -> tuple[_Part, int]:
        number = bisect_right(self._starts, place) - 1
        return self._parts[number], place - self._starts[number]


class _Part(NamedTuple):
    """Answers of one piece: hashes (N,), probabilities (N, K), and if known scores (N,), off (N, 2)."""

    hashes: list[bytes]
    probabilities: np.ndarray
    scores: np.ndarray
    off: np.ndarray


def _part_of(table: pa.Table, names: list[str], scored: bool) -> _Part:
    columns = {name: table.column(name).to_numpy() for name in table.column_names if name not in ("key", "hash")}
    score, *off = (columns[name] for name in UNLIKE_PIECES) if scored else (np.empty(0), np.empty(0))
    probabilities = np.stack([columns[name] for name in names], axis=1)
    return _Part(table.column("hash").to_pylist(), probabilities, score, np.stack(off, axis=1))
