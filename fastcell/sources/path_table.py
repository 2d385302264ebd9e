"""Source: a table of paths, labels and groups for the cells of another source."""

from __future__ import annotations

import csv as words
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow import csv

from fastcell.dataset.instrument_features import Features
from fastcell.dataset.parquet import check_claims
from fastcell.errors import DataError
from fastcell.sources.base import Listing, Rejected, Runs, Source, SourceItem, encoding_of
from fastcell.sources.containers import PIECE_CELLS
from fastcell.system.text import natural_sorted, storable

TABLE_ENDINGS = (".csv", ".tsv", ".parquet")
PATH_COLUMNS = ("path", "key", "file", "filename", "image")
LABEL_COLUMNS = ("label", "class", "class_name")
GROUP_COLUMNS = ("group", "donor", "run")
COLLECTION_COLUMNS = ("collection",)
PITCH_COLUMNS = ("um_per_px",)

_SUBSETS = {"train": "train", "valid": "valid", "val": "valid", "validation": "valid", "test": "test"}
_MOST_CSV_BYTES = 1 << 32
_MOST_NAME = 256


@dataclass(frozen=True)
class PathTable:
    """Cells of another source that a table names, with the labels of the table.

    The columns, in any order, are path (the cell's key, relative to the source), label, group, collection, um_per_px
    and split (train, valid, test). Every other column of numbers is a feature. An empty value means unknown.

    Attributes:
        inner: source of the cells.
        path: path of the CSV or Parquet file.
    """

    inner: Source
    path: Path

    @property
    def name(self) -> str:
        return self.inner.name

    def describe(self) -> str:
        return f"{self.inner.describe()}, table {self.path}"

    def scan(self) -> Listing:
        """Read the table. Cells that are not in the source or are named a second time are rejected.

        Raises:
            ArgumentError: If the inner source raises it.
            DataError: If the table does not exist or cannot be read, names no cell of the source, or the inner source
                raises it.
        """
        table = read_path_table(self.path)
        told = {
            what: _texts(table, names)
            for what, names in {
                "label": LABEL_COLUMNS,
                "group": GROUP_COLUMNS,
                "collection": COLLECTION_COLUMNS,
                "side": ("split",),
            }.items()
        }
        pitches = _numbers(table, PITCH_COLUMNS)
        there = self.inner.scan()
        number = {item.key: i for i, item in enumerate(there.items)}
        refused = {bad.item.key: bad for bad in there.rejected}
        paths = _texts(table, PATH_COLUMNS)
        rows, chosen, items, rejected = [], [], [], []
        seen: dict[str, int] = {}
        for row, text in enumerate(paths or ()):
            key = _key(self.path, row, text)
            where = number.get(key)
            known = there.items[where] if where is not None else SourceItem(key, encoding_of(key))
            item = known._replace(
                class_name=_at(told["label"], row, known.class_name),
                group=_at(told["group"], row, known.group),
                collection=_at(told["collection"], row, known.collection),
                um_per_px=known.um_per_px if pitches is None or math.isnan(pitches[row]) else float(pitches[row]),
            )
            if key in seen:
                rejected.append(Rejected(item, self.path.name, f"named twice, first in row {seen[key] + 1}"))
            elif where is None:
                reason = refused[key].reason if key in refused else "no such cell"
                rejected.append(Rejected(item, self.path.name, reason))
            else:
                rows.append(row)
                chosen.append(where)
                items.append(item)
            seen.setdefault(key, row)
        if not seen:
            raise DataError(f"{storable(str(self.path))} must name at least one cell, got none. Look at the table.")
        if not items and all(bad.reason == "no such cell" for bad in rejected):
            keys = f"'{storable(there.items[0].key)}'" if there.items else "none"
            raise DataError(
                f"{storable(str(self.path))} must name cells of the source, whose paths are like {keys}, got "
                f"{rejected[0].item.key!r} first, and none of its {len(rejected):,} is there. Mend its paths."
            )
        notes = list(there.notes)
        unnamed = len(there.items) - len(items)
        if unnamed:
            notes.append(f"{unnamed:,} cells that the table does not name are left out.")
        splits = {"table": [_subset(self.path, row, told["side"]) for row in rows]} if told["side"] else {}
        runs = there.runs and Runs(there.runs.numbers[chosen], there.runs.num_bytes)
        classes = natural_sorted({item.class_name for item in items if item.class_name is not None})
        features = _join(there.features, _features(table, rows, items))
        return Listing(items, classes, splits, rejected, notes, features, runs)

    def load(self, item: SourceItem) -> bytes | np.ndarray:
        return self.inner.load(item)

    def stamp(self, item: SourceItem) -> str:
        return self.inner.stamp(item)


def read_path_table(path: Path) -> pa.Table:
    """Read a CSV or Parquet file with the columns of `PathTable`; column names are kept as they are in the file.

    Returns:
        The table.

    Raises:
        DataError: If the file does not exist or cannot be read, or has no column of paths.
    """
    shown = storable(str(path))
    if not path.is_file():
        raise DataError(f"{shown} must be a table of paths and labels, got no file. Check the path.")
    try:
        if path.suffix.lower() == ".parquet":
            with open(path, "rb") as file:
                metadata = pq.read_metadata(file)
                check_claims(path, path.stat().st_size, metadata)
            table = pq.read_table(path, partitioning=None)
            table.validate(full=True)
        else:
            if path.stat().st_size > _MOST_CSV_BYTES:
                raise DataError(f"{shown} must be a table of at most 4 GiB, got {path.stat().st_size:,} bytes.")
            with open(path, encoding="utf-8-sig") as file:
                line = file.readline(1 << 20)
            mark = next((mark for mark in "\t;" if mark in line and "," not in line), ",")
            names = next(words.reader([line.strip()], delimiter=mark), [])
            texts = {name: pa.string() for name in names if name.strip().lower() in _TEXT_COLUMNS}
            table = csv.read_csv(
                path,
                parse_options=csv.ParseOptions(delimiter=mark),
                convert_options=csv.ConvertOptions(column_types=texts, strings_can_be_null=True),
            )
    except PermissionError:
        raise
    except (pa.ArrowException, UnicodeDecodeError, words.Error, ValueError, KeyError, OSError, OverflowError) as error:
        why = (str(error).strip().splitlines() or [type(error).__name__])[0][:200].rstrip(".")
        raise DataError(f"{shown} cannot be read ({why}). Save it as CSV with a header, or as Parquet.") from None
    if _column(table, PATH_COLUMNS) is None:
        got = ", ".join(table.column_names[:8]) or "none"
        raise DataError(
            f"{shown} must have a column {', '.join(PATH_COLUMNS)}, got {storable(got)}. Name the column of paths."
        )
    return table


_TEXT_COLUMNS = (*PATH_COLUMNS, *LABEL_COLUMNS, *GROUP_COLUMNS, *COLLECTION_COLUMNS, "split")


def _column(table: pa.Table, names: Sequence[str]) -> pa.ChunkedArray | None:
    """Return the first column with one of these names, ignoring case."""
    lower = {name.strip().lower(): i for i, name in reversed(list(enumerate(table.column_names)))}
    return next((table.column(lower[name]) for name in names if name in lower), None)


def _texts(table: pa.Table, names: Sequence[str]) -> list[str | None] | None:
    column = _column(table, names)
    if column is None:
        return None
    if pa.types.is_floating(column.type):  # integers with a missing value are read as floating point
        column = pc.if_else(pc.equal(column, pc.round(column)), column.cast(pa.int64(), safe=False), None)
    try:
        return [(text and storable(text.strip())) or None for text in column.cast(pa.string()).to_pylist()]
    except pa.ArrowException as error:
        raise DataError(f"the column {names[0]} of the table must hold texts or numbers ({error}). Mend it.") from None


def _numbers(table: pa.Table, names: Sequence[str]) -> np.ndarray | None:
    column = _column(table, names)
    if column is None:
        return None
    try:
        values = column.cast(pa.float64()).to_numpy(zero_copy_only=False)
    except pa.ArrowException as error:
        raise DataError(f"the column {names[0]} of the table must hold numbers ({error}). Mend it.") from None
    return np.where((values > 0) & np.isfinite(values), values, math.nan)


def _key(path: Path, row: int, text: str | None) -> str:
    key = (text or "").replace("\\", "/").removeprefix("./")
    if not key or key.startswith("/") or ".." in key.split("/"):
        raise DataError(
            f"{storable(str(path))} row {row + 1}: the path must lie in the source, got {key!r}. Mend the row."
        )
    return key


def _at(values: Sequence[str | None] | None, row: int, otherwise: str | None) -> str | None:
    if values is None:
        return otherwise
    text = values[row]
    return None if text is None else text[:_MOST_NAME]


def _subset(path: Path, row: int, subsets: Sequence[str | None] | None) -> str:
    text = (subsets[row] if subsets else None) or ""
    if text and text.lower() not in _SUBSETS:
        rule = f"empty or one of {', '.join(_SUBSETS)}"
        raise DataError(f"{storable(str(path))} row {row + 1}: split must be {rule}, got {text!r}. Mend the row.")
    return _SUBSETS.get(text.lower(), "")


def _features(table: pa.Table, rows: Sequence[int], items: Sequence[SourceItem]) -> Features | None:
    """Return the features: the columns of numbers with other names."""
    kinds = (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean)
    known = {*_TEXT_COLUMNS, *PITCH_COLUMNS}
    names = [
        name
        for name, field in zip(table.column_names, table.schema, strict=True)
        if name.strip().lower() not in known and any(kind(field.type) for kind in kinds)
    ]
    names = [name for name in dict.fromkeys(names) if table.column_names.count(name) == 1]
    if not names:
        return None

    def pieces() -> Iterator[tuple[Sequence[str], Mapping[str, np.ndarray]]]:
        for first in range(0, len(rows), PIECE_CELLS):
            mine = table.select(names).take(pa.array(rows[first : first + PIECE_CELLS], pa.int64()))
            values: dict[str, Any] = {
                name: mine.column(name).cast(pa.float64()).to_numpy(zero_copy_only=False) for name in names
            }
            yield [item.key for item in items[first : first + PIECE_CELLS]], values

    return Features(names, pieces)


def _join(one: Features | None, other: Features | None) -> Features | None:
    """Join the features of source and table; if both have a feature of one name, use that of the table."""
    if one is None or other is None:
        return one or other
    first, second = one, other
    mine = [name for name in first.names if name not in second.names]

    def pieces() -> Iterator[tuple[Sequence[str], Mapping[str, np.ndarray]]]:
        for keys, values in first.pieces():
            yield keys, {name: column for name, column in values.items() if name in mine}
        yield from second.pieces()

    return Features([*mine, *second.names], pieces)
