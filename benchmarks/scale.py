"""What grows with the number of cells, and with which exponent: from ten thousand rows of a manifest to thirty million.

Rows are many, stored cells few: the tars of a synthetic set are linked under many names, and the manifest, written by
the library, has a row for each name and cell. So shards, offsets, keys and hashes are those of a set of that size, but
the file cache holds the bytes. Each size is measured in fresh processes, the sizes in turns; one process asks, in the
order of a run: open the manifest, select the training cells, choose the store and set up the loader, make the first
batch; then, without decoding, the order of an epoch of the stream and of a bank, the hash that a checkpoint carries,
and the table of predictions of all cells as a file.

Memory of a process is what it holds alone (`Anonymous` of /proc/self/smaps_rollup) and pages of files that it has
mapped, which all processes of a machine share; those of imported libraries are not counted. `two ranks` is what a
process holds alone (`Private_*`) and shares (`Shared_*`) while two ranks of one training have their first batch at the
same time. What a process of the smallest set holds is the cost of any training: buffers, threads, compiled loops. What
the rows add is the difference to it. Manifests of a million rows or more are mapped: the first opening makes the mapped
files, later ones use them.

`--before` adds rows of an earlier result, of the version before manifests were mapped, to the table.

Exponents are slopes of log CPU time (or memory) over log rows, from the sizes in the upper two decades, with Student's
95 % interval. A slope below 1 has a fixed cost in it; `per row` is what a row adds between the two largest sizes.
`--part ranks` measures loading by one and two processes and says what a model makes of more (`ranks.py`).

    python benchmarks/scale.py [--max-rows 30000000] [--stored 20000] [--rounds 2] [--part growth|ranks]
        [--before RESULT]
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import ranks
from harness import Result
from linked_rows import SHARD_CELLS, write_rows
from result_files import read_result
from scipy import stats

from fastcell.dataset.manifest import Manifest
from fastcell.simulator.synth import synthesize
from fastcell.system import library_settings
from fastcell.system.resources import cache_dir

SIZES = [10_000, 100_000, 300_000, 1_000_000, 3_000_000, 10_000_000, 30_000_000]
COMPUTED_ROWS = 100_000_000
BEFORE = ("open", "start", "memory, start", "predictions", "memory, predictions")
"""Quantities of an earlier result that are shown beside those of this one."""
WHAT = {
    "first open": "Manifest.open of a new set: read, check every row; from a million rows on write the mapped files",
    "open": "Manifest.open of a set that was opened before",
    "select": "read the split, select the training cells",
    "loader": "choose the store, set up reader and transform of the stream",
    "first batch": "from the request: 256 cells read, hashed, decoded, resized",
    "start": "all of these: from a path to the first batch, imports not counted",
    "order, stream": "shards permuted and rows mixed, one epoch",
    "order, bank": "order of filling, permutation, indices of every batch, one epoch",
    "fingerprint": "hash of the training cells, once in a run, for its checkpoints",
    "predictions": "table of all cells from given probabilities, written as Parquet",
    "memory, libraries": "memory that the process holds alone before, after all imports",
    "memory, start": "memory that the process holds alone at the first batch, that of imported libraries not counted",
    "memory, most": "most memory up to the first batch, mapped pages of files included, likewise",
    "two ranks, alone": "memory that each of two ranks holds alone at the first batch, likewise",
    "two ranks, shared": "memory that each of two ranks shares with the other at the first batch, likewise",
    "memory, predictions": "most memory that the process holds alone while it writes the predictions, likewise",
    "manifest": "bytes of manifest.parquet",
    "mapped files": "bytes of the mapped files in the cache folder",
}


@dataclass
class Growth:
    """How one quantity grows.

    Attributes:
        quantity: name, see `WHAT`.
        what: in one line.
        unit: of the values: s, or MB (10**6 bytes).
        rows: sizes, increasing.
        values: median over the rounds by size, wall time for times.
        low, high: smallest and largest round by size.
        cpu: median CPU time of the process by size [s]; the values themselves where it is no time.
        exponent: slope of log `cpu` over log rows, over the sizes from `fitted_from` rows on.
        exponent_low, exponent_high: Student's 95 % interval; None with fewer than three sizes.
        fitted_from: rows.
        per_row: growth of `cpu` per row between the two largest sizes [ns, or bytes].
        computed_rows: `COMPUTED_ROWS`.
        at_computed: `cpu` at that many rows, computed from the largest size and `per_row`.
        num_rounds: n at each size.
    """

    quantity: str
    what: str
    unit: str
    rows: list[int]
    values: list[float]
    low: list[float]
    high: list[float]
    cpu: list[float]
    exponent: float
    exponent_low: float | None
    exponent_high: float | None
    fitted_from: int
    per_row: float
    computed_rows: int
    at_computed: float
    num_rounds: int


def main():
    """Run the benchmark, print its tables and write its results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--max-rows", type=int, default=SIZES[-1], help="largest manifest (%(default)s)")
    parser.add_argument("--stored", type=int, default=20_000, help="synthetic cells that are stored (%(default)s)")
    parser.add_argument("--rounds", type=int, default=2, help="processes for each size (%(default)s)")
    parser.add_argument("--part", choices=("growth", "ranks"), default="growth", help="(%(default)s)")
    parser.add_argument("--scratch", type=Path, help="folder for the sets (the system's temporary folder)")
    parser.add_argument("--keep", action="store_true", help="use the sets that are in --scratch, and keep them there")
    parser.add_argument("--before", type=Path, help="an earlier result, whose rows are shown, too")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--open-first", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--rank", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--make", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.rank is not None:
        print(json.dumps(measure_rank(options.measure, int(options.rank[0]), Path(options.rank[1]))))
        return
    if options.measure is not None:
        print(json.dumps(measure(options.measure)))
        return
    if options.open_first is not None:
        print(json.dumps(open_first(options.open_first)))
        return
    if options.make is not None:
        print(json.dumps(make(Manifest.open(options.make[0]), Path(options.make[1]), int(options.make[2]))))
        return
    if options.max_rows < SIZES[1] or options.stored < SHARD_CELLS:
        parser.error(f"--max-rows must be at least {SIZES[1]:,}, --stored {SHARD_CELLS:,}")
    scratch = nullcontext(options.scratch) if options.keep else tempfile.TemporaryDirectory(dir=options.scratch)
    with scratch as folder:
        os.environ["FASTCELL_CACHE_DIR"] = str(Path(folder) / "cache")
        stored, place = options.stored // SHARD_CELLS * SHARD_CELLS, Path(folder) / "stored"
        base = Manifest.open(place) if place.exists() else synthesize(place, stored, 0, shard_cells=SHARD_CELLS, jobs=1)
        if options.part == "growth":
            sizes = [size for size in SIZES if size <= options.max_rows]
            rows = run_growth(base, Path(folder), sizes, options.rounds)
            rows += [] if options.before is None else rows_before(options.before)
            print_growth(rows)
            settings = {"stored cells": stored, "shard": SHARD_CELLS, "rounds": options.rounds}
            result = Result("scale", "rows that share stored synthetic cells", settings, rows)
            print(f"wrote {result.save()}", flush=True)
        else:
            ranks.run(base, max(options.rounds, 5))


def run_growth(base, folder, sizes, rounds):
    """Make the sets, measure them in turns, fit."""
    paths = {size: folder / f"rows-{size}" for size in sizes}
    made = {}
    for size, path in paths.items():
        facts = path.with_suffix(".json")
        if not facts.exists():
            shutil.rmtree(path, ignore_errors=True)
            facts.write_text(_ask("--make", base.path, path, size))
        made[size] = json.loads(facts.read_text()) | json.loads(_ask("--open-first", path))
        print(f"  {size:,} rows; first opened in {made[size]['first open'][1]:.1f} s of CPU time", flush=True)
    found = {size: [] for size in sizes}
    for turn in range(-1, rounds):  # the first round fills caches
        for size, path in paths.items():
            if turn < 0 and size > sizes[0]:
                continue
            values = made[size] | json.loads(_ask("--measure", path)) | _ask_two_ranks(path)
            print(f"  round {turn + 1}, {size:,} rows: first batch after {values['start'][0]:.2f} s", flush=True)
            if turn >= 0:
                found[size].append(values)
    return [fit_growth(name, sizes, [[values[name] for values in found[size]] for size in sizes]) for name in WHAT]


def make(base, path, num_rows):
    """Make a set; bytes of its manifest [MB], twice."""
    write_rows(base, path, num_rows)
    return {"manifest": [(path / "manifest.parquet").stat().st_size / 1e6] * 2}


def open_first(path):
    """Wall and CPU time [s] of opening a set without its mapped files, and bytes of those that are made [MB], twice."""
    for facts in _facts_of(path):
        shutil.rmtree(facts.parent)
    wall, cpu = time.perf_counter(), time.process_time()
    Manifest.open(path)
    first = [time.perf_counter() - wall, time.process_time() - cpu]
    mapped = sum(sum(json.loads(facts.read_text())["files"].values()) for facts in _facts_of(path))
    return {"first open": first, "mapped files": [mapped / 1e6] * 2}


def _facts_of(path):
    """Return the descriptions of the mapped files of a set."""
    every = (cache_dir() / "manifests").glob("*/facts.json")
    return [facts for facts in every if Path(json.loads(facts.read_text())["path"]).parent == path.absolute()]


def _ask_two_ranks(path):
    """Memory of two ranks that are there at the same time [MB], each twice: the larger one of what they hold alone."""
    with tempfile.TemporaryDirectory() as meeting:
        command = [sys.executable, __file__, "--measure", str(path), "--rank"]
        ranks = [
            subprocess.Popen([*command, str(rank), meeting], stdout=subprocess.PIPE, text=True) for rank in range(2)
        ]
        told = [json.loads(rank.communicate()[0].splitlines()[-1]) for rank in ranks]
    return {name: [max(values[name] for values in told)] * 2 for name in told[0]}


def measure_rank(path, rank, meeting):
    """Memory of one of two ranks of a training at its first batch [MB], while the other one has its own."""
    library_settings.quiet()
    library_settings.raise_malloc_thresholds()
    import torch

    from fastcell.loading.datamodule import CellDataModule

    torch.set_num_threads(1)
    before = _rollup_mb()
    module = CellDataModule(str(path), store="stream", transform="fused", threads=1, balance="none")
    module._rank = lambda: (rank, 2)
    module.setup("fit")
    batches = iter(module.train_dataloader())
    next(batches)
    for phase in ("there", "measured"):
        (meeting / f"{phase}-{rank}").touch()
        while not (meeting / f"{phase}-{1 - rank}").exists():
            time.sleep(0.01)
        if phase == "there":
            now = _rollup_mb()
    return {
        f"two ranks, {what}": sum(now[f"{kind}_{state}"] - before[f"{kind}_{state}"] for state in ("Clean", "Dirty"))
        for what, kind in (("alone", "Private"), ("shared", "Shared"))
    }


def _ask(*arguments):
    """Run this program in a process of its own, so that its memory goes with it; its last line."""
    command = [sys.executable, __file__, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} ended with status {done.returncode}: {done.stderr[-2000:]}")
    return done.stdout.splitlines()[-1]


def measure(path):
    """Wall and CPU time [s] of each step on one core; for memory and size one value [MB], twice."""
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    library_settings.quiet()
    library_settings.raise_malloc_thresholds()
    import torch

    from fastcell.inference.unlike.reasons import UnlikeScores
    from fastcell.loading.datamodule import CellDataModule
    from fastcell.loading.loader import CellLoader
    from fastcell.loading.order import BankOrder, fill_order
    from fastcell.loading.same_data import SharedData
    from fastcell.predictions.answer_limits import AnswerLimits
    from fastcell.predictions.growing_table import grow_table
    from fastcell.predictions.table import quarantine_rows

    torch.set_num_threads(1)
    found = {}

    def step(name, work):
        wall, cpu = time.perf_counter(), time.process_time()
        done = work()
        found[name] = [time.perf_counter() - wall, time.process_time() - cpu]
        return done

    before, alone = _memory_mb("VmRSS"), _rollup_mb()["Anonymous"]
    found["memory, libraries"] = [alone] * 2
    module = CellDataModule(str(path), store="stream", transform="fused", threads=1, balance="none")
    manifest = step("open", lambda: module.manifest)
    step("select", lambda: module.setup("fit"))
    loader = step("loader", module.train_dataloader)
    assert isinstance(loader, CellLoader)
    step("first batch", lambda: next(iter(loader)))  # and ends the threads that read ahead
    names = ("open", "select", "loader", "first batch")
    found["start"] = [sum(found[name][kind] for name in names) for kind in (0, 1)]
    found["memory, start"] = [_rollup_mb()["Anonymous"] - alone] * 2
    found["memory, most"] = [_memory_mb("VmHWM") - before] * 2

    def bank_order():
        view = module.view("train")
        assert view is not None
        fill_order(view, 0)
        order = BankOrder(len(view), module.batch_size)
        for first in range(0, order.steps, 256):
            order.batches(1, first, min(first + 256, order.steps))

    step("order, stream", lambda: sum(map(len, loader.reader.order.spans(1, 0, 1))))
    step("order, bank", bank_order)
    step("fingerprint", SharedData(module.view).hashes)

    held = []

    def predictions():
        out, limits = path / "predictions.parquet", AnswerLimits(None, None, 0.0, [])
        rng, ids = np.random.default_rng(0), np.arange(len(manifest))
        growing = grow_table(out, manifest, module.classes, ids, limits, dict)
        for number, some in enumerate(np.array_split(ids, len(ids) // (1 << 17) + 1)):
            chances = rng.random((len(some), len(module.classes)), dtype=np.float32)
            growing.add(some, chances, UnlikeScores.none(len(some)))
            if number % 32 == 31:
                held.append(_rollup_mb()["Anonymous"])
        growing.finish(lambda schema: quarantine_rows(manifest, schema))
        held.append(_rollup_mb()["Anonymous"])

    step("predictions", predictions)
    (path / "predictions.parquet").unlink()
    found["memory, predictions"] = [max(held) - alone] * 2
    return found


def _rollup_mb():
    """Memory of this process by kind [MB], /proc/self/smaps_rollup."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()[1:]
    return {name: int(rest.split()[0]) * 1024 / 1e6 for name, rest in (line.split(":", 1) for line in lines)}


def _memory_mb(name):
    """VmRSS (now) or VmHWM (the most so far) of this process [MB]."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status[name].split()[0]) * 1024 / 1e6


def fit_growth(name, sizes, rounds):
    """One row from (sizes, rounds, 2) values, wall and CPU."""
    values = np.array(rounds)
    wall, cpu = values[:, :, 0], np.median(values[:, :, 1], axis=1)
    rows = np.array(sizes)
    upper = rows >= rows[-1] / 100
    slope, low, high = fit_exponent(rows[upper], cpu[upper])
    is_time = name not in ("manifest", "mapped files") and not name.startswith(("memory", "two ranks"))
    per_row = float((cpu[-1] - cpu[-2]) / (rows[-1] - rows[-2]))
    return Growth(
        quantity=name,
        what=WHAT[name],
        unit="s" if is_time else "MB",
        rows=list(sizes),
        values=np.median(wall, axis=1).tolist(),
        low=wall.min(axis=1).tolist(),
        high=wall.max(axis=1).tolist(),
        cpu=cpu.tolist(),
        exponent=slope,
        exponent_low=low,
        exponent_high=high,
        fitted_from=int(rows[upper][0]),
        per_row=per_row * (1e9 if is_time else 1e6),
        computed_rows=COMPUTED_ROWS,
        at_computed=float(cpu[-1]) + per_row * (COMPUTED_ROWS - sizes[-1]),
        num_rounds=values.shape[1],
    )


def rows_before(path):
    """Rows of an earlier result, named as such."""
    rows = []
    for told in read_result(path)["rows"]:
        if told["quantity"] in BEFORE:
            more = told["per_row"] / (1e9 if told["unit"] == "s" else 1e6) * (COMPUTED_ROWS - told["rows"][-1])
            told |= {"computed_rows": COMPUTED_ROWS, "at_computed": told["cpu"][-1] + more}
            told |= {"quantity": f"{told['quantity']}, before", "what": "the same before manifests were mapped"}
            rows.append(Growth(**told))
    return rows


def fit_exponent(rows, values):
    """Slope of log values (n,) over log rows (n,), and Student's 95 % interval, None with fewer than three points."""
    fit = stats.linregress(np.log(rows), np.log(np.maximum(values, 1e-9)))
    if len(rows) < 3:
        return float(fit.slope), None, None
    half = float(stats.t.ppf(0.975, len(rows) - 2) * fit.stderr)
    return float(fit.slope), float(fit.slope) - half, float(fit.slope) + half


def print_growth(rows):
    """A line for each quantity."""
    head = "".join(f"{size:>12,}" for size in rows[0].rows)
    computed = f"({COMPUTED_ROWS:,})"
    print(f"\n{'':<22}{head}{computed:>15}{'exponent':>10}{'95 %':>15}{'per row':>12}")
    for row in rows:
        found = dict(zip(row.rows, row.values, strict=True))
        values = "".join(f"{found[size]:>12.3f}" if size in found else f"{'-':>12}" for size in rows[0].rows)
        interval = "" if row.exponent_low is None else f"{row.exponent_low:.2f}..{row.exponent_high:.2f}"
        each = f"{row.per_row:,.0f} {'ns' if row.unit == 's' else 'B'}"
        name = f"{row.quantity} [{row.unit}]"
        print(f"{name:<22}{values}{row.at_computed:>15.1f}{row.exponent:>10.2f}{interval:>15}{each:>12}")


if __name__ == "__main__":
    main()
