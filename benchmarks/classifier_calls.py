"""What does a call of `fastcell.load(RUN).predict` cost beside the transform and the network alone?

Warm calls in one thread on the CPU, with 1 cell and with 1,024 cells of different sizes. The reference calls the
compiled transform and the network on arrays that lie ready in a pool. ``predict`` is called without and with statistics
of training cells, with which a run finds cells unlike them. Contestants take turns; the ratio of CPU times is the
result, because a shared machine moves the wall clock.

    python benchmarks/classifier_calls.py            # 2 minutes
"""

import argparse
import itertools

import numpy as np
import torch
from harness import Contestant, Result, print_rows, time_turns

from fastcell.inference.backends.pytorch import TorchNetwork
from fastcell.inference.classifier import CHUNK, Classifier
from fastcell.inference.grey_cells import grey_cells
from fastcell.inference.unlike.fit_training_cells import fit_training_cells
from fastcell.inference.unlike.image_features import network_image_features
from fastcell.loading.preprocessing import Preprocessing
from fastcell.models.lightning_module import CellModule
from fastcell.simulator.simulate import simulate

NUM_CALLS = {1: 200, 1024: 1}
"""Calls of a round, by the number of cells in a call."""


def make_classifier(size, cells=()):
    """Return a classifier of random weights; with statistics of the training cells `cells` if there are any."""
    torch.manual_seed(0)
    preprocessing = Preprocessing(image_size=size)
    module = CellModule(classes=list("abcd"), preprocessing=preprocessing.to_dict())
    network = TorchNetwork(module, torch.device("cpu"))
    known = None
    if len(cells):
        images = grey_cells(cells, preprocessing, None).images(preprocessing, None, 1)
        features = network_image_features(images), network.run(images)[1]
        known = fit_training_cells(*features, np.arange(len(cells)) % 4, features)
    return Classifier(network, list("abcd"), preprocessing, "cross_entropy", known=known, threads=1)


def alone(classifier, pools):
    """Transform and network, without anything around them."""
    for pool in pools:
        images = pool.images(classifier.preprocessing, None, 1)
        with torch.inference_mode():
            classifier.backend.module(torch.from_numpy(images))


def repeated(call, num, cells):
    def work():
        for _ in range(num):
            call()
        return num * cells

    return work


def run(size, num_rounds):
    torch.set_num_threads(1)
    every = [np.ascontiguousarray(cell.pixels) for cell in itertools.islice(simulate(1024, seed=1), 1024)]
    classifier, whole = make_classifier(size), make_classifier(size, every[:400])
    rows = []
    for count, num in NUM_CALLS.items():
        cells = every[:count]
        pools = [grey_cells(cells[i : i + CHUNK], classifier.preprocessing, None) for i in range(0, count, CHUNK)]
        of_call = f"{count:,} cell{'s' * (count > 1)} a call"
        reference = f"transform + network, {of_call}"
        ways = {
            reference: ("compiled loops and torch, cells in one array", lambda pools=pools: alone(classifier, pools)),
            f"predict, {of_call}": ("list of arrays in, answers out", lambda cells=cells: classifier.predict(cells)),
            f"predict with unlike cells, {of_call}": ("and their flags", lambda cells=cells: whole.predict(cells)),
        }
        contestants = {
            name: Contestant(what, repeated(call, num, count), "ragged", size, min(count, CHUNK), "float32", threads=1)
            for name, (what, call) in ways.items()
        }
        turns = time_turns(contestants, num_rounds)
        for place, name in enumerate(contestants):
            ratio = turns.cpu_us[:, place] / turns.cpu_us[:, 0]
            print(f"{name}: CPU time {np.median(ratio):.3f} ({ratio.min():.3f}..{ratio.max():.3f}) of the reference")
        rows += turns.rows(reference)
    print_rows(rows, rows[0].contestant)
    print(f"wrote {Result('classifier-calls', 'simulated cells', {'size': size, 'cores': 1}, rows).save()}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=128, help="side of the images [px]")
    parser.add_argument("--rounds", type=int, default=9)
    arguments = parser.parse_args()
    run(arguments.size, arguments.rounds)


if __name__ == "__main__":
    main()
