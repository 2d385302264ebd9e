"""Classify the cells of a view chunk by chunk. One thread decodes, resizes, normalises and classifies a chunk.

Because a thread does all steps of its chunk, all cores are busy whatever the ratio of preprocessing to network time,
and images stay in the caches of their core. The content of the chunks does not depend on the number of threads or
processes.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, NamedTuple, TypeVar

import numpy as np

from fastcell.dataset.corrupt_cells import CorruptCells
from fastcell.dataset.manifest import Manifest
from fastcell.loading.decode_choice import choose_decoding
from fastcell.loading.decode_cpu import CellDecoder, ThreadDecoding, take_stored
from fastcell.loading.geometry import Geometry
from fastcell.loading.preprocessing import Preprocessing
from fastcell.loading.ragged_cells import RaggedCells
from fastcell.loading.stores.reading import Piece, PieceReader
from fastcell.ops.cpu.transform import transform_cells

T = TypeVar("T")

_SPAN_CELLS = 2048  # number of cells that are read together
_SPAN_BYTES = 1 << 27
_AHEAD = 2  # chunks per thread that are in progress, or finished but not yet consumed


class ChunkResult(NamedTuple, Generic[T]):
    """Result of the work on a chunk.

    Attributes:
        cell_ids: (b,) int64, cells of the chunk.
        good: (b,) bool, False for a corrupt cell, which was replaced by another cell or a blank one.
        value: return value of the work.
    """

    cell_ids: np.ndarray
    good: np.ndarray
    value: T


def work_on_chunks(
    manifest: Manifest,
    rows: np.ndarray,
    chunk: int,
    preprocessing: Preprocessing,
    work: Callable[[RaggedCells, np.ndarray], T],
    *,
    corrupt_cells: CorruptCells | None = None,
    threads: int = 1,
) -> Iterator[ChunkResult[T]]:
    """Apply a function to the images of cells, and yield its results chunk by chunk in the order of the rows.

    Args:
        manifest: manifest of the data set.
        rows: (n,) int64, cells in stored order.
        chunk: number of cells of a chunk; the last chunk has the remaining cells.
        preprocessing: preprocessing of the images.
        work: function of the raw cells of a chunk and their images (b, 1, S, S) float32; called in several threads.
        corrupt_cells: collection that corrupt cells are added to; None ends the work at the first one.
        threads: number of threads, >= 1.

    Raises:
        DataError: cells are corrupt and `corrupt_cells` does not allow it.
        ArgumentError: the cells cannot be read with the preprocessing's depth.
    """
    found = CorruptCells(manifest, "error") if corrupt_cells is None else corrupt_cells
    decoder = CellDecoder(manifest, preprocessing.depth)
    raw = choose_decoding("threads", manifest, rows, decoder, None) == "stored"
    reader = PieceReader(manifest, found, raw, threads)
    decoding = ThreadDecoding(reader, decoder, 1)
    geometry = Geometry(manifest, preprocessing, None, 0)

    def one(piece: Piece) -> ChunkResult[T]:
        cells = take_stored(piece) if raw else decoding.decode(piece)
        value = work(cells, images_of(cells, geometry))
        good = np.ones(len(cells), bool) if cells.good is None else cells.good
        return ChunkResult(piece.wanted, good, value)

    edges = np.append(np.arange(0, len(rows), chunk), len(rows))
    at_once = _chunks_at_once(manifest, rows, chunk)
    pieces = reader.pieces(rows, edges, at_once)
    with ThreadPoolExecutor(threads, "fastcell-chunks") as pool:
        waiting: deque[Future[ChunkResult[T]]] = deque()
        try:
            for piece in itertools.islice(pieces, _AHEAD * threads):
                waiting.append(pool.submit(one, piece))
            while waiting:
                result = waiting.popleft().result()
                following = next(pieces, None)
                if following is not None:
                    waiting.append(pool.submit(one, following))
                yield result
        finally:
            for future in waiting:
                future.cancel()
            pieces.close()  # type: ignore[attr-defined]


def images_of(cells: RaggedCells, geometry: Geometry, threads: int = 1) -> np.ndarray:
    """Return the images of raw cells in host memory without augmentation, (B, 1, S, S) float32.

    Args:
        cells: cells with addresses.
        geometry: affine map and grey level outside of each cell.
        threads: threads that share the cells.
    """
    values, count = geometry.preprocessing, len(cells)
    assert cells.addresses is not None
    zeros = np.zeros(count, np.float32)
    return transform_cells(
        cells.addresses,
        cells.heights,
        cells.widths,
        geometry.matrices(cells, None),
        geometry.fill(cells),
        zeros,
        zeros,
        zeros.astype(np.uint64),
        np.empty((count, 1, values.image_size, values.image_size), np.float32),
        values.normalization,
        threads,
        values.antialias,
        dtype=np.uint8 if cells.depth == 8 else np.uint16,
    )


def _chunks_at_once(manifest: Manifest, rows: np.ndarray, chunk: int) -> int:
    size = max(1.0, float(manifest.column("bytes")[rows].mean())) if len(rows) else 1.0
    return max(1, min(_SPAN_CELLS, int(_SPAN_BYTES / size)) // chunk)
