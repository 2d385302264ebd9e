"""Which images are poor and why, as scores, tables, contact sheets and verdicts."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fastcell.dataset.manifest import Manifest
from fastcell.dataset.single_cells import read_cells
from fastcell.errors import DataError, invalid
from fastcell.quality.assessment import DEFAULT_MOST_PASSED, DOUBTFUL, UNREADABLE, Assessment, assess
from fastcell.quality.features import measure
from fastcell.quality.hand_labels import read_labels
from fastcell.quality.quality_table import FILE_NAME, read_features, write_quality
from fastcell.quality.verdicts_file import FILE_NAME as VERDICTS_NAME
from fastcell.quality.verdicts_file import Verdicts, merge, no_verdicts, read_verdicts, write_verdicts
from fastcell.stats.proportions import interval
from fastcell.system.messages import explained
from fastcell.system.progress_line import Progress
from fastcell.system.text import format_table

PAPER_DROPPED = {"MB231": "25.7 %", "MCF7": "23.3 %", "THP1": "37.5 %", "PBMC": "a few"}
"""What Meng et al. 2019 (doi 10.1109/JBHI.2018.2878878) discarded of each class."""

SHEET_COLUMNS = 10
_SURE = 0.9
_REVIEW_NAME = "review.csv"


def control_quality(
    manifest: Manifest,
    *,
    labels: Path | None = None,
    max_bad_passed: float = DEFAULT_MOST_PASSED,
    review: Path | None = None,
    jobs: int | None = None,
) -> tuple[Assessment, str]:
    """Measure every cell, assess it, and write scores, reasons and features to ``quality.parquet``.

    Args:
        manifest: of the data set.
        labels: CSV file of labels to learn from, see `fastcell.quality.hand_labels.read_labels`.
        max_bad_passed: at most this share of bad cells may pass, above 0 and below 1.
        review: folder that `write_review` is to write to: refused if it holds edits that were not taken yet.
        jobs: threads; None: one for each CPU.

    Returns:
        What was found, and how the features were come by, in lines.

    Raises:
        ArgumentError: an argument out of its rule.
        DataError: a table cannot be read, or ``quality.parquet`` cannot be written.
    """
    if not 0 < max_bad_passed < 1:  # said before the work
        raise invalid("--max-bad-passed", "a share above 0 and below 1", max_bad_passed, "The default is 0.05")
    if review is not None:
        _check_taken(manifest, review)
    known = None if labels is None else read_labels(labels, manifest)
    features, how = _features(manifest, jobs)
    found = assess(manifest, features, known, max_bad_passed)
    with explained(f"{manifest.path / FILE_NAME} cannot be written"):
        write_quality(manifest, features, found.scores, found.reasons, found.drop)
    return found, how


def drop_table(manifest: Manifest, found: Assessment) -> list[str]:
    """Lines: cells, dropped ones, their share with its interval and their reasons, by class and collection."""
    classes = [*manifest.info.classes, "(unlabelled)"]
    names = manifest.table.column("collection").fill_null("-").to_numpy(zero_copy_only=False).astype(str)
    shown = np.unique(names).tolist()
    in_paper = {*manifest.info.classes} and {*manifest.info.classes} <= set(PAPER_DROPPED)
    rows = [["class", "collection", "cells", "dropped", "share", "95 % interval", *(["paper"] if in_paper else [])]]
    reasons = [""]
    for label, name in enumerate(classes):
        number = label if label < len(manifest.info.classes) else -1
        for collection in shown:
            mine = (manifest.labels == number) & (names == collection)
            if mine.any():
                paper = [PAPER_DROPPED.get(name, "")] if in_paper else []
                rows.append([name, collection, *_shares(found, mine), *paper])
                reasons.append(_reasons(found, mine))
    everything = np.ones(len(manifest), bool)
    rows.append(["total", "", *_shares(found, everything), *([""] if in_paper else [])])
    reasons.append(_reasons(found, everything))
    widths = [max(len(row[place]) for row in rows) for place in range(2)]
    texts = [f"{row[0]:<{widths[0]}}  {row[1]:<{widths[1]}}" for row in rows]
    lines = format_table([[text, *row[2:]] for text, row in zip(texts, rows, strict=True)])
    long = max(map(len, lines))
    return [f"{line:<{long}}  {reason}".rstrip() for line, reason in zip(lines, reasons, strict=True)]


def apply(manifest: Manifest, found: Assessment) -> str:
    """Turn what was found into ``verdicts.csv``, which views obey; the user's rows in it stay. Says what was done."""
    path = manifest.path / VERDICTS_NAME
    old = read_verdicts(path, manifest) if path.exists() else no_verdicts()
    return _write(manifest, merge(old.where(old.by_hand), _verdicts(found, np.flatnonzero(found.drop))))


def take_verdicts(manifest: Manifest, path: Path) -> str:
    """Take an edited table of verdicts into ``verdicts.csv``. Says what was done.

    Rows that were edited become the user's, and stand above all that was there; the others only stand where there is no
    row of the user's.

    Raises:
        DataError: one of the tables cannot be read.
    """
    new, own = read_verdicts(path, manifest), manifest.path / VERDICTS_NAME
    old = read_verdicts(own, manifest) if own.exists() else no_verdicts()
    return _write(manifest, merge(new.where(new.by_hand), old.where(old.by_hand), new, old))


def write_review(manifest: Manifest, found: Assessment, folder: Path, seed: int = 0) -> list[Path]:
    """Draw a contact sheet per reason, a row per band of scores, and write ``review.csv``, to be edited and read back.

    Args:
        manifest: of the data set.
        found: what quality control says of it.
        folder: made if need be; an earlier review in it is overwritten.
        seed: of the choice of cells in each row.

    Returns:
        The files written.
    """
    from fastcell.plots.basic_figures import draw_contact_sheet

    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    shown: list[int] = []
    written: list[Path] = []
    for name, bands in _sheets(found).items():
        rows: dict[str, list[np.ndarray]] = {}
        notes: dict[str, list[str]] = {}
        for band, members in bands.items():
            chosen = np.sort(rng.permutation(members)[:SHEET_COLUMNS])
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
    _write_table(manifest, found, ids, written[-1])
    return written


def _check_taken(manifest: Manifest, folder: Path) -> None:
    """Refuse to write over an edited review whose edits are not in ``verdicts.csv`` yet: they are somebody's work."""
    path, own = folder / _REVIEW_NAME, manifest.path / VERDICTS_NAME
    if not path.exists():
        return
    edited = read_verdicts(path, manifest)
    edited = edited.where(edited.by_hand)
    taken = read_verdicts(own, manifest) if own.exists() else no_verdicts()
    told = dict(zip(taken.cell_ids.tolist(), taken.drop.tolist(), strict=True))
    num = sum(told.get(cell) != drop for cell, drop in zip(edited.cell_ids.tolist(), edited.drop.tolist(), strict=True))
    if num:
        way_out = f"Take them with --verdicts {path}, or name another folder"
        raise invalid("--review", "a folder without edited verdicts", f"{folder} with {num:,} not yet taken", way_out)


def _features(manifest: Manifest, jobs: int | None) -> tuple[npt.NDArray[np.float32], str]:
    """Features of all cells, and how they were come by. What was measured before is not measured again."""
    if jobs is not None and jobs < 1:
        raise invalid("--jobs", "a number >= 1", jobs, "Leave it out for one thread for each CPU")
    features = read_features(manifest)
    missing = np.arange(len(manifest)) if features is None else np.flatnonzero(~np.isfinite(features).all(1))
    start = time.monotonic()
    problems: dict[int, str] = {}
    with Progress(len(missing), "cells") as progress:
        measured = measure(manifest, missing, jobs, problems=problems, report=progress.advance)
    seconds = max(time.monotonic() - start, 1e-9)
    if features is None:
        features = measured
        how = f"{len(manifest):,} cells measured in {seconds:,.1f} s, {len(manifest) / seconds:,.0f} cells/s"
    else:
        features[missing] = measured
        how = f"{len(manifest):,} cells, measured before (remove {manifest.path / FILE_NAME} to measure them anew)"
    reasons = Counter(problems.values())
    return features, "\n".join([how, *(f"unreadable: {num:,}: {reason}" for reason, num in reasons.most_common(5))])


def _shares(found: Assessment, mine: npt.NDArray[np.bool_]) -> list[str]:
    num, drop = int(mine.sum()), int((mine & found.drop).sum())
    low, high = interval(drop, num)
    return [f"{num:,}", f"{drop:,}", f"{100 * drop / num:.1f} %", f"{100 * low:.1f} to {100 * high:.1f} %"]


def _reasons(found: Assessment, mine: npt.NDArray[np.bool_]) -> str:
    counts = Counter(found.reasons[mine & found.drop].tolist())
    return ", ".join(f"{reason or 'by label'} {num:,}" for reason, num in counts.most_common(8))


def _verdicts(found: Assessment, cell_ids: npt.NDArray[np.int64]) -> Verdicts:
    by_hand = np.zeros(len(cell_ids), bool)
    return Verdicts(cell_ids, found.drop[cell_ids], found.reasons[cell_ids], by_hand)


def _write(manifest: Manifest, verdicts: Verdicts) -> str:
    path = manifest.path / VERDICTS_NAME
    with explained(f"{path} cannot be written"):
        write_verdicts(path, manifest, verdicts)
    hand = f"{int(verdicts.by_hand.sum()):,} rows by hand"
    return f"wrote {path}: drops {int(verdicts.drop.sum()):,} of {len(manifest):,} cells ({hand}); views leave them out"


def not_applied(manifest: Manifest, found: Assessment) -> str:
    """Say what `apply` would do."""
    num = int(found.drop.sum())
    return f"no view is changed: --apply writes {manifest.path / VERDICTS_NAME}, which drops {num:,} cells"


def _sheets(found: Assessment) -> dict[str, dict[str, np.ndarray]]:
    """Rows of cells by sheet and band of scores: dropped and doubtful ones by reason, and good ones in a sheet."""
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
    """A name for a file, of whatever word somebody gave as a reason."""
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


def _write_table(manifest: Manifest, found: Assessment, cell_ids: np.ndarray, path: Path) -> None:
    import pyarrow as pa
    from pyarrow import csv

    from fastcell.storage.whole_files import replace_file

    words = np.where(found.drop[cell_ids], "drop", "keep").tolist()
    table = manifest.table.select(["cell_id", "key", "class", "collection"]).take(pa.array(cell_ids))
    for name, values in (
        ("score", np.round(found.scores[cell_ids].astype(np.float64), 4)),
        ("reason", found.reasons[cell_ids].tolist()),
        ("verdict", words),
        ("qc", words),
    ):
        table = table.append_column(name, pa.array(values))
    with explained(f"{path} cannot be written"):
        replace_file(path, lambda file: csv.write_csv(table, file))
