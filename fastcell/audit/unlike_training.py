"""Find cells of a data set that are unlike the training cells of a run, and for which its answers cannot be trusted."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fastcell.audit.findings import Finding
from fastcell.audit.sample import names_of
from fastcell.dataset.corrupt_cells import CorruptCells
from fastcell.dataset.manifest import Manifest
from fastcell.dataset.views import View
from fastcell.errors import ArgumentError
from fastcell.inference.measure_batches import MeasuredCells, measure_batches
from fastcell.inference.unlike.feature_names import IMAGE_FEATURES, words_for
from fastcell.inference.unlike.training_cells import CHANCE, LEAST_TRAINING_CELLS, TrainingCells
from fastcell.loading.datamodule import CellDataModule
from fastcell.loading.loader import CellLoader
from fastcell.loading.preprocessing import Preprocessing
from fastcell.loading.ranks import evaluation_share
from fastcell.loading.settings import LoaderSettings
from fastcell.models.lightning_module import CellModule
from fastcell.runs.checkpoint import load_classifier, read_checkpoint
from fastcell.runs.run_folder import check_run_format, scored_checkpoint
from fastcell.stats.excess import above_chance
from fastcell.system.text import list_names
from fastcell.system.worker_processes import num_threads

WARNING_SHARE, PROBLEM_SHARE = 0.1, 0.3
_KEY, _TITLE = "unlike_training", "cells unlike those of the run's training"
_SHOWN_SHARE = 0.05  # of the cells; features that are off in fewer are not named
_SHOWN_SHIFT = 2.5  # of the median, in spreads of training cells; skewed features are up to 1.5 off in training cells
_MOST_SHOWN = 6
_BATCH = 256


def find_unlike(
    manifest: Manifest, run: Path, rows: np.ndarray, jobs: int | None = None, trust: Sequence[str] = ()
) -> Finding:
    """Compare cells with the training cells of a run.

    Args:
        manifest: data set of the cells. They need no classes, and the run may have been trained on another data set.
        run: run folder of ``fastcell fit``.
        rows: (n,) cell_ids, increasing.
        jobs: threads; None starts one per CPU.
        trust: packages whose code the network of the run may import.

    Returns:
        The finding; skipped without a checkpoint, without statistics of training cells in it, or if its network is of a
        package that is not in `trust`. `details` holds the shift of each image feature in spreads of the training
        cells, and the shares of cells below and above the range of 99 % of the training cells.

    Raises:
        ArgumentError: data set and run have 16-bit cells with different windows.
        DataError: the run cannot be read.
    """
    check_run_format(run)
    checkpoint = scored_checkpoint(run)
    known = None if checkpoint is None else TrainingCells.from_checkpoint(read_checkpoint(checkpoint))
    if checkpoint is None or known is None:
        lacks = "checkpoint" if checkpoint is None else "statistics of training cells in its checkpoint"
        note = (
            f"not tested: {run} has no {lacks}. Train again with this version, on {LEAST_TRAINING_CELLS} or more cells."
        )
        return Finding(_KEY, _TITLE, verdict="skipped", notes=(note,))
    try:
        model = load_classifier(checkpoint, trust)
    except ArgumentError as error:
        return Finding(_KEY, _TITLE, verdict="skipped", notes=(f"not tested: {error}",))
    cells = _measure(manifest, model, rows, num_threads(jobs))
    unlike = known.measure(cells.image, cells.network).scores > 1
    names = names_of(manifest, "group")
    names = names_of(manifest, "collection") if names is None else names
    return _finding(known, cells, unlike, None if names is None else names[cells.cell_ids])


def _measure(manifest: Manifest, model: CellModule, rows: np.ndarray, threads: int) -> MeasuredCells:
    preprocessing = Preprocessing.from_dict(dict(model.preprocessing))
    data = CellDataModule(manifest.place)
    data.use_preprocessing(preprocessing, model.classes)
    loader = CellLoader(
        View(manifest, rows),
        evaluation_share(len(rows), min(_BATCH, len(rows))),
        preprocessing,
        LoaderSettings(threads=threads),
        corrupt_cells=CorruptCells(manifest, "replace"),
    )
    return measure_batches(model, loader, threads)


def _finding(known: TrainingCells, cells: MeasuredCells, unlike: np.ndarray, groups: np.ndarray | None) -> Finding:
    num, of = int(unlike.sum()), len(unlike)
    share = num / max(of, 1)
    found = above_chance(unlike, np.zeros(of, str) if groups is None else groups, CHANCE)
    most = max([share, *(count / size for name, count, size in found if name)])
    verdict = "ok" if not found or most < WARNING_SHARE else "warning" if most < PROBLEM_SHARE else "problem"
    says = (
        f"{num:,} of {of:,} cells ({share:.1%}); by chance, at most {CHANCE:.0%} of cells like the training cells are "
        "marked."
    )
    named = [f"{name} {count:,} of {size:,}" for name, count, size in found if name]
    if named:
        says += f" Above chance in {list_names(named, _MOST_SHOWN)}."
    features = _features(known, cells.image)
    off = _off_in_words(features)
    if off:
        says += f" Compared with training cells: {', '.join(off)}."
    moved = _moved_in_words(features)
    if moved:
        says += f" The median cell has moved: {', '.join(moved)} (in spreads of training cells)."
    way = (
        "do not trust the run's answers there; fastcell predict marks these cells. Check the instrument's settings, or "
        "label some of them and train again"
    )
    details = {"cells": of, "unlike": num, "chance": CHANCE, "features": features}
    details["recordings"] = [{"name": name, "unlike": count, "cells": size} for name, count, size in found]
    return Finding(
        _KEY,
        _TITLE,
        verdict=verdict,
        says={"else": says},
        advice={"warning": way, "problem": way},
        notes=(f"{known.caution}.",) if known.caution else (),
        details=details,
    )


def _features(known: TrainingCells, image: np.ndarray) -> list[dict[str, Any]]:
    """Return by feature the shift of the median, and the shares of cells below and above the training cells' range."""
    scaled = (image - known.center) / known.scale
    low, high = (scaled < known.low).mean(axis=0), (scaled > known.high).mean(axis=0)
    columns = zip(IMAGE_FEATURES, np.median(scaled, axis=0), low, high, strict=True)
    return [
        {"name": name, "shift": float(shift), "below": float(below), "above": float(above)}
        for name, shift, below, above in columns
    ]


def _off_in_words(features: list[dict[str, Any]]) -> list[str]:
    """Return a text on the features that are most often outside their usual range, with the share of such cells."""
    shares: dict[str, float] = {}
    for feature in features:
        for side in ("below", "above"):
            word = words_for(feature["name"], side == "above")
            shares[word] = max(shares.get(word, 0.0), feature[side])
    ranked = sorted(shares.items(), key=lambda item: -item[1])[:_MOST_SHOWN]
    return [f"{word} in {share:.0%}" for word, share in ranked if share >= _SHOWN_SHARE]


def _moved_in_words(features: list[dict[str, Any]]) -> list[str]:
    """Return a text for the features whose median has shifted, with the shift, in descending order.

    A shift of all cells shows in the median even if each cell stays within the range of training cells: a
    magnification among cells that differ in size, for example.
    """
    shifts: dict[str, float] = {}
    for feature in features:
        word = words_for(feature["name"], feature["shift"] > 0)
        shifts[word] = max(shifts.get(word, 0.0), abs(feature["shift"]))
    ranked = sorted(shifts.items(), key=lambda item: -item[1])[:_MOST_SHOWN]
    return [f"{word} by {shift:.1f}" for word, shift in ranked if shift >= _SHOWN_SHIFT]
