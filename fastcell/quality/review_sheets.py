"""Quality control of a data set, and its review with contact sheets and an editable table of verdicts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
from pyarrow import csv

from fastcell.dataset.manifest import Manifest
from fastcell.dataset.single_cells import read_cells
from fastcell.errors import DataError, invalid
from fastcell.quality.assessment import DEFAULT_MOST_PASSED, DOUBTFUL, UNREADABLE, Assessment, assess
from fastcell.quality.hand_labels import read_hand_labels
from fastcell.quality.quality_table import (
    QUALITY_FILE,
    measure_missing,
    write_quality,
)
from fastcell.quality.verdicts_file import (
    VERDICTS_FILE,
    no_verdicts,
    read_verdicts,
)
from fastcell.storage.places import check_output_folder
from fastcell.storage.whole_files import replace_file
from fastcell.system.messages import explained
from fastcell.system.text import printable

REVIEW_COLUMNS = 10
_SURE = 0.9
_REVIEW_NAME = "review.csv"


def control_quality(
    manifest: Manifest,
    *,
    labels: Path | None = None,
    max_bad_passed: float = DEFAULT_MOST_PASSED,
    review: Path | None = None,
    jobs: int | None = None,
    by_workers: bool = False,
) -> tuple[Assessment, str]:
    """Measure and assess every cell, and write scores, reasons and features to ``quality.parquet``.

    Args:
        manifest: the data set.
        labels: CSV file of labels to fit a model to, see `fastcell.quality.hand_labels.read_hand_labels`.
        max_bad_passed: largest share of bad cells that may pass, above 0 and below 1.
        review: output folder for `write_review`; it must not contain edits that have not been applied.
        jobs: number of threads; None for one per CPU.
        by_workers: see `fastcell.quality.quality_table.measure_missing`.

    Returns:
        The assessment, and lines about how the features were obtained.

    Raises:
        ArgumentError: an argument is out of its range, or `review` contains edits that have not been applied.
        DataError: a table cannot be read, or ``quality.parquet`` cannot be written.
    """
    if not 0 < max_bad_passed < 1:  # fail before the long computation
        raise invalid("--max-bad-passed", "a share above 0 and below 1", max_bad_passed, "The default is 0.05")
    if review is not None:
        check_output_folder("--review", review, parents=True)
        check_edits_taken(manifest, review)
    manifest.check_writable()
    known = None if labels is None else read_hand_labels(labels, manifest)
    features, how = measure_missing(manifest, jobs, by_workers)
    found = assess(manifest, features, known, max_bad_passed)
    with explained(f"{manifest.path / QUALITY_FILE} cannot be written"):
        write_quality(manifest, features, found.scores, found.reasons, found.drop)
        manifest.written(QUALITY_FILE)
    return found, how


def write_review(manifest: Manifest, found: Assessment, folder: Path) -> list[Path]:
    """Draw a contact sheet per reason, with a row per score band, and write ``review.csv``, which the user can edit.

    Args:
        manifest: the data set.
        found: its assessment.
        folder: output folder; created if it does not exist. An earlier review in it is overwritten.

    Returns:
        The files written.

    Raises:
        DataError: ``review.csv`` cannot be written.
    """
    from fastcell.plots.basic_figures import draw_contact_sheet

    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    shown: list[int] = []
    written: list[Path] = []
    for name, bands in _sheets(found).items():
        rows: dict[str, list[np.ndarray]] = {}
        notes: dict[str, list[str]] = {}
        for band, members in bands.items():
            chosen = np.sort(rng.permutation(members)[:REVIEW_COLUMNS])
            chosen = chosen[np.argsort(-found.scores[chosen], kind="stable")]
            cells, cell_ids = _readable_cells(manifest, chosen)
            if not cells:
                continue
            title = f"{band}\n{len(members):,} cell{'' if len(members) == 1 else 's'}"
            rows[title] = cells
            notes[title] = [f"{cell_id}: {found.scores[cell_id]:.2f}" for cell_id in cell_ids]
            shown += cell_ids
        if rows:
            what = "nothing found" if name == "good" else name
            written.append(folder / f"{name}.png")
            title = f"{manifest.info.name}: {what} (under each cell its cell_id and score)"
            columns = max(4, *map(len, rows.values()))
            draw_contact_sheet(rows, written[-1], title, columns, notes=notes)
    ids = np.union1d(np.flatnonzero(found.drop), np.array(shown, np.int64))
    written.append(folder / _REVIEW_NAME)
    _write_review_table(manifest, found, ids, written[-1])
    return written


def check_edits_taken(manifest: Manifest, folder: Path) -> None:
    """Check that all edits of an earlier review are in ``verdicts.csv``, so that no manual work is overwritten.

    Raises:
        ArgumentError: the review contains edited verdicts that have not been applied.
        DataError: a table of verdicts cannot be read.
    """
    path, own = folder / _REVIEW_NAME, manifest.path / VERDICTS_FILE
    if not path.exists():
        return
    edited = read_verdicts(path, manifest)
    edited = edited.where(edited.by_hand)
    taken = read_verdicts(own, manifest) if own.exists() else no_verdicts()
    written = dict(zip(taken.cell_ids.tolist(), taken.drop.tolist(), strict=True))
    num = sum(
        written.get(cell) != drop for cell, drop in zip(edited.cell_ids.tolist(), edited.drop.tolist(), strict=True)
    )
    if num:
        hint = f"Apply them with --verdicts {path}, or name another folder"
        raise invalid("--review", "a folder without edited verdicts", f"{folder} with {num:,} not yet applied", hint)


def not_applied(manifest: Manifest, found: Assessment) -> str:
    """Return a line that describes what ``--apply`` would write."""
    num = int(found.drop.sum())
    file = printable(manifest.place_of(VERDICTS_FILE))
    return f"no cell is dropped yet: --apply writes {file}, which drops {num:,} cells"


def _sheets(found: Assessment) -> dict[str, dict[str, np.ndarray]]:
    """Return the cells of each sheet by score band.

    Dropped and doubtful cells have a sheet per reason; good cells share one sheet.
    """
    doubtful = ~found.drop & (found.scores >= DOUBTFUL)
    bands = {
        "dropped, sure": found.drop & (found.scores >= _SURE),
        "dropped": found.drop & (found.scores < _SURE),
        "kept, doubtful": doubtful,
    }
    sheets: dict[str, dict[str, np.ndarray]] = {}
    for reason in sorted(set(found.reasons[found.drop | doubtful].tolist()) - {UNREADABLE}):
        mine = found.reasons == reason
        sheets[_file_name(reason, sheets)] = {name: np.flatnonzero(band & mine) for name, band in bands.items()}
    sheets["good"] = {"kept": np.flatnonzero(~found.drop & ~doubtful)}
    return sheets


def _file_name(reason: str, taken: dict[str, dict[str, np.ndarray]]) -> str:
    """Return a unique file name for a reason, which may be any text."""
    plain = "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in reason)[:40] or "by-label"
    name, number = plain, 2
    while name in taken or name == "good":
        name, number = f"{plain}-{number}", number + 1
    return name


def _readable_cells(manifest: Manifest, cell_ids: np.ndarray) -> tuple[list[np.ndarray], list[int]]:
    cells: list[np.ndarray] = []
    ids: list[int] = []
    for cell_id in cell_ids.tolist():
        try:
            cells += read_cells(manifest, [cell_id])
        except DataError:
            continue
        ids.append(cell_id)
    return cells, ids


def _write_review_table(manifest: Manifest, found: Assessment, cell_ids: np.ndarray, path: Path) -> None:
    words = np.where(found.drop[cell_ids], "drop", "keep").tolist()
    table = manifest.select_cells(["cell_id", "key", "class", "collection"], cell_ids)
    for name, values in (
        ("score", np.round(found.scores[cell_ids].astype(np.float64), 4)),
        ("reason", found.reasons[cell_ids].tolist()),
        ("verdict", words),
        ("qc", words),
    ):
        table = table.append_column(name, pa.array(values))
    with explained(f"{path} cannot be written"):
        replace_file(path, lambda file: csv.write_csv(table, file))
