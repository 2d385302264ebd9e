"""Batches: each cell once with weight 1, its label and pixels with it; iterations may be left at any moment."""

import gc
import os
import threading
from collections.abc import Callable

import numpy as np
import pytest
import torch
from fixtures.written_bytes import damage

from fastcell.dataset.manifest import Manifest
from fastcell.dataset.views import ViewConfig, select
from fastcell.errors import DataError
from fastcell.loading.batch import Batch
from fastcell.loading.datamodule import CellDataModule
from fastcell.loading.loader import BatchLoader, CellLoader, GroupedLoader
from fastcell.loading.preprocessing import Preprocessing
from fastcell.loading.ranks import evaluation_share, training_share
from fastcell.loading.settings import LoaderSettings
from fastcell.ops.augmentation import Augmentation

Make = Callable[..., Manifest]
SMALL = Preprocessing(16, normalization="subtract")


def training_loader(manifest, batch_size=16, rank=0, num_ranks=1, **options):
    view = select(manifest, ViewConfig("train"))
    share = training_share(len(view), batch_size, rank, num_ranks)
    config = LoaderSettings(seed=1, initial_fill=32)
    return CellLoader(view, share, SMALL, config, shuffle=True, **options)


@pytest.mark.parametrize("layout", ["cell", "block"])
def test_every_cell_once_with_its_label_and_image(make_dataset, layout):
    manifest = make_dataset(150, layout=layout)
    alone = CellLoader(select(manifest, ViewConfig()), evaluation_share(150, 150), SMALL)
    (whole,) = list(alone)
    np.testing.assert_array_equal(whole.cell_ids, np.arange(150))
    loader = training_loader(manifest)
    batches = list(loader)
    assert len(batches) == len(loader) == 6
    for batch in batches:
        assert isinstance(batch, Batch)
        assert [(tensor.dtype, len(tensor)) for tensor in batch] == [
            (torch.float32, 16),
            (torch.int64, 16),
            (torch.int64, 16),
            (torch.float32, 16),
        ]
        assert torch.equal(batch.labels, batch.cell_ids % 3)
        assert torch.equal(batch.images, whole.images[batch.cell_ids])
    ids, weight = (torch.cat([batch[column] for batch in batches]) for column in (2, 3))
    np.testing.assert_array_equal(np.sort(ids[weight == 1]), np.arange(90))
    assert weight.tolist() == [1] * 90 + [0] * 6


def test_augmentation_depends_on_seed_epoch_and_position_alone(make_dataset):
    manifest = make_dataset(100)

    def images(epoch, threads=1):
        view = select(manifest, ViewConfig("train"))
        config = LoaderSettings(seed=2, threads=threads)
        loader = CellLoader(view, training_share(60, 12), SMALL, config, shuffle=True, augmentation=Augmentation())
        loader.set_epoch(epoch)
        return torch.cat([batch.images for batch in loader])

    assert torch.equal(images(0), images(0, threads=2))
    assert not torch.equal(images(0), images(1))


def test_each_iteration_is_the_next_epoch_and_set_epoch_says_another(make_dataset):
    manifest = make_dataset(100)

    def ids(loader):
        batches = [batch for item in loader for batch in ([item] if isinstance(item, Batch) else item)]
        return torch.cat([batch.cell_ids for batch in batches]).tolist()

    loader = training_loader(manifest)
    orders = [ids(loader) for _ in range(3)]
    assert len({tuple(order) for order in orders}) == 3
    assert [ids(again) for again in [training_loader(manifest)] for _ in range(3)] == orders
    loader.set_epoch(1)
    assert [ids(loader), ids(loader)] == orders[1:]
    grouped = GroupedLoader(training_loader(manifest), 4)
    assert [ids(grouped), ids(grouped)] == orders[:2]
    grouped.set_epoch(0)
    assert ids(grouped) == orders[0]


def test_an_iterator_that_is_never_used_is_no_epoch(make_dataset):
    loader, other = (training_loader(make_dataset(100, name=name)) for name in ("a", "b"))
    for _ in range(3):
        iter(loader)
    assert torch.equal(next(iter(loader)).cell_ids, next(iter(other)).cell_ids)


def test_the_trainer_tells_where_to_begin(make_dataset):
    manifest = make_dataset(100)
    told = training_loader(manifest, where=lambda: (3, 1), augmentation=Augmentation())
    set_to = training_loader(manifest, augmentation=Augmentation())
    set_to.set_epoch(3)
    for one, other in zip(told, list(set_to)[1:], strict=True):
        assert all(torch.equal(*columns) for columns in zip(one, other, strict=True))


@pytest.mark.parametrize("num_ranks", [2, 3])
def test_ranks_together_see_the_whole(make_dataset, num_ranks):
    manifest = make_dataset(100)
    loaders = [training_loader(manifest, 6 * num_ranks, rank, num_ranks) for rank in range(num_ranks)]
    assert len({len(loader) for loader in loaders}) == 1
    seen = torch.cat([batch.cell_ids[batch.weight == 1] for loader in loaders for batch in loader])
    np.testing.assert_array_equal(np.sort(seen), np.arange(60))


@pytest.mark.parametrize("layout", ["cell", "block"])
def test_leaving_early_leaks_neither_threads_nor_files(make_dataset, layout):
    loader = training_loader(make_dataset(100, layout=layout), 4)
    next(iter(loader))
    gc.collect()
    before = threading.active_count(), len(os.listdir("/proc/self/fd")), num_native_threads()
    for turn in range(20):
        for step, _ in enumerate(loader):
            if step == turn % 4:
                break
    gc.collect()
    assert (threading.active_count(), len(os.listdir("/proc/self/fd")), num_native_threads()) == before


def test_two_iterations_at_once_do_not_disturb_each_other(make_dataset):
    loader = training_loader(make_dataset(100), where=lambda: (0, 0))
    alone = [batch.cell_ids.tolist() for batch in loader]
    pairs = [(one.cell_ids.tolist(), two.cell_ids.tolist()) for one, two in zip(loader, loader, strict=True)]
    assert pairs == [(ids, ids) for ids in alone]


def test_a_bad_cell_reaches_the_user_by_name(make_dataset):
    manifest = make_dataset(50)
    loader = training_loader(manifest, 8)
    damage(manifest, 11)
    with pytest.raises(DataError, match="shard 'shard-000000.tar', cell 'cell-00011.png'"):
        list(loader)


@pytest.mark.parametrize("layout", ["cell", "block"])
@pytest.mark.parametrize("transform", ["fused", "dali"])
@pytest.mark.parametrize("store", ["stream", "bank"])
def test_lost_cells_have_weight_0_and_nobody_else_moves(make_dataset, layout, transform, store):
    """In every store: the same batches as of whole data, but for the corrupt cells, in two epochs."""
    manifest = make_dataset(200, layout=layout)
    batches = []
    for damaged in (False, True):
        if damaged:
            for cell_id in (5, 64, 117):
                damage(manifest, cell_id)
        module = CellDataModule(
            str(manifest.path),
            batch_size=8,
            image_size=16,
            store=store,
            bank_gib=1.0,
            transform=transform,
            augmentation=Augmentation(noise_std=0.0, blur_sigma=0.0),
            initial_fill=32,
            seed=3,
        )
        module.setup("fit")
        loader = module.train_dataloader()
        assert isinstance(loader, BatchLoader)
        loader.pads = True  # as under a trainer
        for epoch in range(2):
            loader.set_epoch(epoch)
            batches.append(list(loader))
    assert sorted(module.corrupt_cells.reasons) == [5, 64, 117]
    for whole, rest in zip(batches[0] + batches[1], batches[2] + batches[3], strict=True):
        lost = torch.isin(whole.cell_ids, torch.tensor([5, 64, 117]))
        assert torch.equal(rest.weight, whole.weight * ~lost)
        assert torch.isfinite(rest.images).all()
        for column in range(3):
            assert torch.equal(rest[column][~lost], whole[column][~lost])
        assert (rest.cell_ids[lost] == rest.cell_ids[~lost][0]).all()
    for epoch in (batches[2], batches[3]):
        counted = torch.cat([batch.cell_ids[batch.weight > 0] for batch in epoch])
        assert sorted(counted.tolist()) == sorted(set(range(120)) - {5, 64, 117})


def num_native_threads():
    return len(os.listdir("/proc/self/task"))


@pytest.mark.gpu
@pytest.mark.parametrize("decoder", ["dali", "threads"])
@pytest.mark.parametrize("layout", ["cell", "block"])
@pytest.mark.parametrize("encoding", ["png", "npy"])
def test_a_gpu_gives_the_batches_of_the_cpu(make_dataset, layout, encoding, decoder):
    """Geometry and noise-free augmentation alike; the tolerance is that of DALI's float32 coordinates."""
    view = select(make_dataset(100, layout=layout, encoding=encoding), ViewConfig())
    quiet = Augmentation(noise_probability=0.0)
    batches = []
    for device in (torch.device("cpu"), torch.device("cuda", 0)):
        config = LoaderSettings(seed=3, decoder=decoder, device=device, initial_fill=32)
        loader = CellLoader(view, training_share(100, 16), Preprocessing(32), config, shuffle=True, augmentation=quiet)
        batches.append(list(loader))
    for here, there in zip(*batches, strict=True):
        assert {tensor.device.type for tensor in there} == {"cuda"}
        assert torch.equal(here.cell_ids, there.cell_ids.cpu())
        assert torch.equal(here.labels, there.labels.cpu())
        assert torch.equal(here.weight, there.weight.cpu())
        np.testing.assert_allclose(there.images.cpu().numpy(), here.images.numpy(), atol=1e-3)
