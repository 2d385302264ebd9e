"""Every cell of a share comes exactly once, with its own pixels, in an order that seed and epoch decide."""

import gc
import os
from collections.abc import Callable
from dataclasses import replace
from hashlib import blake2b

import numpy as np
import pyarrow as pa
import pytest
from fixtures.written_bytes import damage, overwrite

from fastcell.dataset.cell_hashes import hash_pixels
from fastcell.dataset.corrupt_cells import CorruptCells
from fastcell.dataset.decode import DecodedCell, decode
from fastcell.dataset.manifest import Manifest
from fastcell.dataset.shard_reader import MOST_OPEN
from fastcell.dataset.single_cells import read_cells
from fastcell.dataset.views import View, ViewConfig, select
from fastcell.errors import DataError
from fastcell.loading.ranks import evaluation_share, training_share
from fastcell.loading.stores.stream import CellReader
from fastcell.packing.pack import pack

Make = Callable[..., Manifest]
Tagged = Callable[[int], np.ndarray]


def as_arrays(cells):
    return [np.asarray(cells.pixels[slot])[:, :, 0] for slot in range(len(cells))]


def ids_of(reader, epoch):
    """Ids of the cells that count, in the order they came."""
    ids = [cells.cell_ids for cells in reader.epoch(epoch)]
    assert len(ids) == reader.share.steps
    return np.concatenate(ids)[: len(reader.share)]


@pytest.mark.parametrize("decoder", ["threads", "dali"])
@pytest.mark.parametrize("layout", ["cell", "block"])
@pytest.mark.parametrize("encoding", ["png", "tif", "npy", "png16"])
def test_pixels_belong_to_their_id(make_dataset, tagged, layout, encoding, decoder):
    view = select(make_dataset(60, layout=layout, encoding=encoding), ViewConfig())
    reader = CellReader(view, training_share(60, 8), shuffle=True, initial_fill=20, threads=2, decoder=decoder)
    seen = 0
    for cells in reader.epoch(0):
        for cell_id, pixels in zip(cells.cell_ids.tolist(), as_arrays(cells), strict=True):
            np.testing.assert_array_equal(pixels, tagged(cell_id))
            seen += 1
        assert cells.addresses is not None
        for slot, address in enumerate(cells.addresses.tolist()):
            assert address == np.asarray(cells.pixels[slot]).__array_interface__["data"][0]
        np.testing.assert_array_equal(cells.heights, view.manifest.column("height")[cells.cell_ids])
    assert seen == 64


@pytest.mark.parametrize("decoder", ["threads", "dali"])
@pytest.mark.parametrize("layout", ["cell", "block"])
@pytest.mark.parametrize(("name", "pattern"), [("atom-samples", "{class}_{name}"), ("tcell", "{group}/{class}/{name}")])
def test_real_cells_have_the_pixels_that_were_packed(real_data, tmp_path, name, pattern, layout, decoder):
    """Ragged JPEG and PNG cells: what the stream decodes has the hash that packing took."""
    manifest = pack(real_data / name, tmp_path / name, pattern=pattern, layout=layout, jobs=1)
    hashes = manifest.table.column("pixel_hash").to_pylist()
    share = training_share(len(manifest), 64)
    seen = np.zeros(len(manifest), int)
    for step, cells in enumerate(
        CellReader(select(manifest, ViewConfig()), share, shuffle=True, threads=2, decoder=decoder).epoch(1)
    ):
        seen[cells.cell_ids[: share.num_real(step)]] += 1
        for cell_id, pixels in zip(cells.cell_ids.tolist(), as_arrays(cells), strict=True):
            assert hash_pixels(np.ascontiguousarray(pixels)) == hashes[cell_id]
    assert (seen == 1).all()


@pytest.mark.parametrize("layout", ["cell", "block"])
@pytest.mark.parametrize("initial_fill", [0, 1, 7])
def test_an_epoch_holds_each_row_as_often_as_the_view(make_dataset, layout, initial_fill):
    manifest = make_dataset(90, layout=layout)
    rows = np.sort(np.concatenate([np.arange(3, 80, 2), np.arange(3, 20, 2), [5, 5]]))
    reader = CellReader(View(manifest, rows), training_share(len(rows), 10), shuffle=True, initial_fill=initial_fill)
    for epoch in (0, 1):
        np.testing.assert_array_equal(np.sort(ids_of(reader, epoch)), rows)


@pytest.mark.parametrize("layout", ["cell", "block"])
def test_order_is_a_function_of_seed_and_epoch(make_dataset, layout):
    view = select(make_dataset(120, layout=layout), ViewConfig())
    first = CellReader(view, training_share(120, 8), shuffle=True, seed=3, initial_fill=32)
    again = CellReader(view, training_share(120, 8), shuffle=True, seed=3, initial_fill=32, threads=2)
    other = CellReader(view, training_share(120, 8), shuffle=True, seed=4, initial_fill=32)
    next(first.epoch(5))  # what was read before does not matter
    np.testing.assert_array_equal(ids_of(first, 1), ids_of(again, 1))
    assert (ids_of(first, 1) != ids_of(first, 2)).mean() > 0.5
    assert (ids_of(first, 1) != ids_of(other, 1)).mean() > 0.5
    assert (np.sort(ids_of(first, 1)[:60]) != np.arange(60)).any()


@pytest.mark.parametrize("layout", ["cell", "block"])
def test_evaluation_keeps_the_stored_order(make_dataset, layout):
    view = select(make_dataset(70, layout=layout), ViewConfig())
    np.testing.assert_array_equal(ids_of(CellReader(view, evaluation_share(70, 16)), 0), np.arange(70))


@pytest.mark.parametrize("layout", ["cell", "block"])
@pytest.mark.parametrize("num_ranks", [1, 2, 3])
def test_ranks_share_the_rows(make_dataset, layout, num_ranks):
    view = select(make_dataset(80, layout=layout), ViewConfig())
    for share_of, batch, shuffle in ((training_share, 6 * num_ranks, True), (evaluation_share, 6, False)):
        shares = [share_of(80, batch, rank, num_ranks) for rank in range(num_ranks)]
        assert len({share.steps for share in shares}) == 1
        parts = [ids_of(CellReader(view, share, shuffle=shuffle, initial_fill=16), 0) for share in shares]
        np.testing.assert_array_equal(np.sort(np.concatenate(parts)), np.arange(80))


@pytest.mark.parametrize("layout", ["cell", "block"])
def test_padding_is_other_cells(make_dataset, tagged, layout):
    """61 cells in batches of 12: the last one has a single cell, and copies of it would spoil a batch norm."""
    view = select(make_dataset(61, layout=layout), ViewConfig())
    *_, last = CellReader(view, training_share(61, 12), shuffle=True, initial_fill=20).epoch(0)
    assert len(set(last.cell_ids.tolist())) == 12
    for cell_id, pixels in zip(last.cell_ids.tolist(), as_arrays(last), strict=True):
        np.testing.assert_array_equal(pixels, tagged(cell_id))


@pytest.mark.parametrize("layout", ["cell", "block"])
def test_more_ranks_than_cells(make_dataset, layout):
    manifest = make_dataset(10, layout=layout)
    share = training_share(1, 4, rank=0, num_ranks=4)
    assert (len(share), share.steps) == (0, 1)
    (cells,) = CellReader(View(manifest, np.array([4])), share, shuffle=True).epoch(0)
    np.testing.assert_array_equal(cells.cell_ids, [4])


def test_outputs_stay_valid_after_later_batches(make_dataset, tagged):
    view = select(make_dataset(100), ViewConfig())
    for cells in list(CellReader(view, evaluation_share(100, 5)).epoch(0)):
        for cell_id, pixels in zip(cells.cell_ids.tolist(), as_arrays(cells), strict=True):
            np.testing.assert_array_equal(pixels, tagged(cell_id))


@pytest.mark.parametrize("layout", ["cell", "block"])
@pytest.mark.parametrize("shuffle", [True, False])
def test_an_epoch_goes_on_at_any_step(make_dataset, tagged, layout, shuffle):
    view = select(make_dataset(90, layout=layout), ViewConfig())
    reader = CellReader(view, training_share(90, 8), shuffle=shuffle, initial_fill=20, seed=5)
    whole = [cells.cell_ids.tolist() for cells in reader.epoch(2)]
    for first in (1, 3, 4, 11, 12):
        rest = [(cells.cell_ids.tolist(), as_arrays(cells)) for cells in reader.epoch(2, first)]
        assert [ids for ids, _ in rest] == whole[first:]
        for ids, arrays in rest:
            for cell_id, pixels in zip(ids, arrays, strict=True):
                np.testing.assert_array_equal(pixels, tagged(cell_id))


BAD = 37


@pytest.mark.parametrize("encoding", ["png", "npy", "tif", "png16"])
@pytest.mark.parametrize("layout", ["cell", "block"])
@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("decoder", ["threads", "dali"])
def test_a_damaged_cell_is_replaced(make_dataset, tagged, layout, shuffle, encoding, decoder):
    """By the first good cell of its batch; nobody else moves."""
    manifest = make_dataset(60, layout=layout, encoding=encoding)
    view, share = select(manifest, ViewConfig()), training_share(60, 8)
    untouched = CellReader(view, share, shuffle=shuffle, initial_fill=20)
    whole = [[cells.cell_ids for cells in untouched.epoch(epoch)] for epoch in range(2)]
    damage(manifest, BAD)
    corrupt_cells = CorruptCells(manifest)
    reader = CellReader(view, share, shuffle=shuffle, initial_fill=20, corrupt_cells=corrupt_cells, decoder=decoder)
    for epoch in range(2):
        for ids, cells in zip(whole[epoch], reader.epoch(epoch), strict=True):
            lost = ids == BAD
            good = np.ones(8, bool) if cells.good is None else cells.good
            np.testing.assert_array_equal(good, ~lost)
            np.testing.assert_array_equal(cells.cell_ids[~lost], ids[~lost])
            assert (cells.cell_ids[lost] == ids[~lost][0]).all()
            for cell_id, pixels in zip(cells.cell_ids.tolist(), as_arrays(cells), strict=True):
                np.testing.assert_array_equal(pixels, tagged(cell_id))
    assert corrupt_cells.reasons == {BAD: "other bytes than were packed"}
    row = manifest.table.slice(BAD, 1).to_pylist()[0]
    assert corrupt_cells.table().to_pylist() == [
        {"cell_id": BAD, "reason": "other bytes than were packed"}
        | {name: row[name] for name in ("key", "shard", "class")}
    ]


@pytest.mark.parametrize("layout", ["cell", "block"])
def test_asked_for_an_error_it_names_shard_and_key(make_dataset, layout):
    manifest = make_dataset(60, layout=layout)
    shard = damage(manifest, BAD)
    reader = CellReader(
        select(manifest, ViewConfig()), training_share(60, 8), corrupt_cells=CorruptCells(manifest, "error")
    )
    with pytest.raises(DataError, match="cell-00037.png.*other bytes than were packed.*pack the data again") as error:
        list(reader.epoch(0))
    assert (error.value.shard, error.value.key) == (shard, "cell-00037.png")


@pytest.mark.parametrize("encoding", ["png", "npy"])
def test_all_of_a_shard_is_looked_at_after_the_first_failure(make_dataset, encoding):
    """The reader has the first 10 cells alone; 3 more of that shard and 1 of another are bad."""
    manifest = make_dataset(60, encoding=encoding)
    for cell_id in (4, 12, 17, 19, 45):
        damage(manifest, cell_id)
    corrupt_cells = CorruptCells(manifest)
    reader = CellReader(View(manifest, np.arange(10)), evaluation_share(10, 4), corrupt_cells=corrupt_cells)
    list(reader.epoch(0))
    assert sorted(corrupt_cells.reasons) == [4, 12, 17, 19]


@pytest.mark.parametrize("layout", ["cell", "block"])
def test_a_shard_that_shrinks_loses_its_end(make_dataset, layout):
    manifest = make_dataset(60, layout=layout)
    corrupt_cells = CorruptCells(manifest)
    reader = CellReader(select(manifest, ViewConfig()), evaluation_share(60, 8), corrupt_cells=corrupt_cells)
    list(reader.epoch(0))
    end = int(manifest.column("offset")[30] + 1)
    os.truncate(manifest.path / "shard-000001.tar", end)
    good = np.concatenate([np.ones(8, bool) if cells.good is None else cells.good for cells in reader.epoch(1)])
    lost = np.flatnonzero(~good)
    ends = manifest.column("offset") + manifest.column("bytes")
    np.testing.assert_array_equal(lost, np.flatnonzero((manifest.shard_index == 1) & (ends > end)))
    assert set(corrupt_cells.reasons.values()) == {"the shard ends before it"}
    assert sorted(corrupt_cells.reasons) == lost.tolist()


@pytest.mark.parametrize("layout", ["cell", "block"])
@pytest.mark.parametrize("encoding", ["npy", "png"])
def test_what_changes_later_is_looked_at_again(make_dataset, layout, encoding):
    """Hashes are taken in the first epoch; a shard with another time of change goes through it anew.

    No decoder could tell: a NumPy file or a block with another grey level is as good as before.
    """
    manifest = make_dataset(60, layout=layout, encoding=encoding)
    corrupt_cells = CorruptCells(manifest)
    reader = CellReader(select(manifest, ViewConfig()), evaluation_share(60, 8), corrupt_cells=corrupt_cells)
    list(reader.epoch(0))
    row = manifest.table.slice(BAD, 1).to_pylist()[0]
    path = manifest.path / row["shard"]
    pixel = row["offset"] + row["bytes"] // 2
    times = path.stat()
    flip(path, pixel)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns + 1))
    list(reader.epoch(1))
    assert corrupt_cells.reasons == {BAD: "other bytes than were packed"}


@pytest.mark.parametrize("decoder", ["threads", "dali"])
@pytest.mark.parametrize("blank", [True, False])
def test_a_cell_that_cannot_be_decoded_though_unchanged(make_dataset, tagged, blank, decoder):
    """The hash fits garbage: the decoder fails in a batch that others are in; DALI is built anew."""
    manifest = make_dataset(60)
    row = manifest.table.slice(41, 1).to_pylist()[0]
    garbage = bytes(row["bytes"])
    overwrite(manifest.path / row["shard"], row["offset"], garbage)
    changed = with_hash(manifest, 41, garbage)
    corrupt_cells = CorruptCells(changed)
    reader = CellReader(
        select(changed, ViewConfig()), training_share(60, 8), shuffle=True, corrupt_cells=corrupt_cells, decoder=decoder
    )
    seen = []
    for cells in reader.in_order() if blank else reader.epoch(0):
        for cell_id, pixels in zip(cells.cell_ids.tolist(), as_arrays(cells), strict=True):
            if cell_id == 41:
                assert blank
                assert (pixels == 128).all()
                assert pixels.shape == tagged(41).shape
            else:
                np.testing.assert_array_equal(pixels, tagged(cell_id))
        seen += cells.cell_ids.tolist() if cells.good is None else cells.cell_ids[cells.good].tolist()
    assert set(seen) == set(range(60)) - {41}
    assert corrupt_cells.reasons == {41: "cannot be decoded any more: all bytes zero"}


@pytest.mark.parametrize("decoder", ["threads", "dali"])
@pytest.mark.parametrize("blank", [True, False])
def test_jpeg_cells_beside_lost_ones(make_dataset, blank, decoder):
    """One with other bytes, one whose hash fits garbage, and one of other sides, in batches of good ones."""
    manifest = make_dataset(60, encoding="jpg")
    want = dict(enumerate(read_cells(manifest, range(60))))
    damage(manifest, BAD)
    row = manifest.table.slice(41, 1).to_pylist()[0]
    garbage = bytes(row["bytes"])
    overwrite(manifest.path / row["shard"], row["offset"], garbage)
    changed = with_hash(manifest, 41, garbage)
    heights = changed.column("height").astype(np.int32)
    heights[7] += 1
    index = changed.table.schema.get_field_index("height")
    changed = replace(changed, table=changed.table.set_column(index, "height", pa.array(heights, pa.int32())))
    corrupt_cells = CorruptCells(changed)
    rows = np.sort(np.concatenate([np.arange(60), [3, 3, 50]]))
    reader = CellReader(
        View(changed, rows),
        training_share(63, 8),
        shuffle=True,
        corrupt_cells=corrupt_cells,
        decoder=decoder,
        threads=3,
    )
    seen = []
    for cells in reader.in_order() if blank else reader.epoch(0):
        good = np.ones(len(cells), bool) if cells.good is None else cells.good
        for cell_id, pixels, is_good in zip(cells.cell_ids.tolist(), as_arrays(cells), good.tolist(), strict=True):
            if blank and not is_good:
                assert (pixels == 128).all()
            else:
                np.testing.assert_array_equal(pixels, want[cell_id])
            seen += [cell_id] * is_good
    assert set(seen) == set(range(60)) - {7, 41, BAD}
    assert min(seen.count(3), seen.count(50) + 1) == 3
    assert sorted(corrupt_cells.reasons) == [7, BAD, 41]


def test_what_dali_alone_cannot_decode_is_replaced(make_dataset, tagged, monkeypatch):
    manifest = make_dataset(60)
    row = manifest.table.slice(41, 1).to_pylist()[0]
    garbage = bytes(row["bytes"])
    overwrite(manifest.path / row["shard"], row["offset"], garbage)
    changed, corrupt_cells = with_hash(manifest, 41, garbage), CorruptCells(manifest)
    pixels = DecodedCell(tagged(41), 8, 1, "png")
    monkeypatch.setattr(
        "fastcell.loading.decode_cpu.decode", lambda data, *_: pixels if data == garbage else decode(data, "png")
    )
    reader = CellReader(
        select(changed, ViewConfig()), training_share(60, 8), shuffle=True, corrupt_cells=corrupt_cells, decoder="dali"
    )
    list(reader.epoch(0))
    assert corrupt_cells.reasons == {41: "DALI cannot decode it; saved as PNG it could"}


def test_one_shard_may_go_away_but_not_all(make_dataset):
    manifest = make_dataset(60)
    corrupt_cells = CorruptCells(manifest)
    reader = CellReader(select(manifest, ViewConfig()), evaluation_share(60, 8), corrupt_cells=corrupt_cells)
    (manifest.path / "shard-000002.tar").unlink()
    list(reader.epoch(0))
    assert corrupt_cells.reasons == dict.fromkeys(range(40, 60), "the shard is missing")
    (manifest.path / "shard-000000.tar").unlink()
    with pytest.raises(DataError, match="shard-000000.tar.*40 of 60 cells are corrupt.*right folder"):
        list(CellReader(select(manifest, ViewConfig()), evaluation_share(60, 8), corrupt_cells=corrupt_cells).epoch(0))
    (manifest.path / "shard-000001.tar").unlink()
    with pytest.raises(DataError, match="none of its shards exists any more"):
        list(
            CellReader(
                View(manifest, np.arange(20)), evaluation_share(20, 8), corrupt_cells=CorruptCells(manifest)
            ).epoch(0)
        )


@pytest.mark.parametrize("decoder", ["threads", "dali"])
@pytest.mark.parametrize("encoding", ["png", "npy"])
def test_a_batch_without_a_good_cell(make_dataset, encoding, decoder):
    manifest = make_dataset(60, encoding=encoding)
    for cell_id in range(8, 16):
        damage(manifest, cell_id)
    corrupt_cells = CorruptCells(manifest)
    batches = list(
        CellReader(
            select(manifest, ViewConfig()), evaluation_share(60, 8), corrupt_cells=corrupt_cells, decoder=decoder
        ).epoch(0)
    )
    assert batches[0].good is None
    assert batches[1].good is not None
    assert not batches[1].good.any()
    np.testing.assert_array_equal(batches[1].cell_ids, np.arange(8, 16))
    assert all((pixels == 128).all() for pixels in as_arrays(batches[1]))


@pytest.mark.parametrize("layout", ["cell", "block"])
@pytest.mark.parametrize("encoding", ["png", "npy"])
def test_a_shard_without_a_good_cell(make_dataset, encoding, layout):
    manifest = make_dataset(60, encoding=encoding, layout=layout)
    for cell_id in range(20):
        damage(manifest, cell_id)
    reader = CellReader(View(manifest, np.arange(20)), evaluation_share(20, 8), corrupt_cells=CorruptCells(manifest))
    for _ in range(2):
        for cells in reader.epoch(0):
            assert cells.good is not None
            assert not cells.good.any()
            assert all((pixels == 128).all() for pixels in as_arrays(cells))


@pytest.mark.parametrize("decoder", ["threads", "dali"])
@pytest.mark.parametrize("encoding", ["png", "npy"])
def test_a_cell_of_other_sides_is_replaced(make_dataset, encoding, decoder):
    """Its address must not be read with the manifest's size."""
    manifest = make_dataset(20, encoding=encoding)
    column = manifest.column("height").astype(np.int32)
    column[7] += 1
    index = manifest.table.schema.get_field_index("height")
    changed = replace(manifest, table=manifest.table.set_column(index, "height", pa.array(column, pa.int32())))
    corrupt_cells = CorruptCells(changed)
    seen = [
        cells.cell_ids
        for cells in CellReader(
            select(changed, ViewConfig()), evaluation_share(20, 4), corrupt_cells=corrupt_cells, decoder=decoder
        ).epoch(0)
    ]
    assert np.concatenate(seen).tolist() == [*range(7), 4, *range(8, 20)]
    assert corrupt_cells.reasons[7].endswith("pixels, but the manifest states another size")


@pytest.mark.parametrize("decoder", ["threads", "dali"])
def test_many_shards_need_few_open_files(make_dataset, monkeypatch, decoder):
    manifest = make_dataset(90, num_shards=45)
    opened = []
    before = len(os.listdir("/proc/self/fd"))
    reader = CellReader(
        select(manifest, ViewConfig()), training_share(90, 2), shuffle=True, initial_fill=8, decoder=decoder
    )
    for _ in reader.epoch(0):
        opened.append(len(os.listdir("/proc/self/fd")) - before)
    assert MOST_OPEN / 2 < max(opened) < MOST_OPEN + 8
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) <= before + 6  # DALI's decoder stays


def with_hash(manifest, cell_id, data):
    """The manifest as if the cell had been packed with these bytes."""
    hashes = manifest.table.column("byte_hash").to_pylist()
    hashes[cell_id] = blake2b(data, digest_size=16).digest()
    index = manifest.table.schema.get_field_index("byte_hash")
    return replace(manifest, table=manifest.table.set_column(index, "byte_hash", pa.array(hashes, pa.binary(16))))


def flip(path, offset):
    with open(path, "r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 16]))
