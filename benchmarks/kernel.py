"""Each kernel against the torch expression and the DALI operators that it replaces: time, GB/s, share of a copy's.

On a GPU the kernels of ``kernels/``, on a machine without one their CPU twins on one core; both through `fastcell.ops`,
with checks and draw. Contestants take turns in one run, after their images have been compared (`BOUNDS`).

* ``transform``: raw cells to normalised images, by stages, raw shape, side and type of the images;
* ``normalize``: uint8 images to normalised ones;
* limit: a copy inside the device's memory (``memcpy`` on a CPU). Bytes are those of the cells, read once, and of the
  images, written once; of a copy, those read and written.

Cells and images rotate through more memory than a core's own caches or a GPU's L2 hold, and the L2 is overwritten
before the clock starts. On a GPU the time is that between two CUDA events around one CUDA graph of many calls, so that
no gap between launches is in it. DALI cannot be captured: its calls follow each other on a stream, host time included.

    python benchmarks/kernel.py [--rounds 5] [--full]
"""

from __future__ import annotations

import argparse
import itertools
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from harness import Contestant, Done, Result, Row, time_turns
from kernel_rivals import SIDE, Case, DaliNormalize, DaliTransform, TorchNormalize, TorchTransform, make_cells

from fastcell.ops.augmentation import Augmentation
from fastcell.ops.normalize import normalize
from fastcell.ops.transform import make_clock, transform
from fastcell.system import library_settings, resources

STAGES = {
    "plain": Augmentation.none(),
    "affine": Augmentation(blur_sigma=0.0, noise_std=0.0),
    "blur": Augmentation(False, False, 0.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0),
    "noise": Augmentation(False, False, 0.0, 0.0, 0.0, 0.0, 0.0, 6.0, 1.0),
    "all": Augmentation(blur_probability=1.0, noise_probability=1.0),
}
MODES = ("divide", "standardize")
SHAPES, SIZES = ("ragged", "square"), (128, 64, 32)
#: Largest difference of two contestants' images, in units of an image's mean (or deviation): the type's rounding (white
#: noise goes up to twice the mean), and 2e-3 for maps that rivals hold in float32.
BOUNDS = {torch.float32: 2e-3, torch.float16: 4e-3, torch.bfloat16: 2e-2}
DALI_BOUND = 3e-3  # more than that: its warp is coarser
#: Noise is another in each contestant: its standard deviation over a batch must be the one that was drawn.
NOISE_BOUND = 0.02
COPY, WRITE = "limit: copy", "limit: write"
COPY_CELL = SIDE * SIDE  # bytes that count as one cell in the limits' rates
SEED, EPOCH = 1, 2
LEAST_MS = 20  # that a GPU works in a round of a contestant


@dataclass
class KernelRow(Row):
    """A contestant at one case; `ratio` is its rate over the kernel's.

    Attributes:
        kernel: ``transform``, ``normalize``, or ``copy`` for the limit.
        stages: of transform, or the mode of normalize.
        us_per_batch: median [us].
        gb_per_s: bytes that must be moved, per second [10**9 bytes/s].
        copy_share, copy_low, copy_high: `gb_per_s` over that of the copy in the same round.
        advantage, advantage_low, advantage_high: the kernel's rate over this one's, in the same round.
        difference: from the kernel's images, at most, in units of an image's mean or deviation.
    """

    kernel: str = ""
    stages: str = ""
    us_per_batch: float = 0.0
    gb_per_s: float = 0.0
    copy_share: float = 0.0
    copy_low: float = 0.0
    copy_high: float = 0.0
    advantage: float = 1.0
    advantage_low: float = 1.0
    advantage_high: float = 1.0
    difference: float = 0.0


@dataclass
class Plan:
    """How much is done on a kind of device.

    Attributes:
        device: that works.
        batch: B.
        num_batches: R, different batches of cells.
        out_bytes: memory that images rotate through.
        least_cells: in one timed round of a contestant on a CPU.
        graph_pool: that all CUDA graphs take their memory from; they run one at a time and hand nothing on.
    """

    device: torch.device
    batch: int
    num_batches: int
    out_bytes: int
    least_cells: int
    graph_pool: Any = None

    def num_calls(self, who):
        """Batches that a contestant takes turns with: fewer for the slow ones of a GPU, so that a round stays short."""
        most = {"DALI": 4, "torch": 16}.get(who, self.num_batches)
        return self.num_batches if self.device.type == "cpu" else min(most, self.num_batches)


def main():
    """Run the benchmark, print its table and write its result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="timed rounds (%(default)s)")
    parser.add_argument("--batch", type=int, help="cells per call (256 on a CPU, 1024 on a GPU)")
    parser.add_argument(
        "--full", action="store_true", help="every stage x shape x side x type, not one changed at a time"
    )
    parser.add_argument("--quick", action="store_true", help="few cases, two rounds: does it run?")
    options = parser.parse_args()
    library_settings.quiet()
    plan = make_plan(options.batch, options.quick)
    rounds = 2 if options.quick else options.rounds
    absent = missing_dali()
    cases = make_cases(plan.batch, options.full, options.quick)
    turns, differences, bytes_per_cell = run(cases, plan, rounds, absent)
    rows = make_rows(turns, differences, bytes_per_cell)
    print_table(rows)
    settings = {"batch": plan.batch, "threads": 1, "rounds": rounds}
    print(f"wrote {Result('kernel', 'white noise', settings, rows, absent=absent).save()}")


def make_plan(batch, quick):
    """One core, or one GPU with more cells than its L2 holds."""
    if resources.has_gpu():
        batch = batch or 1024
        torch.backends.cudnn.allow_tf32 = False  # torch's blur is to be float32, as the others are
        handle = torch.cuda.graph_pool_handle()
        return Plan(torch.device("cuda", 0), batch, 8 if quick else 64, 1 << 29, 4 * batch, handle)
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    library_settings.raise_malloc_thresholds()
    torch.set_num_threads(1)
    batch = batch or 256
    return Plan(torch.device("cpu"), batch, 16, 1 << 27, 2 * batch if quick else 4 * batch)


def missing_dali():
    """DALI with the reason, where it cannot take part."""
    try:
        import nvidia.dali  # noqa: F401
    except ImportError as error:
        print(f"without DALI: {error}")
        return {"DALI": str(error)}
    return {}


def make_cases(batch, full, quick):
    """Every stage at 128 px in float32; then the other sides and types for nothing and for everything."""
    types = list(BOUNDS)
    if full:
        grid = [(stage, *rest) for stage in STAGES for rest in itertools.product(SHAPES, SIZES, types)]
    else:
        stages = ("plain", "all") if quick else tuple(STAGES)
        grid = [(stage, shape, SIDE, torch.float32) for shape in SHAPES for stage in stages]
        if not quick:
            some = list(itertools.product(("plain", "all"), SHAPES))
            grid += [(stage, shape, size, torch.float32) for size in SIZES[1:] for stage, shape in some]
            grid += [(stage, shape, SIDE, dtype) for dtype in types[1:] for stage, shape in some]
    cases = [Case("transform", stage, shape, size, dtype, batch) for stage, shape, size, dtype in grid]
    modes = itertools.product(MODES, types[:1] if quick else types)
    return cases + [Case("normalize", mode, "square", SIDE, dtype, batch) for mode, dtype in modes]


def run(cases, plan, rounds, absent):
    """Compare, then time all contestants of all cases, and the limits.

    Args:
        cases: to be timed.
        plan: of the device.
        rounds: timed.
        absent: DALI with the reason, where it does not take part; cases in which its images differ are added.

    Returns:
        What was measured; by contestant the difference from the kernel, and the bytes that a cell moves.
    """
    cells = {
        shape: make_cells(shape, plan.num_batches, plan.batch, plan.device)
        for shape in sorted({case.data for case in cases})
    }
    buffer = torch.zeros(plan.out_bytes, dtype=torch.uint8, device=plan.device)
    copied, written = plan.out_bytes // 2 // COPY_CELL, plan.out_bytes // 4 // COPY_CELL
    half, words = buffer.view(2, -1), buffer.view(torch.float32)
    limits = {
        COPY: ("half of the memory onto the other half", lambda: half[0].copy_(half[1]), copied),
        WRITE: ("one constant into the batches", lambda: words.fill_(1.0), written),
    }
    contestants = {}
    differences = {}
    bytes_per_cell = {COPY: 2.0 * COPY_CELL, WRITE: 4.0 * COPY_CELL}
    device = "cpu" if plan.device.type == "cpu" else "cuda:0"
    for name, (what, call, count) in limits.items():
        work = Timed(plan, buffer, [call] * 8, count, captured=True)
        contestants[name] = Contestant(what, work, device=device, threads=1)
    for case in cases:
        calls = make_calls(case, cells[case.data], 0 if "DALI" in absent else plan.num_calls("DALI"))
        found, faults = compare(case, cells[case.data], calls)
        differences |= found
        for who, fault in faults.items():
            absent[f"{who}: {case.name}"] = fault
            del calls[who]
        moved = float((cells[case.data].heights.astype(np.int64) * cells[case.data].widths).mean())
        for who, (what, call) in calls.items():
            name = f"{who}: {case.name}"
            bytes_per_cell[name] = moved + case.size**2 * case.dtype.itemsize
            work = Timed(plan, buffer, rotating(call, case, plan, buffer, who), case.batch, captured=who != "DALI")
            dtype = str(case.dtype).removeprefix("torch.")
            contestants[name] = Contestant(what, work, case.data, case.size, case.batch, dtype, device, 1)
    return time_turns(contestants, rounds), differences, bytes_per_cell


Call = Callable[..., torch.Tensor]
"""``call(number, out, noise=True)``: batch `number` of the cells as (B, 1, S, S), in `out` or in its own memory."""


def make_calls(case, cells, num_dali_batches):
    """Name to (description, call): the kernel, and what it replaces; without DALI where that gets no batches."""
    if case.kernel == "normalize":
        images = cells.pool.pixels.view(cells.num_batches, case.batch, 1, SIDE, SIDE)

        def fused(number, out, noise=True):
            return normalize(images[number], case.stages, case.dtype, out)

        calls = {
            "fastcell": ("fastcell.ops.normalize", fused),
            "torch": ("float, mean, divide", TorchNormalize(case, images)),
        }
        if num_dali_batches:
            calls["DALI"] = ("feed, normalize or reductions.mean", DaliNormalize(case, images))
        return calls
    augmentation = STAGES[case.stages]
    quiet = Augmentation(**{**augmentation.to_dict(), "noise_std": 0.0})
    clock = make_clock(SEED, EPOCH).to(cells.index.device)

    def fused_transform(number, out, noise=True):
        return transform(
            cells.pool,
            cells.index[number],
            cells.position[number],
            clock,
            image_size=case.size,
            augmentation=augmentation if noise else quiet,
            dtype=case.dtype,
            out=out,
        )

    calls = {
        "fastcell": ("divided by the mean", fused_transform),
        "torch": ("index, grid_sample, conv2d, randn, mean", TorchTransform(case, cells, augmentation, SEED, EPOCH)),
    }
    if num_dali_batches:
        rival = DaliTransform(case, cells, augmentation, SEED, EPOCH, num_dali_batches)
        calls["DALI"] = ("feed, warp_affine, gaussian_blur, noise, mean", rival)
    return calls


def compare(case, cells, calls):
    """Hold the rivals' images against the kernel's.

    Where torch's differ it may be the kernel that is wrong, and the program ends.

    Returns:
        Largest differences by contestant and case; what is wrong with DALI's, which is then not timed.
    """
    shape = (case.batch, 1, case.size, case.size)
    expression = calls["torch"][1]
    std = expression.std[0] if isinstance(expression, TorchTransform) else None

    def images(who, noise):
        out = torch.empty(shape, dtype=case.dtype, device=cells.index.device)
        return calls[who][1](0, out, noise).float().clone()

    ours = images("fastcell", False)
    found, faults = {}, {}
    for who in calls:
        clean = ours if who == "fastcell" else images(who, False)
        difference = float((clean - ours).abs().max())
        found[f"{who}: {case.name}"] = difference
        if not difference <= BOUNDS[case.dtype] + (DALI_BOUND if who == "DALI" else 0):
            faults[who] = f"differs by {difference:.1e}"
        if isinstance(expression, TorchTransform) and std is not None:
            relative = std / expression.grey(0).mean((1, 2, 3), keepdim=True)
            noise = (images(who, True) - clean).square().mean((1, 2, 3), keepdim=True)
            ratio = float((noise.sum() / relative.square().sum()).sqrt())
            if not abs(ratio - 1) <= NOISE_BOUND:
                faults[who] = f"noise is {ratio:.3f} of what was drawn"
    told = ", ".join(f"{name.split(':')[0]} {value:.1e}" for name, value in found.items())
    print(f"{case.name}: {told} {faults or ''}", flush=True)
    for who in faults:
        if who != "DALI":
            raise SystemExit(f"{who}, {case.name}: {faults[who]}. Nothing timed.")
    return found, faults


def rotating(call, case, plan, buffer, who):
    """Calls of one contestant on other cells and with another place for the images each time."""
    size = case.batch * case.size**2 * case.dtype.itemsize
    places = buffer[: len(buffer) // size * size].view(-1, size)
    count = plan.num_calls(who)

    def one(number):
        # Places lie as far from each other as they can, so that small images rotate through all of the memory.
        place = places[number * max(1, len(places) // count) % len(places)]
        out = place.view(case.dtype).view(case.batch, 1, case.size, case.size)
        return lambda: call(number, out)

    return [one(number) for number in range(count)]


class Timed:
    """A round of one contestant.

    On the CPU some of the calls, going on where the last round ended. On a GPU all of them, as one CUDA graph where
    they can be captured, between two events, after the L2 cache has been overwritten.

    Args:
        plan: of the device.
        buffer: memory to overwrite the cache with.
        calls: that take turns.
        cells: of one call.
        captured: whether a CUDA graph can hold the calls.
    """

    def __init__(self, plan, buffer, calls, cells, captured):
        self.calls, self.cells, self.on_gpu = calls, cells, plan.device.type == "cuda"
        self.at, self.count = 0, max(plan.least_cells // plan.batch, 1)
        self.graph = None
        self.graph_pool = plan.graph_pool
        if not self.on_gpu:
            return
        self.flush = buffer.view(torch.float32)
        if captured:
            self.graph = self._capture()

    def _capture(self):
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for call in self.calls[:3]:  # compiles kernels, chooses algorithms
                call()
        torch.cuda.current_stream().wait_stream(stream)
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        # DALI's threads may not be kept from their own calls meanwhile.
        with torch.cuda.graph(graph, pool=self.graph_pool, capture_error_mode="thread_local"):
            for call in self.calls:
                call()
        return graph

    def _all(self):
        for call in self.calls:
            call()

    def __call__(self):
        start, before = time.perf_counter(), time.process_time()
        if not self.on_gpu:
            for _ in range(self.count):
                self.calls[self.at % len(self.calls)]()
                self.at += 1
            return Done(self.count * self.cells, time.perf_counter() - start, time.process_time() - before)
        milliseconds, repeats = 0.0, 0
        while milliseconds < LEAST_MS and repeats < 10:
            self.flush.fill_(0.0)
            first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            first.record()
            if self.graph is None:
                self._all()
            else:
                self.graph.replay()
            last.record()
            torch.cuda.synchronize()
            milliseconds += first.elapsed_time(last)
            repeats += 1
        return Done(repeats * len(self.calls) * self.cells, milliseconds / 1e3, time.process_time() - before)


def make_rows(turns, differences, bytes_per_cell):
    """One row per contestant and case, and one per limit."""
    rows = []
    for name in turns.names:
        who, _, case = name.partition(": ")
        limit = name in (COPY, WRITE)
        reference = COPY if limit else f"fastcell: {case}"
        (row,), (copy,), (best,) = (
            turns.rows(reference, [name]),
            turns.rows(COPY, [name]),
            turns.rows(name, [reference]),
        )
        scale = bytes_per_cell[name] / bytes_per_cell[COPY]
        kernel, _, stages = case.partition(",")[0].partition(" ")
        rows.append(
            KernelRow(
                **{**asdict(row), "contestant": name if limit else who},
                kernel=case if limit else kernel,
                stages="" if limit else stages,
                us_per_batch=row.batch / row.cells_per_s * 1e6,
                gb_per_s=row.cells_per_s * bytes_per_cell[name] / 1e9,
                copy_share=copy.ratio * scale,
                copy_low=copy.ratio_low * scale,
                copy_high=copy.ratio_high * scale,
                advantage=best.ratio,
                advantage_low=best.ratio_low,
                advantage_high=best.ratio_high,
                difference=differences.get(name, 0.0),
            )
        )
    return rows


def print_table(rows):
    """Print every contestant of every case."""
    print(
        f"\n{'case':<46}{'who':<10}{'cells/s':>12}{'us/batch':>11}{'GB/s':>8}{'of copy':>9}{'kernel x':>10}{'95 %':>14}"
    )
    for row in rows:
        case = f"{row.kernel} {row.stages}, {row.data}, {row.size}, {row.dtype}" if row.size else row.contestant
        share, interval = f"{row.copy_share:.1%}", f"{row.advantage_low:.2f}..{row.advantage_high:.2f}"
        print(
            f"{case:<46}{row.contestant[:9]:<10}{row.cells_per_s:>12,.0f}{row.us_per_batch:>11,.0f}{row.gb_per_s:>8.2f}"
            f"{share:>9}{row.advantage:>10.2f}{interval:>14}"
        )


if __name__ == "__main__":
    main()
