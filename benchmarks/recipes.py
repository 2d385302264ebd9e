"""Training recipes against each other: Jurkat cells by cross-validation, T cells by donor, simulated cells by split.

A trial is a preset with changes. All trials are trained on the same folds with the same seeds, and the predictions of
each fold are kept, so that a run that was stopped goes on, and several processes may work in one WORK. Only given cells
are used: what is chosen by these tables was chosen on these cells, and the best of several scores is optimistic.

    python benchmarks/recipes.py train jurkat FOLDER --work WORK [--trials fast,cap10] [--seeds 0,1,2]
    python benchmarks/recipes.py train tcell FOLDER --work WORK [--precision 32-true]
    python benchmarks/recipes.py train synthetic FOLDER --work WORK --trials demo,demo-auto
    python benchmarks/recipes.py table jurkat --work WORK

FOLDER holds images as CLASS/NAME (jurkat) or DONOR/CLASS/NAME (tcell, with ``--data.fit scale``), or is the data set of
the default ``fastcell fit`` (synthetic). Jurkat cells are cut into five stratified folds, by another seed for each seed
of the training; T cells are tested donor by donor; of the simulated cells, 1,500 of the training subset train, and the
test subset tests. Networks train in bfloat16 (``--precision``), which all trials share. ``table`` writes a result of
the folds that are there, and compares each trial, and trials trained in float32, with `fast` (`demo` for simulated
cells) on the cells that both have classified. For Jurkat cells it also writes what a shifted decision gives.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from harness import Result
from recipe_training import train
from recipe_trials import PAIRS, TRIALS, VIEWS

BASES = {"jurkat": "fast", "tcell": "fast", "synthetic": "demo"}
"""Trial that the others are compared with."""
SHIFTS = (0.0, 0.02, 0.05, 0.1, 0.15, 0.2)
CHOSEN_SHIFT = 0.1  # of the preset thorough


@dataclass
class RecipeRow:
    """Scores of a trial on the folds that are there, beside those of the first trial without flips on the same cells.

    Attributes:
        trial: name; ``+ flips``: probabilities are means over four flips; ``+ prior``: logits are shifted by half of
            the logarithm of the repeats, towards the class frequencies of the data.
        why: what differs.
        folds: folds over all seeds.
        num_cells: classified cells over all seeds.
        accuracy, balanced: of the pooled cells.
        loss: mean negative log-likelihood.
        zoomed_in, zoomed_out: accuracy on cells magnified by 1.25 and by 0.8, with flips; None with a shift.
        accuracy_gain, balanced_gain, loss_gain: minus the first trial.
        p_accuracy, p_balanced: exact sign-flip tests over cells.
        cpu_s: median CPU time of the training of a fold [s].
    """

    trial: str
    why: str
    folds: int
    num_cells: int
    accuracy: float
    balanced: float
    loss: float
    zoomed_in: float | None
    zoomed_out: float | None
    accuracy_gain: float
    balanced_gain: float
    loss_gain: float
    p_accuracy: float
    p_balanced: float
    cpu_s: float


def read_folds(work, trial, precision):
    """Return the kept folds of a trial by (seed, fold)."""
    found = {}
    for path in sorted(work.glob(f"{trial}@{precision}-*.npz")):
        seed, fold = path.stem.rsplit("-", 2)[1:]
        found[int(seed), int(fold)] = np.load(path)
    return found


def compare_with(labels, found, base, row):
    """Return the row of a trial from its folds and those of the first trial.

    Args:
        labels: (N,) classes of all cells.
        found, base: folds of both trials, from `read_folds`.
        row: ``trial`` and ``why`` of the row; ``kind``, the probabilities to score; ``shift`` (K,) of their logarithms;
            ``base_kind`` and ``base_shift``, the same of the other trial (default ``one``, 0).
    """
    from fastcell.stats.paired_difference import compare_paired, sign_flip

    kind, shift = row.pop("kind"), row.pop("shift")
    base_kind, base_shift = row.pop("base_kind", "one"), row.pop("base_shift", 0.0)
    places = sorted(set(found) & set(base))
    cells = np.concatenate([found[place]["test"] for place in places])
    truth = labels[cells]
    counts, size = np.bincount(labels), len(labels)
    logs, logs_before = (
        log_probabilities(np.concatenate([one[place][name] for place in places]), moved)
        for one, name, moved in ((found, kind, shift), (base, base_kind, base_shift))
    )
    right, before = (values.argmax(axis=1) == truth for values in (logs, logs_before))
    assert all(np.array_equal(found[place]["test"], base[place]["test"]) for place in places)
    weight = np.rint(1e5 / np.bincount(truth, minlength=len(counts)).clip(1)).astype(int)[truth]
    gain, units = right.astype(int) - before.astype(int), np.zeros(size, int)
    seeds = len({seed for seed, _ in places})
    hits = [np.bincount(cells, one, size).astype(int) for one in (right, before)]
    np.add.at(units, cells, gain * weight)

    def balanced(one):
        return float(np.mean([one[truth == label].mean() for label in np.unique(truth)]))

    def loss(values):
        return float(-values[np.arange(len(truth)), truth].mean())

    def zoom(name):
        if shift.any():
            return None
        calls = np.concatenate([found[place][f"flips_{name}"].argmax(axis=1) for place in places])
        return float((calls == truth).mean())

    return RecipeRow(
        **row,
        folds=len(places),
        num_cells=len(cells),
        accuracy=float(right.mean()),
        balanced=balanced(right),
        loss=loss(logs),
        zoomed_in=zoom("1.25"),
        zoomed_out=zoom("0.8"),
        accuracy_gain=float(right.mean() - before.mean()),
        balanced_gain=balanced(right) - balanced(before),
        loss_gain=loss(logs) - loss(logs_before),
        p_accuracy=compare_paired(hits[0], hits[1], trials=seeds).test.p,
        p_balanced=sign_flip(units).p,
        cpu_s=float(np.median([found[place]["cpu_s"] for place in places])),
    )


def log_probabilities(probabilities, shift):
    """Return the logarithm of shifted and normalised probabilities, (N, K)."""
    logs = np.log(probabilities.clip(1e-12)) - shift
    return np.asarray(logs - np.log(np.exp(logs).sum(axis=1, keepdims=True)))


def pairs(labels, work, precision):
    """Return trials beside other trials than the first, on the cells that both have classified, from `PAIRS`."""
    chosen = -log_weights(labels, CHOSEN_SHIFT)
    rows = []
    for name, kind, other, base_kind, shifts in PAIRS:
        found, base = (read_folds(work, trial, precision) for trial in (name, other))
        if set(found) & set(base):
            shift, suffix = (chosen, f" + decision shift {CHOSEN_SHIFT}") if shifts else (0 * chosen, "")
            titles = [f"{trial}{VIEWS[view]}{suffix}" for trial, view in ((name, kind), (other, base_kind))]
            row = {"trial": titles[0], "why": f"against {titles[1]}", "kind": kind, "shift": shift}
            rows.append(compare_with(labels, found, base, row | {"base_kind": base_kind, "base_shift": shift}))
    return rows


@dataclass
class ShiftRow:
    """Scores of a trial, with flips, whose decision is shifted towards rare classes.

    Attributes:
        trial: name.
        folds: folds over all seeds.
        decision_shift: probabilities are multiplied by 1 + this / frequency of the class (``--model.decision_shift``).
        accuracy, balanced: of the pooled cells.
        recalls: recall by class.
        never: cells of each class that no seed has found, of a trial of several seeds at `CHOSEN_SHIFT`; else None.
    """

    trial: str
    folds: int
    decision_shift: float
    accuracy: float
    balanced: float
    recalls: dict[str, float]
    never: dict[str, int] | None = None


def shifted(labels, classes, trial, found, strengths=SHIFTS):
    """Return the scores of a trial for each shift; frequencies are those of all cells."""
    cells = np.concatenate([fold["test"] for fold in found.values()])
    truth, several = labels[cells], len({seed for seed, _ in found}) > 1
    logs = np.log(np.concatenate([fold["flips"] for fold in found.values()]).clip(1e-12))
    rows = []
    for shift in strengths:
        right = (logs + log_weights(labels, shift)).argmax(axis=1) == truth
        recalls = {name: float(right[truth == label].mean()) for label, name in enumerate(classes)}
        balanced = float(np.mean(list(recalls.values())))
        told = several and shift == CHOSEN_SHIFT
        lost = np.setdiff1d(cells, cells[right])
        never = {name: int((labels[lost] == label).sum()) for label, name in enumerate(classes)}
        rows.append(ShiftRow(trial, len(found), shift, float(right.mean()), balanced, recalls, never if told else None))
    return rows


def log_weights(labels, strength):
    """Return what ``--model.decision_shift`` adds to the log probability of each class, (K,)."""
    return np.log1p(strength * len(labels) / np.bincount(labels))


def write_table(options):
    """Write the results of the folds that are there: all trials, and shifted decisions of those with all folds."""
    work = Path(options.work) / options.data
    labels, classes = (
        np.load(work / "labels.npy"),
        json.loads((work / "classes.json").read_text()),
    )
    counts = np.bincount(labels)
    base = read_folds(work, BASES[options.data], options.precision)
    whole = 1 if options.data == "synthetic" else len(np.unique([fold for _, fold in base]))
    rows, curves = [], []
    for name, trial in TRIALS.items():
        found = read_folds(work, name, options.precision)
        if set(found) & set(base):
            cap = float(trial.changes.partition("balance_cap ")[2].split()[0]) if "_cap" in trial.changes else np.inf
            shift = 0.5 * np.log(np.minimum(counts.max() / counts, cap))
            views = [("", "one", 0 * shift), (" + flips", "flips", 0 * shift)]
            if "oversample" in trial.changes:
                views.append((" + flips + prior", "flips", shift))
            curved = len(found) >= whole and options.data == "jurkat" and trial.preset != "thorough"
            if curved and "balance none" in trial.changes:
                chosen = log_weights(labels, CHOSEN_SHIFT)
                views.append((f" + flips + decision shift {CHOSEN_SHIFT}", "flips", -chosen))
            for suffix, kind, moved in views:
                row = {
                    "trial": name + suffix,
                    "why": trial.why,
                    "kind": kind,
                    "shift": moved,
                }
                rows.append(compare_with(labels, found, base, row))
            if curved:
                curves += shifted(labels, classes, name, found)
                seeds = sorted({seed for seed, _ in found}) if "balance none" in trial.changes else []
                for seed in seeds if len(seeds) > 1 else []:
                    of_seed = {place: fold for place, fold in found.items() if place[0] == seed}
                    curves += shifted(labels, classes, f"{name}, seed {seed}", of_seed, (CHOSEN_SHIFT,))
        exact = read_folds(work, name, "32-true")
        if options.precision != "32-true" and set(exact) & set(base):
            row = {
                "trial": f"{name} in float32",
                "why": trial.why,
                "kind": "one",
                "shift": 0 * counts,
            }
            rows.append(compare_with(labels, exact, base, row))
    settings = {
        "precision": options.precision,
        "fit": "scale" if options.data == "tcell" else "stretch",
    }
    about = f"{options.data}, {len(labels):,} cells"
    print(f"wrote {Result(f'recipes-{options.data}', about, settings, rows).save()}")
    if others := pairs(labels, work, options.precision):
        print(f"wrote {Result(f'pairs-{options.data}', about, settings, others).save()}")
    if curves:
        print(f"wrote {Result(f'shifts-{options.data}', about, settings, curves).save()}")


def main():
    """Train, or write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["train", "table"])
    parser.add_argument("data", choices=list(BASES))
    parser.add_argument("folder", nargs="?")
    parser.add_argument("--work", required=True)
    parser.add_argument("--trials", default="fast")
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--folds", type=int, nargs="*", help="numbers of folds from 0, default all")
    parser.add_argument("--precision", default="bf16-mixed")
    options = parser.parse_args()
    if options.command == "table":
        write_table(options)
    else:
        train(options)


if __name__ == "__main__":
    main()
