"""The bank: every cell once with its own pixels, no gaps, filled while it is drawn from, and nothing read after."""

import gc
import os
import threading
from collections.abc import Callable

import numpy as np
import pytest
import torch
from fixtures.written_bytes import damage

from fastcell.dataset.manifest import Manifest
from fastcell.dataset.views import View, ViewConfig, select
from fastcell.errors import ArgumentError, DataError
from fastcell.loading.bank_loader import BankLoader
from fastcell.loading.loader import CellLoader
from fastcell.loading.order import BankOrder, StoredOrder, fill_order
from fastcell.loading.preprocessing import Preprocessing
from fastcell.loading.ranks import evaluation_share
from fastcell.loading.settings import LoaderSettings
from fastcell.loading.stores.bank import CellBank
from fastcell.ops.augmentation import Augmentation

Make = Callable[..., Manifest]
SMALL = Preprocessing(16, normalization="subtract")


def bank_of(view, **options):
    rows = fill_order(view, 1)
    return CellBank(View(view.manifest, rows), np.array([0, len(rows)]), **options)


def cell_of(bank, slot):
    pool = bank.pool
    begin, height, width = (int(column[slot]) for column in (pool.offset, pool.height, pool.width))
    return pool.pixels.numpy()[begin : begin + height * width].reshape(height, width)


@pytest.mark.parametrize(("layout", "encoding"), [("cell", "png"), ("cell", "npy"), ("block", "png")])
def test_holds_every_cell_once_without_gaps(make_dataset, tagged, layout, encoding):
    manifest = make_dataset(600, layout=layout, encoding=encoding, num_shards=5)
    bank = bank_of(select(manifest, ViewConfig("train")))
    bank.fill()
    assert sorted(bank.cell_ids.tolist()) == list(range(360))
    for slot, cell in enumerate(bank.cell_ids.tolist()):
        np.testing.assert_array_equal(cell_of(bank, slot), tagged(cell))
    sizes = sum(tagged(cell).size for cell in range(360))
    assert bank.num_bytes == bank.pool.pixels.numel() == sizes


def test_repeated_rows_share_their_pixels(make_dataset):
    view = select(make_dataset(100), ViewConfig("train"))
    rows = np.repeat(view.rows, 1 + view.rows % 3)
    bank = bank_of(View(view.manifest, rows))
    assert len(bank.slots) == len(rows)
    assert len(bank.cell_ids) == 60
    np.testing.assert_array_equal(np.sort(bank.cell_ids[bank.slots]), rows)


def test_16_bits_are_kept(make_dataset, tagged):
    """The cells are 257 times their 8-bit twins, and the window is the whole range."""
    bank = bank_of(select(make_dataset(30, encoding="png16"), ViewConfig()), depth=16)
    bank.fill()
    assert bank.pool.pixels.dtype == torch.uint16
    for slot, cell in enumerate(bank.cell_ids.tolist()):
        np.testing.assert_array_equal(cell_of(bank, slot), tagged(cell).astype(np.uint16) * 257)


def test_16_bits_of_blocks_are_refused(make_dataset):
    with pytest.raises(ArgumentError, match="depth must be 8 for cells in blocks"):
        bank_of(select(make_dataset(30, layout="block"), ViewConfig()), depth=16)


def test_the_index_beside_the_pixels_is_small(real_data, tmp_path):
    """Under 2 % of the pixels of real cells; labels included."""
    from fastcell.packing.pack import pack

    manifest = pack(real_data / "jurkat", tmp_path / "jurkat", pattern="{class}/{name}")
    bank = bank_of(select(manifest, ViewConfig()))
    labels = 4 * len(bank.cell_ids)
    beside = sum(column.nbytes for column in bank.pool[1:4]) + bank.cell_ids.nbytes + bank.slots.nbytes + labels
    assert beside < 0.02 * bank.num_bytes


def loaders(manifest, num_parts=1, rank=0, num_ranks=1, transform="auto", **options):
    view = select(manifest, ViewConfig("train"))
    rows = fill_order(view, 1)
    order = BankOrder(len(rows), 16, 1, num_parts, 32, rank, num_ranks)
    edges = order.part_edges()[order.parts.start : order.parts.stop + 1]
    bank = CellBank(View(manifest, rows[edges[0] : edges[-1]]), edges - edges[0])
    return BankLoader(bank, view, order, SMALL, LoaderSettings(seed=1, transform=transform), **options)


def whole(manifest):
    (batch,) = list(CellLoader(select(manifest, ViewConfig()), evaluation_share(len(manifest), len(manifest)), SMALL))
    return batch


@pytest.mark.parametrize("num_parts", [1, 8])
@pytest.mark.parametrize("layout", ["cell", "block"])
@pytest.mark.parametrize("transform", ["fused", "dali"])
def test_every_cell_once_with_its_label_and_image(make_dataset, layout, num_parts, transform):
    manifest = make_dataset(150, layout=layout)
    images = whole(manifest).images
    loader = loaders(manifest, num_parts, transform=transform)
    orders = []
    for epoch in range(3):
        loader.set_epoch(epoch)
        batches = list(loader)
        assert len(batches) == len(loader) == 6
        for batch in batches:
            assert torch.equal(batch.labels, batch.cell_ids % 3)
            bound = 0.0 if transform == "fused" else 0.1  # DALI's coordinates are float32
            assert (batch.images - images[batch.cell_ids]).abs().max() <= bound
        ids, weight = (torch.cat([batch[column] for batch in batches]) for column in (2, 3))
        np.testing.assert_array_equal(np.sort(ids[weight == 1]), np.arange(90))
        orders.append(ids.tolist())
    assert orders[0] != orders[1] != orders[2]


@pytest.mark.parametrize(("num_parts", "num_ranks"), [(1, 2), (1, 4), (8, 2), (8, 4), (8, 8)])
def test_ranks_draw_the_batches_of_one_rank(make_dataset, num_parts, num_ranks):
    """Same cells, same augmentation, same pixels, in the global batch."""
    manifest, strong = make_dataset(170), Augmentation(rotation_deg=180, noise_probability=1.0)

    def cells(loader, epoch):
        loader.set_epoch(epoch)
        return [
            {int(cell): image for cell, image, weight in zip(batch.cell_ids, batch.images, batch.weight, strict=True)
             if weight}
            for batch in loader
        ]  # fmt: skip

    alone = loaders(manifest, num_parts, augmentation=strong)
    ranks = [loaders(manifest, num_parts, rank, num_ranks, augmentation=strong) for rank in range(num_ranks)]
    for epoch in (0, 1):
        shared = [cells(loader, epoch) for loader in ranks]
        for step, batch in enumerate(cells(alone, epoch)):
            parts = [of_rank[step] for of_rank in shared]
            assert sum(len(part) for part in parts) == len(batch)
            union = {cell: image for part in parts for cell, image in part.items()}
            assert all(torch.equal(union[cell], image) for cell, image in batch.items())


def test_nothing_is_read_after_the_first_epoch(make_dataset):
    manifest = make_dataset(100)
    loader = loaders(manifest)
    first = list(loader)
    for shard in manifest.info.shards:
        (manifest.path / shard["name"]).unlink()
    loader.set_epoch(0)
    assert all(torch.equal(a.images, b.images) for a, b in zip(first, loader, strict=True))
    assert (1, 0) in loader.order._kept  # the order of the next epoch is made behind the last batch of this one
    loader.set_epoch(1)
    assert len(list(loader)) == len(first)


def test_a_batch_waits_for_its_own_cells_alone(make_dataset):
    """The first pieces are there before the last ones are read."""
    manifest = make_dataset(2000, sides=(1.0, 1.0))
    bank = bank_of(select(manifest, ViewConfig("train")))
    bank.wait(np.arange(10))
    assert not bank.is_full
    bank.fill()
    assert bank.is_full


def test_images_of_a_batch_do_not_depend_on_threads_or_on_how_far_the_bank_is(make_dataset):
    manifest = make_dataset(300)
    early, late = loaders(manifest, augmentation=Augmentation()), loaders(manifest, augmentation=Augmentation())
    late.bank.fill()
    late.config = LoaderSettings(seed=1, threads=2)
    for one, two in zip(early, late, strict=True):
        assert torch.equal(one.images, two.images)
        assert torch.equal(one.cell_ids, two.cell_ids)


def test_evaluation_keeps_the_stored_order(make_dataset):
    view = select(make_dataset(100), ViewConfig("valid"))
    share = evaluation_share(len(view), 8)
    bank = CellBank(view, np.array([0, len(view)]))
    by_bank = list(BankLoader(bank, view, StoredOrder(share), SMALL))
    by_stream = list(CellLoader(view, share, SMALL))
    for one, two in zip(by_bank, by_stream, strict=True):
        assert torch.equal(one.weight, two.weight)
        real = one.weight == 1
        for column in range(3):
            assert torch.equal(one[column][real], two[column][real])


def test_a_bad_cell_reaches_the_user_by_name_every_time(make_dataset):
    manifest = make_dataset(50, encoding="npy")
    damage(manifest, 11)
    loader = loaders(manifest)
    for _ in range(2):
        with pytest.raises(DataError, match="shard 'shard-000000.tar', cell 'cell-00011.npy'"):
            list(loader)


def test_leaving_early_leaks_neither_threads_nor_files(make_dataset):
    manifest = make_dataset(3000, num_shards=4)
    list(loaders(manifest))
    gc.collect()
    before = threading.active_count(), len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task"))
    for _ in range(5):
        loader = loaders(manifest)
        next(iter(loader))
        del loader
        gc.collect()
    assert (threading.active_count(), len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task"))) == before


def test_a_closed_bank_says_so(make_dataset):
    bank = bank_of(select(make_dataset(1000), ViewConfig()))
    bank.wait(np.zeros(1, np.int64))
    bank.close()
    with pytest.raises(RuntimeError, match="closed before it was full"):
        bank.fill()
