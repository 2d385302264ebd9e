"""What a classifier can read from a data set that is not the cell, and what makes its labels and scores doubtful.

Every question gets a number, its chance level from permutations that refit everything (of labels: from labels drawn
without wrong ones), a verdict in one word and what to do. An alarm (``warning`` or ``problem``) from a test takes both:
a p of at most 0.05 after Holm's adjustment for all tests of the audit, and an effect large enough to matter. So of
clean data sets at most one in twenty raises any.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fastcell.audit.background import BACKGROUND_FEATURES
from fastcell.audit.confidence_drift import find_confidence_drift, read_run
from fastcell.audit.confounds import class_findings, image_features, recording_finding
from fastcell.audit.drift import Drift, drift_finding, find_drift
from fastcell.audit.findings import ALARMS, Finding, judge
from fastcell.audit.label_noise import LEAST_LABELLED_CELLS, LEAST_OF_CLASS, LabelNoise, find_label_noise
from fastcell.audit.sample import CellSample, choose_rows, read_sample
from fastcell.audit.table_findings import duplicate_finding, split_findings, table_finding
from fastcell.dataset.manifest import Manifest
from fastcell.errors import DataError, FastcellError, invalid
from fastcell.quality.features import FEATURES
from fastcell.splits.copies.exact import Duplicates, exact_sets, read_duplicates
from fastcell.stats.association import Association
from fastcell.stats.permutation import LEAST_PERMUTATIONS, PERMUTATIONS

MOST_CELLS = 20_000
_DRIFTING = ("level", "noise_x", "slope_x", "slope_y")

_Say = Callable[[str], object]


@dataclass(frozen=True)
class Audit:
    """What was found.

    Attributes:
        findings: judged, in the order of the report.
        sample: the cells that were looked at.
        tables: class x group and class x collection, where there are any.
        drift: of features; confidence: of a run; noise: of labels. None where they could not be looked at.
        num_cells: of the data set without those that verdicts drop.
        permutations: R.
        seconds: it took.
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
        """Findings with that verdict."""
        return [finding for finding in self.findings if finding.verdict == verdict]

    @property
    def num_alarms(self) -> int:
        return sum(finding.verdict in ALARMS for finding in self.findings)


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
) -> Audit:
    """Audit a data set.

    Args:
        data: of either layout, or its folder.
        run: folder of a run of ``fastcell fit``, or a table of predictions, of this data set: for drift of confidence.
        most_cells: that are read; chosen by class and recording.
        permutations: R of each chance level. The least p is 1 / (R + 1), and a dozen tests share 0.05: 300 or more.
        seed: of the choice of cells and of the permutations.
        jobs: threads that read; None: one for each CPU.
        copies: sets of copies, where they are known; None: those in duplicates.parquet, else exact ones are looked for.
        say: told what is being done, one line each; progress goes to stderr then.

    Raises:
        ArgumentError: a number out of its rule.
        DataError: the data set or the run cannot be read, or no cell of it.
    """
    start = time.monotonic()
    for name, value, least in (("--cells", most_cells, 100), ("--permutations", permutations, LEAST_PERMUTATIONS)):
        if value < least:
            raise invalid(name, f"a number >= {least}", value, "Leave it out for the default")
    announce: _Say = say or (lambda line: None)
    manifest = Manifest.open(data) if isinstance(data, str) else data
    of_run = None if run is None else read_run(manifest, Path(run))  # now, for what follows takes minutes
    rows = choose_rows(manifest, most_cells, seed)
    kept = int(manifest.verdicts().sum())
    if not len(rows):
        raise DataError(f"{manifest.path} must hold cells that verdicts.csv keeps, got none. Mend or remove that file.")
    announce(f"reading {len(rows):,} of {kept:,} cells")
    sample = read_sample(manifest, rows, jobs, verbose=say is not None)
    if len(sample) < 2:
        raise DataError(f"{manifest.path}: two cells or more must be readable, got {len(sample)}. Run fastcell verify.")

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
    if of_run is not None:
        confidence, made = find_confidence_drift(manifest, of_run, permutations, random(8))
        findings.append(made)
    return Audit(
        judge(findings), sample, tables, drift, confidence, noise, kept, permutations, time.monotonic() - start
    )


def drifting_features(sample: CellSample) -> tuple[npt.NDArray[np.float64], list[str]]:
    """What is followed over the order of cells, (n, F), and its names: quality features and some of the background."""
    places = [BACKGROUND_FEATURES.index(name) for name in _DRIFTING]
    background = sample.backgrounds[:, places].astype(np.float64)
    # A cell that fills its frame has no background: it takes part with the others' median.
    typical = np.nanmedian(background, axis=0) if np.isfinite(background).any() else np.zeros(len(places))
    background = np.where(np.isfinite(background), background, typical)
    names = [*FEATURES, *(f"background {name}" for name in _DRIFTING)]
    return np.hstack([sample.quality.astype(np.float64), background]), names


def sequence_names(sample: CellSample) -> npt.NDArray[np.str_]:
    """(n,) str: collection, group and class of each cell, joined; cells of one name are followed in their order."""
    classes = np.array([*sample.classes, ""])[sample.labels]
    columns = [column for column in (sample.collections, sample.groups) if column is not None] + [classes]
    return np.array([" / ".join(part for part in parts if part) or "all cells" for parts in zip(*columns, strict=True)])


def _copies(manifest: Manifest, copies: Duplicates | None, jobs: int | None) -> Finding:
    try:
        found = read_duplicates(manifest) if copies is None else copies
        if found is None:  # a search that found nothing is a search too
            found = exact_sets(manifest, jobs=jobs)
    except FastcellError as error:
        return Finding("duplicates", "copies of a cell across splits", verdict="cannot tell", says={"else": str(error)})
    return duplicate_finding(manifest, found)


def _noise_finding(noise: LabelNoise | None) -> Finding:
    key, title = "label_noise", "labels that a classifier surely disagrees with"
    if noise is None:
        why = f"it takes {LEAST_LABELLED_CELLS} cells and two classes of {LEAST_OF_CLASS}"
        return Finding(key, title, verdict="skipped", notes=(f"not tested: {why}.",))
    if not noise.separates_classes:
        accuracy = f"balanced accuracy {noise.balanced_accuracy:.3f}"
        says = f"A classifier hardly tells the classes ({accuracy}), so its disagreement says nothing of single labels."
        way = "look at cells of each class side by side (`fastcell info DATA --figures DIR`) before training on them"
        details = {"cells": len(noise.rows), "balanced_accuracy": noise.balanced_accuracy}
        return Finding(
            key, title, verdict="cannot tell", says={"else": says}, advice={"cannot tell": way}, details=details
        )
    num = len(noise.candidates())
    quality = f"the classifier behind it has balanced accuracy {noise.balanced_accuracy:.3f}"
    alarm = (
        f"That share of labels disagrees however sure the classifier is ({quality}); {num:,} candidates in "
        "label_noise.csv. Wrong labels, or cells that look like another class."
    )
    way = (
        "look at label_noise.png, mark in label_noise.csv what to drop, and put it beside the manifest as verdicts.csv"
    )
    return Finding(
        key, title, unit="estimated share of wrong labels", result=noise.result,
        effect=max(0.0, noise.result.number - noise.result.chance_high),
        thresholds=(0.01, 0.05),
        says={"problem": alarm, "warning": alarm, "else": f"It disagrees where it is unsure; {quality}."},
        advice={"problem": way, "warning": way},
        details={"candidates": num, "cells": len(noise.rows), "balanced_accuracy": noise.balanced_accuracy},
    )  # fmt: skip


def _drift_finding(drift: Drift | None) -> Finding:
    key, title = "drift", "drift of features over acquisition order"
    if drift is None:
        return Finding(key, title, verdict="skipped", notes=("not tested: no group has 40 cells of one class.",))
    return drift_finding(key, title, drift, "features")
