"""Which cells to label next: balanced accuracy against labels for random, uncertain, diverse and mixed choices.

A simulated annotator gives the recorded class of every cell that is asked for. In each seed, 35 % of every class are
test cells that are never asked for, drawn anew. The first cells are drawn at random, the same ones for all ways; then
batches are chosen by `fastcell.review.next_to_label.choose_next`, as the page chooses them.

What is trained is the learner of the page: a logistic regression with balanced class weights, fitted anew after each
batch. It sees an embedding that no label was used for: ``quality``, the 16 principal components of the quality
features that the page uses without a run, or ``quality+pixels``, the same beside 50 principal components of the cells
at 32 x 32 pixels. No network is trained.

Scores are the mean recall of the classes over the test cells of all seeds, and the difference to random on the same
cells; both have 95 % intervals with the seeds as groups (`fastcell.stats`).

    python benchmarks/label_next.py DATA [--seeds 5] [--first 40] [--batch 40] [--most 400]
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import cv2
import numpy as np
from harness import Result

from fastcell.dataset.manifest import Manifest
from fastcell.dataset.single_cells import read_cells
from fastcell.quality.features import measure_cells
from fastcell.review.cell_embedding import principal_components
from fastcell.review.next_to_label import ChoiceName, choose_next, fit_learner
from fastcell.stats.confusion import confusion_per_group
from fastcell.stats.recall_difference import recall_difference
from fastcell.stats.score_intervals import mean_recall

WAYS = get_args(ChoiceName)
TEST_SHARE = 0.35
PIXEL_COMPONENTS = 50
SIDE = 32  # of the cells of quality+pixels [px]


@dataclass
class Step:
    """One way of choosing at one number of labels.

    Attributes:
        embedding: what the learner sees.
        way: how cells were chosen.
        labels: labelled cells.
        balanced_accuracy: over the test cells of all seeds, ``{"value", "low", "high"}``.
        over_random: difference to random on the same cells, likewise; None for random itself.
        rarest: mean number of labelled cells of the class that has fewest.
    """

    embedding: str
    way: str
    labels: int
    balanced_accuracy: dict[str, float]
    over_random: dict[str, float] | None
    rarest: float


def main():
    """Run all ways and seeds, print a table, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="packed data set with classes")
    parser.add_argument("--seeds", type=int, default=5, help="(%(default)s)")
    parser.add_argument("--first", type=int, default=40, help="cells drawn at random (%(default)s)")
    parser.add_argument("--batch", type=int, default=40, help="cells labelled between two fits (%(default)s)")
    parser.add_argument("--most", type=int, default=400, help="labels in all (%(default)s)")
    options = parser.parse_args()
    manifest = Manifest.open(options.data)
    rows = []
    for name, values in embeddings(manifest).items():
        for step in steps(manifest.labels.astype(np.int64), name, values, options):
            rows.append(step)
            gain = step.over_random or {"value": 0.0, "low": 0.0, "high": 0.0}
            print(
                f"{step.embedding:15} {step.way:11} {step.labels:5} {step.balanced_accuracy['value']:.3f} "
                f"{gain['value']:+.3f} ({gain['low']:+.3f} to {gain['high']:+.3f}) {step.rarest:.1f}"
            )
    settings = {"seeds": options.seeds, "first": options.first, "batch": options.batch, "test_share": TEST_SHARE}
    Result("label-next", f"{manifest.info.name}, {len(manifest):,} cells", settings, rows).save()


def embeddings(manifest):
    """Return embeddings of N cells that no label was used for, (N, D) float32 each."""
    from sklearn.decomposition import PCA

    quality = principal_components(measure_cells(manifest))
    cells = read_cells(manifest, np.arange(len(manifest)))
    small = np.stack([cv2.resize(cell, (SIDE, SIDE), interpolation=cv2.INTER_AREA) for cell in cells])
    flat = small.reshape(len(small), -1).astype(np.float32)
    flat /= np.maximum(flat.mean(1, keepdims=True), 1)
    pixels = PCA(PIXEL_COMPONENTS, svd_solver="randomized", random_state=0).fit_transform(flat)
    pixels *= quality[:, 0].std() / pixels[:, 0].std()
    return {"quality": quality, "quality+pixels": np.concatenate([quality, pixels], 1).astype(np.float32)}


def steps(labels, name, values, options):
    """Return the rows of one embedding: all ways, each at all numbers of labels."""
    num_classes = int(labels.max()) + 1
    size = options.first, options.batch, options.most
    curves = {way: [one_curve(labels, values, way, seed, *size) for seed in range(options.seeds)] for way in WAYS}
    tests = [test_cells(labels, seed) for seed in range(options.seeds)]
    true = labels[np.concatenate(tests)]
    seeds = np.repeat(np.arange(options.seeds), [len(test) for test in tests])
    rows = []
    for way, found in curves.items():
        for step in range(len(found[0])):
            called = np.concatenate([curve[step][0] for curve in found])
            other = np.concatenate([curve[step][0] for curve in curves["random"]])
            score = mean_recall(confusion_per_group(true, called, seeds, num_classes)).interval()
            gain = None if way == "random" else recall_difference(true, called, other, seeds)
            rows.append(
                Step(
                    name,
                    way,
                    options.first + step * options.batch,
                    {"value": score.value, "low": score.low, "high": score.high},
                    None if gain is None else {"value": gain.value, "low": gain.low, "high": gain.high},
                    float(np.mean([curve[step][1] for curve in found])),
                )
            )
    return rows


def test_cells(labels, seed):
    """Return the test cells of a seed."""
    rng = np.random.default_rng([seed, 1])
    parts = [rng.permutation(np.flatnonzero(labels == label)) for label in range(int(labels.max()) + 1)]
    return np.concatenate([part[: max(1, round(TEST_SHARE * len(part)))] for part in parts])


def one_curve(labels, values, way, seed, first, batch, most):
    """Return the classes called on the test cells after each batch, and the labels of the class that has fewest."""
    num_classes = int(labels.max()) + 1
    test = test_cells(labels, seed)
    free = np.ones(len(labels), bool)
    free[test] = False
    asked = np.random.default_rng([seed, 2]).permutation(np.flatnonzero(free))[:first]
    found = []
    while True:
        learner = fit_learner(values, asked, labels[asked], num_classes)
        assert learner is not None
        counts = np.bincount(labels[asked], minlength=num_classes)
        found.append((learner.probabilities[test].argmax(1), int(counts.min())))
        if len(asked) + batch > most:
            return found
        free[asked] = False
        chosen = choose_next(
            np.flatnonzero(free),
            batch,
            way,
            probabilities=learner.probabilities,
            values=values,
            labelled=asked,
            counts=counts,
            seed=seed,
        )
        asked = np.concatenate([asked, chosen])


if __name__ == "__main__":
    main()
