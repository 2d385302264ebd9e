"""What does training cost, and how much of that is the loader's? How long is the paper's training, and to 99 %?

`--part steps` (default): under Lightning's Trainer, in turns, for each network, precision and batch size: `headspace`,
one batch that is there already; `replay`, the batches of one epoch kept on the device; and the real loaders, bank and
stream, both fused and augmented; and planned steps, on a GPU replays of a CUDA graph from the indices of the cells. The
stall of a loader is the share of its time that headspace does not take, and beside it stands the transform's own share.

`--part processes`: `fastcell fit` with one process and with two (on a CPU over gloo, each with half of the cores).

`--part paper`: `fastcell fit --preset paper`, 3,000 iterations of 1,300 cells; fewer with `--iterations`, and then the
time of the whole is calculated from them, and called so.

`--part accuracy`: time until the validation subset is called right to `--to-accuracy`, validation included, by seed.

    python benchmarks/train.py [--part steps|processes|paper|accuracy] [--cells N] [--rounds 3]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fastcell.system import library_settings, resources

library_settings.limit_spinning()  # before torch is there, as the command line does

import numpy as np
import pytorch_lightning as pl
import torch
import yaml
from harness import Contestant, Done, Result, Row, print_rows, time_turns
from linked_rows import SHARD_CELLS, make_rows
from step import GROUP, Fixed, Trained, make_model, make_module, make_trainer, synchronize

from fastcell.loading.bank_loader import BankLoader
from fastcell.loading.batch import Batch
from fastcell.simulator.synth import synthesize
from fastcell.training.recipe import preset_path

HEADSPACE = "headspace"
Save = Callable[[list[Any], str, dict[str, object]], Path]
"""Function that writes a result from rows, the benchmark's name and its settings."""
PAPER_ITERATIONS, PAPER_BATCH = 3_000, 1_300
CPU_SETTINGS = ("cellnet:32-true:256", "cellnet:32-true:1300", "gao:32-true:256", "cellnet:bf16-mixed:256")
GPU_SETTINGS = tuple(
    f"{network}:{precision}:{batch}"
    for network in ("cellnet", "gao")
    for precision in ("32-true", "bf16-mixed")
    for batch in (256, 1300, 4096)
)


@dataclass
class TrainRow(Row):
    """One loader under one network, precision and batch size.

    Attributes:
        network: name.
        transform_share: share of the time of a batch that making its images alone takes on the device.
        stall: share of the time that headspace does not take, median over the rounds, with the bounds of its interval.
            Negative for planned steps, which are made without most of what headspace's steps cost.
    """

    network: str = ""
    transform_share: float = 0.0
    stall: float = 0.0
    stall_low: float = 0.0
    stall_high: float = 0.0


@dataclass
class PaperRow:
    """The paper's training.

    Attributes:
        paper: preset and precision.
        iterations: that were run, of `batch` cells.
        measured_s: of the command, from its start to its end: imports, opening, training, evaluation.
        train_s: of it in training steps, loading and filling the bank included.
        validate_s: of it in validation.
        cells_per_s: in training steps.
        whole_s: time in training steps of all 3,000 iterations.
        is_calculated: whether `whole_s` is that of the iterations run, scaled, and no measurement.
    """

    paper: str
    iterations: int
    batch: int
    measured_s: float
    train_s: float
    validate_s: float
    cells_per_s: float
    whole_s: float
    is_calculated: bool


@dataclass
class AccuracyRow:
    """Time to an accuracy over seeds.

    Attributes:
        recipe: preset, epochs at most.
        target: share of the validation cells.
        cells: of the training subset.
        seconds: by seed, from the start of the fit; None where the target was not reached.
        cells_seen: training cells until then, or in all, by seed.
        best: highest validation accuracy by seed.
        mean_s, std_s: over the seeds that reached it; None where fewer than one, or two, did.
    """

    recipe: str
    target: float
    cells: int
    seconds: list[float | None]
    cells_seen: list[int]
    best: list[float]
    mean_s: float | None
    std_s: float | None


def main():
    """Run a part, print its table and write its result."""
    options = _parser().parse_args()
    library_settings.quiet()
    library_settings.raise_malloc_thresholds()
    torch.set_num_threads(resources.num_cpus())
    torch.utils.deterministic.fill_uninitialized_memory = False
    on_gpu = resources.has_gpu()
    part = {"steps": run_steps, "processes": run_processes, "paper": run_paper, "accuracy": run_accuracy}[options.part]
    default = {"steps": 4_000, "processes": 4_000, "paper": 8_000, "accuracy": 8_000}[options.part]
    cells = options.cells or (
        {"accuracy": 1_000_000, "steps": 50_000}.get(options.part, 100_000) if on_gpu else default
    )
    with tempfile.TemporaryDirectory(dir=options.scratch) as folder:
        data = Path(folder) / "cells"
        shard_cells = min(cells, SHARD_CELLS) if options.rows else None
        base = synthesize(data, cells, 0, defects=options.defects, shard_cells=shard_cells)
        if options.rows:
            data = make_rows(base, Path(folder) / "rows", options.rows, min(cells, SHARD_CELLS)).path
        common = {"cells": cells, "rows": options.rows or cells, "defects": options.defects}

        def save(rows, bench, settings):
            return Result(bench, "synthetic cells", {**common, **settings}, rows).save()

        rows, bench, settings = part(data, options, save)
        print(f"wrote {save(rows, bench, settings)}")


def _parser():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=("steps", "processes", "paper", "accuracy"), default="steps")
    parser.add_argument("--cells", type=int, help="synthetic cells (a few thousand; on a GPU up to a million)")
    parser.add_argument("--rows", type=int, help="steps: rows that share the stored cells (no more than there are)")
    parser.add_argument("--defects", type=float, default=0.05, help="share of defective frames (%(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="timed rounds of steps and processes (%(default)s)")
    parser.add_argument("--settings", help="steps: network:precision:batch,... (those of the machine)")
    parser.add_argument("--only", help="steps: replay,bank,stream beside headspace (all of them)")
    parser.add_argument("--round-cells", type=int, help="steps: cells in a round (2,600; 100,000 on a GPU)")
    parser.add_argument("--size", type=int, default=128, help="steps: side of the images (%(default)s)")
    parser.add_argument("--iterations", type=int, help="paper: 3,000; 12 on a CPU")
    parser.add_argument("--preset", default="demo", help="processes and accuracy (%(default)s)")
    parser.add_argument("--to-accuracy", type=float, default=0.99, help="(%(default)s)")
    parser.add_argument("--seeds", type=int, default=3, help="accuracy: runs (%(default)s)")
    parser.add_argument("--epochs", type=int, help="accuracy: most epochs (those of the preset)")
    parser.add_argument("--batch", type=int, help="accuracy: cells in a batch (that of the preset)")
    parser.add_argument("--checks", type=int, default=1, help="accuracy: validations in an epoch (%(default)s)")
    parser.add_argument("--scratch", type=Path, help="folder for the data (the system's temporary folder)")
    return parser


# -- steps


class Replay(Fixed):
    """The batches of one epoch, kept on the device and given again and again."""

    def __init__(self, batches):
        super().__init__(batches[0], len(batches))
        self.batches = batches

    def __iter__(self):
        return iter(self.batches)


def run_steps(data, options, save):
    """Every setting by itself: its contestants take turns. What is found is saved behind each setting."""
    on_gpu = resources.has_gpu()
    device = torch.device("cuda" if on_gpu else "cpu")
    chosen = options.settings.split(",") if options.settings else GPU_SETTINGS if on_gpu else CPU_SETTINGS
    round_cells = options.round_cells or (100_000 if on_gpu else 2_600)
    rows = []
    settings = {"size": options.size, "cells in a round": round_cells}
    for setting in chosen:
        network, precision, batch = setting.split(":")
        cells = max(round_cells, int(batch))
        if precision.startswith("bf16") and not on_gpu:  # ten times slower on the CPUs looked at, AMX or not
            cells = 2 * int(batch)
        contestants = make_contestants(data, network, precision, int(batch), options.size, cells, device)
        if options.only:
            kept = {HEADSPACE, *options.only.split(",")}
            contestants = {name: one for name, one in contestants.items() if name.partition(",")[0] in kept}
        turns = time_turns(contestants, options.rounds)
        image_s = time_images(data, precision, int(batch), options.size, device)
        found = [as_train_row(row, network, image_s) for row in turns.rows(f"{HEADSPACE}, {setting}")]
        print_rows(found, HEADSPACE)
        rows += found
        save(rows, "train", settings)
        if on_gpu:
            torch.cuda.empty_cache()
    return rows, "train", settings


def make_contestants(data, network, precision, batch, size, cells, device):
    """Headspace, replay, bank and stream, each with a network of its own."""
    shown = {"batch_size": batch, "image_size": size, "balance": "none"}
    dtype = "bfloat16" if precision.startswith("bf16") and device.type == "cuda" else "float32"
    made = {
        name: make_module(data, shown, store=store, transform="fused", dtype=dtype)
        for name, store in (("bank", "bank"), ("planned", "bank"), ("stream", "stream"))
    }
    look = make_module(data, shown, transform="fused", dtype=dtype)
    for module in (*made.values(), look):
        module.setup("fit")
    kept = [Batch(*(column.to(device) for column in one)) for one in look.train_dataloader()]
    whole = [one for one in kept if bool((one.weight > 0).all())] or kept
    steps = max(cells // batch, 1) + 1  # the first of them is not timed
    loaders = {
        HEADSPACE: ("one batch, there already", made["bank"], Fixed(whole[0], steps)),
        "replay": ("batches of one epoch, kept on the device", made["bank"], Replay(whole)),
        "bank": ("bank + fused, augmented", made["bank"], None),
        "bank, planned": (f"the same from indices, {GROUP} steps a call", made["planned"], None),
        "stream": ("stream + fused, augmented: read and decoded", made["stream"], None),
    }
    common = {"size": size, "batch": batch, "dtype": precision, "threads": resources.num_cpus()}
    common["device"] = "cuda:0" if device.type == "cuda" else "cpu"
    contestants = {}
    for name, (what, module, fixed) in loaders.items():
        group = GROUP if name == "bank, planned" else 1
        model = make_model(module, {"network": network}, steps_per_call=group)
        work = Trained(model, module, fixed, group, cells // batch * batch, precision, untimed=1, planned=group > 1)
        contestants[f"{name}, {network}:{precision}:{batch}"] = Contestant(what, work, data="JPEG, ragged", **common)
    return contestants


def time_images(data, precision, batch, size, device, num=20):
    """Seconds that a cell takes in the transform alone: batches of the bank, made one after another and waited for."""
    dtype = "bfloat16" if precision.startswith("bf16") and device.type == "cuda" else "float32"
    shown = {"batch_size": batch, "image_size": size, "balance": "none"}
    module = make_module(data, shown, store="bank", transform="fused", dtype=dtype)
    module.trainer = make_trainer(1)
    module.setup("fit")
    loader = module.train_dataloader()
    assert isinstance(loader, BankLoader)
    plan = next(iter(loader.plans(1)))
    loader.bank.fill()
    for begin in (None, time.perf_counter()):
        for _ in range(1 if begin is None else num):
            loader.images(plan.cells[0], plan.positions[0], plan.clock)
        synchronize(device)
        seconds = 0.0 if begin is None else time.perf_counter() - begin
    module.teardown("fit")
    return seconds / (num * plan.cells.shape[1])


def as_train_row(row, network, image_s=0.0):
    """The stall of a row is what is missing from the rate of headspace; `image_s` is the transform's time of a cell."""
    return TrainRow(
        **asdict(row),
        network=network,
        transform_share=0.0 if row.contestant.startswith((HEADSPACE, "replay")) else row.cells_per_s * image_s,
        stall=1 - row.ratio,
        stall_low=1 - row.ratio_high,
        stall_high=1 - row.ratio_low,
    )


# -- fastcell fit, as a command


def fit(data, threads=None, **flags):
    """Run `fastcell fit`; its metrics.json and the wall time of the command [s]."""
    with tempfile.TemporaryDirectory() as runs:
        command = [sys.executable, "-m", "fastcell", "fit", f"--data.path={data}", f"--runs={runs}"]
        command += [f"--{name.replace('__', '.')}={value}" for name, value in flags.items()]
        variables = {**os.environ, **({} if threads is None else {"OMP_NUM_THREADS": str(threads)})}
        start = time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True, env=variables, check=False)
        seconds = time.perf_counter() - start
        if done.returncode:
            raise SystemExit(f"fit ended with status {done.returncode}: {done.stderr[-2000:]}")
        (metrics,) = Path(runs).glob("*/metrics.json")
        values = json.loads(metrics.read_text())
        return values, seconds


def run_processes(data, options, save):
    """One process and two, in turns, by the trainer's own count."""
    on_gpu, cores = resources.has_gpu(), resources.num_cpus()
    if on_gpu and torch.cuda.device_count() < 2:
        raise SystemExit("two processes need two GPUs: nothing measured")

    def work(num):
        more = {"trainer__devices": num, **({"trainer__strategy": "ddp"} if num > 1 else {})}
        threads = None if on_gpu else max(cores // num, 1)
        before = os.times()
        values, _ = fit(data, threads, preset=options.preset, trainer__max_epochs=2, **more)
        after = os.times()
        seconds = values["seconds"]["train"]
        cells = round(values["cells_per_s"]["train"] * seconds)
        children = after.children_user + after.children_system - before.children_user - before.children_system
        return Done(cells, seconds, children)

    contestants = {
        f"{num} process{'es' * (num > 1)}": Contestant(
            f"fastcell fit, 2 epochs; CPU time with imports, filling and evaluation, {'gloo' if not on_gpu else 'nccl'}"
            if num > 1
            else "fastcell fit, 2 epochs; CPU time with imports, filling and evaluation",
            lambda num=num: work(num),
            threads=cores,
            device="cuda" if on_gpu else "cpu",
        )
        for num in (1, 2)
    }
    rows = time_turns(contestants, options.rounds, warm_up=0).rows("1 process")
    print_rows(rows, "1 process")
    return list(rows), "train-processes", {"preset": options.preset, "cores": cores}


def run_paper(data, options, save):
    """The preset `paper` for some iterations, or all; on a GPU also with steps in groups, whose calls are counted."""
    iterations = options.iterations or (PAPER_ITERATIONS if resources.has_gpu() else 12)
    grouped = {"model__steps_per_call": 10, "trainer__val_check_interval": 10}
    rows = []
    for what, flags in {"preset paper": {}, "preset paper, 10 steps in a call": grouped}.items():
        if flags and not resources.has_gpu():
            continue
        values, seconds = fit(data, preset="paper", trainer__max_steps=iterations, **flags)
        row = paper_row(values, seconds, iterations, what)
        rows.append(row)
        save(rows, "train-paper", {})
        kind = "calculated from the iterations run" if row.is_calculated else "measured"
        rate = f"{row.cells_per_s:,.0f} cells/s; the command {seconds:.1f} s"
        print(f"{what}: {row.iterations:,} iterations in {row.train_s:.1f} s, {rate}")
        print(f"{PAPER_ITERATIONS:,} iterations: {row.whole_s:,.1f} s, {kind}", flush=True)
    return rows, "train-paper", {}


def paper_row(values, seconds, iterations, what="preset paper"):
    """From metrics.json and the command's wall time [s]."""
    if values["steps"] != iterations:
        raise SystemExit(f"{iterations} iterations were asked for, {values['steps']} were run")
    train_s = values["seconds"]["train"]
    return PaperRow(
        paper=f"{what}, {'bf16-mixed or 16-mixed' if resources.has_gpu() else '32-true'}",
        iterations=iterations,
        batch=PAPER_BATCH,
        measured_s=seconds,
        train_s=train_s,
        validate_s=values["seconds"].get("validate", 0.0),
        cells_per_s=values["cells_per_s"]["train"],
        whole_s=train_s * PAPER_ITERATIONS / iterations,
        is_calculated=iterations != PAPER_ITERATIONS,
    )


# -- time to an accuracy


class Watch(pl.Callback):
    """Stops a fit when the validation accuracy has reached a target, and tells when that was.

    Attributes:
        reached_s: since the start of the fit [s]; None so far.
        best: highest validation accuracy.
        cells: training cells so far.
    """

    def __init__(self, target):
        self.target = target
        self.reached_s = None
        self.best, self.cells = 0.0, 0

    def on_fit_start(self, trainer, pl_module):
        self.start = time.perf_counter()

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.cells += trainer.train_dataloader.num_cells(batch_idx)

    def on_validation_end(self, trainer, pl_module):
        if not trainer.sanity_checking:
            self.see(float(trainer.callback_metrics["valid_accuracy"]))  # waits for the device
            trainer.should_stop |= self.reached_s is not None

    def see(self, accuracy):
        """Take note of an accuracy."""
        self.best = max(self.best, accuracy)
        if accuracy >= self.target and self.reached_s is None:
            self.reached_s = time.perf_counter() - self.start


def run_accuracy(data, options, save):
    """One training for each seed; the data are made before the clock starts, the bank is filled behind it."""
    settings = yaml.safe_load(preset_path(options.preset).read_text())
    epochs = options.epochs or settings["trainer"]["max_epochs"]
    steps = settings["trainer"].get("max_steps", -1)
    settings["data"]["batch_size"] = options.batch or settings["data"]["batch_size"]
    watches, cells = [], 0
    for seed in range(options.seeds):
        pl.seed_everything(seed)
        group = GROUP if resources.has_gpu() else 1
        module = make_module(data, settings["data"], seed=seed, steps_per_call=group)
        module.setup("fit")
        view = module.view("train")
        assert view is not None
        cells = len(view)
        torch.manual_seed(seed)
        model = make_model(module, settings["model"], steps_per_call=group)
        watch = Watch(options.to_accuracy)
        trainer = make_trainer(
            steps,
            accelerator="gpu" if resources.has_gpu() else "cpu",
            precision="bf16-mixed" if resources.has_gpu() else "32-true",
            max_epochs=epochs,
            val_check_interval=1.0 / options.checks,
            limit_val_batches=1.0,
            use_distributed_sampler=False,
            callbacks=[watch],
        )
        trainer.fit(model, datamodule=module)
        watches.append(watch)
        took = "not reached" if watch.reached_s is None else f"after {watch.reached_s:.1f} s"
        print(f"seed {seed}: {options.to_accuracy:.1%} {took}; best {watch.best:.4f}", flush=True)
    most = f"{epochs} epochs" if epochs > 0 else f"{steps:,} steps"
    row = accuracy_row(
        f"{options.preset}, batch {settings['data']['batch_size']}, at most {most}", options.to_accuracy, cells, watches
    )
    spread = "" if row.mean_s is None else f", {row.mean_s:.1f} s on average"
    spread += "" if row.std_s is None else f", standard deviation {row.std_s:.1f} s"
    reached = sum(second is not None for second in row.seconds)
    print(f"{reached} of {options.seeds} seeds reached {options.to_accuracy:.1%}{spread}")
    return [row], "train-accuracy", {"preset": options.preset, "epochs": epochs, "checks": options.checks}


def accuracy_row(recipe, target, cells, watches):
    """Mean and sample deviation over the seeds that reached the target."""
    times = np.array([watch.reached_s for watch in watches if watch.reached_s is not None])
    return AccuracyRow(
        recipe=recipe,
        target=target,
        cells=cells,
        seconds=[watch.reached_s for watch in watches],
        cells_seen=[watch.cells for watch in watches],
        best=[watch.best for watch in watches],
        mean_s=float(times.mean()) if len(times) else None,
        std_s=float(times.std(ddof=1)) if len(times) > 1 else None,
    )


if __name__ == "__main__":
    main()
