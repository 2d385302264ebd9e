"""What does a call of `fastcell.load(RUN).predict` cost beside the transform and the network alone?

Warm calls in one thread on the CPU, with 1 cell and with 1,024 cells of different sizes. The reference calls the
compiled transform and the network on arrays that lie ready in a pool. Contestants take turns; the ratio of CPU times is
the result, because a shared machine moves the wall clock.

    python benchmarks/classifier_calls.py            # 2 minutes
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable

import numpy as np
import torch
from harness import Contestant, Result, print_rows, time_turns

from fastcell.inference.backends.pytorch import TorchNetwork
from fastcell.inference.classifier import CHUNK, Classifier
from fastcell.inference.grey_cells import GreyCells, grey_cells
from fastcell.loading.preprocessing import Preprocessing
from fastcell.models.lightning_module import CellModule
from fastcell.simulator.simulate import simulate

NUM_CALLS = {1: 200, 1024: 1}
"""Calls of a round, by the number of cells in a call."""


def make_classifier(size: int) -> Classifier:
    torch.manual_seed(0)
    preprocessing = Preprocessing(image_size=size)
    module = CellModule(classes=list("abcd"), preprocessing=preprocessing.to_dict())
    network = TorchNetwork(module, torch.device("cpu"))
    return Classifier(network, list("abcd"), preprocessing, "cross_entropy", threads=1)


def alone(classifier: Classifier, pools: list[GreyCells]) -> None:
    """Transform and network, without anything around them."""
    for pool in pools:
        images = pool.images(classifier.preprocessing, None, 1)
        with torch.inference_mode():
            classifier.backend.module(torch.from_numpy(images))  # type: ignore[attr-defined]


def repeated(call: Callable[[], object], num: int, cells: int) -> Callable[[], int]:
    def work() -> int:
        for _ in range(num):
            call()
        return num * cells

    return work


def run(size: int, num_rounds: int) -> None:
    torch.set_num_threads(1)
    classifier = make_classifier(size)
    every = [np.ascontiguousarray(cell.pixels) for cell in itertools.islice(simulate(1024, seed=1), 1024)]
    rows = []
    for count, num in NUM_CALLS.items():
        cells = every[:count]
        pools = [grey_cells(cells[i : i + CHUNK], classifier.preprocessing, None) for i in range(0, count, CHUNK)]
        of_call = f"{count:,} cell{'s' * (count > 1)} a call"
        reference = f"transform + network, {of_call}"
        ways: dict[str, tuple[str, Callable[[], object]]] = {
            reference: ("compiled loops and torch, cells in a pool", lambda pools=pools: alone(classifier, pools)),
            f"predict, {of_call}": ("list of arrays in, answers out", lambda cells=cells: classifier.predict(cells)),
        }
        contestants = {
            name: Contestant(what, repeated(call, num, count), "ragged", size, min(count, CHUNK), "float32", threads=1)
            for name, (what, call) in ways.items()
        }
        turns = time_turns(contestants, num_rounds)
        by_cpu = turns.cpu_us[:, 1] / turns.cpu_us[:, 0]
        print(f"{of_call}: CPU time {np.median(by_cpu):.3f} ({by_cpu.min():.3f}..{by_cpu.max():.3f}) of the reference")
        rows += turns.rows(reference)
    print_rows(rows, rows[0].contestant)
    print(f"wrote {Result('classifier-calls', 'simulated cells', {'size': size, 'cores': 1}, rows).save()}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=128, help="side of the images [px]")
    parser.add_argument("--rounds", type=int, default=9)
    arguments = parser.parse_args()
    run(arguments.size, arguments.rounds)


if __name__ == "__main__":
    main()
