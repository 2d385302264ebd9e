"""A contestant as a process of its own: it loads cells an epoch at a time, on request.

A process of its own makes memory and time to the first batch honest, and lets a peer live in its own environment. The
worker speaks JSON lines on standard input and output, as `peers/ffcv_worker.py` does; `worker.py` is the other end.

    (start)     {"ready": true, "packages": {...}}    imports are done, files of its own written, nothing is open
    go          {"cells": n, "seconds": s, "cpu_seconds": c, "first_batch_s": f}    the first one opens the data: cold
    images K    {"images": path, "cells": k}          a .npy file of records (row, image) from one more epoch
    quit

This module imports only NumPy and torch: peers' environments have them.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import os
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import torch

Batches = Iterator[tuple[torch.Tensor, "np.ndarray | None"]]
"""Images (B, 1, S, S) float32 on the device, divided by their mean, and the rows of their cells (B,) where known."""


@dataclass(frozen=True)
class Options:
    """What a way is given.

    Attributes:
        source: folder of a packed data set, or of `cells.bin` and `cells.npy` (see `worker.write_source`).
        folder: where the way may put files of its own.
        threads: cores it may use.
        batch: cells in a batch.
        size: side of the images [px].
        device: where the batches end.
        augment: flips and a random affine map.
    """

    source: Path
    folder: Path
    threads: int
    batch: int
    size: int
    device: torch.device
    augment: bool

    @property
    def workers(self):
        """Processes of a torch DataLoader: one for each core, none on one core, where they would only add copies."""
        return self.threads if self.threads > 1 else 0


class Way(ABC):
    """A way from stored cells to batches.

    Attributes:
        packages: distributions whose versions are told.
        modules: imported before anything is timed.
    """

    packages: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()

    def __init__(self, options):
        self.options = options

    def prepare(self):  # noqa: B027, most have nothing to do
        """Write the files of its own format, unless they are there. Not timed."""

    def open(self):  # noqa: B027
        """Open the data; timed as a part of the first epoch."""

    @abstractmethod
    def epoch(self, number):
        """One epoch, shuffled; or all of it done, and the number of cells, for a limit that makes no batches."""

    def in_order(self):
        """An epoch for the comparison of images: as `epoch`, where its batches tell their rows."""
        return self.epoch(0)


def to_device(images, device):
    """The usual way of a batch to a GPU: pinned, without waiting. On the CPU nothing is done."""
    if device.type == "cpu" or images.device == device:
        return images
    return (images if images.is_pinned() else images.pin_memory()).to(device, non_blocking=True)


def run_epoch(way, number):
    """One epoch to its end, the first with opening; each batch is touched, so that nothing lazy is left undone."""
    start, before = time.perf_counter(), tree_cpu_seconds()
    if number == 0:
        way.open()
    found = _load(way, number, start)
    wait(way.options.device)
    return {**found, "seconds": time.perf_counter() - start, "cpu_seconds": tree_cpu_seconds() - before}


def _load(way, number, start):
    first, num_cells = 0.0, 0
    work = way.epoch(number)
    if isinstance(work, int):
        return {"cells": work}
    for images, _ in work:
        images = to_device(images, way.options.device)
        touched = images[:, 0, 0, 0].sum()
        if way.options.device.type == "cpu":
            assert torch.isfinite(touched)
        if not num_cells:
            wait(way.options.device)
            first = time.perf_counter() - start
        num_cells += len(images)
    return {"cells": num_cells, "first_batch_s": first}


def wait(device):
    """Until the GPU has done all that was asked."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def tree_cpu_seconds():
    """CPU time of this process (exact) and of all its children, also those that have ended (ticks of 10 ms) [s]."""
    times, tick = os.times(), 1 / os.sysconf("SC_CLK_TCK")
    ended = times.children_user + times.children_system
    alive = 0
    for child in descendants(os.getpid()):
        try:
            fields = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue  # ended meanwhile: its parent has its time
        alive += sum(map(int, fields[11:15]))
    return time.process_time() + ended + alive * tick


def descendants(pid):
    """Children of a process, and theirs."""
    found = []
    try:
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in map(int, (task / "children").read_text().split()):
                found += [child, *descendants(child)]
    except OSError:
        pass  # ended meanwhile
    return found


def save_images(way, count, file):
    """Write `count` cells of one more epoch, and which they were."""
    images, rows = [], []
    work = way.in_order()
    assert not isinstance(work, int)
    for batch, numbers in work:
        assert numbers is not None
        images.append(batch.float().cpu().numpy().copy())
        rows.append(np.asarray(numbers, np.int64).copy())
        if sum(map(len, images)) >= count:
            break
    work.close()
    size = way.options.size
    out = np.zeros(min(count, sum(map(len, images))), [("row", "i8"), ("image", "f4", (1, size, size))])
    out["row"], out["image"] = np.concatenate(rows)[: len(out)], np.concatenate(images)[: len(out)]
    np.save(file, out)
    return {"images": str(file), "cells": len(out)}


def versions(names):
    """Of the distributions that are there: OpenCV, say, comes under several names."""
    found = {}
    for name in names:
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def serve(ways, description):
    """Answer lines until `quit` or the end of the input."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="folder of the data")
    parser.add_argument("mode", choices=list(ways))
    parser.add_argument("--folder", type=Path, help="where files of its own go (default: SOURCE)")
    parser.add_argument("--threads", type=int, default=1, help="cores it may use (%(default)s)")
    parser.add_argument("--batch", type=int, default=256, help="cells in a batch (%(default)s)")
    parser.add_argument("--size", type=int, default=128, help="side of the square (%(default)s)")
    parser.add_argument("--device", default="cpu", help="where the batches end (%(default)s)")
    parser.add_argument("--augment", action="store_true", help="flips and a random affine map")
    given = parser.parse_args()
    folder = given.folder or given.source
    folder.mkdir(parents=True, exist_ok=True)
    device = torch.device(given.device)
    options = Options(given.source, folder, given.threads, given.batch, given.size, device, given.augment)
    answers = os.fdopen(os.dup(1), "w")  # what else is printed, by libraries in C too, goes to standard error
    os.dup2(2, 1)

    def answer(**values):
        print(json.dumps(values), file=answers, flush=True)

    torch.set_num_threads(options.threads)
    way = ways[given.mode](options)
    way.prepare()
    for name in way.modules:
        importlib.import_module(name)
    answer(ready=True, packages=versions(way.packages))
    epoch = -1
    for line in sys.stdin:
        match line.split():
            case ["go"]:
                epoch += 1
                answer(**run_epoch(way, epoch))
            case ["images", count]:
                answer(**save_images(way, int(count), folder / f"images-{given.mode}-{os.getpid()}.npy"))
            case ["quit"]:
                break
            case _:
                answer(error=f"not understood: {line.strip()!r}; say go, images K or quit")
    sys.stderr.flush()
    os._exit(0)  # libraries with threads of their own can hang in their destructors
