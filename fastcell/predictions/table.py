"""Tables of predictions on disk: written whole, read as what may come from anybody, with the cells' features beside."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq
import torch

from fastcell.dataset.manifest import Manifest
from fastcell.dataset.parquet import read_parquet
from fastcell.errors import DataError, invalid
from fastcell.models.lightning_module import Prediction
from fastcell.storage.whole_files import replace_file

_CHANCE = "p_"
_TEXTS = ("key", "group", "true_class", "class", "reason")
_NEEDED = ("key", "class")
_WAY_OUT = "Give a table that fastcell predict has written"
_MOST_CSV_BYTES = 1 << 34


@dataclass(frozen=True)
class Predictions:
    """A table of predictions.

    Attributes:
        table: N rows, as `fastcell.predictions.table.prediction_table` makes them.
        classes: K names, in the order of the columns.
        path: of the file, for messages.
    """

    table: pa.Table
    classes: list[str]
    path: Path

    def __len__(self) -> int:
        return self.table.num_rows

    @property
    def keys(self) -> list[str]:
        """N keys of cells."""
        return self.table.column("key").to_pylist()  # type: ignore[no-any-return]

    @property
    def probabilities(self) -> np.ndarray:
        """(N, K) float32, NaN for a cell without a prediction."""
        columns = [self.table.column(_CHANCE + name) for name in self.classes]
        return np.stack([column.cast(pa.float32()).to_numpy(zero_copy_only=False) for column in columns], axis=1)

    def called(self, column: str = "class") -> np.ndarray:
        """(N,) int64: number of the class of each cell, -1 where there is none.

        Raises:
            DataError: a class that has no column.
        """
        values = self.table.column(column)
        codes = pc.index_in(values, value_set=pa.array(self.classes, pa.string()))
        strange = pc.and_(pc.is_valid(values), pc.is_null(codes))
        if pc.any(strange, min_count=0).as_py():
            got = values.filter(strange)[0].as_py()
            raise DataError(f"{self.path}: {column} must be one of {', '.join(self.classes)}, got {got!r}. {_WAY_OUT}.")
        return codes.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)  # type: ignore[no-any-return]

    def groups(self) -> np.ndarray:
        """(N,) str: group of each cell, empty where there is none."""
        if "group" not in self.table.column_names:
            return np.full(len(self), "")
        return self.table.column("group").fill_null("").to_numpy(zero_copy_only=False).astype(str)  # type: ignore[no-any-return]


def read_predictions(path: Path) -> Predictions:
    """Open a table of predictions, .csv or .parquet.

    Raises:
        ArgumentError: another ending.
        DataError: it is missing, damaged, or no table of predictions.
    """
    if path.suffix not in (".csv", ".parquet"):
        raise invalid("PREDICTIONS", "a .csv or .parquet file", str(path), _WAY_OUT)
    if not path.is_file():
        raise DataError(f"{path} is missing or no file. {_WAY_OUT}.")
    try:
        names = _csv_names(path) if path.suffix == ".csv" else pq.read_schema(path).names
    except PermissionError:
        raise
    except (pa.ArrowException, ValueError, OSError) as error:
        raise _unreadable(path, error) from None
    classes = [name[len(_CHANCE) :] for name in names if name.startswith(_CHANCE)]
    if not classes or len(set(names)) < len(names) or any(name not in names for name in _NEEDED):
        raise DataError(f"{path} must have columns key, class and p_<class>, each once. {_WAY_OUT}.")
    kinds = {name: pa.string() for name in _TEXTS if name in names}
    kinds |= {name: pa.float32() for name in names if name.startswith(_CHANCE) or name == "confidence"}
    schema = pa.schema([(name, kinds[name]) for name in names if name in kinds])
    table = _read_csv(path, schema) if path.suffix == ".csv" else read_parquet(path, schema, hint=_WAY_OUT)
    _check_values(table, path)
    return Predictions(table, classes, path)


def with_features(predictions: Predictions, manifest: Manifest) -> tuple[pa.Table, list[str]]:
    """The table with the features of its cells behind it, and the features' names.

    Features are the columns of ``features.parquet``, which came from the instrument, and of ``quality.parquet``, which
    ``fastcell qc`` measured and whose columns get ``quality_`` in front, each where it is there. One that is called
    like a column of predictions gets ``feature_`` in front. A cell that is not in the manifest has none.

    Raises:
        DataError: a table of features is damaged, or none of the cells is in the data set.
    """
    row = pc.index_in(predictions.table.column("key"), value_set=manifest.table.column("key").combine_chunks())
    if isinstance(row, pa.ChunkedArray):
        row = row.combine_chunks()
    if len(predictions) and row.null_count == len(row):
        raise DataError(
            f"no cell of {predictions.path} is in {manifest.path}. Name the data set that was classified with --data."
        )
    table, added = predictions.table, []
    measured = manifest.features()
    for front, columns in (
        ("", pa.table({}) if measured is None else measured.drop_columns("cell_id")),
        ("quality_", read_quality(manifest)),
    ):
        for name in columns.column_names:
            title = f"{front}{name}"
            while title in table.column_names or title.startswith(_CHANCE):
                title = f"feature_{title}"
            table = table.append_column(title, columns.column(name).take(row))
            added.append(title)
    return table, added


def read_quality(manifest: Manifest) -> pa.Table:
    """Columns of numbers in ``quality.parquet``, as floats, one row per cell in the order of cell_id.

    Empty where there is no such file; a cell without a row has nulls.

    Raises:
        DataError: the file is damaged or does not fit the manifest.
    """
    path = manifest.path / "quality.parquet"
    if not path.exists():
        return pa.table({})
    try:
        there = pq.read_schema(path)
    except PermissionError:
        raise
    except (pa.ArrowException, ValueError, OSError) as error:
        raise _unreadable(path, error) from None
    kinds = {field.name: field.type for field in there if _is_number(field.type) and field.name != "cell_id"}
    numbers = {name: kind if pa.types.is_floating(kind) else pa.float64() for name, kind in kinds.items()}
    schema = pa.schema([("cell_id", pa.int64()), *numbers.items()])
    table = read_parquet(path, schema, most_rows=len(manifest), hint="Run fastcell qc again")
    ids = table.column("cell_id").to_numpy(zero_copy_only=False)
    if table.column("cell_id").null_count or (len(ids) and (ids.min() < 0 or ids.max() >= len(manifest))):
        raise DataError(f"{path} must name cells of the manifest. Run fastcell qc again.")
    if len(np.unique(ids)) < len(ids):
        raise DataError(f"{path} must have one row for each cell. Run fastcell qc again.")
    place = np.full(len(manifest), -1, np.int64)
    place[ids] = np.arange(len(ids))
    return table.select(list(numbers)).take(pa.array(place, mask=place < 0))


def write_table(path: Path, table: pa.Table) -> None:
    """Writes a table as .csv or .parquet, by the ending; at no time is there a part of it under that name."""
    if path.suffix == ".csv":
        replace_file(path, lambda file: pyarrow.csv.write_csv(table, file))
    else:
        replace_file(path, lambda file: pq.write_table(table, file))


def _is_number(kind: pa.DataType) -> bool:
    return pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind)


def _csv_names(path: Path) -> list[str]:
    with pyarrow.csv.open_csv(path, convert_options=pyarrow.csv.ConvertOptions(strings_can_be_null=True)) as reader:
        return reader.schema.names  # type: ignore[no-any-return]


def _read_csv(path: Path, schema: pa.Schema) -> pa.Table:
    if path.stat().st_size > _MOST_CSV_BYTES:
        raise DataError(f"{path} must have at most {_MOST_CSV_BYTES:,} bytes. Write .parquet instead.")
    options = pyarrow.csv.ConvertOptions(
        column_types=schema,
        include_columns=schema.names,
        null_values=["", "nan"],
        strings_can_be_null=True,
        quoted_strings_can_be_null=False,
    )
    try:
        return pyarrow.csv.read_csv(
            path, convert_options=options, parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True)
        )
    except PermissionError:
        raise
    except (pa.ArrowException, ValueError, OSError) as error:
        raise _unreadable(path, error) from None


def _check_values(table: pa.Table, path: Path) -> None:
    if table.column("key").null_count or pc.count_distinct(table.column("key")).as_py() < table.num_rows:
        raise DataError(f"{path}: keys must be there and differ. {_WAY_OUT}.")
    for name in table.column_names:
        if name.startswith(_CHANCE):
            values = table.column(name).to_numpy(zero_copy_only=False)
            if not ((values >= 0) & (values <= 1.0001) | np.isnan(values)).all():
                raise DataError(f"{path}: {name} must be from 0 to 1. {_WAY_OUT}.")


def _unreadable(path: Path, error: Exception) -> DataError:
    text = (str(error).strip().splitlines() or [type(error).__name__])[0][:300].rstrip(".")
    return DataError(f"{path} cannot be read ({text}). {_WAY_OUT}.")


FORMATS = (".csv", ".parquet", ".fcs")


NOT_READ = "could not be read during the run"


def prediction_table(
    manifest: Manifest,
    classes: list[str],
    rows: np.ndarray,
    cell_ids: np.ndarray,
    probabilities: np.ndarray,
    truth: bool = False,
    quarantined: bool = True,
    reasons: dict[int, str] | None = None,
) -> pa.Table:
    """One row per cell: key, group, class, confidence, p_<class> for each class, reason.

    `class` is the likeliest class and `confidence` its probability. A cell among `rows` without a prediction and the
    quarantined cells, which come last, have empty values and a `reason`.

    Args:
        manifest: of the data set.
        classes: K names, in the order of the probabilities.
        rows: (R,) int64 cell_ids that were asked for, any order, repeats ignored.
        cell_ids: (N,) int64, increasing, that have a prediction.
        probabilities: (N, K) float32.
        truth: also give the manifest's class, as column `true_class`.
        quarantined: also list the quarantined cells.
        reasons: why cells have no prediction, by cell_id.
    """
    wanted, known = (_marked(ids, manifest.table.num_rows) for ids in (rows, cell_ids))
    rows = np.flatnonzero(wanted)
    found = known[rows]
    chances = np.full((len(rows), len(classes)), np.nan, np.float32)
    chances[found] = probabilities[wanted[cell_ids]]
    winner = np.where(found, np.nan_to_num(chances, nan=-1.0).argmax(axis=1), 0)
    names = pa.array(classes, pa.string()).take(pa.array(winner, mask=~found))
    cells = manifest.table.select(["key", "group", "class"])
    cells = cells if len(rows) == cells.num_rows else cells.take(rows)
    columns: dict[str, Any] = {"key": cells.column("key"), "group": cells.column("group")}
    if truth:
        columns["true_class"] = cells.column("class")
    columns["class"] = names
    columns["confidence"] = pa.array(chances.max(axis=1, initial=-np.inf), pa.float32(), mask=~found)
    for index, name in enumerate(classes):
        columns[f"p_{name}"] = pa.array(chances[:, index], mask=~found)
    texts = np.full(len(rows), None, object)
    for place in np.flatnonzero(~found).tolist():
        texts[place] = (reasons or {}).get(int(rows[place]), NOT_READ)
    columns["reason"] = pa.array(texts, pa.string())
    table = pa.table(columns)
    if not quarantined:
        return table
    bad = manifest.quarantine()
    told = {"key": bad.column("key"), "group": bad.column("group"), "reason": bad.column("reason")}
    if truth:
        told["true_class"] = bad.column("class")
    empty = {field.name: pa.nulls(bad.num_rows, field.type) for field in table.schema}
    return pa.concat_tables([table, pa.table({**empty, **told}, schema=table.schema)])


def check_output(path: str | Path) -> Path:
    """`path` as a Path, if predictions can be written there; asked before a long run, not after it.

    Raises ArgumentError for another ending than `FORMATS`, DataError where there is no such folder.
    """
    path = Path(path)
    if path.suffix not in FORMATS:
        rule = f"a file name that ends in {', '.join(FORMATS[:-1])} or {FORMATS[-1]}"
        raise invalid("--out", rule, str(path), "For others write .parquet, and use fastcell convert")
    if not path.parent.is_dir() or path.is_dir():
        what = "is a folder" if path.is_dir() else f"cannot be made: there is no folder {path.parent}"
        raise DataError(f"--out must be a file in a folder that is there, but {path} {what}. Choose another place.")
    return path


def _marked(ids: np.ndarray, count: int) -> np.ndarray:
    """(count,) bool, True at the ids."""
    mask = np.zeros(count, bool)
    mask[ids] = True
    return mask


def _counted(parts: list[Prediction]) -> tuple[np.ndarray, np.ndarray]:
    """Ids (n,) int64 and probabilities (n, K) float32 of the predictions with weight above 0."""
    if not parts:
        return np.empty(0, np.int64), np.empty((0, 0), np.float32)
    chances, ids, weight = (torch.cat(list(column)).cpu().numpy() for column in zip(*parts, strict=True))
    return ids[weight > 0], chances[weight > 0]
