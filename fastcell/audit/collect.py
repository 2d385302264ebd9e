"""Audit of a data set: confounders (class information outside the cell), doubtful labels and drift.

Each finding has a number, its chance level, a one-word verdict and advice. The chance level comes from permutations
that refit everything; for label noise it comes from labels simulated without wrong ones. An alarm (``warning`` or
``problem``) from a test requires both a p of at most 0.05 after Holm's adjustment for all tests of the audit, and an
effect that is large enough to matter. At most one in twenty clean data sets therefore raises an alarm from a test.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fastcell.audit.background import BACKGROUND_FEATURES
from fastcell.audit.confidence_drift import find_confidence_drift, read_run
from fastcell.audit.confounds import class_findings, image_features, recording_finding
from fastcell.audit.drift import Drift, drift_finding, find_drift
from fastcell.audit.findings import Finding, beside_chance, judge
from fastcell.audit.key_groups import key_finding
from fastcell.audit.label_noise import (
    LEAST_FIT_P,
    LEAST_LABELLED_CELLS,
    LEAST_OF_CLASS,
    LabelNoise,
    find_label_noise,
)
from fastcell.audit.sample import CellSample, choose_rows, read_sample
from fastcell.audit.table_findings import duplicate_finding, split_findings, table_finding
from fastcell.audit.unlike_training import find_unlike
from fastcell.dataset.manifest import Manifest
from fastcell.errors import DataError, FastcellError, invalid
from fastcell.quality.features import FEATURES
from fastcell.splits.copies.exact import Duplicates, exact_sets, read_duplicates
from fastcell.stats.association import Association
from fastcell.stats.permutation import LEAST_PERMUTATIONS, PERMUTATIONS
from fastcell.system.own_parts import import_trusted
from fastcell.system.worker_processes import check_jobs

MOST_CELLS = 20_000
_LEAST_DISAGREEMENT = 0.01
"""Share of cells with confident disagreement, above chance, at and above which the finding is a warning."""
_DRIFTING = ("level", "noise_x", "slope_x", "slope_y")

_Say = Callable[[str], object]


@dataclass(frozen=True)
class Audit:
    """Result of an audit.

    Attributes:
        findings: findings with verdicts, in the order of the report.
        sample: the cells that were measured.
        tables: tables of class x group and class x collection, if the data set has these columns.
        drift: drift of features; None if it could not be tested.
        confidence: drift of the confidence of a run; None if it could not be tested.
        noise: label noise; None if it could not be tested.
        num_cells: number of cells in the data set, without those that verdicts drop.
        permutations: number R of permutations per test.
        seconds: duration of the audit [s].
    """

    findings: list[Finding]
    sample: CellSample
    tables: dict[str, Association]
    drift: Drift | None
    confidence: Drift | None
    noise: LabelNoise | None
    num_cells: int
    permutations: int
    seconds: float

    def of(self, verdict: str) -> list[Finding]:
        """Return the findings with that verdict."""
        return [finding for finding in self.findings if finding.verdict == verdict]


def audit(
    data: Manifest | str,
    run: str | None = None,
    *,
    most_cells: int = MOST_CELLS,
    permutations: int = PERMUTATIONS,
    seed: int = 0,
    jobs: int | None = None,
    copies: Duplicates | None = None,
    say: _Say | None = None,
    trust: Sequence[str] = (),
) -> Audit:
    """Audit a data set.

    Args:
        data: data set in either layout, or its folder.
        run: folder of a run of ``fastcell fit``, to compare the cells with those of its training; if the run, or a
            table of its predictions, is of this data set, its confidence is tested for drift.
        most_cells: largest number of cells to read; they are chosen by class and recording.
        permutations: number of permutations R for each chance level. The smallest possible p is 1 / (R + 1). About 12
            tests share the limit of 0.05, so R should be at least 300.
        seed: seed of the choice of cells and of the permutations.
        jobs: number of reading threads; None for one per CPU.
        copies: known sets of copies; None reads duplicates.parquet or, without that file, searches for exact copies.
        say: function that receives a line of text for each step; if given, progress is printed to stderr.
        trust: packages whose code the network of the run may import.

    Raises:
        ArgumentError: a number is out of its range, or a package of `trust` cannot be imported.
        DataError: the data set or the run cannot be read, verdicts drop all cells, or fewer than two cells can be read.
    """
    start = time.monotonic()
    for name, value, least in (("--cells", most_cells, 100), ("--permutations", permutations, LEAST_PERMUTATIONS)):
        if value < least:
            raise invalid(name, f"a number >= {least}", value, "Leave it out for the default")
    check_jobs(jobs)
    announce: _Say = say or (lambda line: None)
    manifest = Manifest.open(data) if isinstance(data, str) else data
    import_trusted(trust)
    of_run = None if run is None else read_run(manifest, Path(run))  # fail early: the steps below take minutes
    rows = choose_rows(manifest, most_cells, seed)
    kept = int(manifest.verdicts().sum())
    if not len(rows):
        raise DataError(
            f"{manifest.place} must have cells that verdicts.csv keeps, got none. Correct or remove that file."
        )
    announce(f"reading {len(rows):,} of {kept:,} cells")
    sample = read_sample(manifest, rows, jobs, verbose=say is not None)
    if len(sample) < 2:
        raise DataError(
            f"{manifest.place}: at least two cells must be readable, got {len(sample)}. Run fastcell verify."
        )

    def random(number: int) -> np.random.Generator:
        return np.random.default_rng([seed, 0xA0D17, number])

    announce("background, brightness, size, files")
    images = image_features(sample, seed)
    findings = class_findings(sample, images, permutations, random(1))
    announce("recordings")
    tables: dict[str, Association] = {}
    for number, (column, what, names) in enumerate(
        (("group", "group", sample.groups), ("collection", "collection", sample.collections))
    ):
        findings.append(
            recording_finding(f"{column}_from_image", what, names, sample, images, permutations, random(2 + number))
        )
        made, table = table_finding(manifest, column, what, permutations, random(4 + number))
        findings.append(made)
        if table is not None:
            tables[column] = table
    findings.append(key_finding(manifest))
    findings += split_findings(manifest)
    announce("copies")
    findings.append(_copies(manifest, copies, jobs))
    announce("labels")
    noise = find_label_noise(images, sample.labels, permutations, random(6), seed)
    findings.append(_noise_finding(noise))
    announce("drift")
    drift = find_drift(*drifting_features(sample), sequence_names(sample), permutations, random(7))
    findings.append(_drift_finding(drift))
    confidence = None
    if run is not None:
        confidence, made = find_confidence_drift(manifest, of_run, permutations, random(8))
        findings.append(made)
        if Path(run).is_dir():
            announce("cells unlike those of training")
            findings.append(find_unlike(manifest, Path(run), np.sort(sample.rows), jobs, trust))
    return Audit(
        judge(findings), sample, tables, drift, confidence, noise, kept, permutations, time.monotonic() - start
    )


def drifting_features(sample: CellSample) -> tuple[npt.NDArray[np.float64], list[str]]:
    """Return the features to test for drift, (n, F), and their names: quality features and some background features."""
    places = [BACKGROUND_FEATURES.index(name) for name in _DRIFTING]
    background = sample.backgrounds[:, places].astype(np.float64)
    # A cell that fills its frame has no background and gets the median of the other cells.
    typical = np.nanmedian(background, axis=0) if np.isfinite(background).any() else np.zeros(len(places))
    background = np.where(np.isfinite(background), background, typical)
    names = [*FEATURES, *(f"background {name}" for name in _DRIFTING)]
    return np.hstack([sample.quality.astype(np.float64), background]), names


def sequence_names(sample: CellSample) -> npt.NDArray[np.str_]:
    """Return collection, group and class of each cell as one name, (n,) str; cells of equal name form a sequence."""
    classes = np.array([*sample.classes, ""])[sample.labels]
    columns = [column for column in (sample.collections, sample.groups) if column is not None] + [classes]
    return np.array([" / ".join(part for part in parts if part) or "all cells" for parts in zip(*columns, strict=True)])


def _copies(manifest: Manifest, copies: Duplicates | None, jobs: int | None) -> Finding:
    try:
        found = read_duplicates(manifest) if copies is None else copies
        if found is None:  # an empty stored result also counts as a search
            found = exact_sets(manifest, jobs=jobs)
    except FastcellError as error:
        return Finding("duplicates", "copies of a cell across splits", verdict="cannot tell", says={"else": str(error)})
    return duplicate_finding(manifest, found)


def _noise_finding(noise: LabelNoise | None) -> Finding:
    key, title = "label_noise", "labels that a classifier contradicts"
    if noise is None:
        why = f"the test needs {LEAST_LABELLED_CELLS} cells and two classes of {LEAST_OF_CLASS}"
        return Finding(key, title, verdict="skipped", notes=(f"not tested: {why}.",))
    if not noise.separates_classes:
        accuracy = f"balanced accuracy {noise.balanced_accuracy:.3f}"
        says = f"A classifier hardly separates the classes ({accuracy}), so it cannot judge single labels."
        way = "look at cells of each class side by side (`fastcell info DATA --figures DIR`) before training on them"
        details = {"cells": len(noise.rows), "balanced_accuracy": noise.balanced_accuracy}
        return Finding(
            key, title, verdict="cannot tell", says={"else": says}, advice={"cannot tell": way}, details=details
        )
    num = len(noise.candidates())
    quality = f"the classifier behind it has balanced accuracy {noise.balanced_accuracy:.3f}"
    details = {
        "candidates": num, "cells": len(noise.rows), "balanced_accuracy": noise.balanced_accuracy, "p_fit": noise.p_fit,
    }  # fmt: skip
    way = (
        "look at label_noise.png, mark in label_noise.csv what to drop, and put it beside the manifest as verdicts.csv"
    )
    if noise.p_fit < LEAST_FIT_P:
        says = (
            f"Disagreement does not fall with confidence as the model expects (p {noise.p_fit:.3f} of its fit; "
            f"{quality}), so no share is given. {num:,} candidates are in label_noise.csv."
        )
        return Finding(
            key, title, verdict="cannot tell", says={"else": says}, advice={"cannot tell": way}, details=details
        )
    alarm = (
        f"That share of labels disagrees whatever the confidence of the classifier ({quality}); {num:,} candidates in "
        "label_noise.csv. This is not the share of wrong labels: cells that look like another class count as well."
    )
    effect = max(0.0, noise.result.number - noise.result.chance_high)
    beside = beside_chance(noise.result.p, effect, _LEAST_DISAGREEMENT)
    return Finding(
        key, title, unit="share of confident disagreement", result=noise.result,
        effect=effect,
        thresholds=(_LEAST_DISAGREEMENT, math.inf),
        says={"warning": alarm, "else": f"{beside}; {quality}."},
        advice={"warning": way},
        details=details,
    )  # fmt: skip


def _drift_finding(drift: Drift | None) -> Finding:
    key, title = "drift", "drift of features over acquisition order"
    if drift is None:
        return Finding(key, title, verdict="skipped", notes=("not tested: no group has 40 cells of one class.",))
    return drift_finding(key, title, drift, "features")
