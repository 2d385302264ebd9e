"""Which cells does a network call unlike those of its training, by which score, and what does it cost?

Networks of the preset fast are trained on Jurkat cells, T cells (split by donor) and simulated cells, and networks of
the presets demo (the default of `fit`) and thorough on Jurkat cells. Their training cells give the statistics,
validation cells the limits (97.5 % of them for each score). Then the share of cells above the limits is measured: on
test cells of the same set, which have no part in it; on other sets, as they are and resized to the size of the
network's own cells; and on test cells with changes, beside the accuracy. For every other set and every harmful change
the best method is also chosen with that case left out. Rows `class left out` are the area under the ROC curve between a
class that was not in training and test cells of the others.

    python benchmarks/unlike.py --data DIR --work WORK [--seeds 3]

DIR holds jurkat/, tcell/, ifcb/, rtdc/ and atom-samples/. WORK keeps data sets, runs and measurements, so that a run
that was cut off goes on; it may be used for a later result.
"""

from __future__ import annotations

import argparse
import os
import pickle
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from harness import Result
from unlike_cells import changes, other_cells
from unlike_methods import CHOSEN, METHODS, USUAL, statistics

from fastcell.inference.measure_batches import measure_batches
from fastcell.inference.unlike.feature_names import IMAGE_FEATURES
from fastcell.inference.unlike.fit_training_cells import fit_training_cells
from fastcell.inference.unlike.image_features import network_image_features
from fastcell.inference.unlike.images_without_cells import images_without_cells
from fastcell.inference.unlike.reasons import reasons
from fastcell.loading.array_loader import PoolLoader, make_pool
from fastcell.loading.order import StoredOrder
from fastcell.loading.preprocessing import Preprocessing
from fastcell.loading.ranks import evaluation_share
from fastcell.quality.features import cell_features
from fastcell.runs.checkpoint import load_classifier
from fastcell.runs.run_folder import scored_checkpoint
from fastcell.sources.load_cells import load_cells
from fastcell.stats.ranking_intervals import roc_area

MOST_FLAGGED = 0.07  # of test cells of the same set; a method above it is not chosen
HARM = 0.10  # accuracy that a change costs before it counts as harmful
LEFT_OUT = ("Prophase", "G1", "Metaphase")
LEFT_OUT_EPOCHS = 20
NETWORKS = {
    "jurkat": ("jurkat", "fast"),
    "tcell": ("tcell", "fast"),
    "synth": ("synth", "fast"),
    "demo": ("jurkat", "demo"),
    "thorough": ("jurkat", "thorough"),
}
"""Data set and preset of each network."""
MOST_WITHOUT_CELLS = 128
PATTERNS = {"tcell": ["--pattern", "{group}/{class}/{name}"]}


@dataclass
class Share:
    """One share of cells, or one area.

    Attributes:
        part: same set, other set, other set resized, change, without cells, chosen without it, class left out,
            precision or cost.
        network: name among `NETWORKS`.
        case: cells.
        method: score.
        flagged: share of cells above the limit, mean over seeds; of class left out the area under the ROC curve, of
            cost the time of a cell [us].
        lowest, highest: of the seeds; of class left out the 95 % interval.
        cells: number of cells.
        accuracy: of the network on these cells, mean over seeds; NaN without classes.
        reason: the reason that most unlike cells have, of the first seed; empty without, and for other methods.
    """

    part: str
    network: str
    case: str
    method: str
    flagged: float
    lowest: float
    highest: float
    cells: int
    accuracy: float = float("nan")
    reason: str = ""


def main():
    """Train, measure, print and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the real cells")
    parser.add_argument("--work", type=Path, required=True, help="folder for data sets, runs and measurements")
    parser.add_argument("--seeds", type=int, default=3, help="networks of each set")
    options = parser.parse_args()
    os.nice(12)
    torch.set_num_threads(1)
    sets = pack_all(options.data, options.work / "sets")
    rows = []
    for name in NETWORKS:
        of_seeds = [measure(name, seed, sets, options.data, options.work) for seed in range(options.seeds)]
        rows += shares(name, of_seeds)
        rows += without_cells(name, of_seeds, sets, options.work)
    rows += chosen_without(rows)
    rows += classes_left_out(sets, options.work)
    rows += costs()
    for row in rows:
        if row.method in (CHOSEN, "cost") or row.part not in ("other set", "other set resized", "change"):
            print(
                f"{row.part:<20}{row.network:<8}{row.case:<28}{row.method:<28}{row.flagged:>8.3f}{row.accuracy:>7.2f}"
            )
    settings = {"seeds": options.seeds, "limits": f"{USUAL:.1%} of validation cells for each score"}
    data = "Jurkat cells, T cells of four donors, simulated cells; plankton, RT-DC, ATOM, noise and empty frames"
    print(f"wrote {Result('unlike', data, settings, rows).save()}")


# -- data sets and networks


def pack_all(data, folder):
    """Pack what is not there yet; returns the data sets by name."""
    sets = {name: folder / name for name in ("jurkat", "tcell", "ifcb", "rtdc", "synth")}
    for name, path in sets.items():
        if path.exists():
            continue
        if name == "synth":
            run("synth", path, "--cells", 1000)
        else:
            unlabelled = ["--split", "none"] if name in ("ifcb", "rtdc") else []
            run("pack", data / name, path, *PATTERNS.get(name, []), *unlabelled)
    for name in LEFT_OUT:
        path = folder / f"jurkat-without-{name}"
        if not path.exists():
            images = folder / f"images-without-{name}"
            shutil.copytree(data / "jurkat", images, ignore=shutil.ignore_patterns(name, "*.md", "LICENSE"))
            run("pack", images, path)
            shutil.rmtree(images)
        sets[path.name] = path
    return sets


def run(*words):
    """Run a command of the package."""
    subprocess.run([sys.executable, "-m", "fastcell", *map(str, words)], check=True, stdout=subprocess.DEVNULL)


def network_of(name, seed, data, preset, work, *more):
    """Return the trained network of a data set, on the CPU."""
    runs = work / "runs" / f"{name}-{seed}"
    finished = sorted(runs.glob("*/metrics.json"))
    if not finished:
        shutil.rmtree(runs, ignore_errors=True)
        run("fit", data, "--preset", preset, "--seed_everything", seed, "--out", runs, *more)
        finished = sorted(runs.glob("*/metrics.json"))
    checkpoint = scored_checkpoint(finished[-1].parent)
    assert checkpoint is not None
    return load_classifier(checkpoint)


# -- measurements


def outputs(model, cells):
    """Measure cells: image features, features of raw cells, activations and probabilities."""
    preprocessing = Preprocessing.from_dict(dict(model.preprocessing))
    order = StoredOrder(evaluation_share(len(cells), min(256, len(cells))))
    found = measure_batches(
        model, PoolLoader(make_pool(cells), np.zeros(len(cells), np.int64), order, preprocessing), 1
    )
    heights, widths = (np.array([cell.shape[axis] for cell in cells], np.int32) for axis in (0, 1))
    area = heights.astype(np.int64) * widths
    raw = cell_features(np.concatenate([cell.ravel() for cell in cells]), np.cumsum(area) - area, heights, widths)
    return {"image": found.image, "network": found.network, "probabilities": found.probabilities, "raw": raw}


def measure(name, seed, sets, data, work):
    """Measure all cells that a network is tried on; `labels` are indices of classes, where there are some."""
    path = work / f"measured-{name}-{seed}.pickle"
    if path.exists():
        return pickle.loads(path.read_bytes())
    of, preset = NETWORKS[name]
    model = network_of(name, seed, sets[of], preset, work)
    found = {}
    parts = {part: load_cells(sets[of], part) for part in ("train", "valid", "test")}
    for part, cells in parts.items():
        labels = np.array([model.classes.index(label) for label in cells.classes])
        found[part] = outputs(model, cells.images) | {"labels": labels}
    test = parts["test"].images
    if of == "jurkat":
        for case, change in changes().items():
            changed = outputs(model, [change(cell) for cell in test])
            found[f"change/{case}"] = changed | {"labels": found["test"]["labels"]}
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found["precision/bfloat16"] = outputs(model, test) | {"labels": found["test"]["labels"]}
    size = tuple(int(np.median([cell.shape[axis] for cell in test])) for axis in (1, 0))
    for case, cells in other_cells(of, sets, data).items():
        found[f"other set/{case}"] = outputs(model, cells)
        resized = [cv2.resize(cell, size, interpolation=cv2.INTER_AREA) for cell in cells]
        found[f"other set resized/{case}"] = outputs(model, resized)
    path.with_suffix(".new").write_bytes(pickle.dumps(found))
    path.with_suffix(".new").replace(path)
    return found


def shares(name, of_seeds):
    """Return the share of unlike cells by case and method."""
    rows = []
    for method, fit in METHODS.items():
        scores = [fit(found["train"], found["valid"]) for found in of_seeds]
        for case in of_seeds[0]:
            if case in ("train", "valid"):
                continue
            part, _, title = case.partition("/")
            flagged = [float((score(found[case]) > 1).mean()) for score, found in zip(scores, of_seeds, strict=True)]
            right = [
                float((found[case]["probabilities"].argmax(axis=1) == found[case]["labels"]).mean())
                for found in of_seeds
                if "labels" in found[case]
            ]
            part, title = ("same set", "test cells") if part == "test" else (part, title)
            accuracy = float(np.mean(right)) if right else float("nan")
            bounds = (min(flagged), max(flagged))
            num = len(of_seeds[0][case]["image"])
            reason = most_common_reason(of_seeds[0], case) if method == CHOSEN else ""
            rows.append(Share(part, name, title, method, float(np.mean(flagged)), *bounds, num, accuracy, reason))
    return rows


def most_common_reason(found, case):
    """Return the reason that most unlike cells have; empty if none is unlike."""
    scores = statistics(found["train"], found["valid"]).measure(found[case]["image"], found[case]["network"])
    texts = reasons(scores)[scores.scores > 1].tolist()
    return max(sorted(set(texts)), key=texts.count, default="")


def without_cells(name, of_seeds, sets, work):
    """Return the share of unlike images among those without a cell that `fit` makes from validation cells."""
    of, preset = NETWORKS[name]
    cells = load_cells(sets[of], "valid").images[:MOST_WITHOUT_CELLS]
    flagged = {}
    for seed, found in enumerate(of_seeds):
        model = network_of(name, seed, sets[of], preset, work)
        order = StoredOrder(evaluation_share(len(cells), len(cells)))
        preprocessing = Preprocessing.from_dict(dict(model.preprocessing))
        (batch,) = PoolLoader(make_pool(cells), np.zeros(len(cells), np.int64), order, preprocessing)
        known = statistics(found["train"], found["valid"])
        for case, images in images_without_cells(batch.images.numpy()).items():
            with torch.inference_mode():
                features, _ = model.features_and_probabilities(torch.from_numpy(images))
            scores = known.measure(network_image_features(images), features.numpy()).scores
            flagged.setdefault(case, []).append(float((scores > 1).mean()))
    return [
        Share("without cells", name, case, CHOSEN, float(np.mean(values)), min(values), max(values), len(cells))
        for case, values in flagged.items()
    ]


def chosen_without(rows):
    """Return, for other sets and harmful changes of the Jurkat networks, the share by the method chosen without it.

    The method has the largest mean share over all other cases, among those with at most 7 % of test cells.
    """
    mine = [row for row in rows if row.network == "jurkat"]
    usual = {row.method: row.flagged for row in mine if row.part == "same set"}
    before = next(row.accuracy for row in mine if row.part == "same set")
    cases = {}
    for row in mine:
        harmful = row.part == "change" and row.accuracy < before - HARM
        if row.part in ("other set", "other set resized") or harmful:
            cases.setdefault((row.part, row.case), {})[row.method] = row
    chosen = []
    for case, by_method in cases.items():
        title = case[1]
        others = [found for key, found in cases.items() if key[1] != title]
        means = {
            method: np.mean([found[method].flagged for found in others])
            for method, share in usual.items()
            if share <= MOST_FLAGGED
        }
        best = max(means, key=means.__getitem__)
        row = by_method[best]
        bounds = (row.flagged, row.lowest, row.highest, row.cells, row.accuracy)
        chosen.append(Share("chosen without it", "jurkat", f"{title} ({case[0]})", best, *bounds))
    return chosen


def classes_left_out(sets, work):
    """Return the area under the ROC curve between a class without training cells and test cells of the others."""
    rows = []
    everything = load_cells(sets["jurkat"])
    for name in LEFT_OUT:
        title = f"jurkat-without-{name}"
        model = network_of(title, 0, sets[title], "fast", work, "--trainer.max_epochs", LEFT_OUT_EPOCHS)
        parts = {part: load_cells(sets[title], part) for part in ("train", "valid", "test")}
        found = {part: outputs(model, cells.images) for part, cells in parts.items()}
        found["train"]["labels"] = np.array([model.classes.index(label) for label in parts["train"].classes])
        new = [image for image, label in zip(everything.images, everything.classes, strict=True) if label == name]
        left = outputs(model, new)
        for method in (CHOSEN, "network", "image (shape or noise)"):
            score = METHODS[method](found["train"], found["valid"])
            values = np.concatenate([score(left), score(found["test"])])
            area = roc_area(values, np.arange(len(values)) < len(new))
            rows.append(Share("class left out", "jurkat", name, method, area.value, area.low, area.high, len(new)))
    return rows


def costs(rounds=15, num=512):
    """Return the CPU time of a cell [us], of image features and of scores, on one core."""
    rng = np.random.default_rng(0)
    rows = []
    width = len(IMAGE_FEATURES)
    network = rng.normal(size=(num, 64)).astype(np.float32)
    labels = rng.integers(0, 7, num)
    for size in (32, 64, 128, 256):
        images = rng.normal(1, 0.1, (num, 1, size, size)).astype(np.float32)
        rows.append(
            timed(f"image features, {size} px", lambda images=images: network_image_features(images), num, rounds)
        )
    known = fit_training_cells(rng.normal(size=(num, width)).astype(np.float32), network, labels)
    assert known is not None
    values = rng.normal(size=(num, width)).astype(np.float32)
    rows.append(timed("scores, 64 activations, 7 classes", lambda: known.measure(values, network), num, rounds))
    cells = [rng.integers(0, 256, (40, 40)).astype(np.uint8) for _ in range(num)]
    pool, sides = np.concatenate([cell.ravel() for cell in cells]), np.full(num, 40, np.int32)
    offsets = np.arange(num, dtype=np.int64) * 1600
    rows.append(timed("22 features of the raw cell", lambda: cell_features(pool, offsets, sides, sides), num, rounds))
    return rows


def timed(case, work, num, rounds):
    """Return the median CPU time of a cell over some rounds after one that is not counted."""
    work()
    seconds = []
    for _ in range(rounds):
        start = time.process_time()
        work()
        seconds.append(time.process_time() - start)
    values = 1e6 * np.array(seconds) / num
    return Share("cost", "", case, "cost", float(np.median(values)), float(values.min()), float(values.max()), num)


if __name__ == "__main__":
    main()
