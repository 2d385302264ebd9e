"""Assessment of a data set: which cells have poor images, for which reason, and how reliable this is.

The cells of each collection are assessed together. If they resemble the simulated cells of the ATOM microscope, the
model fitted to simulated cells scores them (`simulated_model`). If not, only outliers from their own distribution are
found (`faults`). If the user has labelled enough cells, a model fitted to these labels replaces both (`hand_labels`).
The labelled cells themselves keep their labels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from fastcell.dataset.manifest import Manifest
from fastcell.dataset.rows.cell_groups import CellGroups
from fastcell.errors import invalid
from fastcell.quality.drop_threshold import EVEN, calibrate
from fastcell.quality.faults import LEAST_COMPARED_CELLS, outlier_scores
from fastcell.quality.hand_labels import LEAST_LABELS, HandLabels, can_learn, learn
from fastcell.quality.simulated_model import GOOD, SimulatedModel, load_model
from fastcell.stats.proportions import clopper_pearson_interval, describe_share
from fastcell.system.text import MOST_PRINTED_ROWS, printable

UNREADABLE = "unreadable"
DEFAULT_MOST_PASSED = 0.05
DOUBTFUL = 0.1
"""Score at or above which a cell is doubtful. Cells with lower scores get no fault as their reason."""
_STRIKING = 3.0  # ratio to the dropped share of all other cells


@dataclass
class Assessment:
    """Result of quality control for N cells.

    Attributes:
        scores: (N,) float32, 0 good to 1 bad; 1 for a cell that cannot be read.
        reasons: (N,) str objects, most likely fault, whatever the verdict; empty below the score `DOUBTFUL`.
        drop: (N,) bool.
        notes: basis and reliability of the assessment, one sentence each.
    """

    scores: npt.NDArray[np.float32]
    reasons: np.ndarray
    drop: npt.NDArray[np.bool_]
    notes: list[str] = field(default_factory=list)


def assess(
    manifest: Manifest,
    features: npt.NDArray[np.float32],
    labels: HandLabels | None = None,
    most_passed: float = DEFAULT_MOST_PASSED,
) -> Assessment:
    """Assess all cells of a data set.

    Args:
        manifest: data set of N cells.
        features: (N, F), NaN for a cell that cannot be read.
        labels: labels of the user, if any.
        most_passed: largest share of bad cells that may pass, above 0 and below 1. It holds with 95 % confidence on the
            held-out cells that calibrated the scores.

    Raises:
        ArgumentError: `most_passed` is out of its range.
    """
    if not 0 < most_passed < 1:
        raise invalid("--max-bad-passed", "a share above 0 and below 1", most_passed, "The default is 0.05")
    num = len(manifest)
    found = Assessment(np.ones(num, np.float32), np.full(num, UNREADABLE, dtype=object), np.ones(num, bool))
    readable = np.asarray(np.isfinite(features).all(axis=1))
    model = load_model()
    notes, used = [], False
    for name, rows in collections(manifest, readable).items():
        note, alike = _judge_collection(found, model, features, rows, name, most_passed)
        notes.append(note)
        used |= alike
    if used:
        notes += _held_out(model, most_passed)
    if labels is not None and can_learn(labels, features):
        notes = _judge_by_labels(found, features, readable, labels, most_passed)
    elif labels is not None:
        bad = int(labels.bad.sum())
        told = f"{len(labels.bad) - bad:,} good and {bad:,} bad ones"
        few = f"labels: {told}, too few for a model, which needs {LEAST_LABELS} readable cells of each kind"
        notes.append(f"{few}; the labelled cells keep their labels")
    found.reasons[found.scores < DOUBTFUL] = ""
    found.notes += notes
    if labels is not None:
        _obey_labels(found, labels)
    found.notes += _striking_classes(manifest, found)
    if not readable.all():
        found.notes.append(f"unreadable: {int((~readable).sum()):,} cells, dropped; fastcell verify lists the reasons")
    return found


def collections(manifest: Manifest, chosen: npt.NDArray[np.bool_]) -> dict[str, np.ndarray]:
    """Return the rows (k,) of the chosen cells by collection.

    If no cell has a collection, the only entry is ``cells``.
    """
    groups = CellGroups.of_column(manifest.table.column("collection"))
    named = {name: np.flatnonzero(chosen & (groups.codes == code)) for code, name in enumerate(groups.names)}
    named = {"no collection" if named else "cells": np.flatnonzero(chosen & (groups.codes < 0)), **named}
    return {name: rows for name, rows in named.items() if len(rows)}


def _judge_collection(
    found: Assessment, model: SimulatedModel, features: np.ndarray, rows: np.ndarray, name: str, most_passed: float
) -> tuple[str, bool]:
    """Score the cells of one collection.

    Returns:
        A note about the method, and True if the model of simulated cells was used.
    """
    mine = features[rows]
    alike, distance = model.looks_alike(mine)
    told = f"distance {distance:.1f}, limit {model.look_limit:.1f}"
    if alike:
        scores, reasons = _simulated_scores(model, mine)
        threshold = calibrate(model.calibration["below_even"], model.calibration["num_bad"], most_passed).score
        note = f"{printable(name)}: resembles the simulated cells ({told}); scored by the model fitted to them"
    else:
        scores, reasons = outlier_scores(mine)
        threshold = EVEN
        how = "only outliers of its own distribution are found, and no share of bad cells can be guaranteed"
        if len(rows) < LEAST_COMPARED_CELLS:
            how = f"fewer than {LEAST_COMPARED_CELLS} cells cannot be compared, so only blank images are found"
        note = f"{printable(name)}: does not resemble the simulated cells ({told}); {how}"
    found.scores[rows], found.reasons[rows], found.drop[rows] = scores, reasons, scores >= threshold
    return note, alike


def _simulated_scores(model: SimulatedModel, features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    shares = model.predict(features)
    good = model.kinds.index(GOOD)
    scores = 1 - shares[:, good]
    shares[:, good] = -1
    return scores, np.array(model.kinds, dtype=object)[shares.argmax(1)]


def _judge_by_labels(
    found: Assessment, features: np.ndarray, readable: np.ndarray, labels: HandLabels, most_passed: float
) -> list[str]:
    """Score all cells with a model fitted to the labels, and return notes about its reliability."""
    model = load_model()
    hints = np.full((len(features), len(model.kinds)), np.nan)
    hints[readable] = np.log(model.predict(features[readable]) + 1e-4)
    learned = learn(labels, features, hints, most_passed)
    found.scores[readable] = learned.scores[readable]
    found.drop[readable] = learned.scores[readable] >= learned.threshold.score
    named = readable & (learned.reasons != "bad")
    found.reasons[named] = learned.reasons[named]
    notes = [
        f"labels: model fitted to {learned.num_good:,} good and {learned.num_bad:,} bad cells",
        f"threshold {learned.threshold.score:.3f}: in cross-validation on them "
        + _errors(learned.bad_passed, learned.num_bad, learned.good_dropped, learned.num_good),
    ]
    if not learned.threshold.promised:
        few = f"labels: {learned.num_bad:,} bad cells are too few to guarantee that at most {most_passed:.1%} pass"
        notes.append(f"{few}; the strictest possible threshold is used")
    return notes


def _obey_labels(found: Assessment, labels: HandLabels) -> None:
    found.drop[labels.cell_ids] = labels.bad
    named = labels.bad & (labels.kinds != "bad")
    found.reasons[labels.cell_ids[named]] = labels.kinds[named]


def _striking_classes(manifest: Manifest, found: Assessment) -> list[str]:
    """Return a note for each class that loses far more cells than the others.

    Such a class may resemble a fault by its nature, for example dividing cells.
    """
    notes: list[str] = []
    for label, name in enumerate(manifest.info.classes):
        mine = manifest.class_codes == label
        num, dropped, others = int(mine.sum()), int(found.drop[mine].sum()), found.drop[~mine]
        rest = float(others.mean()) if len(others) else 1.0
        if dropped >= 3 and clopper_pearson_interval(dropped, num)[0] > _STRIKING * rest:
            share = (
                f"{dropped:,} of {num:,} cells ({dropped / num:.0%}) would be dropped, {rest:.1%} of all other cells"
            )
            notes.append(
                f"class {printable(name)}: {share}; it may naturally resemble a fault, check --review before --apply"
            )
    more = len(notes) - MOST_PRINTED_ROWS
    return notes[:MOST_PRINTED_ROWS] + ([f"the same holds for {more:,} more classes"] if more > 0 else [])


def _held_out(model: SimulatedModel, most_passed: float) -> list[str]:
    """Return notes about the errors of the threshold on simulated cells used neither for fit nor for calibration."""
    threshold = calibrate(model.calibration["below_even"], model.calibration["num_bad"], most_passed)
    passed, num_bad, dropped, num_good = held_out_counts(model, threshold.score)
    notes = [
        f"threshold {threshold.score:.3f}: of held-out simulated cells "
        + _errors(passed, num_bad, dropped, num_good)
        + "; simulated faults are easy to detect, so expect more of both in a recording"
    ]
    if not threshold.promised:
        notes.append(f"the calibration cells are too few to guarantee that at most {most_passed:.3%} of bad cells pass")
    return notes


def _errors(passed: int, num_bad: int, dropped: int, num_good: int) -> str:
    return (
        f"{describe_share(passed, num_bad)} bad cells pass, {describe_share(dropped, num_good)} good cells are dropped"
    )


def held_out_counts(model: SimulatedModel, threshold: float) -> tuple[int, int, int, int]:
    """Count the errors of a threshold on the held-out simulated cells.

    The model stores only the highest tenth of the good scores. The number of good cells that reach the threshold is
    therefore at most a tenth of them.

    Args:
        model: the model with its held-out scores.
        threshold: score up to `EVEN`.

    Returns:
        Number of bad cells below the threshold, of all bad cells, of good cells that reach the threshold, and of all
        good cells.
    """
    kinds: Mapping[str, dict] = model.held_out
    bad = [values for kind, values in kinds.items() if kind != GOOD]
    passed = sum(int((np.array(values["below_even"]) < threshold).sum()) for values in bad)
    dropped = int((np.array(kinds[GOOD]["top"]) >= threshold).sum())
    return passed, sum(values["num"] for values in bad), dropped, kinds[GOOD]["num"]
