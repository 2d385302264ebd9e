"""Replayed training steps on a GPU: captured, equal to steps on batches, and no wait of the host between readings."""

from collections import Counter

import pytest
import pytorch_lightning as pl
import torch
from fixtures.recorded_training import trainer as quiet_trainer

from fastcell.loading.bank_loader import PlannedLoader
from fastcell.loading.datamodule import CellDataModule
from fastcell.models.lightning_module import READ_EVERY, CellModule
from fastcell.simulator.synth import synthesize
from fastcell.system import library_settings

pytestmark = pytest.mark.gpu
GROUP = 8


@pytest.fixture(scope="module")
def cells(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gpu") / "cells"
    return synthesize(folder, 6000, 3)


class Watch(pl.Callback):
    """Profiles the calls between two readings of the scores, and notes whether steps are replays."""

    def __init__(self, first, last):
        self.first, self.last, self.captured = first, last, False
        activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
        self.profiler = torch.profiler.profile(activities=activities)

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.global_step == self.first:
            torch.cuda.synchronize()
            self.profiler.start()

    def on_train_batch_end(self, trainer, pl_module, *_):
        self.captured |= pl_module._planned.is_captured
        if trainer.global_step == self.last:
            self.profiler.stop()


def fit(cells, precision, watch, **settings):
    library_settings.quiet()
    pl.seed_everything(1, verbose=False)
    module = CellDataModule(str(cells.path), batch_size=64, image_size=64, store="bank", steps_per_call=GROUP,
                            balance="none")  # fmt: skip
    described = {"classes": module.classes, "preprocessing": module.preprocessing.to_dict()}
    model = CellModule(steps_per_call=GROUP, learning_rate=1e-4, ema_decay=0.9, **described, **settings)
    trainer = quiet_trainer(
        accelerator="gpu",
        devices=1,
        precision=precision,
        max_epochs=None,
        max_steps=15 * GROUP,
        limit_val_batches=0,
        callbacks=[watch],
    )
    trainer.fit(model, datamodule=module)
    return model, trainer


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_replayed_steps_end_where_steps_on_batches_end(cells, precision):
    ends = {}
    for graph in (True, False):
        watch = Watch(-1, -1)
        model, trainer = fit(cells, precision, watch, cuda_graph=graph)
        assert isinstance(trainer.train_dataloader, PlannedLoader) is graph
        assert watch.captured is graph
        assert trainer.global_step == 15 * GROUP
        ends[graph] = {name: value.cpu().double() for name, value in model.state_dict().items()}
    for name, value in ends[False].items():
        if value.ndim > 1 and "average" not in name:
            apart = float((ends[True][name] - value).norm() / value.norm())
            assert apart < (2e-2 if precision == "bf16-mixed" else 2e-3), name
    counts = [int(end["average.n_averaged"]) for end in ends.values()]
    assert counts == [15 * GROUP] * 2


def test_the_host_launches_graphs_and_waits_for_nothing_between_readings(cells):
    in_epoch = -(-int((cells.split() == "train").sum()) // 64)
    first, last = in_epoch + GROUP, in_epoch + 4 * GROUP  # in the second epoch, whose calls begin anew
    assert READ_EVERY < in_epoch < 2 * READ_EVERY - 4 * GROUP + READ_EVERY // GROUP  # scores are read before and behind
    watch = Watch(first, last)
    fit(cells, "bf16-mixed", watch)
    names = Counter(event.name for event in watch.profiler.events())
    assert watch.captured
    assert names["cudaGraphLaunch"] == last - first
    assert names["cudaLaunchKernel"] < 10 * (last - first)
    assert sum(count for name, count in names.items() if "Memcpy DtoH" in name) == 0
    assert names["cudaStreamSynchronize"] + names["cudaEventSynchronize"] == 0
    assert names["cudaDeviceSynchronize"] <= 2  # the profiler's own
