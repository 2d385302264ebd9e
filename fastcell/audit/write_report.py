"""Write an audit as text report, JSON, CSV and figures."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from fastcell.audit.collect import Audit
from fastcell.audit.findings import ALARMS, ALPHA, FINDING_VERDICTS
from fastcell.dataset.manifest import Manifest
from fastcell.dataset.marks.corrected_labels import note_labels
from fastcell.dataset.single_cells import read_cells
from fastcell.storage.whole_files import replace_file
from fastcell.system.messages import explained
from fastcell.system.text import join_lines

CANDIDATE_COLUMNS = (
    "rank", "cell_id", "key", "group", "class", "suggested", "p_class", "p_suggested", "confident", "verdict", "reason",
)  # fmt: skip
_SHEET_ROWS, _SHEET_COLUMNS = 8, 8
_MEANINGS = {
    "problem": "so large that a score may be meaningless",
    "warning": "check it before you rely on a score",
    "cannot tell": "this data set cannot answer the question",
    "ok": "not above chance, or too small to matter",
    "skipped": "does not apply to this data set",
}


def describe_audit(manifest: Manifest, found: Audit) -> str:
    """Return the report as text.

    The findings are in descending order of severity, each with number, chance level, verdict and advice.
    """
    sample = found.sample
    kind = "synthetic cells" if manifest.info.synthetic else "cells"
    read = f"{len(sample):,} of {found.num_cells:,} {kind} were read"
    dropped = len(manifest) - found.num_cells
    how = f"{found.permutations} permutations for each test, {found.seconds:,.0f} s"
    lines = [
        f"audit of {manifest.info.name}: {read}, {how}",
        "p is adjusted for the number of tests (Holm); an alarm takes p <= 0.05 and an effect that matters.",
    ]
    num_tests = sum(not np.isnan(finding.p_adjusted) for finding in found.findings)
    if num_tests > ALPHA * (found.permutations + 1):
        lines.append(
            f"{found.permutations} permutations are too few for {num_tests} tests: no test can raise an alarm."
        )
    if dropped:
        lines.append(f"{dropped:,} cells dropped by verdicts.csv are excluded.")
    if by_hand := note_labels(manifest.marked):
        lines.append(f"{by_hand}.")
    if sample.num_bad:
        lines.append(f"{sample.num_bad:,} cells could not be read and are excluded: run fastcell verify.")
    ordered = sorted(found.findings, key=lambda finding: FINDING_VERDICTS.index(finding.verdict))
    for finding in ordered:
        lines += ["", *finding.describe()]
    counts = {verdict: len(found.of(verdict)) for verdict in FINDING_VERDICTS}
    lines += ["", "verdict: " + ", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count)]
    lines += [f"    {verdict}: {_MEANINGS[verdict]}" for verdict, count in counts.items() if count]
    return join_lines(lines)


def write_audit(manifest: Manifest, found: Audit, folder: Path, text: str) -> list[Path]:
    """Write report, JSON, CSV and figures.

    Each file is written atomically and replaces that of an earlier audit.

    Args:
        manifest: the data set.
        found: its audit.
        folder: output folder; created if it does not exist.
        text: the report.

    Returns:
        The files written.

    Raises:
        DataError: a file cannot be written.
    """
    with explained(f"{folder} cannot be written"):
        folder.mkdir(exist_ok=True)
        return list(_write_files(manifest, found, folder, text))


def _write_files(manifest: Manifest, found: Audit, folder: Path, text: str) -> Iterator[Path]:
    for name in (*_FIGURES, "label_noise.csv"):
        (folder / name).unlink(missing_ok=True)
    yield _put(folder / "audit.txt", text + "\n")
    yield _put(folder / "audit.json", json.dumps(to_json(manifest, found), indent=1, ensure_ascii=False) + "\n")
    if found.noise is not None:
        yield _put(folder / "label_noise.csv", _candidates(manifest, found))
    yield from _draw(manifest, found, folder)


def to_json(manifest: Manifest, found: Audit) -> dict[str, Any]:
    """Return the contents of the report as plain values."""
    from fastcell import __version__

    return {
        "created_by": f"fastcell {__version__}",
        "data": manifest.info.name,
        "synthetic": manifest.info.synthetic,
        "cells": found.num_cells,
        "cells_read": len(found.sample),
        "cells_bad": found.sample.num_bad,
        "permutations": found.permutations,
        "seconds": round(found.seconds, 1),
        "verdicts": {verdict: len(found.of(verdict)) for verdict in FINDING_VERDICTS},
        "alarms": [finding.key for finding in found.findings if finding.verdict in ALARMS],
        "findings": [finding.to_json() for finding in found.findings],
    }


_FIGURES = (
    "numbers.png", "class_by_group.png", "class_by_collection.png", "background.png", "drift.png",
    "confidence_drift.png", "label_noise.png",
)  # fmt: skip


def _draw(manifest: Manifest, found: Audit, folder: Path) -> Iterator[Path]:
    from fastcell.audit import figures

    name = manifest.info.name
    if manifest.info.synthetic and "synthetic" not in name.lower():
        name += " (synthetic)"

    def put(file: str, draw: Any, *values: Any) -> Path:
        replace_file(folder / file, lambda path: draw(*values[:-1], path, values[-1]))
        return folder / file

    if any(finding.result is not None for finding in found.findings):
        yield put("numbers.png", figures.draw_numbers, found.findings, f"{name}: what each check measures, and chance")
    for what in ("group", "collection"):
        if what in found.tables:
            table = found.tables[what]

            def draw(path: Path, title: str, table: Any = table, what: str = what) -> None:
                figures.draw_table(table, path, what, title)

            yield put(f"class_by_{what}.png", draw, f"{name}: class x {what}")
    sample = found.sample
    if (sample.weight > 0).any():
        names = [*sample.classes, "(unlabelled)"]
        drawn = (sample.grey, sample.weight, names)
        yield put("background.png", figures.draw_backgrounds, *drawn, f"{name}: background by class")
    for file, drift, what in (
        ("drift.png", found.drift, "features over acquisition order"),
        ("confidence_drift.png", found.confidence, "confidence over acquisition order"),
    ):
        if drift is not None:
            yield put(file, figures.draw_drift, drift, f"{name}: {what}")
    sheet, notes = _doubtful(manifest, found)
    if sheet:
        title = f"{name}: labels in doubt (given > suggested; place in label_noise.csv, cell_id)"
        yield put("label_noise.png", figures.draw_doubtful, sheet, notes, title)


def _candidates(manifest: Manifest, found: Audit) -> str:
    """Return a CSV of the cells with doubtful labels, most probable first.

    The `verdict` is always keep: a person must look at a cell before it is dropped.
    """
    noise = found.noise
    assert noise is not None
    chosen = noise.candidates()
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(CANDIDATE_COLUMNS)
    classes, groups = found.sample.classes, found.sample.groups
    for rank, place in enumerate(chosen.tolist(), start=1):
        at = int(noise.rows[place])
        given, called = classes[noise.given[place]], classes[noise.called[place]]
        writer.writerow(
            [
                rank, int(found.sample.rows[at]), str(found.sample.keys[at]), "" if groups is None else str(groups[at]),
                given, called, f"{noise.p_given[place]:.4f}", f"{noise.p_called[place]:.4f}",
                f"{noise.wrong[place]:.3f}", "keep", f"looks like {called}, not like {given}",
            ]
        )  # fmt: skip
    return text.getvalue()


def _doubtful(manifest: Manifest, found: Audit) -> tuple[dict[str, list[np.ndarray]], dict[str, list[str]]]:
    """Return cells for the contact sheet by pair of given and suggested class, most frequent pairs first.

    The second value has, under each cell, its place in label_noise.csv and its cell_id.
    """
    noise = found.noise
    if noise is None:
        return {}, {}
    pairs: dict[str, list[tuple[int, int]]] = {}
    for rank, place in enumerate(noise.candidates().tolist(), start=1):
        classes = found.sample.classes
        name = f"{classes[noise.given[place]]} > {classes[noise.called[place]]}"
        pairs.setdefault(name, []).append((rank, int(found.sample.rows[noise.rows[place]])))
    largest = sorted(pairs, key=lambda name: -len(pairs[name]))[:_SHEET_ROWS]
    shown = {name: pairs[name][:_SHEET_COLUMNS] for name in largest}
    cells = {name: list(read_cells(manifest, [cell for _, cell in some])) for name, some in shown.items()}
    return cells, {name: [f"{rank}. cell {cell}" for rank, cell in some] for name, some in shown.items()}


def _put(path: Path, text: str) -> Path:
    replace_file(path, lambda file: file.write_text(text, encoding="utf-8"))
    return path
