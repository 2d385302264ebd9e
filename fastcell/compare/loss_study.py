"""The loss study: accuracy by iteration for softmax cross entropy, squared error and sigmoid cross entropy.

It reproduces the paper's Figure 7.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np

from fastcell.compare.figures import draw_losses
from fastcell.compare.runner import Study
from fastcell.compare.saved_results import Task, make_key
from fastcell.compare.train_network import Length, train_network
from fastcell.compare.write_tables import write_csv
from fastcell.storage.whole_files import replace_file

COMPARED_LOSSES = {"softmax cross entropy": "cross_entropy", "squared error": "mse", "sigmoid cross entropy": "sigmoid"}
NUM_POINTS = 30
CURVE_MEASURES = ("valid_accuracy", "train_accuracy")


def run_losses(study: Study, num_seeds: int, num_steps: int) -> list[str]:
    """Train the recipe's network with each loss and otherwise equal settings, and return the report as Markdown lines.

    Each finished training is saved as one JSON file in `cells/` and is not repeated.

    Args:
        study: The study. Only the first split of its first scheme is used.
        num_seeds: Number of seeds per loss.
        num_steps: Number of optimizer steps per training.
    """
    from fastcell.system.resources import has_gpu

    (scheme,) = list(study.schemes.values())[:1]
    split = next(iter(scheme.splits))
    if len(scheme.splits) > 1:
        study.say(f"the loss study takes one split: {split}")
    study.cells_dir.mkdir(parents=True, exist_ok=True)
    study.find_corrupt_cells()
    curves: dict[str, dict[str, Any]] = {}
    summary = []
    for name, loss in COMPARED_LOSSES.items():
        recipe = study.recipe.with_model(loss=loss)
        seeds = []
        for seed in range(num_seeds):
            task = Task(f"loss_{loss}", scheme.name, split, 1.0, seed, recipe.image_size)
            parts = study.parts(task)
            settings = {"recipe": recipe.to_dict(), "steps": num_steps, "gpu": has_gpu()}
            key = make_key(task, parts, settings | {"cells": study.print_of(parts)})
            path = study.cells_dir / f"{task.name}-{num_steps}.json"
            rows = _load(path, key)
            if rows is None:
                batch = min(recipe.batch_size, len(parts["train"]))
                every = max(1, num_steps // NUM_POINTS)
                length = Length(num_steps, every, batch)
                _, rows, took = train_network(study.manifest, parts, recipe, seed, length, 0 if has_gpu() else None)
                _save(path, key, rows)
                study.say(f"{name}, seed {seed}: {num_steps} iterations in {took:.1f} s")
            seeds.append(rows)
        curves[name] = {measure: _points(seeds, measure) for measure in CURVE_MEASURES}
        summary.append(_summary(name, curves[name]["valid_accuracy"]))
    num = {part: len(rows) for part, rows in parts.items()}
    kind = "synthetic cells" if study.manifest.info.synthetic else "cells"
    caption = (
        f"Mean over {num_seeds} seed{'s' * (num_seeds > 1)}, band = their range; {num['train']:,} training and "
        f"{num['valid']:,} validation {kind}, batch {batch_of(study, num['train'])}, preset {study.recipe.preset}, "
        "one learning rate for all losses. Training accuracy is the mean over the previous 50 iterations."
    )
    stem = study.out_dir / "accuracy_by_iteration"
    draw_losses(curves, stem, f"Accuracy by iteration for three losses: {study.manifest.info.name}", caption)
    write_csv(study.out_dir / "losses.csv", summary)
    lines = [
        "## Losses",
        "",
        "| loss | first iteration at 90 % of the best validation accuracy of all | last validation accuracy |",
        "|---|--:|--:|",
    ]
    best = max(float(points["valid_accuracy"][:, :, 1].mean(0).max()) for points in curves.values())
    for name, points in curves.items():
        lines.append(f"| {name} | {_first(points['valid_accuracy'], 0.9 * best)} | {_last(points['valid_accuracy'])} |")
    return [*lines, "", caption, "", f"![]({stem.name}.png)", ""]


def batch_of(study: Study, num_train: int) -> int:
    """Return the number of cells in a step."""
    return min(study.recipe.batch_size, num_train)


def _points(seeds: Sequence[list[dict[str, float]]], measure: str) -> np.ndarray:
    """Return iteration and value as (S, P, 2) float, for P points of S seeds."""
    return np.array([[(row["step"], row[measure]) for row in rows if measure in row] for rows in seeds])


def _first(points: np.ndarray, level: float) -> str:
    """Return the first iteration at which the mean over seeds reaches a level."""
    there = np.flatnonzero(points[:, :, 1].mean(0) >= level)
    return f"{points[0, there[0], 0]:.0f}" if len(there) else "not reached"


def _last(points: np.ndarray) -> str:
    last = points[:, -1, 1]
    return f"{last.mean():.3f}" + (f" ± {last.std(ddof=1):.3f}" if len(last) > 1 else "")


def _summary(name: str, points: np.ndarray) -> dict[str, Any]:
    last = points[:, -1, 1]
    return {
        "loss": name,
        "iterations": int(points[0, -1, 0]),
        "valid_accuracy": float(last.mean()),
        "std": float(last.std(ddof=1)) if len(last) > 1 else None,
        "by_seed": last.tolist(),
    }


def _load(path: Path, key: str) -> list[dict[str, float]] | None:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        is_whole = values["key"] == key and values["digest"] == _digest_rows(values["rows"])
        return values["rows"] if is_whole else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _digest_rows(rows: list[dict[str, float]]) -> str:
    return blake2b(json.dumps(rows).encode(), digest_size=16).hexdigest()


def _save(path: Path, key: str, rows: list[dict[str, float]]) -> None:
    plain = [{name: float(value) for name, value in row.items()} for row in rows]
    text = json.dumps({"key": key, "digest": _digest_rows(plain), "rows": plain}) + "\n"
    replace_file(path, lambda file: file.write_text(text, encoding="utf-8"))
