"""Tables of predictions on disk: write them atomically, read and check tables of any origin, add cell features."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from fastcell.dataset.manifest import Manifest
from fastcell.dataset.parquet import first_line
from fastcell.dataset.rows.take_rows import take_rows
from fastcell.errors import DataError, invalid
from fastcell.inference.unlike.reasons import UnlikeScores, unlike_columns
from fastcell.runs.prediction_columns import (
    FORMAT_METADATA,
    NOT_FINITE,
    NOT_READ,
    PROBABILITY_PREFIX,
    TEXT_COLUMNS,
    UNSURE,
    below_confidence,
    event_numbers,
    prediction_columns,
    read_prediction_columns,
)
from fastcell.storage.places import check_output_file, local_path
from fastcell.storage.whole_files import replace_file
from fastcell.system.text import list_names

OUTPUT_ENDINGS = (".csv", ".parquet", ".fcs")
_NEEDED = ("key", "class")
_HINT = "Give a table that fastcell predict has written"
_MOST_ROUNDED = 0.005  # change of a probability that is rounded to two digits


@dataclass(frozen=True)
class Predictions:
    """A table of predictions.

    Attributes:
        table: N rows, as made by `fastcell.predictions.table.prediction_table`.
        classes: K names, in the order of the columns.
        path: path of the file, for messages.
    """

    table: pa.Table
    classes: list[str]
    path: Path

    def __len__(self) -> int:
        return self.table.num_rows

    @property
    def keys(self) -> list[str]:
        """Keys of the N cells."""
        return self.table.column("key").to_pylist()  # type: ignore[no-any-return]

    @property
    def probabilities(self) -> np.ndarray:
        """Probabilities, (N, K) float32; NaN for a cell without a prediction."""
        columns = [self.table.column(PROBABILITY_PREFIX + name) for name in self.classes]
        return np.stack([column.cast(pa.float32()).to_numpy(zero_copy_only=False) for column in columns], axis=1)

    def called(self, column: str = "class") -> np.ndarray:
        """Return the class number of each cell, (N,) int64; -1 if the cell has no class or is unsure.

        Args:
            column: column that holds the class names.

        Raises:
            DataError: If a class has no column of probabilities.
        """
        values = self.table.column(column)
        codes = pc.index_in(values, value_set=pa.array(self.classes, pa.string()))
        strange = pc.and_(pc.and_(pc.is_valid(values), pc.is_null(codes)), pc.not_equal(values, UNSURE))
        if pc.any(strange, min_count=0).as_py():
            got = values.filter(strange)[0].as_py()
            raise DataError(f"{self.path}: {column} must be one of {list_names(self.classes)}, got {got!r}. {_HINT}.")
        return codes.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)  # type: ignore[no-any-return]

    @property
    def unsure(self) -> np.ndarray:
        """Mask of the unsure cells, (N,) bool: their confidence is below the requested minimum."""
        if UNSURE in self.classes:
            return np.zeros(len(self), bool)
        return pc.equal(self.table.column("class"), UNSURE).fill_null(False).to_numpy(zero_copy_only=False)  # type: ignore[no-any-return]

    @property
    def unlike_training(self) -> np.ndarray:
        """Mask of the cells that are unlike those of training, (N,) bool; False if this is unknown."""
        if "unlike_training" not in self.table.column_names:
            return np.zeros(len(self), bool)
        return self.table.column("unlike_training").fill_null(False).to_numpy(zero_copy_only=False)  # type: ignore[no-any-return]

    def groups(self) -> np.ndarray:
        """Return the group of each cell, (N,) str; empty if the cell has no group."""
        if "group" not in self.table.column_names:
            return np.full(len(self), "")
        return self.table.column("group").fill_null("").to_numpy(zero_copy_only=False).astype(str)  # type: ignore[no-any-return]


def read_predictions(path: Path) -> Predictions:
    """Read a table of predictions from a .csv or .parquet file.

    Args:
        path: path of the file.

    Returns:
        The predictions, in the order of the file.

    Raises:
        ArgumentError: If the path has another ending.
        DataError: If the file is missing or damaged, or is not a table of predictions.
    """
    path = local_path("PREDICTIONS", path)
    if path.suffix not in (".csv", ".parquet"):
        raise invalid("PREDICTIONS", "a .csv or .parquet file", str(path), _HINT)
    if not path.is_file():
        raise DataError(f"{path} is missing or is not a file. {_HINT}.")
    try:
        names = prediction_columns(path)
        classes = [name[len(PROBABILITY_PREFIX) :] for name in names if name.startswith(PROBABILITY_PREFIX)]
        if not classes or len(set(names)) < len(names) or any(name not in names for name in _NEEDED):
            raise DataError(f"{path} must have columns key, class and p_<class>, each once. {_HINT}.")
        kinds = {name: pa.string() for name in TEXT_COLUMNS if name in names}
        for name, kind in (("event", pa.int64()), ("unlike_training", pa.bool_()), ("unlike_score", pa.float32())):
            kinds |= {name: kind} if name in names else {}
        kinds |= {name: pa.float32() for name in names if name.startswith(PROBABILITY_PREFIX) or name == "confidence"}
        schema = pa.schema([(name, kinds[name]) for name in names if name in kinds])
        table = read_prediction_columns(path, schema, _HINT)
    except PermissionError:
        raise
    except (pa.ArrowException, ValueError, OSError) as error:
        raise DataError(f"{path} cannot be read ({first_line(error)}). {_HINT}.") from None
    table = _without_infinite(table, classes)
    _check_values(table, path)
    _check_sums(table, classes, path)
    return Predictions(table, classes, path)


def with_features(predictions: Predictions, manifest: Manifest) -> tuple[pa.Table, list[str]]:
    """Append the features of the cells to the table of predictions.

    The features are the columns of ``features.parquet``, which come from the instrument, and of ``quality.parquet``,
    which ``fastcell qc`` measured; a file that does not exist is skipped. The columns of ``quality.parquet`` get the
    prefix ``quality_``. A feature with the name of a prediction column gets the prefix ``feature_``. A cell that is not
    in the manifest has no features.

    Args:
        predictions: N predictions.
        manifest: manifest of the data set that was classified.

    Returns:
        The table with the features, and the names of the features.

    Raises:
        DataError: If a table of features is damaged, or none of the cells is in the data set.
    """
    from fastcell.quality.quality_table import read_quality_columns  # compiles numba loops; few tables need them

    row = pc.index_in(predictions.table.column("key"), value_set=manifest.table.column("key").combine_chunks())
    if isinstance(row, pa.ChunkedArray):
        row = row.combine_chunks()
    if len(predictions) and row.null_count == len(row):
        raise DataError(
            f"no cell of {predictions.path} is in {manifest.place}. Name the data set that was classified with --data."
        )
    table, added = predictions.table, []
    measured = manifest.features()
    for front, columns in (
        ("", pa.table({}) if measured is None else measured.drop_columns("cell_id")),
        ("quality_", read_quality_columns(manifest)),
    ):
        for name in columns.column_names:
            title = f"{front}{name}"
            while title in table.column_names or title.startswith(PROBABILITY_PREFIX):
                title = f"feature_{title}"
            table = table.append_column(title, columns.column(name).take(row))
            added.append(title)
    return table, added


def write_csv_or_parquet(path: Path, table: pa.Table) -> None:
    """Write a table as .csv or .parquet, by the ending; the file appears under its name only when it is complete."""
    if path.suffix == ".csv":
        replace_file(path, lambda file: pyarrow.csv.write_csv(table, file))
    else:
        replace_file(path, lambda file: pq.write_table(table, file, write_page_checksum=True))


def without_formulas(table: pa.Table) -> pa.Table:
    """Return a table with ``'`` before texts that a spreadsheet would take for formulas (``= + - @``, tab, return).

    Numbers are unchanged. Changed keys no longer match those of the data set.
    """
    for number, field in enumerate(table.schema):
        name = field.name
        if pa.types.is_string(field.type) or pa.types.is_large_string(field.type):
            changed = pc.replace_substring_regex(table.column(number), pattern=r"\A([=+\-@\t\r])", replacement=r"'\1")
            table = table.set_column(number, name, changed)
        if name[:1] in tuple("=+-@\t\r"):
            names = table.column_names
            table = table.rename_columns([*names[:number], f"'{name}", *names[number + 1 :]])
    return table


def _without_infinite(table: pa.Table, classes: list[str]) -> pa.Table:
    """Return the table with null class, confidence and probabilities for cells whose probabilities are not finite."""
    finite = np.ones(table.num_rows, bool)
    for name in classes:
        finite &= np.isfinite(table.column(PROBABILITY_PREFIX + name).to_numpy(zero_copy_only=False))
    if finite.all():
        return table
    for name in ("class", "confidence", *(PROBABILITY_PREFIX + name for name in classes)):
        if name in table.column_names:
            kept = pc.if_else(pa.array(finite), table.column(name), pa.scalar(None, table.schema.field(name).type))
            table = table.set_column(table.column_names.index(name), name, kept)
    return table


def _check_values(table: pa.Table, path: Path) -> None:
    if table.column("key").null_count or pc.count_distinct(table.column("key")).as_py() < table.num_rows:
        raise DataError(f"{path}: keys must be present and unique. {_HINT}.")
    for name in table.column_names:
        if name.startswith(PROBABILITY_PREFIX) or name in ("confidence", "unlike_score"):
            most, rule = (np.inf, "0 or more") if name == "unlike_score" else (1.0001, "from 0 to 1")
            values = table.column(name).to_numpy(zero_copy_only=False)
            if not ((values >= 0) & (values <= most) | np.isnan(values)).all():
                raise DataError(f"{path}: {name} must be {rule}. {_HINT}.")


def _check_sums(table: pa.Table, classes: list[str], path: Path) -> None:
    """Refuse probabilities of a class that do not add up to 1, beyond what rounding to two digits changes."""
    total = np.zeros(table.num_rows)
    for name in classes:
        total += table.column(PROBABILITY_PREFIX + name).to_numpy(zero_copy_only=False)
    called = table.column("class").is_valid().to_numpy(zero_copy_only=False)
    wrong = np.flatnonzero(called & (np.abs(total - 1) > _MOST_ROUNDED * (2 + len(classes))))
    if len(wrong):
        key = table.column("key")[int(wrong[0])].as_py()
        raise DataError(
            f"{path}: the probabilities of a cell must add up to 1, got {total[wrong[0]]:.3g} for {key!r} and "
            f"{len(wrong) - 1:,} others. {_HINT}."
        )


def prediction_table(
    manifest: Manifest,
    classes: list[str],
    rows: np.ndarray,
    cell_ids: np.ndarray,
    probabilities: np.ndarray,
    truth: bool = False,
    quarantined: bool = True,
    reasons: dict[int, str] | None = None,
    min_confidence: float = 0.0,
    unlike: UnlikeScores | None = None,
) -> pa.Table:
    """Make a table with one row per cell: key, group, event, class, confidence, p_<class> for each class, reason.

    `class` is the most probable class and `confidence` its probability. These are empty, and `reason` is set, for cells
    in `rows` without a prediction, for cells with a probability that is NaN or infinite, and for quarantined cells,
    which come last. A file that was quarantined as a whole has no row.

    Args:
        manifest: manifest of the data set.
        classes: K names, in the order of the probabilities.
        rows: (R,) int64, requested cell_ids in any order; repeated ones are ignored.
        cell_ids: (N,) int64, cell_ids with a prediction, in increasing order.
        probabilities: (N, K) float32, probabilities of `cell_ids`.
        truth: also include the class in the manifest, as column `true_class`.
        quarantined: also include the quarantined cells.
        reasons: reason for a missing prediction, by cell_id.
        min_confidence: a cell with a lower confidence gets the class `UNSURE` and a reason.
        unlike: scores of `cell_ids`, for the columns unlike_training, unlike_score and unlike_reason; None leaves the
            columns out.

    Returns:
        The table, in the order of cell_id.
    """
    begin, end = (int(rows.min()), int(rows.max()) + 1) if len(rows) else (0, 0)
    if len(cell_ids) and (cell_ids[0] < begin or cell_ids[-1] >= end):
        inside = slice(*np.searchsorted(cell_ids, (begin, end)))
        cell_ids, probabilities = cell_ids[inside], probabilities[inside]
        unlike = None if unlike is None else UnlikeScores(unlike.scores[inside], unlike.off[inside])
    wanted, known = (_marked(ids - begin, end - begin) for ids in (rows, cell_ids))
    rows = np.flatnonzero(wanted) + begin
    found = known[rows - begin]
    aligned = np.full((len(rows), len(classes)), np.nan, np.float32)
    chosen = wanted[cell_ids - begin]
    aligned[found] = probabilities[chosen]
    lost = found & ~np.isfinite(aligned).all(axis=1)
    found = found & ~lost
    winner = np.where(found, np.nan_to_num(aligned, nan=-1.0).argmax(axis=1), 0)
    names = pa.array(classes, pa.string()).take(pa.array(winner, mask=~found))
    cells = stored_columns(manifest, rows, truth)
    columns: dict[str, Any] = {"key": cells.column("key"), "group": cells.column("group")}
    if truth:
        columns["true_class"] = cells.column("true_class")
    columns["event"] = pa.array(event_numbers(cells.column("key"), rows), pa.int64())
    confidence = aligned.max(axis=1, initial=-np.inf)
    unsure = found & (confidence < np.float32(min_confidence))
    columns["class"] = pc.if_else(pa.array(unsure), UNSURE, names) if unsure.any() else names
    columns["confidence"] = pa.array(confidence, pa.float32(), mask=~found)
    for index, name in enumerate(classes):
        columns[f"p_{name}"] = pa.array(aligned[:, index], mask=~found)
    texts = np.full(len(rows), None, object)
    for place in np.flatnonzero(~found).tolist():
        texts[place] = NOT_FINITE if lost[place] else (reasons or {}).get(int(rows[place]), NOT_READ)
    texts[unsure] = below_confidence(min_confidence)
    columns["reason"] = pa.array(texts, pa.string())
    if unlike is not None:
        of_rows, places = UnlikeScores.none(len(rows)), known[rows - begin]
        of_rows.scores[places], of_rows.off[places] = unlike.scores[chosen], unlike.off[chosen]
        columns |= unlike_columns(of_rows, found)
    table = pa.table(columns, metadata=FORMAT_METADATA)
    return pa.concat_tables([table, quarantine_rows(manifest, table.schema)]) if quarantined else table


def stored_columns(manifest: Manifest, rows: np.ndarray, truth: bool = False) -> pa.Table:
    """Return the columns of `prediction_table` that the manifest holds: key, group, and true_class if `truth`.

    Args:
        manifest: manifest of the data set.
        rows: (R,) int64, cell_ids, increasing.
        truth: include the class.
    """
    cells = manifest.table.select(["key", "group", *(["class"] if truth else [])])
    cells = cells.rename_columns(["key", "group", *(["true_class"] if truth else [])])
    if len(rows) and rows[-1] - rows[0] + 1 == len(rows):
        return cells.slice(int(rows[0]), len(rows))
    return take_rows(cells, rows)


def quarantine_rows(manifest: Manifest, schema: pa.Schema) -> pa.Table:
    """Return the rows of the quarantined cells in a table of predictions with a given schema."""
    bad = manifest.quarantine()
    bad = bad.filter(
        pc.not_equal(bad.column("key"), bad.column("source"))
    )  # a row about a whole file belongs to no cell
    of_quarantine = {"key": bad.column("key"), "group": bad.column("group"), "reason": bad.column("reason")}
    if "true_class" in schema.names:
        of_quarantine["true_class"] = bad.column("class")
    empty = {field.name: pa.nulls(bad.num_rows, field.type) for field in schema}
    return pa.table({**empty, **of_quarantine}, schema=schema)


def check_output(path: str | Path) -> Path:
    """Return `path` as a Path if predictions can be written there; call it before a long run.

    Raises:
        ArgumentError: If the ending is not one of `OUTPUT_ENDINGS`.
        ArgumentError: If the place cannot be written, see `check_output_file`.
    """
    path = local_path("--out", path)
    if path.suffix not in OUTPUT_ENDINGS:
        rule = f"a file name that ends in {', '.join(OUTPUT_ENDINGS[:-1])} or {OUTPUT_ENDINGS[-1]}"
        raise invalid("--out", rule, str(path), "For others write .parquet, and use fastcell convert")
    return check_output_file("--out", path)


def _marked(ids: np.ndarray, count: int) -> np.ndarray:
    """Return a mask, (count,) bool, that is True at the ids."""
    mask = np.zeros(count, bool)
    mask[ids] = True
    return mask
