"""How long does one cell take, from its pixels to its class? The median matters less than the slowest in a thousand.

The clock starts with an (H, W) uint8 array in memory and ends with a Python integer. Inside: the map to the square, the
normalisation, the network, the largest output; on a GPU also both copies and waiting for them. Outside: reading,
decoding, everything that is done once (weights, compilation, graph capture, the first calls). Ways take turns in blocks
of calls; every call is another cell, of another size; Python's garbage collector runs as it does.

Percentiles come with a 95 % interval from a bootstrap over the blocks, for neighbouring calls are alike.
"""

from __future__ import annotations

import itertools
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from harness import Result

from fastcell.inference.backends.pytorch import TorchNetwork
from fastcell.inference.classifier import Classifier
from fastcell.loading.preprocessing import Preprocessing
from fastcell.models.lightning_module import CellModule
from fastcell.ops.transform import CellPool, make_clock, transform
from fastcell.simulator.simulate import simulate
from fastcell.system import resources

BLOCK = 100
CELLS = 500
WARM_UP = 50
AWAKE_S = 0.02  # of calls before each timed block
_MOST_PIXELS = 1 << 16

Classify = Callable[[np.ndarray], int]
"""(H, W) uint8 -> number of the class."""


@dataclass
class LatencyRow:
    """One way.

    Attributes:
        latency: its name.
        what: what it does, in one line.
        device: that the network runs on.
        threads: of the CPU.
        num_calls: n.
        num_blocks: that they were made in.
        p50_us, p99_us, p999_us: percentiles [us], with the bounds of their 95 % interval.
        max_us: the slowest call [us].
    """

    latency: str
    what: str
    device: str
    threads: int
    num_calls: int
    num_blocks: int
    p50_us: float
    p50_low: float
    p50_high: float
    p99_us: float
    p99_low: float
    p99_high: float
    p999_us: float
    p999_low: float
    p999_high: float
    max_us: float


def run(model, calls, threads):
    """Check that all ways give the same classes, time them, print, write the result."""
    torch.set_num_threads(threads)
    cells = [np.ascontiguousarray(cell.pixels) for cell in itertools.islice(simulate(CELLS, seed=1), CELLS)]
    spread_classes(model, cells)
    with tempfile.TemporaryDirectory() as folder:
        ways, absent = make_ways(model, threads, Path(folder))
        compare(ways, cells)
        spent = time_calls({name: way[1] for name, way in ways.items()}, cells, max(calls // BLOCK, 2))
    rows = [
        summarize(name, ways[name][0], "cuda:0" if name.startswith("GPU") else "cpu", threads, values)
        for name, values in spent.items()
    ]
    print_latency(rows)
    for name, reason in absent.items():
        print(f"without {name}: {reason}")
    settings = {"network": str(model.hparams["network"]), "size": model.preprocessing["image_size"]}
    settings |= {"calls": rows[0].num_calls, "block": BLOCK, "threads": threads}
    print(f"wrote {Result('latency', 'simulated cells', settings, rows, absent=absent).save()}")


def spread_classes(model, cells):
    """Shift the last bias so that random weights call every class: else any two ways would agree."""
    logits = []
    watch = model.register_forward_hook(lambda _, __, output: logits.append(output))
    way = ByTorch(model)
    for cell in cells:
        way(cell)
    watch.remove()
    last = [part for part in model.network.modules() if isinstance(part, torch.nn.Linear)][-1]
    with torch.no_grad():
        last.bias -= torch.cat(logits).median(dim=0).values


def make_ways(model, threads, folder):
    """What there is on this machine, by name with a description; and what there is not, with the reason."""
    ways = {}
    absent = {}
    makers = {
        "CPU, eager": ("fused pass, torch, channels last", lambda: ByTorch(_copy(model))),
        "CPU, torch.compile": ("fused pass, network by inductor", lambda: ByTorch(_copy(model, compiled=True))),
        "CPU, ONNX Runtime": ("one graph, preprocessing inside", lambda: ByOnnx(_copy(model), threads, folder)),
    }
    if resources.has_gpu():
        makers |= {
            "GPU, eager": ("copy, fused kernel, torch, copy", lambda: ByGpu(_copy(model), graph=False)),
            "GPU, CUDA graph": ("the same, captured", lambda: ByGpu(_copy(model), graph=True)),
            "GPU, CUDA graph, bfloat16": (
                "the same, network in bfloat16",
                lambda: ByGpu(_copy(model), graph=True, half=True),
            ),
            "GPU, classifier": (
                "what fastcell.load gives, with its checks",
                lambda: ByClassifier(_copy(model), "cuda"),
            ),
        }
    else:
        absent["GPU, CUDA graph"] = "no GPU"
    for name, (what, make) in makers.items():
        try:
            way = make()
            way(np.full((40, 200), 128, np.uint8))
        except Exception as error:  # noqa: BLE001  a way that is not there is told, whatever keeps it away
            absent[name] = f"{type(error).__name__}: {str(error).strip().splitlines()[0][:200] if str(error) else ''}"
            continue
        ways[name] = (what, way)
    return ways, absent


def _copy(model, compiled=False):
    hparams = {**model.hparams, "compile_network": compiled}
    made = CellModule(**hparams)
    made.load_state_dict(model.state_dict())
    return made.eval()


class ByTorch:
    """The engine's pass over the cell, then the network, on the CPU."""

    def __init__(self, model):
        self.model, self.preprocessing = model, Preprocessing.from_dict(model.preprocessing)
        self.zero, self.clock = torch.zeros(1, dtype=torch.int64), make_clock(0, 0)

    def __call__(self, cell):
        height, width = (torch.tensor([side], dtype=torch.int32) for side in cell.shape)
        pool = CellPool(torch.from_numpy(cell.reshape(-1)), self.zero, height, width)
        values = self.preprocessing
        with torch.inference_mode():
            images = transform(
                pool, self.zero, self.zero, self.clock, image_size=values.image_size, mode=values.normalization
            )
            return int(self.model(images).argmax())


class ByOnnx:
    """The file of `fastcell export` in ONNX Runtime."""

    def __init__(self, model, threads, folder):
        import onnxruntime

        from fastcell.inference.onnx import graph as onnx_graph

        path = folder / "model.onnx"
        onnx_graph.save_graph(onnx_graph.build_graph(model, None), path)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        self.session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def __call__(self, cell):
        (chances,) = self.session.run(["probabilities"], {"cell": cell[None, None]})
        return int(chances[0].argmax())


class ByGpu:
    """Pixels and sides into pinned memory, over the bus, fused kernel, network, and the class back; waited for.

    Args:
        model: to be moved.
        graph: all of it as one CUDA graph. It copies as many bytes as the largest cell has; the kernel reads the cell's
            sides on the device, so that one graph serves cells of all sizes.
        half: the network under autocast to bfloat16.
    """

    def __init__(self, model, graph, half=False):
        self.model, self.half = model.cuda(), half
        self.preprocessing = Preprocessing.from_dict(model.preprocessing)
        self.pixels = torch.zeros(_MOST_PIXELS, dtype=torch.uint8).pin_memory()
        self.sides = torch.ones(2, dtype=torch.int32).pin_memory()
        self.answer = torch.zeros(1, dtype=torch.int64).pin_memory()
        self._pixels, self._sides = self.pixels.cuda(), self.sides.cuda()
        self._zero, self._clock = torch.zeros(1, dtype=torch.int64).cuda(), make_clock(0, 0).cuda()
        self._host, self._host_sides = self.pixels.numpy(), self.sides.numpy()
        self.graph = None
        if not graph:
            return
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):  # compiles the kernel, picks the algorithms
            for _ in range(3):
                self._work()
        torch.cuda.current_stream().wait_stream(stream)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph, capture_error_mode="thread_local"):
            self._work()

    def _work(self):
        values = self.preprocessing
        self._pixels.copy_(self.pixels, non_blocking=True)
        self._sides.copy_(self.sides, non_blocking=True)
        pool = CellPool(self._pixels, self._zero, self._sides[:1], self._sides[1:])
        with torch.inference_mode(), torch.autocast("cuda", torch.bfloat16, enabled=self.half, cache_enabled=False):
            images = transform(
                pool, self._zero, self._zero, self._clock, image_size=values.image_size, mode=values.normalization
            )
            self.answer.copy_(self.model(images).argmax(dim=1), non_blocking=True)

    def __call__(self, cell):
        self._host[: cell.size] = cell.reshape(-1)
        self._host_sides[:] = cell.shape
        if self.graph is None:
            self._work()
        else:
            self.graph.replay()
        torch.cuda.current_stream().synchronize()
        return int(self.answer)


class ByClassifier:
    """The classifier that `fastcell.load` gives, on a device."""

    def __init__(self, model, device):
        network = TorchNetwork(model, torch.device(device))
        preprocessing = Preprocessing.from_dict(model.preprocessing)
        self.classifier = Classifier(network, model.classes, preprocessing, model.hparams["loss"], threads=1)

    def __call__(self, cell):
        return int(self.classifier.predict_proba(cell).argmax())


def compare(ways, cells):
    """Stop unless the ways agree on 99 % of the cells (bfloat16: 90 %): random weights leave some near a draw."""
    found = {name: np.array([way(cell) for cell in cells]) for name, (_, way) in ways.items()}
    first = next(iter(found.values()))
    if len(np.unique(first)) < 2:
        raise SystemExit("all cells get one class: nothing could be told apart")
    for name, classes in found.items():
        same = float((classes == first).mean())
        print(f"{name}: the same class for {same:.1%} of {len(cells)} cells")
        if same < (0.9 if "bfloat16" in name else 0.99):
            raise SystemExit("classes differ: nothing timed")


def time_calls(ways, cells, num_blocks):
    """Time of every call [us], (blocks, calls of a block), the ways in turns block by block."""
    spent = {name: np.zeros((num_blocks, BLOCK)) for name in ways}
    for way in ways.values():
        for cell in itertools.islice(itertools.cycle(cells), WARM_UP):
            way(cell)
    for block in range(num_blocks):
        chosen = [cells[(block * BLOCK + call) % len(cells)] for call in range(BLOCK)]
        for name, way in ways.items():
            keep_awake(way, chosen)
            for call, cell in enumerate(chosen):
                start = time.perf_counter_ns()
                way(cell)
                spent[name][block, call] = (time.perf_counter_ns() - start) / 1e3
    return spent


def keep_awake(way, cells):
    """Make calls that are not timed: a GPU lowers its clocks while the ways of the CPU have their turn."""
    end = time.perf_counter() + AWAKE_S
    for cell in itertools.cycle(cells):
        way(cell)
        if time.perf_counter() >= end:
            return


def summarize(name, what, device, threads, spent):
    """Percentiles of (blocks, calls) times [us] with their intervals."""
    points, low, high = percentiles(spent)
    pairs = zip(("p50", "p99", "p999"), points, low, high, strict=True)
    values = {
        f"{key}_{part}": float(value)
        for key, *three in pairs
        for part, value in zip(("us", "low", "high"), three, strict=True)
    }
    return LatencyRow(name, what, device, threads, spent.size, len(spent), max_us=float(spent.max()), **values)


def percentiles(spent, num_resamples=1_000):
    """p50, p99 and p99.9 of (blocks, calls) times, (3,), and the bounds of their 95 % bootstrap intervals by block."""
    ranks = [50.0, 99.0, 99.9]
    rng = np.random.default_rng(0)
    drawn = rng.integers(len(spent), size=(num_resamples, len(spent)))
    resampled = np.array([np.percentile(spent[chosen], ranks) for chosen in drawn])
    low, high = np.percentile(resampled, [2.5, 97.5], axis=0)
    return np.percentile(spent, ranks), low, high


def print_latency(rows):
    """A line for each way."""
    print(f"\n{'[us]':<28}{'p50':>24}{'p99':>24}{'p99.9':>24}{'max':>10}{'n':>8}")
    for row in rows:
        texts = [
            f"{value:,.0f} ({low:,.0f}..{high:,.0f})"
            for value, low, high in (
                (row.p50_us, row.p50_low, row.p50_high),
                (row.p99_us, row.p99_low, row.p99_high),
                (row.p999_us, row.p999_low, row.p999_high),
            )
        ]
        print(
            f"{row.latency:<28}" + "".join(f"{text:>24}" for text in texts) + f"{row.max_us:>10,.0f}{row.num_calls:>8,}"
        )
