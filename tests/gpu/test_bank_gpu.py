"""The bank on a GPU: the CPU's batches wherever the pool lies, and a training step without host round trips."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch

from fastcell import environment
from fastcell.data.bank import CellBank, fill_order
from fastcell.data.bank_order import BankOrder
from fastcell.data.loader import BankLoader, CellLoader, LoaderConfig
from fastcell.data.manifest import Manifest
from fastcell.data.module import CellDataModule
from fastcell.data.preprocessing import Preprocessing
from fastcell.data.ranks import training_share
from fastcell.data.rolling import RollingReader
from fastcell.data.synthetic import main as synth
from fastcell.data.views import View, ViewConfig, select
from fastcell.models.classifier import READ_EVERY, CellClassifier
from fastcell.ops.augmentation import Augmentation

pytestmark = pytest.mark.gpu
GPU, STRONG = "cuda:0", Augmentation(rotation_deg=180, noise_probability=0.7)


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    folder = tmp_path_factory.mktemp("gpu") / "cells"
    assert synth([str(folder), "--cells", "6000", "--seed", "3"]) == 0
    return Manifest.open(folder)


def bank_loader(manifest: Manifest, device: str, memory: str, decode_on_gpu: bool = False) -> BankLoader:
    view = select(manifest, ViewConfig("train"))
    rows = fill_order(view, 0)
    bank = CellBank(
        View(manifest, rows),
        np.array([0, len(rows)]),
        memory=memory,
        device=torch.device(device),
        decode_on_gpu=decode_on_gpu,
    )
    config = LoaderConfig(device=torch.device(device))
    return BankLoader(bank, view, BankOrder(len(rows), 128), Preprocessing(64), config, augmentation=STRONG)


@pytest.mark.parametrize("memory", ["gpu", "pinned"])
@pytest.mark.parametrize("decode_on_gpu", [False, True])
def test_batches_are_those_of_the_cpu(cells: Manifest, memory: str, decode_on_gpu: bool) -> None:
    """nvJPEG rounds a grey level or two differently, hence its wider bound."""
    here, there = bank_loader(cells, "cpu", "host"), bank_loader(cells, GPU, memory, decode_on_gpu)
    for epoch in (0, 1):
        here.set_epoch(epoch)
        there.set_epoch(epoch)
        for one, two in zip(here, there, strict=True):
            assert {tensor.device.type for tensor in two} == {"cuda"}
            for column in (1, 2, 3):
                assert torch.equal(one[column], two[column].cpu())
            bound = 0.05 if decode_on_gpu else 1e-5 * float(one.images.abs().max())
            assert (one.images - two.images.cpu()).abs().max() <= bound


@pytest.mark.parametrize("rolling", [False, True])
def test_fused_stream_and_rolling_window_give_the_batches_of_the_cpu(cells: Manifest, rolling: bool) -> None:
    view = select(cells, ViewConfig("train"))
    share, loaders = training_share(len(view), 64), []
    for name in ("cpu", GPU):
        device = torch.device(name)
        memory = "gpu" if device.type == "cuda" else "host"
        options: dict[str, Any] = {"window_bytes": 10_000_000, "memory": memory, "device": device}
        reader = RollingReader(view, share, **options) if rolling else None
        config = LoaderConfig(device=device, transform="fused")
        loaders.append(
            CellLoader(view, share, Preprocessing(64), config, shuffle=True, augmentation=STRONG, reader=reader)
        )
    for one, two in zip(*loaders, strict=True):
        assert torch.equal(one.cell_ids, two.cell_ids.cpu())
        assert (one.images - two.images.cpu()).abs().max() <= 0.05


def test_training_waits_for_the_device_only_to_read_scores(cells: Manifest, tmp_path: Path) -> None:
    """Between two readings no copy comes back from the device, nothing synchronises, and almost nothing goes there."""
    environment.quiet()
    module = CellDataModule(str(cells.path), batch_size=64, image_size=64, store="bank")
    model = CellClassifier(classes=module.classes, preprocessing=module.preprocessing.to_dict())
    first, steps = READ_EVERY + 2, READ_EVERY - 4
    profiler = torch.profiler.profile(activities=list(torch.profiler.ProfilerActivity.__members__.values())[:2])

    class Profile(pl.Callback):
        def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
            if trainer.global_step == first:
                torch.cuda.synchronize()
                profiler.start()

        def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
            if trainer.global_step == first + steps:
                profiler.stop()

    trainer = pl.Trainer(
        accelerator="gpu",
        devices=1,
        max_steps=2 * READ_EVERY,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        limit_val_batches=0,
        callbacks=[Profile()],
    )
    trainer.fit(model, datamodule=module)
    names: Counter[str] = Counter(event.name for event in profiler.events())
    back = sum(count for name, count in names.items() if "Memcpy DtoH" in name)
    there = sum(count for name, count in names.items() if "Memcpy HtoD" in name)
    waits = sum(count for name, count in names.items() if name in ("cudaStreamSynchronize", "cudaEventSynchronize"))
    assert (back, waits) == (0, 0)
    assert there <= 8  # indices of the next epoch's steps, together
    assert names["cudaDeviceSynchronize"] <= 1  # the profiler's own, at its end


def test_fills_on_a_stream_of_its_own(cells: Manifest) -> None:
    """The first batch is right though its cells have just been put on the way."""
    loader = bank_loader(cells, GPU, "gpu")
    one = next(iter(loader))
    loader.bank.fill()
    two = next(iter(loader))
    assert torch.equal(one.images, two.images)
