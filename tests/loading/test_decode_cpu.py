"""Threads give the pixels that were packed, whoever stands in, and say what cannot be decoded."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from fastcell.dataset.corrupt_cells import CorruptCells
from fastcell.dataset.manifest import Manifest
from fastcell.dataset.shard_reader import ShardFiles, Stored
from fastcell.loading.decode_cpu import CellDecoder, ThreadDecoding, other_sides, take_stored
from fastcell.loading.stores.reading import PieceReader

Make = Callable[..., Manifest]
Tagged = Callable[[int], np.ndarray]
IDS = np.array([2, 5, 6, 9])


def read(manifest: Manifest, ids: np.ndarray = IDS) -> Stored:
    files = ShardFiles(manifest, {})
    stored = files.read(ids)
    files.close()
    return stored


@pytest.mark.parametrize(
    ("encoding", "depth", "factor"), [("png", 8, 1), ("tif", 8, 1), ("npy", 16, 257), ("png16", 16, 257)]
)
def test_cells_are_written_where_they_belong(
    make_dataset: Make, tagged: Tagged, encoding: str, depth: int, factor: int
) -> None:
    manifest = make_dataset(12, encoding=encoding)
    stored, taken = read(manifest), np.array([3, -1, 0])
    cells = [tagged(9), np.full((2, 3), 128), tagged(2)]
    heights, widths = (np.array([cell.shape[axis] for cell in cells], np.int32) for axis in (0, 1))
    starts = np.array([5, 90, 200])
    pixels = np.zeros(300, np.uint8 if depth == 8 else np.uint16)
    decoder = CellDecoder(manifest, depth)
    assert decoder.decode_into(pixels, starts, stored, taken, heights, widths, np.array([2, 0, 1])) == {}
    want = np.zeros_like(pixels)
    for start, cell in zip(starts, cells, strict=True):
        want[start : start + cell.size] = cell.astype(pixels.dtype).ravel() * factor
    np.testing.assert_array_equal(pixels, want)


def test_what_cannot_be_decoded_has_a_reason(make_dataset: Make) -> None:
    manifest = make_dataset(12)
    stored = read(manifest)
    stored.buffer[stored.starts[1] : stored.starts[1] + stored.sizes[1]] = 0
    decoder = CellDecoder(manifest, 8)
    assert decoder.decode(stored, 1) == "cannot be decoded any more: all bytes zero"
    assert isinstance(decoder.decode(stored, 2), np.ndarray)
    assert other_sides(3, 4) == "is 3 x 4 pixels, which the manifest does not say"


@pytest.mark.parametrize("threads", [1, 3])
def test_pieces_are_decoded_in_turn(make_dataset: Make, tagged: Tagged, threads: int) -> None:
    manifest = make_dataset(12)
    reader = PieceReader(manifest, CorruptCells(manifest), raw=False)
    decoding = ThreadDecoding(reader, CellDecoder(manifest, 8), threads)
    order = np.array([7, 3, 11, 3, 0])
    batches = list(decoding(reader.pieces(order, np.array([0, 2, 5]), 1)))
    assert [batch.cell_ids.tolist() for batch in batches] == [[7, 3], [11, 3, 0]]
    for batch in batches:
        for slot, cell_id in enumerate(batch.cell_ids.tolist()):
            np.testing.assert_array_equal(batch.pixels[slot][:, :, 0], tagged(cell_id))


def test_stored_pixels_are_taken_without_a_copy(make_dataset: Make, tagged: Tagged) -> None:
    manifest = make_dataset(12, layout="block", encoding="npy")
    reader = PieceReader(manifest, CorruptCells(manifest), raw=True)
    reader.corrupt_cells.add({3: "gone"})
    (piece,) = reader.pieces(np.array([7, 3, 11]), np.array([0, 3]), 1, blank=True)
    cells = take_stored(piece)
    assert cells.good is not None
    assert cells.good.tolist() == [True, False, True]
    np.testing.assert_array_equal(cells.pixels[0][:, :, 0], tagged(7))
    assert np.shares_memory(cells.pixels[0], piece.stored.buffer)
    assert cells.pixels[1].shape == (*tagged(3).shape, 1)
    assert (cells.pixels[1] == 128).all()
    assert cells.addresses is not None
    assert cells.addresses.tolist() == [cell.ctypes.data for cell in cells.pixels]
