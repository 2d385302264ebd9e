"""How fast do stored blocks become a table, without the network? What `fastcell predict` on a GPU does on its CPU.

Cells are read and compared with their hashes; their pixels stay where the file was read to, and the GPU gets an offset
for each (`take_stored_as_pool`; the memory is pinned there, and plain here). Made-up answers grow into a Parquet file.
There is neither transform nor network, which are the GPU's. CPU time of all threads counts, on as many threads as there
are cores, and the rate on two cores is what two of them would do in that time. The lowest of the rounds counts.

    python benchmarks/block_path.py [--cells 100000] [--sides 40,64,128] [--rounds 3]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from harness import Result

from fastcell.dataset.corrupt_cells import CorruptCells
from fastcell.dataset.dataset_info import DatasetInfo
from fastcell.dataset.views import ViewConfig, select
from fastcell.loading.ranks import evaluation_share
from fastcell.loading.stores import stream
from fastcell.loading.stores.stream import CellReader
from fastcell.packing.finish_dataset import finish_dataset
from fastcell.packing.records import Record
from fastcell.packing.shard_writer import write_block_shard
from fastcell.predictions.answer_limits import AnswerLimits
from fastcell.predictions.growing_table import finish_table, grow_table
from fastcell.predictions.saved_parts import PartStore
from fastcell.storage.staging import staging
from fastcell.system import resources

CLASSES = ["MB231", "MCF7", "PBMC", "THP1"]
BATCH, BLOCK = 4096, 256
NO_LIMITS = AnswerLimits(None, None, 0.0, [])


@dataclass
class PathRow:
    """One size of cells.

    Attributes:
        cells: their size.
        num_cells: how many.
        read_us: CPU time of a cell to read, compare with its hash and hand over [us].
        table_us: to keep, save and write its answer [us].
        two_cores: cells per second of two cores.
        wall: cells per second by the clock, with all cores of this machine.
    """

    cells: str
    num_cells: int
    read_us: float
    table_us: float
    two_cores: float
    wall: float


def main():
    """Measure each size, print and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=100_000, help="cells of each size (%(default)s)")
    parser.add_argument("--sides", default="40,64,128", help="sides of the square cells (%(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="(%(default)s)")
    options = parser.parse_args()
    stream.pinned_bytes = lambda num: np.empty(num, np.uint8)
    rows = []
    for side in map(int, options.sides.split(",")):
        with tempfile.TemporaryDirectory() as folder:
            manifest = make_blocks(Path(folder) / "cells", options.cells, side)
            rounds = [measure(manifest, Path(folder)) for _ in range(options.rounds)]
        rows.append(as_row(side, len(manifest), rounds))
        row = rows[-1]
        parts = f"read {row.read_us:.2f} us, table {row.table_us:.2f} us"
        print(f"{row.cells}: {parts}, {row.two_cores:,.0f} cells/s on two cores")
    settings = {"batch": BATCH, "threads": resources.num_cpus(), "rounds": options.rounds}
    print(f"wrote {Result('block-path', 'random pixels in blocks', settings, rows).save()}")


def make_blocks(path, num, side):
    """Pack cells of random pixels, 256 in a block."""
    rng = np.random.default_rng(0)
    with staging(path) as folder:
        results = []
        for shard, numbers in enumerate(np.array_split(np.arange(num), max(num * side * side >> 26, 1))):
            pixels = rng.integers(0, 256, (len(numbers), side, side), np.uint8)
            named = zip(numbers.tolist(), pixels, strict=True)
            records = [Record(f"c{number:08d}", image, "raw", CLASSES[number % 4]) for number, image in named]
            blocks = [("", records[begin : begin + BLOCK]) for begin in range(0, len(records), BLOCK)]
            results.append(write_block_shard(folder / f"shard-{shard:06d}.tar", blocks, None))
        return finish_dataset(folder, path, results, DatasetInfo("blocks", CLASSES, "block"), {})


def as_row(side, num, rounds):
    """The lowest time of each kind; what the whole takes beyond reading, if it is more than noise, is the table's."""
    cpu, reading, wall = (min(times) for times in zip(*rounds, strict=True))
    each = 1e6 / num
    read, whole = reading * each, cpu * each
    return PathRow(f"{side} x {side} px", num, read, max(whole - read, 0.0), 2e6 / whole, num / wall)


def measure(manifest, folder):
    """One pass over the cells, as a process that has seen none of them would make it.

    Returns:
        CPU time of the whole, CPU time of reading alone, and wall time of the whole [s].
    """
    view = select(manifest, ViewConfig(None, quality=False))
    corrupt, saved, out = CorruptCells(manifest), folder / "saved", folder / "predictions.parquet"
    saved.mkdir(exist_ok=True)
    answers = np.random.default_rng(1).dirichlet(np.ones(4), BATCH).astype(np.float32)
    begin, used = time.perf_counter(), time.process_time()
    store = PartStore(corrupt)
    store.begin(saved)
    store.growing = grow_table(out, manifest, CLASSES, view.rows, NO_LIMITS, lambda: corrupt.reasons)
    share = evaluation_share(len(view), BATCH)
    reader = CellReader(view, share, threads=resources.num_cpus(), device_id=0, corrupt_cells=corrupt)
    for step, cells in enumerate(reader.epoch(0)):
        assert cells.offsets is not None
        num = share.num_real(step)
        store.add(cells.cell_ids[:num], answers[:num])
    store.save()
    summary, _ = finish_table(store, out, manifest, CLASSES, view.rows, NO_LIMITS)
    cpu, wall = time.process_time() - used, time.perf_counter() - begin
    assert summary.num_rows == len(view)
    out.unlink()
    for path in saved.iterdir():
        path.unlink()
    return cpu, time_reading(view, share), wall


def time_reading(view, share):
    """CPU time of the same pass without answers [s]."""
    begin = time.process_time()
    for _ in CellReader(view, share, threads=resources.num_cpus(), device_id=0).epoch(0):
        pass
    return time.process_time() - begin


if __name__ == "__main__":
    main()
