"""Does a network that starts from the weights of another cell type need fewer labelled cells?

T cells of four donors; one donor is left out for testing, and 20, 50 or 200 labelled cells of the other three are drawn
for training. A network from scratch stands beside networks that start from weights trained on Jurkat cells (7 phases of
the cell cycle) or on simulated cells (4 types), with all layers trained or all but the head frozen. Each training is
repeated with several seeds, which draw cells, first weights, order and augmentation. A row compares one way with
scratch on all cells, each tested once a seed while its donor was left out: the difference of accuracy with an interval
over donors, and two exact sign-flip tests. Over four donors p cannot fall below 0.125; over cells p speaks of these
four donors only.

    python benchmarks/fine_tuning.py --tcell DIR --jurkat DIR --work FOLDER [--seeds 5]

It may be stopped at any time: the same command goes on, and skips the trainings whose answers are in FOLDER.
"""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from harness import Result

from fastcell.cli.main import main as fastcell
from fastcell.compare.image_array import make_images
from fastcell.compare.split_schemes import SplitManifest
from fastcell.compare.train_network import classify, make_data
from fastcell.dataset.manifest import Manifest
from fastcell.errors import FastcellError
from fastcell.stats.paired_difference import compare_paired
from fastcell.system import library_settings
from fastcell.training.fit import train_recipe
from fastcell.training.recipe import read_recipe
from fastcell.training.start_weights import SHARE_OF_EPOCHS, start_from

SIZE = 32  # side of the images [px]; most T cells have 18
NUM_CELLS = (20, 50, 200)
STEPS = 300  # of a training from scratch
WAYS = {
    "scratch": (None, None),
    "jurkat": ("jurkat", None),
    "simulated": ("simulated", None),
    "jurkat, head only": ("jurkat", ["all-but-head"]),
    "simulated, head only": ("simulated", ["all-but-head"]),
}


@dataclass
class Way:
    """One way of training at one number of labelled cells.

    Attributes:
        way: where the weights come from.
        num_labelled: training cells.
        accuracy: mean over seeds and left-out donors, each cell once.
        balanced_accuracy: mean recall of the two classes, likewise.
        difference: accuracy less that of scratch; with a 95 % interval over donors, ``{"value", "low", "high"}``.
        p_donors: exact p over donors; None for scratch.
        p_cells: exact p over cells of these donors; None for scratch.
        donors_better: donors whose accuracy is above that of scratch.
        steps: optimizer steps.
        num_seeds: trainings for each donor.
    """

    way: str
    num_labelled: int
    accuracy: float
    balanced_accuracy: float
    difference: dict[str, float] | None
    p_donors: float | None
    p_cells: float | None
    donors_better: int | None
    steps: int
    num_seeds: int


def main():
    """Train what is missing, compare, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tcell", type=Path, required=True, help="folder of the T cells, DONOR/CLASS/NAME.png")
    parser.add_argument("--jurkat", type=Path, required=True, help="folder of the Jurkat cells, CLASS/NAME.png")
    parser.add_argument("--work", type=Path, required=True, help="folder of data sets, runs and answers")
    parser.add_argument("--seeds", type=int, default=5, help="trainings for each donor (%(default)s)")
    parser.add_argument("--cells", type=int, default=2_000, help="simulated cells (%(default)s)")
    parser.add_argument("--trained-at", default="", help="commit of the trainings whose answers are in FOLDER already")
    options = parser.parse_args()
    library_settings.prepare_torch()
    library_settings.quiet()
    torch.set_num_threads(1)
    options.work.mkdir(parents=True, exist_ok=True)
    starts = {
        "jurkat": start_network(options.work, "jurkat", ["pack", str(options.jurkat)], []),
        "simulated": start_network(options.work, "simulated", ["synth"], ["--cells", str(options.cells)]),
    }
    packed = make_set(options.work / "tcell", ["pack", str(options.tcell)], ["--pattern", "{group}/{class}/{name}"])
    manifest = SplitManifest.of(Manifest.open(packed), {})
    recipe = read_recipe("fast").at_size(SIZE)
    images = make_images(manifest, np.arange(len(manifest)), recipe.preprocessing, options.work)
    answers = options.work / "answers"
    answers.mkdir(exist_ok=True)
    for seed in range(options.seeds):
        for donor in sorted(set(manifest.groups)):
            for num in NUM_CELLS:
                for way, (source, frozen) in WAYS.items():
                    path = answers / f"{way.replace(', ', '-').replace(' ', '-')}-{num}-{donor}-{seed}.json"
                    if not path.exists():
                        start = None if source is None else starts[source]
                        right = train_once(manifest, images, recipe, donor, num, seed, start, frozen)
                        partial = path.with_suffix(".part")
                        partial.write_text(json.dumps({"way": way, "num": num, "seed": seed, "right": right}))
                        partial.rename(path)
                        print(f"{path.stem}: {np.mean(list(right.values())):.3f}", flush=True)
    rows = compare_ways(manifest, [json.loads(path.read_text()) for path in sorted(answers.glob("*.json"))])
    for row in rows:
        print(row)
    settings = {"image_size": SIZE, "preset": "fast", "steps": STEPS, "share_of_steps": SHARE_OF_EPOCHS}
    settings |= {"trainings_of_commit": options.trained_at} if options.trained_at else {}
    data = f"{len(manifest)} T cells of 4 donors; starts: Jurkat cells, {options.cells:,} simulated cells"
    print(f"wrote {Result('fine-tuning', data, settings, rows).save()}")


def make_set(out, command, extra):
    """Pack or simulate a data set, unless it is there."""
    if not (out / "dataset.json").exists() and fastcell([*command, str(out), *extra]):
        raise FastcellError(f"{out} could not be made.")
    return out


def start_network(work, name, command, extra):
    """Train the network whose weights others start from, unless it is there; return its run folder."""
    runs = work / f"runs-{name}"
    if not any(path.is_file() for path in runs.glob("*/metrics.json")):
        data = make_set(work / name, command, extra)
        arguments = [f"--data.image_size={SIZE}", "--data.threads=1", f"--runs={runs}", "--allow_absent=true"]
        if fastcell(["fit", str(data), "--preset=fast", *arguments]):
            raise FastcellError(f"no network could be trained on {data}.")
    return next(path.parent for path in sorted(runs.glob("*/metrics.json")))


def draw_cells(labels, rows, num, seed):
    """Return `num` of the rows at random, with two or more cells of each class."""
    rng = np.random.default_rng([seed, num])
    while True:
        drawn = rng.choice(rows, num, replace=False)
        if np.bincount(labels[drawn], minlength=2).min() >= 2:
            return np.sort(drawn)


def train_once(manifest, images, recipe, donor, num, seed, start, frozen):
    """Train on cells of the other donors; return 1 for each cell of the donor that is called right, by cell_id."""
    test = np.flatnonzero(manifest.groups[:] == donor)
    train = draw_cells(manifest.labels, np.flatnonzero(manifest.groups[:] != donor), num, seed)
    parts = {"train": train, "valid": np.empty(0, np.int64), "test": test}
    batch = min(recipe.batch_size, num)
    data = make_data(manifest, parts, recipe, seed, batch)
    trained = train_recipe(
        recipe.with_model(freeze=frozen),
        data,
        list(manifest.info.classes),
        data.preprocessing,
        seed,
        torch.device("cpu"),
        prepare=None if start is None else lambda model: start_from(model, start),
        max_steps=STEPS if start is None else math.ceil(SHARE_OF_EPOCHS * STEPS),
        max_epochs=-1,
        limit_val_batches=0,
        num_sanity_val_steps=0,
    )
    right = classify(trained.model, images, test) == manifest.labels[test]
    return {str(row): int(value) for row, value in zip(test.tolist(), right.tolist(), strict=True)}


def compare_ways(manifest, answers):
    """Return a row for each way and number of labelled cells, from seeds whose trainings are complete."""
    donors, labels = manifest.groups, manifest.labels
    rows = []
    for num in NUM_CELLS:
        right = {}
        for answer in (one for one in answers if one["num"] == num):
            found = right.setdefault((answer["way"], answer["seed"]), np.full(len(manifest), -1))
            found[[int(row) for row in answer["right"]]] = list(answer["right"].values())
        whole = {key: found for key, found in right.items() if found.min() >= 0}
        seeds = [seed for way, seed in whole if way == "scratch" and all((name, seed) in whole for name in WAYS)]
        sums = {way: np.sum([whole[way, seed] for seed in seeds], axis=0) for way in WAYS} if seeds else {}
        for way, found in sums.items():
            rate = found / len(seeds)
            gain = [float((rate - sums["scratch"] / len(seeds))[donors == donor].mean()) for donor in sorted({*donors})]
            row = Way(
                way,
                num,
                float(rate.mean()),
                float(np.mean([rate[labels == label].mean() for label in (0, 1)])),
                None,
                None,
                None,
                None,
                STEPS if way == "scratch" else math.ceil(SHARE_OF_EPOCHS * STEPS),
                len(seeds),
            )
            if way != "scratch":
                by_donor = compare_paired(found, sums["scratch"], donors, len(seeds))
                by_cell = compare_paired(found, sums["scratch"], None, len(seeds))
                interval = by_donor.difference
                row.difference = {"value": interval.value, "low": interval.low, "high": interval.high}
                row.p_donors, row.p_cells = by_donor.test.p, by_cell.test.p
                row.donors_better = sum(value > 0 for value in gain)
            rows.append(row)
    return rows


if __name__ == "__main__":
    main()
