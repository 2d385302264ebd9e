"""What does it cost that nothing is lost? CPU time per cell with every check and point, over CPU time without.

Twenty pairs in turns, each of the same work on the same cells, on one core; the ratio of CPU times within each pair:

- `training`: the first epoch of `fastcell fit`'s trainer over the stream. With: all stored bytes hashed, and points to
  go on from as often as by default, which is looked at in every step. Without: neither.
- `reading`: an epoch of the stream alone, stored bytes to float images. With: all hashed, as in the first epoch of a
  process. Without: as in every later one.

    python benchmarks/price.py [--cells 4000] [--pairs 20]
"""

import argparse
import os
import shutil
import tempfile
from pathlib import Path

import cv2
import numpy as np
import pytorch_lightning as pl
import torch
from harness import Result, median_interval, print_rows, time_turns

from fastcell.cli.synth import main as synth
from fastcell.loading.datamodule import CellDataModule
from fastcell.loading.loader import CellLoader
from fastcell.models.lightning_module import CellModule
from fastcell.runs.checkpoint import AtomicCheckpointIO
from fastcell.system import library_settings
from fastcell.training.resume import ResumePoints

EVERY_MINUTES = 5.0
READINGS = 5  # epochs of reading in one turn: one alone is a fifth of a second


def main():
    """Run the benchmark, print its table and write its result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=4_000, help="synthetic cells (%(default)s)")
    parser.add_argument("--pairs", type=int, default=20, help="(%(default)s)")
    options = parser.parse_args()
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    library_settings.quiet()
    library_settings.raise_malloc_thresholds()
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "cells"
        synth([str(data), "--cells", str(options.cells), "--seed", "0", "--split", "100/0/0"])
        contestants = {
            "reading, checked": ("stream + fused, every cell hashed", lambda: read(loader, hashed=True)),
            "reading": ("stream + fused, hashed before", lambda: read(loader, hashed=False)),
            "training, checked": (
                "cellnet at 32 px, every cell hashed, points every 5 minutes",
                lambda: train(data, Path(folder) / "points", checked=True),
            ),
            "training": ("cellnet at 32 px, neither", lambda: train(data, Path(folder) / "points", checked=False)),
        }
        module = CellDataModule(str(data), store="stream", transform="fused", threads=1, augment=False, balance="none")
        module.setup("fit")
        loader = module.train_dataloader()
        assert isinstance(loader, CellLoader)
        turns = time_turns(contestants, options.pairs)
    settings = {"cells": options.cells, "pairs": options.pairs, "cores": 1}
    rows = []
    for name in ("reading", "training"):
        checked, plain = (turns.cpu_us[:, turns.names.index(each)] for each in (f"{name}, checked", name))
        added = checked / plain - 1
        low, high = median_interval(added)
        settings[f"CPU time added to {name}, median (95 %)"] = f"{np.median(added):+.1%} ({low:+.1%}..{high:+.1%})"
        rows += turns.rows(name, [f"{name}, checked", name])
    print_rows(rows, "without")
    for name, value in settings.items():
        print(f"{name}: {value}")
    print("wrote", Result("price", "synthetic cells", settings, rows).save())


def read(loader, hashed):
    """Some epochs of the stream; hashed as in the first, or not, as in all later ones."""
    cells = 0
    for epoch in range(READINGS):
        loader.set_epoch(epoch)
        loader.reader.stored.checked[:] = not hashed
        cells += sum(len(batch.images) for batch in loader)
    return cells


def train(data, points, checked):
    """One epoch of training; without checks the hashes count as taken."""
    pl.seed_everything(0)
    shutil.rmtree(points, ignore_errors=True)
    points.mkdir()
    module = CellDataModule(str(data), batch_size=64, image_size=32, store="stream", threads=1, balance="none")
    model = CellModule(classes=module.classes, preprocessing=module.preprocessing.to_dict())
    trainer = pl.Trainer(
        max_epochs=1,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        plugins=[AtomicCheckpointIO()],
        callbacks=[ResumePoints(points, None, EVERY_MINUTES)] if checked else [],
    )
    module.setup("fit")
    loader = module.train_dataloader()
    assert isinstance(loader, CellLoader)
    loader.reader.stored.checked[:] = not checked
    trainer.fit(model, loader)
    return trainer.global_step * 64


if __name__ == "__main__":
    main()
