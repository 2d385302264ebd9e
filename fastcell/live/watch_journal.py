"""Answers to cells of a watched source, on disk as they come, so that a killed run goes on where it was.

Each piece is a file that appears whole or not at all. An answer belongs to the key of its cell and the hash of its
pixels: a cell whose file was still being written when it was read has another hash later, and is classified again.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path

import numpy as np
import pyarrow as pa

from fastcell.inference.classifier import ChunkAnswers
from fastcell.inference.unlike.reasons import UnlikeScores
from fastcell.predictions.saved_parts import UNLIKE_PIECES
from fastcell.storage.saved_pieces import load_pieces, save_pieces

_STAMP = "watch"
_HASH_BYTES = 16


def pixel_hash(cell: np.ndarray) -> bytes:
    """Return the hash of a cell (H, W): size, type and grey levels (128-bit BLAKE2b)."""
    digest = blake2b(f"{cell.dtype} {cell.shape}".encode(), digest_size=_HASH_BYTES)
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
        self._places: dict[str, int] = {}
        self._hashes: list[bytes] = []
        self._probabilities: list[np.ndarray] = []
        self._unlike: list[tuple[float, tuple[int, int]]] = []
        self._names = [str(number) for number in range(num_classes)]
        self._number = 0
        for path in sorted(folder.glob("*.saved")):
            saved = load_pieces(path, _STAMP)
            if saved is None:
                path.unlink()
                continue
            self._number = int(path.stem) + 1
            self._read(saved.tables[0])

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, key: str) -> bool:
        return key in self._places

    def find(self, key: str, digest: bytes) -> int:
        """Return the place of the answer to a cell; -1 if there is none for these pixels."""
        place = self._places.get(key, -1)
        return place if place >= 0 and self._hashes[place] == digest else -1

    def at(self, places: Sequence[int]) -> ChunkAnswers:
        """Return the answers at N places, N >= 1."""
        probabilities = np.stack([self._probabilities[place] for place in places])
        if not self._scored:
            return ChunkAnswers(probabilities, None)
        scores = np.array([self._unlike[place][0] for place in places], np.float32)
        off = np.array([self._unlike[place][1] for place in places], np.int16)
        return ChunkAnswers(probabilities, UnlikeScores(scores, off))

    def add(self, keys: Sequence[str], hashes: Sequence[bytes], answers: ChunkAnswers) -> None:
        """Add N answers, N >= 1, in memory and on disk.

        Raises:
            OSError: the piece cannot be written.
        """
        columns: dict[str, pa.Array] = {"key": pa.array(keys, pa.string()), "hash": pa.array(hashes, pa.binary())}
        if answers.unlike is not None:
            values = (answers.unlike.scores, *answers.unlike.off.T)
            columns |= {name: pa.array(value) for name, value in zip(UNLIKE_PIECES, values, strict=True)}
        columns |= {name: pa.array(column) for name, column in zip(self._names, answers.probabilities.T, strict=True)}
        table = pa.table(columns)
        save_pieces(self._folder / f"{self._number:09d}.saved", {"stamp": _STAMP}, [table])
        self._number += 1
        self._read(table)

    def _read(self, table: pa.Table) -> None:
        first = len(self._hashes)
        keys = table.column("key").to_pylist()
        self._hashes += table.column("hash").to_pylist()
        self._probabilities += list(np.stack([table.column(name).to_numpy() for name in self._names], axis=1))
        if self._scored:
            score, *off = (table.column(name).to_pylist() for name in UNLIKE_PIECES)
            self._unlike += zip(score, zip(*off, strict=True), strict=True)
        self._places |= {key: first + place for place, key in enumerate(keys)}
