"""Drift of the confidence of a run over the acquisition order."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from fastcell.audit.drift import LEAST_SEQUENCE_CELLS, Drift, drift_finding, find_drift
from fastcell.audit.findings import Finding
from fastcell.audit.sample import acquisition_order, names_of
from fastcell.dataset.manifest import Manifest
from fastcell.errors import DataError
from fastcell.runs.prediction_columns import UNSURE, prediction_columns, read_prediction_columns
from fastcell.runs.run_folder import PREDICTIONS_FILE, scored_checkpoint

_KEY, _TITLE = "confidence_drift", "drift of the run's confidence over acquisition order"
_COLUMNS = ("key", "group", "true_class", "class", "confidence")
_HINT = "Predict again"
_MOST_BYTES = 1 << 32


def read_confidences(path: Path) -> pa.Table:
    """Read the predictions of a run: columns key, group, class, confidence and, if present, true_class.

    Args:
        path: run folder with predictions.parquet, or a .parquet or .csv file written by `fastcell predict`.

    Raises:
        DataError: the file is missing, cannot be read or has other columns.
    """
    file = path / "predictions.parquet" if path.is_dir() else path
    if not file.is_file():
        way = (
            f"`fastcell predict {path} DATA --out FILE.parquet`, then give FILE"
            if any(path.glob("*.ckpt"))
            else "a folder that `fastcell fit` made, or a file of `fastcell predict`"
        )
        raise DataError(f"RUN must hold predictions.parquet or be a table of predictions, got {path}. Take {way}.")
    if file.stat().st_size > _MOST_BYTES:
        raise DataError(f"{file} must have at most {_MOST_BYTES:,} bytes. Predict a part of the data.")
    try:
        there = prediction_columns(file)
        missing = {"key", "class", "confidence"} - set(there)
        if missing:
            raise DataError(f"{file} must have columns key, class and confidence, lacks {', '.join(sorted(missing))}.")
        kinds = {name: pa.float64() if name == "confidence" else pa.string() for name in _COLUMNS if name in there}
        return read_prediction_columns(file, pa.schema(list(kinds.items())), _HINT)
    except PermissionError:
        raise
    except (pa.ArrowException, ValueError, OSError) as error:
        text = str(error).splitlines()[0][:200]
        raise DataError(f"{file} cannot be read as predictions ({text}). {_HINT}.") from None


class RunCells(NamedTuple):
    """Cells of a data set that a run has classified.

    Attributes:
        rows: (m,) int64, cell_ids.
        confidence: (m,) float64, finite.
        called: (m,) predicted classes, as str objects.
    """

    rows: np.ndarray
    confidence: np.ndarray
    called: np.ndarray


def read_run(manifest: Manifest, run: Path) -> RunCells | None:
    """Read the predictions of a run and find its cells in the manifest by key and group.

    Returns:
        The cells; None for a run folder of another data set, or without predictions of its test subset.

    Raises:
        DataError: the predictions cannot be read (see `read_confidences`), or `run` is a table of them and none of the
            cells is in the manifest.
    """
    if run.is_dir() and not (run / PREDICTIONS_FILE).is_file() and scored_checkpoint(run) is not None:
        return None
    table = read_confidences(run)
    rows, at = _match(manifest, table)
    if not len(rows) and run.is_dir():
        return None
    if not len(rows):
        raise DataError(
            f"RUN must be of this data set, but no key of {run} is in {manifest.place}. Give the run made on it."
        )
    confidence = table.column("confidence").to_numpy(zero_copy_only=False)[at]
    called = table.column("class").to_numpy(zero_copy_only=False).astype(object)[at]
    known = np.isfinite(confidence) & (called != UNSURE)
    return RunCells(rows[known], confidence[known], called[known])


def find_confidence_drift(
    manifest: Manifest, run: RunCells | None, permutations: int, rng: np.random.Generator
) -> tuple[Drift | None, Finding]:
    """Test the confidence, and the errors if classes are known, for drift over the acquisition order.

    Args:
        manifest: data set that contains the cells of the run.
        run: cells of the run, from `read_run`; None skips the test.
        permutations: R.
        rng: generator for the permutations.
    """
    if run is None:
        note = "not tested: no cell of this data set is among the predictions in the run folder."
        return None, Finding(_KEY, _TITLE, verdict="skipped", notes=(note,))
    rows, confidence, called = run
    labels = manifest.cell_labels[rows]
    names = np.array([*manifest.info.classes, ""], object)[labels]
    groups, collections = (
        None if column is None else column[rows]
        for column in (names_of(manifest, "group"), names_of(manifest, "collection"))
    )
    keys = manifest.select_cells(["key"], rows).column("key").to_numpy().astype(str)
    order = acquisition_order(labels, groups, collections, keys)
    columns = [column for column in (collections, groups, names.astype(str)) if column is not None]
    sequences = np.array(
        [" / ".join(part for part in parts if part) or "all cells" for parts in zip(*columns, strict=True)]
    )
    values, titles = [confidence], ["confidence"]
    if (labels >= 0).all():
        values.append((called != names).astype(np.float64))
        titles.append("error")
    drift = find_drift(np.stack(values, axis=1)[order], titles, sequences[order], permutations, rng)
    if drift is None:
        note = f"not tested: no group has {LEAST_SEQUENCE_CELLS} predicted cells of one class."
        return None, Finding(_KEY, _TITLE, verdict="skipped", notes=(note,))
    return drift, drift_finding(_KEY, _TITLE, drift, "confidence and errors")


def _match(manifest: Manifest, table: pa.Table) -> tuple[np.ndarray, np.ndarray]:
    """Return cell_ids (m,) and positions (m,) in `table` of the cells that are in both.

    Cells whose name occurs twice are ignored.
    """
    with_group = "group" in table.column_names

    def names(source: pa.Table) -> np.ndarray:
        key = source.column("key").fill_null("").to_numpy(zero_copy_only=False).astype(str)
        if not with_group:
            return key
        group = source.column("group").fill_null("").to_numpy(zero_copy_only=False).astype(str)
        return np.char.add(np.char.add(group, "\n"), key)

    ours, first, count = np.unique(names(manifest.table), return_index=True, return_counts=True)
    ours, first = ours[count == 1], first[count == 1]
    theirs, at, count = np.unique(names(table), return_index=True, return_counts=True)
    theirs, at = theirs[count == 1], at[count == 1]
    _, in_ours, in_theirs = np.intersect1d(ours, theirs, assume_unique=True, return_indices=True)
    return first[in_ours], at[in_theirs]
