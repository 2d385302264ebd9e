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
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from harness import Result

ZOOMS = {"1.25": 1.25, "0.8": 0.8}
FOLDS = 5


@dataclass(frozen=True)
class Trial:
    """A preset with changes.

    Attributes:
        why: what differs from the preset, for the table.
        preset: name.
        changes: arguments as of ``fastcell fit``.
        same_steps: train for as many steps as without oversampling.
        mixup: parameter of the beta distribution of the shares in which two cells are mixed; 0 for no mixing.
        prior_shift: the logarithm of the class frequencies times this is added to the logits in the loss.
        repeat_shift: the same with the mean number of repeats of a cell of each class.
    """

    why: str
    preset: str = "fast"
    changes: str = ""
    same_steps: bool = False
    mixup: float = 0.0
    prior_shift: float = 0.0
    repeat_shift: float = 0.0


_FULL = "--data.balance oversample --model.label_smoothing 0"
_CAP = f"{_FULL} --data.balance_cap"
_NONE = "--data.balance none --model.label_smoothing 0"
_RESIDUAL = "--model.network residual"
_RESIDUAL_48 = f"{_CAP} 10 {_RESIDUAL} --data.image_size 48"
_LONG = f"{_NONE} {_RESIDUAL} --data.image_size 48 --trainer.max_epochs 80"
TRIALS: dict[str, Trial] = {
    "fast": Trial("preset fast, classes as they are", changes="--data.balance none"),
    "thorough": Trial("preset thorough", "thorough"),
    "fast-rotation-20": Trial(
        "rotation by up to 20 degrees instead of any angle",
        changes="--data.balance none --data.augmentation.rotation_deg 20",
    ),
    "fast-96": Trial("96 px instead of 64", changes="--data.balance none --data.image_size 96"),
    "demo": Trial("preset demo, classes as they are", "demo", "--data.balance none"),
    "demo-auto": Trial("preset demo, --data.balance auto", "demo"),
    "smooth0": Trial("no label smoothing", changes="--data.balance none --model.label_smoothing 0"),
    "cap4": Trial("repeats up to 4", changes=f"{_CAP} 4"),
    "cap10": Trial("repeats up to 10", changes=f"{_CAP} 10"),
    "full": Trial("repeats without limit", changes=_FULL),
    "full-same": Trial("repeats without limit, steps of fast", changes=_FULL, same_steps=True),
    "full-same-zoom": Trial(
        "the same, magnified by 0.8 to 1.25",
        changes=f"{_FULL} --data.augmentation.scale 0.25",
        same_steps=True,
    ),
    "cap10-shift": Trial(
        "repeats up to 10, logits shifted by half of their logarithm in the loss",
        changes=f"{_CAP} 10",
        repeat_shift=0.5,
    ),
    "cap10-ema": Trial(
        "repeats up to 10, weights averaged",
        changes=f"{_CAP} 10 --model.ema_decay 0.99",
    ),
    "cap10-mixup": Trial("repeats up to 10, mixup 0.2", changes=f"{_CAP} 10", mixup=0.2),
    "cap10-standardize": Trial(
        "repeats up to 10, standardized",
        changes=f"{_CAP} 10 --data.normalization standardize",
    ),
    "residual": Trial("residual network, classes as they are", changes=f"{_NONE} {_RESIDUAL}"),
    "residual-48": Trial(
        "residual network, 48 px, as cap10-shift",
        changes=_RESIDUAL_48,
        repeat_shift=0.5,
    ),
    "residual-48-long": Trial(
        "the same for 80 epochs",
        changes=f"{_RESIDUAL_48} --trainer.max_epochs 80",
        repeat_shift=0.5,
    ),
    "residual-48-long-none": Trial(
        "residual network, 48 px, 80 epochs, classes as they are",
        changes=_LONG,
    ),
    "residual-48-longer-none": Trial("the same for 160 epochs", changes=f"{_LONG} --trainer.max_epochs 160"),
    "residual-48-long-mixup": Trial("80 epochs with mixup 0.2", changes=_LONG, mixup=0.2),
    "residual-48-long-smooth": Trial(
        "80 epochs with label smoothing 0.1", changes=f"{_LONG} --model.label_smoothing 0.1"
    ),
    "residual-48-long-ema": Trial("80 epochs, weights averaged", changes=f"{_LONG} --model.ema_decay 0.998"),
    "residual-48-long-moved": Trial(
        "80 epochs, moved by up to 12 % instead of 5 %", changes=f"{_LONG} --data.augmentation.translation 0.12"
    ),
    "residual-64-long-none": Trial("80 epochs at 64 px", changes=f"{_LONG} --data.image_size 64"),
    "cellnet-long-none": Trial(
        "preset fast for 80 epochs, no label smoothing", changes=f"{_NONE} --trainer.max_epochs 80"
    ),
    "residual-48-mixup": Trial("residual-48 with mixup 0.2", changes=_RESIDUAL_48, mixup=0.2, repeat_shift=0.5),
    "residual-48-slow": Trial(
        "residual-48, learning rate 0.001",
        changes=f"{_RESIDUAL_48} --model.learning_rate 1e-3",
        repeat_shift=0.5,
    ),
    "residual-48-quick": Trial(
        "residual-48, learning rate 0.005",
        changes=f"{_RESIDUAL_48} --model.learning_rate 5e-3",
        repeat_shift=0.5,
    ),
    "weights": Trial("loss weights", changes="--data.balance weights --model.label_smoothing 0"),
    "logit": Trial(
        "logits shifted by the class frequencies in the loss",
        changes="--data.balance none --model.label_smoothing 0",
        prior_shift=1.0,
    ),
}
BASES = {"jurkat": "fast", "tcell": "fast", "synthetic": "demo"}
"""Trial that the others are compared with."""
SHIFTS = (0.0, 0.02, 0.05, 0.1, 0.15, 0.2)
CHOSEN_SHIFT = 0.1  # of the preset thorough
VIEWS = {"one": "", "flips": " + flips", "eight": " + quarter turns"}
PAIRS = (
    ("residual-48", "one", "cap10-shift", "one", False),
    ("residual-48-long-none", "flips", "residual-48-long-none", "one", True),
    ("residual-48-long-none", "eight", "residual-48-long-none", "flips", False),
    ("residual-48-longer-none", "flips", "residual-48-long-none", "flips", False),
    ("residual-48-long-ema", "flips", "residual-48-long-none", "flips", False),
    ("residual-48-long-mixup", "flips", "residual-48-long-none", "flips", False),
    ("residual-48-mixup", "one", "residual-48", "one", False),
    ("residual-48-slow", "one", "residual-48", "one", False),
    ("residual-48-quick", "one", "residual-48", "one", False),
)
"""Trials that differ in one thing: trial and views of a cell, the same of the other, both with `CHOSEN_SHIFT`."""
SYNTHETIC_CELLS = 1_500  # of the training subset


class Cells:
    """Labelled cells and their folds.

    Args:
        name: ``jurkat``, ``tcell`` or ``synthetic``.
        folder: see the module's docstring.
    """

    def __init__(self, name: str, folder: Path) -> None:
        from fastcell.sources.load_cells import load_cells

        self.groups: np.ndarray | None = None
        self.tested: np.ndarray | None = None
        if name == "synthetic":
            parts = [load_cells(folder, part) for part in ("train", "test")]
            chosen = np.sort(np.random.default_rng(0).permutation(len(parts[0].images))[:SYNTHETIC_CELLS])
            self.images = [parts[0].images[row] for row in chosen] + list(parts[1].images)
            names = np.concatenate([parts[0].classes[chosen], parts[1].classes])
            self.tested = np.arange(len(self.images)) >= len(chosen)
        elif name == "tcell":
            found = [(donor.name, load_cells(donor)) for donor in sorted(folder.iterdir()) if donor.is_dir()]
            self.images = [image for _, cells in found for image in cells.images]
            names = np.concatenate([cells.classes for _, cells in found])
            self.groups = np.repeat([donor for donor, _ in found], [len(c.images) for _, c in found])
        else:
            cells = load_cells(folder)
            self.images, names = list(cells.images), cells.classes
        self.classes, self.labels = np.unique(names, return_inverse=True)

    def folds(self, seed: int) -> np.ndarray:
        """Return the number of the fold in which each cell is tested, (N,) int; -1 for one that never is."""
        from sklearn.model_selection import StratifiedKFold

        if self.tested is not None:
            return np.where(self.tested, 0, -1)
        if self.groups is not None:
            return np.unique(self.groups, return_inverse=True)[1]
        out = np.zeros(len(self.labels), int)
        for fold, (_, test) in enumerate(
            StratifiedKFold(FOLDS, shuffle=True, random_state=seed).split(out, self.labels)
        ):
            out[test] = fold
        return out


def zoomed(image: np.ndarray, factor: float) -> np.ndarray:
    """Return the middle of a frame (factor above 1), or the frame with the median of its border around it, uint8."""
    from fastcell.ops.border import border_median

    height, width = (max(2, round(side / factor)) for side in image.shape)
    out = np.full((height, width), round(float(border_median(image))), image.dtype)
    inside, outside = [], []
    for new, old in zip((height, width), image.shape, strict=True):
        size = min(new, old)
        inside.append(slice((new - size) // 2, (new - size) // 2 + size))
        outside.append(slice((old - size) // 2, (old - size) // 2 + size))
    out[tuple(inside)] = image[tuple(outside)]
    return out


def train_fold(trial: Trial, cells: Cells, fold: int, seed: int, extra: Sequence[str]) -> dict[str, Any]:
    """Train on the other folds and classify the cells of this one.

    Returns:
        ``test``: indices of the cells; ``one``, ``flips`` and ``eight``: probabilities (n, K) of the cell as it is,
        and means over its four flips, and over these and those turned by 90 degrees; ``flips_1.25`` and ``flips_0.8``:
        of zoomed cells; ``steps`` and ``cpu_s`` of the training.
    """
    import torch

    from fastcell.models.lightning_module import CellModule
    from fastcell.models.losses import cell_losses, weighted_mean
    from fastcell.training.fit import fit_model
    from fastcell.training.on_arrays import _quiet, _TrainingCells, classify_cells
    from fastcell.training.recipe import read_recipe
    from fastcell.training.trainer import build_trainer

    recipe = read_recipe(trial.preset, [*trial.changes.split(), *extra], select="last")
    folds = cells.folds(seed)
    train, test = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
    labels = cells.labels[train]
    frequency = np.bincount(labels, minlength=len(cells.classes)) / len(labels)

    class TrialModule(CellModule):
        def _loss(self, batch: Any, step: int = 0) -> Any:
            if not (trial.mixup or trial.prior_shift or trial.repeat_shift):
                return super()._loss(batch, step)
            images, share, other = batch.images, 1.0, torch.arange(len(batch.labels))
            if trial.mixup:
                random = np.random.default_rng([seed, self.global_step])
                share = float(random.beta(trial.mixup, trial.mixup))
                other = torch.from_numpy(random.permutation(len(images)))
                images = share * images + (1 - share) * images[other]
            shift = trial.prior_shift * np.log(frequency.clip(1e-9))
            shift += trial.repeat_shift * np.log(
                np.minimum(frequency.max() / frequency.clip(1e-9), recipe.balance_cap or np.inf)
            )
            logits = self(images) + torch.from_numpy(shift).float()
            first, second = (cell_losses("cross_entropy", logits, batch.labels[rows]) for rows in (slice(None), other))
            losses = share * first + (1 - share) * second
            self.train_scores.update(logits.detach(), batch.labels, losses.detach(), batch.weight)
            return weighted_mean(losses, batch.weight)

    weights = np.ones(len(train))
    if recipe.balance == "weights":
        weights, recipe = (
            (1 / (frequency * len(cells.classes)))[labels],
            recipe.changed(data={"balance": "none"}),
        )
    limits: dict[str, Any] = {
        "max_epochs": recipe.max_epochs,
        "max_steps": recipe.max_steps,
    }
    if trial.same_steps:
        limits = {
            "max_epochs": -1,
            "max_steps": recipe.max_epochs * -(-len(train) // recipe.batch_size),
        }
    device, preprocessing, start = (
        torch.device("cpu"),
        recipe.preprocessing,
        time.process_time(),
    )
    with _quiet():
        images = [cells.images[row] for row in train]
        data = _TrainingCells(recipe, preprocessing, images, labels, weights, seed, device, 1)
        torch.manual_seed(seed)
        module = TrialModule(
            **recipe.model,
            classes=list(cells.classes),
            preprocessing=preprocessing.to_dict(),
        )
        trainer = build_trainer(device, **{**recipe.trainer, **limits})
        fit_model(trainer, module, data)
    module.eval()
    out: dict[str, Any] = {
        "test": test,
        "cpu_s": time.process_time() - start,
        "steps": trainer.global_step,
    }
    for name, tta, zoom in [
        ("one", False, 1.0),
        ("flips", True, 1.0),
        *((f"flips_{z}", True, ZOOMS[z]) for z in ZOOMS),
    ]:
        module.hparams["tta"] = tta
        images = [cells.images[row] if zoom == 1 else zoomed(cells.images[row], zoom) for row in test]
        out[name] = classify_cells(module, images, 256)
    module.hparams["tta"] = True
    turned = classify_cells(module, [np.ascontiguousarray(np.rot90(cells.images[row])) for row in test], 256)
    out["eight"] = (out["flips"] + turned) / 2
    return out


def train(options: argparse.Namespace) -> None:
    """Train every fold of the trials that is not there yet."""
    import torch

    torch.set_num_threads(1)
    cells = Cells(options.data, Path(options.folder))
    work = Path(options.work) / options.data
    work.mkdir(parents=True, exist_ok=True)
    np.save(work / "labels.npy", cells.labels)
    (work / "classes.json").write_text(json.dumps(cells.classes.tolist()))
    extra = ["--data.fit", "scale"] if options.data == "tcell" else []
    for seed in map(int, options.seeds.split(",")):
        for name in options.trials.split(","):
            for fold in options.folds or range(cells.folds(seed).max() + 1):
                path = work / f"{name}@{options.precision}-{seed}-{fold}.npz"
                claim = path.with_suffix(".claim")
                if path.exists():
                    continue
                try:
                    os.close(os.open(claim, os.O_CREAT | os.O_EXCL))
                except FileExistsError:
                    continue
                try:
                    changes = f"{TRIALS[name].changes} --trainer.precision {options.precision}"
                    trial = replace(TRIALS[name], changes=changes)
                    found = train_fold(trial, cells, fold, seed, extra)
                    with open(path.with_suffix(".new"), "wb") as file:
                        np.savez_compressed(file, **found)
                    path.with_suffix(".new").replace(path)
                finally:
                    claim.unlink(missing_ok=True)
                right = (found["flips"].argmax(1) == cells.labels[found["test"]]).mean()
                print(
                    f"{name} seed {seed} fold {fold}: {right:.3f} flips, {found['cpu_s']:.0f} CPU s",
                    flush=True,
                )


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


def read_folds(work: Path, trial: str, precision: str) -> dict[tuple[int, int], Any]:
    """Return the kept folds of a trial by (seed, fold)."""
    found = {}
    for path in sorted(work.glob(f"{trial}@{precision}-*.npz")):
        seed, fold = path.stem.rsplit("-", 2)[1:]
        found[int(seed), int(fold)] = np.load(path)
    return found


def compare_with(
    labels: np.ndarray,
    found: dict[tuple[int, int], Any],
    base: dict[tuple[int, int], Any],
    row: dict[str, Any],
) -> RecipeRow:
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

    def balanced(one: np.ndarray) -> float:
        return float(np.mean([one[truth == label].mean() for label in np.unique(truth)]))

    def loss(values: np.ndarray) -> float:
        return float(-values[np.arange(len(truth)), truth].mean())

    def zoom(name: str) -> float | None:
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


def log_probabilities(probabilities: np.ndarray, shift: np.ndarray | float) -> np.ndarray:
    """Return the logarithm of shifted and normalised probabilities, (N, K)."""
    logs = np.log(probabilities.clip(1e-12)) - shift
    return np.asarray(logs - np.log(np.exp(logs).sum(axis=1, keepdims=True)))


def pairs(labels: np.ndarray, work: Path, precision: str) -> list[RecipeRow]:
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


def shifted(
    labels: np.ndarray,
    classes: Sequence[str],
    trial: str,
    found: dict[tuple[int, int], Any],
    strengths: Sequence[float] = SHIFTS,
) -> list[ShiftRow]:
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


def log_weights(labels: np.ndarray, strength: float) -> np.ndarray:
    """Return what ``--model.decision_shift`` adds to the log probability of each class, (K,)."""
    return np.log1p(strength * len(labels) / np.bincount(labels))


def write_table(options: argparse.Namespace) -> None:
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


def main() -> None:
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
