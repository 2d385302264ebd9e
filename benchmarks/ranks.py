"""Loading by one and two processes of one machine, measured, and what a model makes of more.

Each process is pinned to a core of its own and makes the batches of its rank, from the tars (`stream`, decoded in every
epoch) or from memory (`bank`); two together, one alone, and one with two threads take turns. No network: what is
asked is whether the loader scales.

The model has two costs of a cell on one core, both CPU time: `single` work, which one process does one cell after
another (reading stored bytes and handing them to the decoder; for a bank, drawing the order), and `shared` work, all
the rest, which threads divide (decoding, making the image); and a limit of the machine, its memory's bandwidth, here
that of copies on both cores at once:

    cells/s = min(ranks / single, ranks x threads / (single + shared), bandwidth / bytes of a cell)
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from harness import Contestant, Done, Result, print_rows, time_turns

from fastcell.dataset.manifest import Manifest
from fastcell.system import library_settings

BATCH, SIZE = 256, 128
MODELLED = ((1, 16), (2, 8), (4, 4), (8, 2), (16, 1))


@dataclass
class Costs:
    """What a cell costs, from one process with one thread.

    Attributes:
        single_us: CPU time of what one process does in turn [us].
        shared_us: CPU time of what threads divide [us].
        cell_bytes: read and written in memory: stored bytes, pixels twice, the float32 image.
        bandwidth: of a copy, read and written bytes together [bytes/s].
    """

    single_us: float
    shared_us: float
    cell_bytes: float
    bandwidth: float

    def rate(self, num_ranks, threads):
        """Cells/s of that many processes of that many threads, each with a core."""
        alone = num_ranks / (self.single_us * 1e-6)
        cores = num_ranks * threads / ((self.single_us + self.shared_us) * 1e-6)
        return min(alone, cores, self.bandwidth / self.cell_bytes)


class _Turn(NamedTuple):
    """One epoch of one process: cells, wall time and CPU time [s]."""

    cells: int
    seconds: float
    cpu_s: float


def run(base, rounds):
    """Measure on the stored set, print, write the result `scale-ranks`."""
    cores = sorted(os.sched_getaffinity(0))
    workers = [Worker(base.path, rank) for rank in range(2)]
    two = len(cores) > 1
    if not two:
        print("one core only: two processes share it")
    places = [[cores[0]], [cores[-1]]]

    def together(which, num_ranks, threads):
        def work():
            for rank, worker in enumerate(workers[:num_ranks]):
                worker.send([which, rank, num_ranks, threads, cores if threads > 1 else places[rank]])
            done = [_Turn(*worker.answer()) for worker in workers[:num_ranks]]
            return Done(
                sum(turn.cells for turn in done),
                max(turn.seconds for turn in done),
                sum(turn.cpu_s for turn in done),
            )

        return work

    contestants = {}
    for which, what in (("stream", "from the tars, decoded"), ("bank", "from memory")):
        for num_ranks, threads in ((1, 1), (2, 1), *([(1, 2)] if two else [])):
            name = f"{which}, {num_ranks} x {threads}"
            told = f"{what}: {num_ranks} process{'es' * (num_ranks > 1)}, {threads} thread{'s' * (threads > 1)} each"
            work = together(which, num_ranks, threads)
            options = {"size": SIZE, "batch": BATCH, "dtype": "float32"}
            contestants[name] = Contestant(
                told, work, data="synthetic JPEG cells", threads=num_ranks * threads, **options
            )
    try:
        measured = time_turns(contestants, rounds)
        single = {which: workers[0].ask(["single", which])[0] for which in ("stream", "bank")}
        for worker in workers:
            worker.send(["copy"])
        bandwidth = sum(worker.answer()[0] for worker in workers)
    finally:
        for worker in workers:
            worker.close()
    settings = {"cells": len(base)}
    rows = []
    for which in ("stream", "bank"):
        reference = f"{which}, 1 x 1"
        rows += measured.rows(reference, [name for name in measured.names if name.startswith(which)])
    cpu_us = {row.contestant: row.cpu_us_per_cell for row in rows}
    costs = {
        which: make_costs(cpu_us[f"{which}, 1 x 1"], single[which] * 1e6, base, which == "stream", bandwidth)
        for which in ("stream", "bank")
    }
    print_rows(rows, "1 x 1")
    for which, cost in costs.items():
        text = describe(which, cost, {row.contestant: row.cells_per_s for row in rows})
        print("\n".join(text))
        settings[f"model, {which}"] = "; ".join(text)
    print(f"wrote {Result('scale-ranks', 'synthetic cells', settings, rows).save()}", flush=True)


def make_costs(total_us, single_us, base, decoded, bandwidth):
    """Costs of a cell.

    Args:
        total_us: CPU time of one process with one thread [us].
        single_us: what of it is done one cell after another [us].
        base: the cells.
        decoded: whether stored bytes are read and pixels written and read, or pixels read alone.
        bandwidth: [bytes/s].
    """
    pixels = float((base.column("height").astype(np.int64) * base.column("width")).mean())
    traffic = float(base.column("bytes").mean()) + 2 * pixels if decoded else pixels
    return Costs(single_us, max(total_us - single_us, 0.0), traffic + 4 * SIZE**2, bandwidth)


def describe(which, costs, measured):
    """The model beside what was measured, and what it says of 16 cores."""
    work = f"single {costs.single_us:.1f} us, shared {costs.shared_us:.1f} us"
    lines = [f"{which}: {work}, {costs.cell_bytes:,.0f} bytes a cell, copies {costs.bandwidth / 1e9:.1f} GB/s"]
    for name, rate in measured.items():
        kind, _, shape = name.partition(", ")
        if kind == which:
            ranks, threads = (int(part) for part in shape.split(" x "))
            lines.append(f"{ranks} x {threads}: model {costs.rate(ranks, threads):,.0f}, measured {rate:,.0f} cells/s")
    lines += [f"{ranks} x {threads}: model {costs.rate(ranks, threads):,.0f} cells/s" for ranks, threads in MODELLED]
    return lines


class Worker:
    """A process that makes batches when it is told to."""

    def __init__(self, path, rank):
        command = [sys.executable, __file__, str(path)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.rank = rank

    def send(self, order):
        """Tell it what to do."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()

    def answer(self):
        """What it measured."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"rank {self.rank} ended with status {self.process.wait()}")
        return json.loads(line)

    def ask(self, order):
        """Both."""
        self.send(order)
        return self.answer()

    def close(self):
        """End it."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


class Loaders:
    """The loaders of one process, by rank and threads, made when first asked for.

    Args:
        manifest: whose cells, all of them.
    """

    def __init__(self, manifest):
        from fastcell.dataset.views import ViewConfig, select

        self.view = select(manifest, ViewConfig())
        self._made = {}
        self._epoch = 0

    def loader(self, which, rank, num_ranks, threads):
        """The loader of a rank, shuffled, not augmented."""
        key = (which, rank, num_ranks, threads)
        if key not in self._made:
            self._made[key] = self._make(*key)
        return self._made[key]

    def _make(self, which, rank, num_ranks, threads):
        from fastcell.loading.bank_loader import BankLoader
        from fastcell.loading.loader import CellLoader
        from fastcell.loading.order import BankOrder
        from fastcell.loading.preprocessing import Preprocessing
        from fastcell.loading.ranks import training_share
        from fastcell.loading.settings import LoaderSettings
        from fastcell.loading.stores.bank import CellBank

        config, preprocessing = LoaderSettings(transform="fused", threads=threads), Preprocessing(SIZE)
        if which == "stream":
            share = training_share(len(self.view), BATCH * num_ranks, rank, num_ranks)
            return CellLoader(self.view, share, preprocessing, config, shuffle=True)
        order = BankOrder(len(self.view), BATCH * num_ranks, rank=rank, num_ranks=num_ranks)
        banks = [loader.bank for key, loader in self._made.items() if key[0] == "bank"]
        bank = banks[0] if banks else CellBank(self.view, np.array([0, len(self.view)]))
        bank.fill()
        return BankLoader(bank, self.view, order, preprocessing, config)

    def epoch(self, which, rank, num_ranks, threads):
        """One epoch from the tars, eight from memory, which are short."""
        loader = self.loader(which, rank, num_ranks, threads)
        cells = 0
        start, cpu = time.perf_counter(), time.process_time()
        for _ in range(8 if which == "bank" else 1):
            self._epoch += 1
            loader.set_epoch(self._epoch)
            cells += sum(len(batch.images) for batch in loader)
        return _Turn(cells, time.perf_counter() - start, time.process_time() - cpu)

    def single(self, which):
        """CPU time of a cell that one process does one cell after another [s]."""
        loader = self.loader(which, 0, 1, 1)
        start = time.process_time()
        if which == "bank":
            self._epoch += 1
            batches = loader.order.batches(self._epoch)
            loader.bank.slots[batches.entries].astype(np.int64)
            return (time.process_time() - start) / len(self.view)
        from nvidia.dali.backend import TensorCPU, TensorListCPU

        reader = loader.reader
        edges = np.arange(reader.share.steps) * BATCH  # whole batches
        for piece in reader.stored.pieces(reader.order.rows, edges, 8192 // BATCH):
            begins = piece.of(piece.stored.starts)
            ends = begins + piece.of(piece.stored.sizes)
            pairs = zip(begins.tolist(), ends.tolist(), strict=True)
            TensorListCPU([TensorCPU(piece.stored.buffer[begin:end]) for begin, end in pairs])
        return (time.process_time() - start) / int(edges[-1])


def copy_bandwidth(size=1 << 28):
    """Bytes read and written per second by a copy of `size` bytes; the best of five."""
    source, target = np.ones(size, np.uint8), np.empty(size, np.uint8)
    best = 0.0
    for _ in range(5):
        start = time.perf_counter()
        np.copyto(target, source)
        best = max(best, 2 * size / (time.perf_counter() - start))
    return best


def main():
    """The worker: takes orders as JSON lines, answers likewise."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("data", type=Path)
    options = parser.parse_args()
    library_settings.quiet()
    library_settings.raise_malloc_thresholds()
    loaders = Loaders(Manifest.open(options.data))
    for line in sys.stdin:
        order = json.loads(line)
        if order[0] == "copy":
            print(json.dumps([copy_bandwidth()]), flush=True)
            continue
        if order[0] == "single":
            print(json.dumps([float(np.median([loaders.single(order[1]) for _ in range(5)]))]), flush=True)
            continue
        *which, places = order
        _pin(places)
        print(json.dumps(loaders.epoch(*which)), flush=True)


def _pin(cores):
    """Give all threads of this process these cores."""
    for task in os.listdir("/proc/self/task"):
        os.sched_setaffinity(int(task), cores)


if __name__ == "__main__":
    main()
