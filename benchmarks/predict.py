"""How many cells a second are classified, from tars, blocks and memory to a file of predictions; and how long is one?

`--part rates`: what `fastcell predict` does behind its imports, whole: open the data set, load, classify, save, write
the table. Contestants take turns: one cell in each record, blocks of raw cells, and a bank that is filled already;
beside them the two limits of each, its loader alone and the network alone, on a batch that is there. The row says which
binds.

`--part latency`: one uint8 cell in, one class out (`latency.py`).

    python benchmarks/predict.py [--part rates|latency] [--cells 8000] [--rounds 5] [--network cellnet] [--size 128]
"""

from __future__ import annotations

import argparse
import contextlib
import io
import itertools
import tempfile
from dataclasses import replace
from pathlib import Path

from fastcell.system import library_settings, resources

library_settings.limit_spinning()  # before torch is there, as the command line does

import numpy as np
import pytorch_lightning as pl
import torch
from harness import Contestant, Result, print_rows, time_turns
from linked_rows import SHARD_CELLS, make_rows

from fastcell.loading.bank_loader import BankLoader
from fastcell.loading.datamodule import CellDataModule
from fastcell.loading.order import StoredOrder
from fastcell.loading.preprocessing import Preprocessing
from fastcell.loading.ranks import evaluation_share
from fastcell.loading.stores.bank import CellBank
from fastcell.models.lightning_module import CellModule
from fastcell.runs.checkpoint import load_classifier
from fastcell.simulator.synth import synthesize
from fastcell.training.evaluate import predict
from fastcell.training.progress_bar import Throughput

NETWORK = "network alone"
WAYS = {
    "cell layout": "a JPEG in each record, decoded",
    "block layout": "blocks of 256 raw cells",
    "bank": "decoded cells in memory",
}


def main():
    """Run a part, print its table and write its result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=("rates", "latency"), default="rates", help="(%(default)s)")
    parser.add_argument("--cells", type=int, help="synthetic cells (8,000; 200,000 on a GPU)")
    parser.add_argument("--rows", type=int, help="rows that share the stored cells (no more than there are)")
    parser.add_argument("--rounds", type=int, default=5, help="timed rounds of the rates (%(default)s)")
    parser.add_argument("--network", default="cellnet", help="(%(default)s)")
    parser.add_argument("--size", type=int, default=128, help="side of the images (%(default)s)")
    parser.add_argument("--batch", type=int, help="cells in a batch (256; 4,096 on a GPU)")
    parser.add_argument("--calls", type=int, default=5_000, help="of each way of the latency (%(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="of each way of the latency (%(default)s)")
    options = parser.parse_args()
    library_settings.quiet()
    library_settings.raise_malloc_thresholds()
    on_gpu = resources.has_gpu()
    if options.part == "latency":
        import latency

        latency.run(make_model(options.network, options.size), options.calls, options.threads)
        return
    torch.set_num_threads(resources.num_cpus())
    cells = options.cells or (200_000 if on_gpu else 8_000)
    batch = options.batch or (4_096 if on_gpu else 256)
    with tempfile.TemporaryDirectory() as folder:
        rows = run_rates(Path(folder), cells, options.rows, options.network, options.size, batch, options.rounds)
    print_rows(rows, "cell layout")
    settings = {"network": options.network, "size": options.size, "batch": batch, "cells": cells}
    settings["rows"] = options.rows or cells
    settings["precision"] = precision()
    print(f"wrote {Result('predict', 'synthetic cells', settings, rows).save()}")


def precision():
    """As `fastcell predict` chooses it."""
    return "32-true" if not resources.has_gpu() else "bf16-mixed" if torch.cuda.is_bf16_supported() else "16-mixed"


def make_model(network, size):
    """A classifier of the simulator's classes with random weights: they cost what trained ones cost."""
    torch.manual_seed(0)
    classes = ["MB231", "MCF7", "PBMC", "THP1"]
    preprocessing = Preprocessing(image_size=size).to_dict()
    return CellModule(network, classes=classes, preprocessing=preprocessing).eval()


def run_rates(folder, cells, num_rows, network, size, batch, rounds):
    """Make data and checkpoint, time everything in turns, name what binds."""
    checkpoint = folder / "model.ckpt"
    trainer = make_trainer()
    trainer.strategy.connect(make_model(network, size))
    trainer.save_checkpoint(checkpoint)
    sets = {}
    for way, layout in (("cell layout", "cell"), ("block layout", "block")):
        shard_cells = min(cells, SHARD_CELLS) if num_rows else None
        sets[way] = synthesize(folder / layout, cells, 0, layout=layout, shard_cells=shard_cells)
        if num_rows:
            sets[way] = make_rows(sets[way], folder / f"{layout}-rows", num_rows, min(cells, SHARD_CELLS))
    sets["bank"] = sets["block layout"]
    kept = Kept()
    common = {"size": size, "batch": batch, "device": "cuda:0" if resources.has_gpu() else "cpu"}
    common["threads"] = resources.num_cpus()
    contestants = {}
    for way, what in WAYS.items():
        module = lambda way=way: make_module(sets[way], checkpoint, batch, kept if way == "bank" else None)  # noqa: E731
        work = Command(module, checkpoint, folder / "predictions.parquet")
        contestants[way] = Contestant(f"{what}; to Parquet", work, data=what, **common)
        contestants[f"{way}, loader alone"] = Contestant("batches, no network", Loading(module), data=what, **common)
    looping = Looping(make_module(sets["block layout"], checkpoint, batch, kept), checkpoint, num_rows or cells)
    contestants[NETWORK] = Contestant("one batch again and again", looping, **common)
    turns = time_turns(contestants, rounds)
    return name_limits(turns)


def name_limits(turns):
    """Rows of all contestants; those of whole ways say which of their limits is the lower one."""
    rows = {row.contestant: row for row in turns.rows("cell layout")}
    for way in WAYS:
        loader, network = rows[f"{way}, loader alone"], rows[NETWORK]
        name, least = ("the network", network) if network.cells_per_s <= loader.cells_per_s else ("the loader", loader)
        rest = rows[way].cpu_us_per_cell - loader.cpu_us_per_cell - network.cpu_us_per_cell
        text = f"{rows[way].what}; {name} is the limit ({least.cells_per_s:,.0f} alone), the rest takes {rest:.0f} µs"
        rows[way] = replace(rows[way], what=text)
    return list(rows.values())


class Kept:
    """The bank, filled once for all rounds."""

    bank: CellBank | None = None


class InMemory(CellDataModule):
    """Prediction from a bank: what several models on the same cells, or flips, would do."""

    def __init__(self, path, kept, **options):
        super().__init__(path, **options)
        self.kept = kept

    def predict_dataloader(self):
        view, config = self.view("predict"), self._config()
        assert view is not None
        if self.kept.bank is None:
            on_gpu = config.device.type == "cuda"
            self.kept.bank = CellBank(
                view,
                np.array([0, len(view)]),
                memory="gpu" if on_gpu else "host",
                device=config.device,
                decode_on_gpu=on_gpu,
                threads=config.threads,
            )
            self.kept.bank.fill()
        order = StoredOrder(evaluation_share(len(view), self.eval_batch_size))
        return BankLoader(self.kept.bank, view, order, self.preprocessing, config, labels=self._labels())


def make_module(manifest, checkpoint, batch, kept):
    """The data as the command presents them; from memory with `kept`."""
    path, model = str(manifest.path), load_classifier(checkpoint)
    options = {"eval_batch_size": batch}
    module = CellDataModule(path, **options) if kept is None else InMemory(path, kept, **options)
    module.use_preprocessing(Preprocessing.from_dict(model.preprocessing), model.classes)
    return module


def make_trainer(*callbacks):
    """As the command makes it."""
    return pl.Trainer(
        accelerator="gpu" if resources.has_gpu() else "cpu",
        devices=1,
        precision=precision(),
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        callbacks=list(callbacks),
    )


class Command:
    """One run of the command behind its imports."""

    def __init__(self, module, checkpoint, out):
        self.module, self.checkpoint, self.out = module, checkpoint, out

    def __call__(self):
        throughput = Throughput()
        trainer = make_trainer(throughput)
        data, model = self.module(), load_classifier(self.checkpoint)
        with contextlib.redirect_stdout(io.StringIO()):
            predict(trainer, model, data, throughput, self.out, self.checkpoint)
        self.out.unlink()
        return len(data.manifest)


class Loading:
    """The batches of a run, which nobody looks at."""

    def __init__(self, module):
        self.module = module

    def __call__(self):
        data = self.module()
        data.trainer = make_trainer()  # tells it the device
        data.setup("predict")
        for batch in data.predict_dataloader():
            last = batch
        synchronize(last.images.device)
        return len(data.manifest)


class Looping:
    """The network on one batch, as often as the cells take."""

    def __init__(self, data, checkpoint, cells):
        data.trainer = trainer = make_trainer()
        data.setup("predict")
        self.batch = next(iter(data.predict_dataloader()))
        self.model = load_classifier(checkpoint).to(self.batch.images.device)
        self.context, self.steps = trainer.precision_plugin, -(-cells // len(self.batch.images))

    def __call__(self):
        for _ in itertools.repeat(None, self.steps):
            with torch.inference_mode(), self.context.forward_context():
                last = self.model.predict_probabilities(self.batch.images)
        synchronize(last.device)
        return self.steps * len(self.batch.images)


def synchronize(device):
    """Wait for a GPU."""
    if device.type == "cuda":
        torch.cuda.synchronize()


if __name__ == "__main__":
    main()
