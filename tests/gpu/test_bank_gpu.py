"""The bank on a GPU: the CPU's batches wherever the pool lies, and a training step without host round trips."""

from collections import Counter

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from fixtures.recorded_training import trainer as quiet_trainer

from fastcell.dataset.views import View, ViewConfig, select
from fastcell.loading.bank_loader import BankLoader
from fastcell.loading.datamodule import CellDataModule
from fastcell.loading.loader import CellLoader
from fastcell.loading.order import BankOrder, fill_order
from fastcell.loading.preprocessing import Preprocessing
from fastcell.loading.ranks import training_share
from fastcell.loading.settings import LoaderSettings
from fastcell.loading.stores.bank import CellBank
from fastcell.models.lightning_module import READ_EVERY, CellModule
from fastcell.ops.augmentation import Augmentation
from fastcell.simulator.synth import synthesize
from fastcell.system import library_settings

pytestmark = pytest.mark.gpu
GPU, STRONG = "cuda:0", Augmentation(rotation_deg=180, noise_probability=0.7)


@pytest.fixture(scope="module")
def cells(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gpu") / "cells"
    return synthesize(folder, 6000, 3)


def bank_loader(manifest, device, memory, decode_on_gpu=False):
    view = select(manifest, ViewConfig("train"))
    rows = fill_order(view, 0)
    bank = CellBank(
        View(manifest, rows),
        np.array([0, len(rows)]),
        memory=memory,
        device=torch.device(device),
        decode_on_gpu=decode_on_gpu,
    )
    config = LoaderSettings(device=torch.device(device))
    return BankLoader(bank, view, BankOrder(len(rows), 128), Preprocessing(64), config, augmentation=STRONG)


@pytest.mark.parametrize("memory", ["gpu", "pinned"])
@pytest.mark.parametrize("decode_on_gpu", [False, True])
def test_batches_are_those_of_the_cpu(cells, memory, decode_on_gpu):
    """nvJPEG rounds a grey level or two differently; the images are compared where the pixels are the same."""
    if decode_on_gpu:
        pytest.importorskip("nvidia.dali")
    here, there = bank_loader(cells, "cpu", "host"), bank_loader(cells, GPU, memory, decode_on_gpu)
    here.bank.fill()
    there.bank.fill()
    torch.cuda.synchronize()
    pixels = there.bank.pool.pixels.cpu().short() - here.bank.pool.pixels.short()
    assert pixels.abs().max() <= (3 if decode_on_gpu else 0)
    if decode_on_gpu:
        here.bank.pool.pixels.copy_(there.bank.pool.pixels)
    for epoch in (0, 1):
        here.set_epoch(epoch)
        there.set_epoch(epoch)
        for one, two in zip(here, there, strict=True):
            assert {tensor.device.type for tensor in two} == {"cuda"}
            for column in (1, 2, 3):
                assert torch.equal(one[column], two[column].cpu())
            assert (one.images - two.images.cpu()).abs().max() <= 1e-5 * float(one.images.abs().max())


@pytest.mark.parametrize("layout", ["cell", "block"])
def test_fused_stream_gives_the_batches_of_the_cpu(cells, layout, tmp_path):
    """Cells that threads decode are copied; those of blocks are read where the file was read to."""
    if layout == "block":
        cells = synthesize(tmp_path / "blocks", 1000, 3, layout="block")
    view = select(cells, ViewConfig("train"))
    share, loaders = training_share(len(view), 64), []
    for name in ("cpu", GPU):
        config = LoaderSettings(device=torch.device(name), transform="fused")
        loaders.append(CellLoader(view, share, Preprocessing(64), config, shuffle=True, augmentation=STRONG))
    for one, two in zip(*loaders, strict=True):
        assert torch.equal(one.cell_ids, two.cell_ids.cpu())
        assert (one.images - two.images.cpu()).abs().mean() <= 0.02  # nvJPEG rounds a grey level or two differently


def test_training_waits_for_the_device_only_to_read_scores(cells):
    """Inside an epoch, between two readings, no copy comes back, nothing waits, and next to nothing is sent."""
    library_settings.quiet()
    module = CellDataModule(str(cells.path), batch_size=64, image_size=64, store="bank")
    model = CellModule(classes=module.classes, preprocessing=module.preprocessing.to_dict())
    activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    profiler = torch.profiler.profile(activities=activities)
    module.setup("fit")
    view = module.view("train")
    assert view is not None
    in_epoch = -(-len(view) // 64)
    first = in_epoch + 4  # the second epoch: the bank is full
    last = 2 * READ_EVERY - 2
    assert in_epoch + 10 < last < 2 * in_epoch

    class Profile(pl.Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            if trainer.global_step == first:
                torch.cuda.synchronize()
                profiler.start()

        def on_train_batch_end(self, trainer, *_):
            if trainer.global_step == last:
                profiler.stop()

    trainer = quiet_trainer(
        accelerator="gpu",
        devices=1,
        max_epochs=None,
        max_steps=2 * READ_EVERY,
        limit_val_batches=0,
        callbacks=[Profile()],
    )
    trainer.fit(model, datamodule=module)
    names = Counter(event.name for event in profiler.events())
    assert names["cudaLaunchKernel"] > 10 * (last - first)  # the profiler saw the device
    assert sum(count for name, count in names.items() if "Memcpy DtoH" in name) == 0
    assert sum(count for name, count in names.items() if "Memcpy HtoD" in name) <= 2
    assert names["cudaStreamSynchronize"] + names["cudaEventSynchronize"] == 0
    assert names["cudaDeviceSynchronize"] <= 2  # the profiler's own


def test_16_bit_cells_and_the_way_of_dali(cells):
    """A pinned pool that DALI's operators read on the host, and uint16 in GPU memory."""
    view = select(cells, ViewConfig("train"))
    rows = fill_order(view, 0)
    for memory, transform, depth in (("pinned", "dali", 8), ("gpu", "dali", 8), ("gpu", "fused", 16)):
        loaders = []
        for name, place in (("cpu", "host"), (GPU, memory)):
            options = {"memory": place, "device": torch.device(name), "depth": depth}
            bank = CellBank(View(cells, rows), np.array([0, len(rows)]), decode_on_gpu=depth == 8, **options)
            config = LoaderSettings(device=torch.device(name), transform=transform)
            loaders.append(BankLoader(bank, view, BankOrder(len(rows), 64), Preprocessing(64, depth=depth), config))
        for one, two in zip(*loaders, strict=True):
            assert (one.images - two.images.cpu()).abs().mean() <= 0.02


def test_fills_on_a_stream_of_its_own(cells):
    """The first batch is right though its cells have just been put on the way."""
    loader = bank_loader(cells, GPU, "gpu")
    one = next(iter(loader))
    loader.bank.fill()
    two = next(iter(loader))
    assert torch.equal(one.images, two.images)
