"""Every cell of a share comes exactly once, with its own pixels, in an order that seed and epoch decide."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from fastcell.data.manifest import Manifest
from fastcell.data.pack import pack
from fastcell.data.ranks import evaluation_share, training_share
from fastcell.data.records import measure
from fastcell.data.stream import CellReader, Cells, allow_open_files, open_reader
from fastcell.data.views import View, ViewConfig, select
from fastcell.errors import ArgumentError, DataError

Make = Callable[..., Manifest]
Tagged = Callable[[int], np.ndarray]


def as_arrays(cells: Cells) -> list[np.ndarray]:
    return [np.asarray(cells.pixels[slot])[:, :, 0] for slot in range(len(cells))]


def ids_of(reader: CellReader, epoch: int) -> np.ndarray:
    """Ids of the cells that count, in the order they came."""
    ids = [cells.cell_ids for cells in reader.epoch(epoch)]
    assert len(ids) == reader.share.steps
    return np.concatenate(ids)[: len(reader.share)]


@pytest.mark.parametrize("layout", ["cell", "block"])
@pytest.mark.parametrize("encoding", ["png", "tif", "npy", "png16"])
def test_pixels_belong_to_their_id(make_dataset: Make, tagged: Tagged, layout: str, encoding: str) -> None:
    view = select(make_dataset(60, layout=layout, encoding=encoding), ViewConfig())
    reader = open_reader(view, training_share(60, 8), shuffle=True, initial_fill=20, threads=2)
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


@pytest.mark.parametrize("layout", ["cell", "block"])
@pytest.mark.parametrize(("name", "pattern"), [("atom-samples", "{class}_{name}"), ("tcell", "{group}/{class}/{name}")])
def test_real_cells_have_the_pixels_that_were_packed(
    real_data: Path, tmp_path: Path, name: str, pattern: str, layout: str
) -> None:
    """Ragged JPEG and PNG cells: what the stream decodes has the hash that packing took."""
    manifest = pack(real_data / name, tmp_path / name, pattern=pattern, layout=layout, jobs=1)
    hashes = manifest.table.column("pixel_hash").to_pylist()
    share = training_share(len(manifest), 64)
    seen = np.zeros(len(manifest), int)
    for step, cells in enumerate(open_reader(select(manifest, ViewConfig()), share, shuffle=True, threads=2).epoch(1)):
        seen[cells.cell_ids[: share.num_real(step)]] += 1
        for cell_id, pixels in zip(cells.cell_ids.tolist(), as_arrays(cells), strict=True):
            assert measure(np.ascontiguousarray(pixels))[0] == hashes[cell_id]
    assert (seen == 1).all()


@pytest.mark.parametrize("layout", ["cell", "block"])
@pytest.mark.parametrize("initial_fill", [0, 1, 7])
def test_an_epoch_holds_each_row_as_often_as_the_view(make_dataset: Make, layout: str, initial_fill: int) -> None:
    manifest = make_dataset(90, layout=layout)
    rows = np.sort(np.concatenate([np.arange(3, 80, 2), np.arange(3, 20, 2), [5, 5]]))
    reader = open_reader(View(manifest, rows), training_share(len(rows), 10), shuffle=True, initial_fill=initial_fill)
    for epoch in (0, 1):
        np.testing.assert_array_equal(np.sort(ids_of(reader, epoch)), rows)


@pytest.mark.parametrize("layout", ["cell", "block"])
def test_order_is_a_function_of_seed_and_epoch(make_dataset: Make, layout: str) -> None:
    view = select(make_dataset(120, layout=layout), ViewConfig())
    first = open_reader(view, training_share(120, 8), shuffle=True, seed=3, initial_fill=32)
    again = open_reader(view, training_share(120, 8), shuffle=True, seed=3, initial_fill=32, threads=2)
    other = open_reader(view, training_share(120, 8), shuffle=True, seed=4, initial_fill=32)
    next(first.epoch(5))  # what was read before does not matter
    np.testing.assert_array_equal(ids_of(first, 1), ids_of(again, 1))
    assert (ids_of(first, 1) != ids_of(first, 2)).mean() > 0.5
    assert (ids_of(first, 1) != ids_of(other, 1)).mean() > 0.5
    assert (np.sort(ids_of(first, 1)[:60]) != np.arange(60)).any()


@pytest.mark.parametrize("layout", ["cell", "block"])
def test_evaluation_keeps_the_stored_order(make_dataset: Make, layout: str) -> None:
    view = select(make_dataset(70, layout=layout), ViewConfig())
    np.testing.assert_array_equal(ids_of(open_reader(view, evaluation_share(70, 16)), 0), np.arange(70))


@pytest.mark.parametrize("layout", ["cell", "block"])
@pytest.mark.parametrize("num_ranks", [1, 2, 3])
def test_ranks_share_the_rows(make_dataset: Make, layout: str, num_ranks: int) -> None:
    view = select(make_dataset(80, layout=layout), ViewConfig())
    for share_of, batch, shuffle in ((training_share, 6 * num_ranks, True), (evaluation_share, 6, False)):
        shares = [share_of(80, batch, rank, num_ranks) for rank in range(num_ranks)]
        assert len({share.steps for share in shares}) == 1
        parts = [ids_of(open_reader(view, share, shuffle=shuffle, initial_fill=16), 0) for share in shares]
        np.testing.assert_array_equal(np.sort(np.concatenate(parts)), np.arange(80))


@pytest.mark.parametrize("layout", ["cell", "block"])
def test_padding_is_other_cells(make_dataset: Make, tagged: Tagged, layout: str) -> None:
    """61 cells in batches of 12: the last one has a single cell, and copies of it would spoil a batch norm."""
    view = select(make_dataset(61, layout=layout), ViewConfig())
    *_, last = open_reader(view, training_share(61, 12), shuffle=True, initial_fill=20).epoch(0)
    assert len(set(last.cell_ids.tolist())) == 12
    for cell_id, pixels in zip(last.cell_ids.tolist(), as_arrays(last), strict=True):
        np.testing.assert_array_equal(pixels, tagged(cell_id))


@pytest.mark.parametrize("layout", ["cell", "block"])
def test_more_ranks_than_cells(make_dataset: Make, layout: str) -> None:
    manifest = make_dataset(10, layout=layout)
    share = training_share(1, 4, rank=0, num_ranks=4)
    assert (len(share), share.steps) == (0, 1)
    (cells,) = open_reader(View(manifest, np.array([4])), share, shuffle=True).epoch(0)
    np.testing.assert_array_equal(cells.cell_ids, [4])


def test_outputs_stay_valid_after_later_batches(make_dataset: Make, tagged: Tagged) -> None:
    view = select(make_dataset(100), ViewConfig())
    for cells in list(CellReader(view, evaluation_share(100, 5)).epoch(0)):
        for cell_id, pixels in zip(cells.cell_ids.tolist(), as_arrays(cells), strict=True):
            np.testing.assert_array_equal(pixels, tagged(cell_id))


def test_index_files_go_with_the_reader(make_dataset: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    reader = CellReader(select(make_dataset(20), ViewConfig()), evaluation_share(20, 5))
    assert len(list(tmp_path.glob("fastcell-index-*/*.idx"))) == 3
    del reader
    assert not list(tmp_path.glob("fastcell-index-*"))


@pytest.mark.parametrize("layout", ["cell", "block"])
@pytest.mark.parametrize("shuffle", [False, True])
def test_a_damaged_cell_is_named(make_dataset: Make, layout: str, shuffle: bool) -> None:
    manifest = make_dataset(60, layout=layout)
    share = training_share(60, 8)
    reader = open_reader(select(manifest, ViewConfig()), share, shuffle=shuffle, initial_fill=20)
    row = manifest.table.slice(37, 1).to_pylist()[0]
    overwrite(manifest.path / row["shard"], row["offset"], bytes(row["bytes"]))
    if layout == "block":  # raw pixels cannot fail to decode
        assert 37 in ids_of(reader, 0)
        return
    with pytest.raises(DataError, match="cell-00037.png.*other bytes than were packed.*pack the data again") as error:
        list(reader.epoch(0))
    assert (error.value.shard, error.value.key) == (row["shard"], "cell-00037.png")


def test_a_damaged_block_header_names_the_shard(make_dataset: Make) -> None:
    manifest = make_dataset(60, layout="block")
    reader = open_reader(select(manifest, ViewConfig()), evaluation_share(60, 8))
    block = manifest.blocks().slice(1, 1).to_pylist()[0]
    overwrite(manifest.path / block["shard"], block["offset"], b"xxxxxxxx")
    with pytest.raises(DataError, match=f"{block['shard']}.*not a block of cells"):
        list(reader.epoch(0))


@pytest.mark.parametrize("encoding", ["png", "npy"])
def test_a_shard_that_shrinks_is_named(make_dataset: Make, encoding: str) -> None:
    manifest = make_dataset(60, encoding=encoding)
    reader = CellReader(select(manifest, ViewConfig()), evaluation_share(60, 8))
    os.truncate(manifest.path / "shard-000001.tar", 3000)
    with pytest.raises(DataError, match="shard-000001.tar.*ends before it"):
        list(reader.epoch(0))


@pytest.mark.parametrize("dali_alone", [False, True])
def test_a_cell_that_cannot_be_decoded_though_unchanged(
    make_dataset: Make, monkeypatch: pytest.MonkeyPatch, dali_alone: bool
) -> None:
    manifest = make_dataset(60)
    row = manifest.table.slice(41, 1).to_pylist()[0]
    garbage = bytes(row["bytes"])
    overwrite(manifest.path / row["shard"], row["offset"], garbage)
    hashes = manifest.table.column("byte_hash").to_pylist()
    hashes[41] = blake2b(garbage, digest_size=16).digest()
    index = manifest.table.schema.get_field_index("byte_hash")
    table = manifest.table.set_column(index, "byte_hash", pa.array(hashes, pa.binary(16)))
    if dali_alone:
        monkeypatch.setattr("fastcell.data.culprit.decode", lambda *args: None)
    reader = CellReader(select(replace(manifest, table=table), ViewConfig()), training_share(60, 8), shuffle=True)
    message = "DALI cannot decode it .* Save the image as PNG" if dali_alone else "cannot be decoded .all bytes zero"
    with pytest.raises(DataError, match=f"cell-00041.png': {message}"):
        list(reader.epoch(0))


def test_a_shard_that_goes_away_is_named(make_dataset: Make) -> None:
    manifest = make_dataset(60)
    reader = CellReader(select(manifest, ViewConfig()), evaluation_share(60, 8))
    (manifest.path / "shard-000002.tar").unlink()
    with pytest.raises(DataError, match="shard 'shard-000002.tar': cannot be read .No such file"):
        list(reader.epoch(0))


def test_the_limit_of_open_files_is_raised_or_named() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (600, hard))
        allow_open_files(10)
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == 600
        allow_open_files(100)
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == 712
        if hard != resource.RLIM_INFINITY:
            with pytest.raises(ArgumentError, match=f"limit of open files must be .* {hard} shards, got {hard}"):
                allow_open_files(hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_cell_of_another_size_is_refused(make_dataset: Make, tagged: Tagged) -> None:
    """A valid image of other sides in the same place: its address must not be read with the manifest's size."""
    manifest = make_dataset(20)
    reader = CellReader(select(manifest, ViewConfig()), evaluation_share(20, 4))
    column = manifest.table.column("height").to_numpy().copy()
    column[7] += 1
    reader._heights = column
    with pytest.raises(DataError, match="cell-00007.png'.* pixels, the manifest says"):
        list(reader.epoch(0))


def overwrite(path: Path, offset: int, data: bytes) -> None:
    with open(path, "r+b") as file:
        file.seek(offset)
        file.write(data)
