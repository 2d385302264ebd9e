"""Threads give the pixels that were packed, whoever stands in, and say what cannot be decoded."""

import dataclasses
from collections.abc import Callable

import cv2
import numpy as np
import pyarrow as pa
import pytest

from fastcell.dataset.corrupt_cells import CorruptCells
from fastcell.dataset.decode import ENCODINGS
from fastcell.dataset.manifest import Manifest
from fastcell.dataset.shard_reader import ShardFiles
from fastcell.loading.decode_cpu import CellDecoder, ThreadDecoding, other_sides, take_stored, take_stored_as_pool
from fastcell.loading.stores.reading import PieceReader
from fastcell.ops.jpeg import decode_jpegs

Make = Callable[..., Manifest]
Tagged = Callable[[int], np.ndarray]
IDS = np.array([2, 5, 6, 9])


def read(manifest, ids=IDS):
    files = ShardFiles(manifest, {})
    stored = files.read(ids)
    files.close()
    return stored


@pytest.mark.parametrize(
    ("encoding", "depth", "factor"),
    [("png", 8, 1), ("tif", 8, 1), ("npy", 16, 257), ("png16", 16, 257), ("png16", 8, 1)],
)
def test_cells_are_written_where_they_belong(make_dataset, tagged, encoding, depth, factor):
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


@pytest.mark.parametrize("compiled", [False, True])
def test_few_cells_do_not_wait_for_the_compiler(make_dataset, monkeypatch, compiled):
    """Loops that are not in the cache are compiled once many cells have been decoded; the pixels are the same."""
    calls = []

    def looped(*arrays):
        calls.append(len(arrays[1]))
        return decode_jpegs(*arrays)

    monkeypatch.setattr("fastcell.loading.decode_cpu.is_compiled", lambda function: compiled)
    monkeypatch.setattr("fastcell.loading.decode_cpu.decode_jpegs", looped)
    monkeypatch.setattr("fastcell.loading.decode_cpu.MOST_SINGLE", 5)
    manifest = make_dataset(12, encoding="jpg")
    stored, taken = read(manifest), np.arange(4)
    heights, widths = (manifest.column(name)[IDS].astype(np.int32) for name in ("height", "width"))
    sizes = heights.astype(np.int64) * widths
    decoder, found = CellDecoder(manifest, 8), []
    for turn in range(3):
        pixels = np.zeros(sizes.sum(), np.uint8)
        assert decoder.decode_into(pixels, np.cumsum(sizes) - sizes, stored, taken, heights, widths, np.arange(4)) == {}
        found.append(pixels.tobytes())
        assert len(calls) == (turn + 1 if compiled else turn // 2)
    assert len(set(found)) == 1
    assert any(found[0])


@pytest.mark.parametrize("threads", [1, 3])
def test_pieces_are_decoded_in_turn(make_dataset, tagged, threads):
    manifest = make_dataset(12)
    reader = PieceReader(manifest, CorruptCells(manifest), raw=False)
    decoding = ThreadDecoding(reader, CellDecoder(manifest, 8), threads)
    order = np.array([7, 3, 11, 3, 0])
    batches = list(decoding(reader.pieces(order, np.array([0, 2, 5]), 1)))
    assert [batch.cell_ids.tolist() for batch in batches] == [[7, 3], [11, 3, 0]]
    for batch in batches:
        for slot, cell_id in enumerate(batch.cell_ids.tolist()):
            np.testing.assert_array_equal(batch.pixels[slot][:, :, 0], tagged(cell_id))


def test_stored_pixels_are_taken_without_a_copy(make_dataset, tagged):
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


def test_stored_pixels_are_a_pool_for_a_gpu(make_dataset, tagged):
    manifest = make_dataset(12, layout="block", encoding="npy")
    reader = PieceReader(manifest, CorruptCells(manifest), raw=True)
    (piece,) = reader.pieces(np.array([7, 3, 11]), np.array([0, 3]), 1)
    cells = take_stored_as_pool(piece)
    assert cells.pool is not None
    assert cells.offsets is not None
    assert cells.pool.data_ptr() == piece.stored.buffer.ctypes.data  # no copy
    for slot, number in enumerate((7, 3, 11)):
        begin, size = int(cells.offsets[slot]), tagged(number).size
        assert np.array_equal(cells.pool[begin : begin + size].numpy(), tagged(number).ravel())
    reader.corrupt_cells.add({3: "gone"})
    (piece,) = reader.pieces(np.array([7, 3, 11]), np.array([0, 3]), 1, blank=True)
    assert take_stored_as_pool(piece).pool is None  # a blank cell lies in no buffer


def decoded(manifest, cell_ids, taken=None, depth=8, slots=None):
    """Pixels by slot, and the reasons; slots of -1 in `taken` are blank cells of 3 x 4."""
    stored = ShardFiles(manifest, {}).read(np.array(cell_ids))
    taken = np.arange(len(cell_ids)) if taken is None else np.array(taken)
    rows = stored.cell_ids[taken]
    heights = np.where(taken < 0, 3, manifest.column("height")[rows]).astype(np.int32)
    widths = np.where(taken < 0, 4, manifest.column("width")[rows]).astype(np.int32)
    sizes = heights.astype(np.int64) * widths
    starts = np.cumsum(sizes) - sizes
    pixels = np.zeros(int(sizes.sum()), np.uint8 if depth == 8 else np.uint16)
    slots = np.arange(len(taken)) if slots is None else np.array(slots)
    reasons = CellDecoder(manifest, depth).decode_into(pixels, starts, stored, taken, heights, widths, slots)
    cells = [
        pixels[start : start + height * width].reshape(height, width)
        for start, height, width in zip(starts, heights, widths, strict=True)
    ]
    return cells, reasons


def test_pixels_of_jpeg_cells_are_those_of_opencv(make_dataset, tagged):
    cells, reasons = decoded(make_dataset(20, encoding="jpg"), [2, 3, 11], taken=[2, 0, 1, 0])
    assert reasons == {}
    for cell, number in zip(cells, [11, 2, 3, 2], strict=True):
        expected = cv2.imdecode(cv2.imencode(".jpg", tagged(number))[1], cv2.IMREAD_GRAYSCALE)
        assert np.abs(cell.astype(int) - expected).max() <= 1


def test_only_the_slots_asked_for_are_written(make_dataset, tagged):
    cells, _ = decoded(make_dataset(20), [2, 3, 11], slots=[1])
    assert not cells[0].any()
    assert not cells[2].any()
    assert np.array_equal(cells[1], tagged(3))


@pytest.mark.parametrize("encoding", ["png", "jpg"])
def test_damaged_cells_have_a_reason_and_spare_the_others(make_dataset, tagged, encoding):
    manifest = make_dataset(20, encoding=encoding)
    with open(manifest.shard_path(int(manifest.shard_index[3])), "r+b") as file:
        file.seek(int(manifest.column("offset")[3]))
        file.write(b"no picture any more"[: int(manifest.column("bytes")[3])])
    cells, reasons = decoded(manifest, [2, 3, 4])
    assert list(reasons) == [3]
    assert reasons[3].startswith("cannot be decoded any more: ")
    assert np.abs(cells[2].astype(int) - tagged(4)).max() <= (0 if encoding == "png" else 60)


def test_cells_of_another_size_than_the_manifest_says(make_dataset):
    manifest = make_dataset(20)
    height = manifest.column("height").copy()
    height[3] += 1
    place = manifest.table.schema.get_field_index("height")
    table = manifest.table.set_column(place, "height", pa.array(height, pa.int32()))
    _, reasons = decoded(dataclasses.replace(manifest, table=table), [3, 4])
    width = int(manifest.column("width")[3])
    assert reasons == {3: other_sides(height[3] - 1, width)}
    assert other_sides(5, 7) == "is 5 x 7 pixels, but the manifest states another size"


def test_encodings_are_numbers_of_the_known_ones(make_dataset):
    found = CellDecoder(make_dataset(6, encoding="jpg"), 8).encodings
    assert [ENCODINGS[number] for number in found] == ["jpg"] * 6
