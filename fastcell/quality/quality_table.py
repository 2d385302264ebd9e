"""``quality.parquet``: scores, reasons, verdicts and features of quality control, one row per cell.

Features are measured only once: cells with valid stored features are not measured again.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from fastcell.dataset.manifest import Manifest, open_once
from fastcell.dataset.marks.journal import digest_cells
from fastcell.dataset.parquet import first_line, read_parquet, write_parquet
from fastcell.dataset.rows.cell_groups import CellGroups
from fastcell.dataset.rows.manifest_checks import check_quality
from fastcell.dataset.schema import QUALITY_SCHEMA
from fastcell.errors import DataError
from fastcell.quality.features import FEATURES, measure_cells
from fastcell.stats.intervals import group_note
from fastcell.stats.score_intervals import proportion
from fastcell.system.progress_line import Progress
from fastcell.system.text import align_columns, join_lines, largest_rows, printable
from fastcell.system.worker_processes import num_threads, run_tasks

QUALITY_FILE = "quality.parquet"
PAPER_DROPPED = {"MB231": "25.7 %", "MCF7": "23.3 %", "THP1": "37.5 %", "PBMC": "a few"}
"""Share of each class that Meng et al. 2019 (doi 10.1109/JBHI.2018.2878878) discarded."""
FEATURES_VERSION = 1
"""Version of the feature definitions. Increase it if a feature changes; stored features are then measured again."""

_SCHEMA = pa.schema([*QUALITY_SCHEMA, *((name, pa.float32()) for name in FEATURES)])
_KEY = b"fastcell.features"
_HINT = "Run fastcell qc again"


def write_quality(
    manifest: Manifest,
    features: npt.NDArray[np.float32],
    scores: npt.NDArray[np.float32],
    reasons: np.ndarray,
    drop: npt.NDArray[np.bool_],
) -> None:
    """Write ``quality.parquet`` atomically.

    Args:
        manifest: data set of N cells.
        features: (N, F); NaN for a cell that could not be read.
        scores: (N,) 0 good to 1 bad.
        reasons: (N,) str.
        drop: (N,) bool.
    """
    columns = {
        "cell_id": pa.array(np.arange(len(manifest)), pa.int64()),
        "score": pa.array(scores, pa.float32()),
        "reason": pa.array(reasons.tolist(), pa.string()),
        "verdict": pa.array(np.where(drop, "drop", "keep"), pa.string()),
        **{name: pa.array(features[:, place], pa.float32()) for place, name in enumerate(FEATURES)},
    }
    schema = _SCHEMA.with_metadata({_KEY: _mark(manifest).encode()})
    write_parquet(manifest.path / QUALITY_FILE, pa.table(columns, schema=schema))


def read_measured_features(manifest: Manifest) -> npt.NDArray[np.float32] | None:
    """Read stored features, (N, F) float32; None if there are none for exactly these cells."""
    path = manifest.path / QUALITY_FILE
    if not path.is_file():
        return None
    try:
        table = _read_rows(manifest, _SCHEMA)
        check_quality(table, len(manifest), path)
        metadata = pq.read_schema(path).metadata or {}
    except (DataError, pa.ArrowException):
        return None
    if metadata.get(_KEY) != _mark(manifest).encode():
        return None
    found = np.stack([table.column(name).to_numpy() for name in FEATURES], 1)
    return None if np.isinf(found).any() else found


def read_quality_columns(manifest: Manifest) -> pa.Table:
    """Read the numeric columns as floats, one row per cell in the order of cell_id.

    Returns:
        The table; empty if the file does not exist. A cell without a row has nulls.

    Raises:
        DataError: the file is corrupt or does not match the manifest.
    """
    path = manifest.path / QUALITY_FILE
    if not path.exists():
        return pa.table({})
    try:
        there = pq.read_schema(path)
    except PermissionError:
        raise
    except (pa.ArrowException, ValueError, OSError) as error:
        raise DataError(f"{path} cannot be read ({first_line(error)}). {_HINT}.") from None
    kinds = {field.name: field.type for field in there if _is_number(field.type) and field.name != "cell_id"}
    numbers = {name: kind if pa.types.is_floating(kind) else pa.float64() for name, kind in kinds.items()}
    table = _read_rows(manifest, pa.schema([("cell_id", pa.int64()), *numbers.items()]))
    ids = table.column("cell_id").to_numpy(zero_copy_only=False)
    if table.column("cell_id").null_count or (len(ids) and (ids.min() < 0 or ids.max() >= len(manifest))):
        raise DataError(f"{path} must name cells of the manifest. {_HINT}.")
    if len(np.unique(ids)) < len(ids):
        raise DataError(f"{path} must have one row for each cell. {_HINT}.")
    place = np.full(len(manifest), -1, np.int64)
    place[ids] = np.arange(len(ids))
    return table.select(list(numbers)).take(pa.array(place, mask=place < 0))


def _measure_by_workers(
    manifest: Manifest, rows: np.ndarray, problems: dict[int, str], report: Callable[[int], object]
) -> npt.NDArray[np.float32]:
    """Return what `measure_cells` returns for rows in ascending order; the rows of a shard are a task."""
    parts = [part[np.isin(part, rows)] for part in manifest.rows_by_shard()]
    parts = [part for part in parts if len(part)]
    out = np.full((len(rows), len(FEATURES)), np.nan, np.float32)
    tasks = [(manifest.whole_place, part) for part in parts]
    with closing(run_tasks(_measure_rows, tasks, None)) as done:
        for part, (features, found) in zip(parts, done, strict=True):
            out[np.searchsorted(rows, part)] = features
            problems.update(found)
            report(len(part))
    return out


def _measure_rows(task: tuple[str, np.ndarray]) -> tuple[npt.NDArray[np.float32], dict[int, str]]:
    """Return the features of cells, (n, F), and the reason by cell_id of each cell that cannot be read."""
    place, rows = task
    problems: dict[int, str] = {}
    return measure_cells(open_once(place), rows, 1, problems=problems), problems


def measure_missing(
    manifest: Manifest, jobs: int | None, by_workers: bool = False
) -> tuple[npt.NDArray[np.float32], str]:
    """Measure the cells without stored features; a progress line is printed to stderr.

    Args:
        manifest: data set of N cells.
        jobs: number of threads; None for one per CPU.
        by_workers: measure shards in the workers of the surrounding `joblib.parallel_config`, which open the data set
            themselves.

    Returns:
        (N, F) float32 features of all cells, NaN for a cell that cannot be read, and lines for the user about how they
        were obtained.

    Raises:
        ArgumentError: `jobs` is not a number of threads.
    """
    threads = num_threads(jobs)
    features = read_measured_features(manifest)
    missing = np.arange(len(manifest)) if features is None else np.flatnonzero(~np.isfinite(features).all(1))
    start = time.monotonic()
    problems: dict[int, str] = {}
    with Progress(len(missing), "cells", warmup=threads) as progress:
        if by_workers:
            measured = _measure_by_workers(manifest, missing, problems, progress.advance)
        else:
            measured = measure_cells(manifest, missing, jobs, problems=problems, report=progress.advance)
    seconds = max(time.monotonic() - start, 1e-9)
    if features is None:
        features = measured
        how = f"{len(manifest):,} cells measured in {seconds:,.1f} s, {len(manifest) / seconds:,.0f} cells/s"
    else:
        features[missing] = measured
        file = manifest.place_of(QUALITY_FILE)
        how = f"{len(manifest):,} cells, measured earlier (remove {file} to measure them again)"
    reasons = Counter(problems.values())
    return features, join_lines([how, *(f"unreadable: {num:,}: {reason}" for reason, num in reasons.most_common(5))])


def dropped_by_class(manifest: Manifest, drop: npt.NDArray[np.bool_], reasons: np.ndarray) -> list[str]:
    """Format a table of cells, dropped cells, their share with its interval and their reasons, by class and collection.

    Of more than `MOST_PRINTED_ROWS` rows, those with the most dropped cells are shown; one row has all others.

    Args:
        manifest: data set of N cells.
        drop: (N,) bool.
        reasons: (N,) str.

    Returns:
        Lines of the table.
    """
    units = None if manifest.groups is None else manifest.groups.units()
    in_paper = {*manifest.info.classes} and {*manifest.info.classes} <= set(PAPER_DROPPED)
    rows = [["class", "collection", "cells", "dropped", "share", "95 % interval", *(["paper"] if in_paper else [])]]
    num_groups = 0 if units is None else int(units.max(initial=-1)) + 1
    note = group_note(num_groups)
    texts_of_reasons = [f"intervals by {'group' if num_groups > 1 else 'cell'}" + (f" ({note})" if note else "")]
    for name, collection, mine in _kinds_of_cells(manifest, drop):
        paper = [PAPER_DROPPED.get(name, "")] if in_paper else []
        mine_of = None if units is None else units[mine]
        rows.append([printable(name), printable(collection), *_shares(drop[mine], mine_of), *paper])
        texts_of_reasons.append(_reasons(reasons[mine & drop]))
    rows.append(["total", "", *_shares(drop, units), *([""] if in_paper else [])])
    texts_of_reasons.append(_reasons(reasons[drop]))
    widths = [max(len(row[place]) for row in rows) for place in range(2)]
    texts = [f"{row[0]:<{widths[0]}}  {row[1]:<{widths[1]}}" for row in rows]
    lines = align_columns([[text, *row[2:]] for text, row in zip(texts, rows, strict=True)])
    long = max(map(len, lines))
    return [f"{line:<{long}}  {reason}".rstrip() for line, reason in zip(lines, texts_of_reasons, strict=True)]


def _kinds_of_cells(
    manifest: Manifest, drop: npt.NDArray[np.bool_]
) -> Iterator[tuple[str, str, npt.NDArray[np.bool_]]]:
    """Return class, collection and cells, (N,) bool, of each row of the table of dropped cells."""
    classes = [*manifest.info.classes, "(unlabelled)"]
    collections = CellGroups.of_column(manifest.table.column("collection"))
    names = ["-", *collections.names]
    kinds = manifest.class_codes.astype(np.int32) % len(classes) * len(names) + collections.codes + 1
    counts, dropped = np.bincount(kinds), np.bincount(kinds[drop], minlength=int(kinds.max(initial=0)) + 1)
    there = np.flatnonzero(counts)
    shown, others = largest_rows((dropped[there] * (len(drop) + 1) + counts[there]).tolist())
    for kind in there[shown].tolist():
        yield classes[kind // len(names)], names[kind % len(names)], kinds == kind
    if others:
        yield f"{len(others):,} other rows", "", np.isin(kinds, there[others])


def _read_rows(manifest: Manifest, schema: pa.Schema) -> pa.Table:
    return read_parquet(manifest.path / QUALITY_FILE, schema, most_rows=len(manifest), hint=_HINT)


def _mark(manifest: Manifest) -> str:
    """Return a text that identifies the features: feature version, window and a hash of all stored bytes."""
    return f"{FEATURES_VERSION} {manifest.info.window} {digest_cells(manifest.table)}"


def _is_number(kind: pa.DataType) -> bool:
    return pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind)


def _shares(drop: npt.NDArray[np.bool_], units: npt.NDArray[np.int64] | None) -> list[str]:
    """Return the number of cells, of dropped cells, their share and its 95 % interval as text.

    The interval is by group if `units` (n,) are given, and by cell if there is one group only.
    """
    num, dropped = len(drop), int(drop.sum())
    places = np.zeros(num, np.int64) if units is None else units
    share = proportion(np.bincount(places, drop), np.bincount(places), units is not None)
    low, high = float(share.low), float(share.high)
    return [f"{num:,}", f"{dropped:,}", f"{100 * dropped / num:.1f} %", f"{100 * low:.1f} to {100 * high:.1f} %"]


def _reasons(reasons: np.ndarray) -> str:
    counts = Counter(reasons.tolist())
    return ", ".join(f"{reason or 'by label'} {num:,}" for reason, num in counts.most_common(8))
