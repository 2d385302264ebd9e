"""What a training step costs, what the trainer and the loader add to it, and what was tried to make it cheaper.

All contestants take turns in one run, with the settings of a preset:

* plain loop, batch there: loss, backward, optimizer, schedule, scores, on one batch that is already on the device;
* the same with a space-to-depth first convolution, with torch.compile, and on a GPU as a CUDA graph;
* Trainer, batch there: the same step under Lightning; and with 8 optimizer steps in one call;
* Trainer, bank: real batches of the bank, augmented. Its share of "Trainer, batch there" is what the loader costs;
* Trainer, bank, planned steps: from indices of cells to new weights, on a GPU as one CUDA graph a step.

    python benchmarks/step.py [--preset demo] [--steps 40] [--rounds 5]
"""

import argparse
import copy
import tempfile
import time
from pathlib import Path

from fastcell.system import library_settings, resources

library_settings.limit_spinning()  # before torch is there, as the command line does

import pytorch_lightning as pl
import torch
import yaml
from harness import Done, Result, cpu_seconds, print_rows, time_turns
from torch import nn
from torch.nn import functional

from fastcell.loading.batch import Batch
from fastcell.loading.bank_loader import BankLoader, PlannedLoader
from fastcell.loading.loader import GroupedLoader
from fastcell.loading.datamodule import CellDataModule
from fastcell.models.lightning_module import CellModule
from fastcell.models.networks.same_padding import same_padding, same_size
from fastcell.models.networks.space_to_depth import convolve_in_depth
from fastcell.simulator.synth import synthesize
from fastcell.ops.augmentation import Augmentation
from fastcell.training.recipe import preset_path

REFERENCE = "plain loop, batch there"
GROUP = 8
PLANNED = f"Trainer, bank, {GROUP} planned steps a call"


class InDepth(nn.Module):
    """The first convolution as a GPU computes it, on any device: the same values."""

    def __init__(self, convolution):
        super().__init__()
        self.convolution = convolution

    def forward(self, images):
        layer, side = self.convolution, images.shape[-1]
        stride, out = layer.stride[0], same_size(side, layer.stride[0])
        before, _ = same_padding(side, layer.weight.shape[-1], stride)
        return convolve_in_depth(images, layer.weight, layer.bias, stride, (before, before), (out, out))


class Plain(nn.Module):
    """The first convolution on its one channel, on any device."""

    def __init__(self, convolution):
        super().__init__()
        self.convolution = convolution

    def forward(self, images):
        layer = self.convolution
        before, after = same_padding(images.shape[-1], layer.weight.shape[-1], layer.stride[0])
        padded = functional.pad(images, (before, after, before, after))
        return functional.conv2d(padded, layer.weight, layer.bias, layer.stride)


class Fixed:
    """A loader whose batch is already there."""

    def __init__(self, batch, steps):
        self.batch, self.steps, self.batch_size = batch, steps, len(batch.images)

    def __len__(self):
        return self.steps

    def __iter__(self):
        return iter([self.batch] * self.steps)

    def global_weight(self, step):
        """Cells that count in a batch."""
        return len(self.batch.images)


def main():
    """Run the benchmark, print its table and write its result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="demo", help="packaged settings (%(default)s)")
    parser.add_argument("--steps", type=int, default=40, help="optimizer steps in a round (%(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="timed rounds (%(default)s)")
    parser.add_argument("--cells", type=int, default=8000, help="synthetic cells (%(default)s)")
    options = parser.parse_args()
    library_settings.quiet()
    library_settings.raise_malloc_thresholds()
    torch.set_num_threads(resources.num_cpus())
    device = torch.device("cuda" if resources.has_gpu() else "cpu")
    settings = yaml.safe_load(preset_path(options.preset).read_text())
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "cells"
        synthesize(data, options.cells)
        look, module = (make_module(data, settings["data"]) for _ in range(2))
        look.setup("fit")
        batch = next(iter(look.train_dataloader()))
        batch = Batch(*(column.to(device) for column in batch))
        module.setup("fit")
        contestants = make_contestants(module, batch, settings["model"], device, options.steps)
        rows = time_turns(contestants, options.rounds).rows(REFERENCE)
    print_rows(rows, REFERENCE)
    shown = {"preset": options.preset, "batch": len(batch.images), "size": batch.images.shape[-1]}
    shown |= {"steps": options.steps, "threads": torch.get_num_threads()}
    print(f"wrote {Result('step', 'synthetic cells', shown, rows).save()}")


def make_module(data, settings, store="bank", **more):
    """The data as the preset presents them, in the bank."""
    changes = Augmentation(**settings.get("augmentation", {}))
    plain = {name: value for name, value in settings.items() if name != "augmentation"}
    return CellDataModule(str(data), **{**plain, **more}, augmentation=changes, store=store)


def make_model(module, settings, **more):
    """The preset's model, the same start values every time."""
    torch.manual_seed(0)
    preprocessing = module.preprocessing.to_dict()
    return CellModule(**settings, classes=module.classes, preprocessing=preprocessing, **more)


def make_contestants(module, batch, settings, device, steps):
    """Name to (description, a round)."""
    deep = make_model(module, settings)
    plain = copy.deepcopy(deep)
    for model, way in ((deep, InDepth), (plain, Plain)):
        network = model.bare_network
        network.features[0] = way(network.features[0])
    with torch.no_grad():
        difference = (plain.eval()(batch.images.cpu()) - deep.eval()(batch.images.cpu())).abs().max()
    print(f"space-to-depth against the plain convolution: logits differ by at most {difference:.1e}")
    if difference > 1e-4:
        raise SystemExit("outputs differ: nothing timed")
    cells = steps * len(batch.images)

    def loop(model):
        return Loop(model.to(device).train(), batch, steps)

    compiled = make_model(module, settings, compile_network=True)
    contestants = {
        REFERENCE: ("loss, backward, optimizer, schedule, scores", loop(plain)),
        "plain loop, space-to-depth": ("first convolution on 4 channels of half the side", loop(deep)),
        "plain loop, torch.compile": ("network by inductor", loop(compiled)),
    }
    if device.type == "cuda":
        contestants["plain loop, CUDA graph"] = (
            "the step captured",
            Graphed(make_model(module, settings), batch, steps),
        )
    for name, what, group, fixed in (
        ("Trainer, batch there", "the step under Lightning", 1, True),
        (f"Trainer, batch there, {GROUP} steps a call", f"steps_per_call {GROUP}", GROUP, True),
        ("Trainer, bank", "batches of the bank, augmented", 1, False),
        (f"Trainer, bank, {GROUP} steps a call", f"the same, steps_per_call {GROUP}", GROUP, False),
        (PLANNED, "steps from indices; on a GPU replays of a CUDA graph", GROUP, False),
    ):
        model = make_model(module, settings, steps_per_call=group)
        loader = Fixed(batch, steps) if fixed else None
        contestants[name] = (what, Trained(model, module, loader, group, cells, planned=name == PLANNED))
    return contestants


class Loop:
    """The step without a trainer."""

    def __init__(self, model, batch, steps):
        self.model, self.batch, self.steps = model, batch, steps
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimizer, lambda _: 1.0)

    def __call__(self):
        for _ in range(self.steps):
            self.optimizer.zero_grad()
            self.model._loss(self.batch).backward()
            self.optimizer.step()
            self.schedule.step()
        synchronize(self.batch.images.device)
        return self.steps * len(self.batch.images)


class Graphed:
    """The step as one CUDA graph, replayed on a batch that lies where it lay at the capture."""

    def __init__(self, model, batch, steps):
        self.steps, self.batch = steps, batch
        model = model.to("cuda").train()
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, capturable=True)

        def step():
            optimizer.zero_grad(set_to_none=False)
            model._loss(batch).backward()
            optimizer.step()

        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                step()
        torch.cuda.current_stream().wait_stream(stream)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph, capture_error_mode="thread_local"):
            step()

    def __call__(self):
        for _ in range(self.steps):
            self.graph.replay()
        torch.cuda.synchronize()
        return self.steps * len(self.batch.images)


def make_trainer(steps=-1, **more):
    """A trainer on one device that only trains, unless `more` says otherwise."""
    quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    fast = {"benchmark": True if resources.has_gpu() else None, "num_sanity_val_steps": 0, "limit_val_batches": 0}
    return pl.Trainer(**{"accelerator": "auto", "devices": 1, "max_steps": steps, **quiet, **fast, **more})


class Trained:
    """Steps under Lightning's Trainer, from the first call's start to the last one's end: not the fit around them.

    Args:
        model: trained on from round to round.
        module: whose loader, batch size and device are taken.
        fixed: another loader; None for the module's own.
        group: optimizer steps in a call.
        cells: in a round.
        precision: of the trainer.
        untimed: calls before the clock starts. With 0 the first batch is loaded before it; with 1 as many batches are
            loaded in the time as are trained on.
        planned: steps from indices of the bank, on a GPU replays of a CUDA graph (its capture is in the first call).
    """

    def __init__(self, model, module, fixed, group, cells, precision="32-true", untimed=0, planned=False):
        self.model, self.module, self.fixed, self.group, self.cells = model, module, fixed, group, cells
        self.precision, self.untimed, self.planned = precision, untimed, planned

    def __call__(self):
        clock = Clock(self.untimed)
        steps = self.cells // self.module.batch_size + self.untimed * self.group
        trainer = make_trainer(steps, precision=self.precision, callbacks=[clock])
        self.module.trainer = trainer  # tells it the device
        loader = self.fixed or self.module.train_dataloader()
        grouped = loader if self.group == 1 else GroupedLoader(loader, self.group)
        if self.planned:
            assert isinstance(loader, BankLoader)
            loader.pads = True
            grouped = PlannedLoader(loader, self.group)
        trainer.fit(self.model, grouped)
        return Done(self.cells, clock.seconds, clock.cpu_seconds)


class Clock(pl.Callback):
    """Wall and CPU time of the calls of one fit.

    Args:
        untimed: calls before it starts.
    """

    def __init__(self, untimed=0):
        self.untimed, self.calls = untimed, 0

    def _begin(self, device):
        synchronize(device)
        self.start, self.before = time.perf_counter(), cpu_seconds()

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if self.calls == self.untimed == 0:
            self._begin(pl_module.device)

    def on_train_batch_end(self, trainer, pl_module, *_):
        self.calls += 1
        if self.calls == self.untimed:
            self._begin(pl_module.device)
        if trainer.global_step >= trainer.max_steps:
            synchronize(pl_module.device)
            self.seconds, self.cpu_seconds = time.perf_counter() - self.start, cpu_seconds() - self.before


def synchronize(device):
    """Wait for a GPU."""
    if device.type == "cuda":
        torch.cuda.synchronize()


if __name__ == "__main__":
    main()
