"""Training of the trials of `recipes.py`: cells, their folds, and the predictions that are kept of each."""

import json
import os
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from recipe_trials import TRIALS

ZOOMS = {"1.25": 1.25, "0.8": 0.8}
FOLDS = 5
SYNTHETIC_CELLS = 1_500  # of the training subset


class Cells:
    """Labelled cells and their folds.

    Args:
        name: ``jurkat``, ``tcell`` or ``synthetic``.
        folder: see the module's docstring.
    """

    def __init__(self, name, folder):
        from fastcell.sources.load_cells import load_cells

        self.groups = None
        self.tested = None
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

    def folds(self, seed):
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


def zoomed(image, factor):
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


def trial_module(trial, frequency, balance_cap, seed):
    """Return the class of the network that a trial trains: its loss mixes images and shifts logits as the trial says.

    Args:
        trial: one of `TRIALS`.
        frequency: (K,) share of each class among the training cells.
        balance_cap: most repeats of a cell in the recipe; None if there is no bound.
        seed: of the mixed images.
    """
    import torch

    from fastcell.models.lightning_module import CellModule
    from fastcell.models.losses import cell_losses, weighted_mean

    shift = trial.prior_shift * np.log(frequency.clip(1e-9))
    repeats = np.minimum(frequency.max() / frequency.clip(1e-9), balance_cap or np.inf)
    shift = torch.from_numpy(shift + trial.repeat_shift * np.log(repeats)).float()

    class TrialModule(CellModule):
        def _loss(self, batch, step=0):
            if not (trial.mixup or trial.prior_shift or trial.repeat_shift):
                return super()._loss(batch, step)
            images, share, other = batch.images, 1.0, torch.arange(len(batch.labels))
            if trial.mixup:
                random = np.random.default_rng([seed, self.global_step])
                share = float(random.beta(trial.mixup, trial.mixup))
                other = torch.from_numpy(random.permutation(len(images)))
                images = share * images + (1 - share) * images[other]
            logits = self(images) + shift
            first, second = (cell_losses("cross_entropy", logits, batch.labels[rows]) for rows in (slice(None), other))
            losses = share * first + (1 - share) * second
            self.train_scores.update(logits.detach(), batch.labels, losses.detach(), batch.weight)
            return weighted_mean(losses, batch.weight)

    return TrialModule


def train_fold(trial, cells, fold, seed, extra):
    """Train on the other folds and classify the cells of this one.

    Returns:
        ``test``: indices of the cells; the probabilities of `classify_zoomed_and_turned`; ``steps`` and ``cpu_s`` of
        the training.
    """
    import torch

    from fastcell.training.fit import fit_model
    from fastcell.training.on_arrays import _quiet, _TrainingCells
    from fastcell.training.recipe import read_recipe
    from fastcell.training.trainer import build_trainer

    recipe = read_recipe(trial.preset, [*trial.changes.split(), *extra], select="last")
    folds = cells.folds(seed)
    train, test = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
    labels = cells.labels[train]
    frequency = np.bincount(labels, minlength=len(cells.classes)) / len(labels)
    weights = np.ones(len(train))
    if recipe.balance == "weights":
        weights = (1 / (frequency * len(cells.classes)))[labels]
        recipe = recipe.changed(data={"balance": "none"})
    limits = {"max_epochs": recipe.max_epochs, "max_steps": recipe.max_steps}
    if trial.same_steps:
        limits = {"max_epochs": -1, "max_steps": recipe.max_epochs * -(-len(train) // recipe.batch_size)}
    device, preprocessing, start = torch.device("cpu"), recipe.preprocessing, time.process_time()
    with _quiet():
        images = [cells.images[row] for row in train]
        data = _TrainingCells(recipe, preprocessing, images, labels, weights, seed, device, 1)
        torch.manual_seed(seed)
        module = trial_module(trial, frequency, recipe.balance_cap, seed)(
            **recipe.model, classes=list(cells.classes), preprocessing=preprocessing.to_dict()
        )
        trainer = build_trainer(device, **{**recipe.trainer, **limits})
        fit_model(trainer, module, data)
    seconds = time.process_time() - start
    found = classify_zoomed_and_turned(module.eval(), [cells.images[row] for row in test])
    return {"test": test, "cpu_s": seconds, "steps": trainer.global_step, **found}


def classify_zoomed_and_turned(module, images):
    """Return the probabilities (n, K) of cells as they are and changed.

    Returns:
        ``one``: of the cell as it is; ``flips``: means over its four flips; ``flips_1.25`` and ``flips_0.8``: the same
        of zoomed cells; ``eight``: means over the flips and those of the cell turned by 90 degrees.
    """
    from fastcell.training.on_arrays import classify_cells

    out = {}
    ways = [("one", False, 1.0), ("flips", True, 1.0), *((f"flips_{z}", True, ZOOMS[z]) for z in ZOOMS)]
    for name, tta, zoom in ways:
        module.hparams["tta"] = tta
        out[name] = classify_cells(module, images if zoom == 1 else [zoomed(image, zoom) for image in images], 256)
    module.hparams["tta"] = True
    turned = classify_cells(module, [np.ascontiguousarray(np.rot90(image)) for image in images], 256)
    out["eight"] = (out["flips"] + turned) / 2
    return out


def train(options):
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
