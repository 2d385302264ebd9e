"""Source: a table of paths, labels and groups for the cells of another source."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fastcell.dataset.rows.instrument_features import Features
from fastcell.dataset.schema import PITCHES
from fastcell.dataset.tables.numbers import MISSING
from fastcell.dataset.tables.read_table import UserTable, read_table
from fastcell.errors import DataError
from fastcell.sources.array_fields import like_labels
from fastcell.sources.base import Listing, Rejected, Runs, Source, SourceItem, encoding_of
from fastcell.sources.containers import PIECE_CELLS
from fastcell.system.text import natural_sorted, one_name, storable

TABLE_ENDINGS = (".csv", ".tsv", ".parquet")
PATH_COLUMNS = ("path", "key", "file", "filename", "image", "img_file_name")
LABEL_COLUMNS = ("label", "class", "class_name", "object_annotation_category")
GROUP_COLUMNS = ("group", "donor", "run")
COLLECTION_COLUMNS = ("collection",)
SPLIT_COLUMNS = ("split",)
PITCH_COLUMNS = ("um_per_px",)

#: Columns that tell where cells come from, in EcoTaxa and elsewhere; cells of one origin are alike.
_LIKE_GROUPS = ("sample_id", "sample", "acq_id", "patient", "patient_id", "subject", "animal", "slide", "well", "plate")
_STATUS = ("object_annotation_status",)  # of EcoTaxa
_SUBSETS = {"train": "train", "valid": "valid", "val": "valid", "validation": "valid", "test": "test"}
_MOST_NAME = 256
_MOST_SHOWN = 8


@dataclass(frozen=True)
class PathTable:
    """Cells of another source that are listed in a table, with the labels of the table.

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
        told = {what: _texts(table, names) for what, names in _TOLD.items()}
        pitches = _pitches(table)
        there = self.inner.scan()
        number = {one_name(item.key): i for i, item in enumerate(there.items)}
        folded: dict[str, str] | None = None
        refused = {one_name(bad.item.key): bad for bad in there.rejected}
        root = getattr(self.inner, "root", None)
        rows, chosen, items, rejected = [], [], [], []
        seen: dict[str, int] = {}
        for row, text in enumerate(told["path"] or ()):
            key = _key(self.path, int(table.rows[row]), text, root)
            where = number.get(key)
            known = there.items[where] if where is not None else SourceItem(key, encoding_of(key))
            item = known._replace(
                class_name=_at(told["label"], row, known.class_name),
                group=_at(told["group"], row, known.group),
                collection=_at(told["collection"], row, known.collection),
                um_per_px=known.um_per_px if pitches is None or math.isnan(pitches[row]) else float(pitches[row]),
            )
            if key in seen:
                first = int(table.rows[seen[key]]) + 1
                rejected.append(Rejected(item, self.path.name, f"named twice, first in row {first}"))
            elif where is None:
                if folded is None:
                    folded = {name.lower(): name for name in number}
                reason = "no such cell"
                if key in refused:
                    reason = refused[key].reason
                elif key.lower() in folded:
                    reason = f"no such cell; {folded[key.lower()]} is there, in other upper and lower case"
                rejected.append(Rejected(item, self.path.name, reason))
            else:
                rows.append(row)
                chosen.append(where)
                items.append(item)
            seen.setdefault(key, row)
        if not seen:
            raise DataError(f"{storable(str(self.path))} must name at least one cell, got none. Check the table.")
        if not items and all(bad.reason.startswith("no such cell") for bad in rejected):
            keys = f"'{storable(there.items[0].key)}'" if there.items else "none"
            raise DataError(
                f"{storable(str(self.path))} must name cells of the source, with paths such as {keys}, got "
                f"{rejected[0].item.key!r} first, and none of its {len(rejected):,} paths exists. Correct its paths."
            )
        notes = [*there.notes, *_notes(table)]
        unnamed = len(there.items) - len(items)
        if unnamed:
            notes.append(f"cells that the table does not name are left out: {unnamed:,}.")
        splits = {name: [subsets[place] for place in chosen] for name, subsets in there.splits.items()}
        if told["side"]:
            splits["table"] = [_subset(table, row, told["side"]) for row in rows]
        runs = there.runs and Runs(there.runs.numbers[chosen], there.runs.num_bytes)
        classes = natural_sorted({item.class_name for item in items if item.class_name is not None})
        features = _join(there.features, _features(table, rows, items))
        return Listing(items, classes, splits, rejected, notes, features, runs)

    def load(self, item: SourceItem) -> bytes | np.ndarray:
        return self.inner.load(item)

    def stamp(self, item: SourceItem) -> str:
        return self.inner.stamp(item)


_TOLD = {
    "path": PATH_COLUMNS,
    "label": LABEL_COLUMNS,
    "group": GROUP_COLUMNS,
    "collection": COLLECTION_COLUMNS,
    "side": SPLIT_COLUMNS,
}
_TEXT_COLUMNS = tuple(name for names in _TOLD.values() for name in names)


def read_path_table(path: Path) -> UserTable:
    """Read a CSV or Parquet file with the columns of `PathTable`.

    Raises:
        DataError: If the file does not exist or cannot be read, or has no column of paths.
    """
    table = read_table(path, (*_TEXT_COLUMNS, *_STATUS), "Save it as CSV with a header, or as Parquet")
    if table.place(PATH_COLUMNS) is None:
        got = ", ".join(table.names[:_MOST_SHOWN]) or "none"
        raise DataError(
            f"{storable(str(path))} must have a column {', '.join(PATH_COLUMNS)}, got {storable(got)}. Name the column "
            "of paths."
        )
    return table


def fields_of_table(path: Path) -> set[str]:
    """Return which of the fields `class`, `group` and `collection` a table has columns for.

    Raises:
        DataError: If the file does not exist or cannot be read, or has no column of paths.
    """
    table = read_path_table(path)
    columns = {"class": LABEL_COLUMNS, "group": GROUP_COLUMNS, "collection": COLLECTION_COLUMNS}
    return {field for field, names in columns.items() if table.place(names) is not None}


def _texts(table: UserTable, names: Sequence[str]) -> list[str | None] | None:
    place = table.place(names)
    return None if place is None else table.texts(place)


def _pitches(table: UserTable) -> np.ndarray | None:
    place = table.place(PITCH_COLUMNS)
    if place is None or not len(table):
        return None
    values = table.numbers(place, table.has_decimal_comma())
    if values is None:
        texts = [text for text in table.texts(place) if text is not None]
        if not texts:
            return None
        shown = f"{storable(str(table.path))}: the column {table.names[place]}"
        raise DataError(f"{shown} must hold numbers, got {texts[0]!r}. Correct it.")
    return np.where((values >= PITCHES[0]) & (values <= PITCHES[1]), values, math.nan)


def _key(path: Path, row: int, text: str | None, root: Path | None) -> str:
    """Return the path in a row relative to the source; an absolute one must lie in its folder."""
    key = (text or "").replace("\\", "/")
    if root is not None and key.startswith(f"{root.as_posix()}/"):
        key = key[len(root.as_posix()) + 1 :]
    key = key.removeprefix("./")
    if not key or key.startswith("/") or ".." in key.split("/"):
        raise DataError(
            f"{storable(str(path))} row {row + 1}: the path must lie in the source, got {key!r}. Correct the row."
        )
    return key


def _notes(table: UserTable) -> list[str]:
    """Return notes on columns that are not read, and on values that may be read in an unintended way."""
    notes = []
    names: Sequence[str]
    for title, names in (("class", LABEL_COLUMNS), ("group", GROUP_COLUMNS), ("path", PATH_COLUMNS)):
        there = [name for name in names if name in {column.lower() for column in table.names}]
        if len(there) > 1:
            notes.append(f"the table has columns {', '.join(there)}; {there[0]} is read as the {title}.")
    for names in (LABEL_COLUMNS, GROUP_COLUMNS, COLLECTION_COLUMNS):
        place = table.place(names)
        words = Counter(text for text in (table.texts(place) if place is not None else ()) if text in MISSING)
        for word, num in words.items():
            notes.append(
                f"{word!r} in column {table.names[place or 0]} ({num:,} rows) is read as a name; leave the field empty "
                "where the value is unknown."
            )
    status = _texts(table, _STATUS)
    unsure = sum(text is not None and text.lower() != "validated" for text in status or ())
    if unsure:
        notes.append(f"rows with a class that is not validated ({_STATUS[0]}): {unsure:,}.")
    unread = _unread(table)
    numeric = [table.names[place] for place in unread if table.looks_numeric(place)]
    if numeric:
        notes.append(
            f"columns that resemble numbers are not read: {_named(numeric)}. Write plain numbers, without units, "
            "percent signs or thousands separators."
        )
    others = [table.names[place] for place in unread if not table.looks_numeric(place)]
    if others:
        notes.append(f"columns of other types than numbers are not read: {_named(others)}.")
    if table.place(LABEL_COLUMNS) is None:
        comma = table.has_decimal_comma()
        like = [place for place in _others(table) if place not in unread]
        numbers = {table.names[place]: table.numbers(place, comma) for place in like}
        few = [name for name, values in numbers.items() if values is not None and like_labels(values)]
        if few:
            notes.append(
                f"no column is named {LABEL_COLUMNS[0]}; {_named(few)} of few different whole numbers is read as a "
                f"feature. If it holds the classes, name it {LABEL_COLUMNS[0]}."
            )
    like_groups = [name for name in table.names if name.lower() in _LIKE_GROUPS]
    if like_groups and table.place(GROUP_COLUMNS) is None:
        notes.append(
            f"{_named(like_groups)} may identify cells that belong together, but is not read as the group: name it "
            f"{GROUP_COLUMNS[0]} to keep such cells in one subset."
        )
    twice = sorted(name for name, num in Counter(table.names).items() if num > 1 and name)
    if twice:
        notes.append(f"columns with a repeated name are not read as features: {_named(twice)}.")
    return notes


def _named(names: Sequence[str]) -> str:
    return storable(", ".join(names[:_MOST_SHOWN])) + (", ..." if len(names) > _MOST_SHOWN else "")


def _others(table: UserTable) -> list[int]:
    """Return the columns that may be features: those with a unique name that have no other meaning."""
    known = {*_TEXT_COLUMNS, *PITCH_COLUMNS, *_STATUS}
    counts = Counter(table.names)
    return [
        place
        for place, name in enumerate(table.names)
        if name.lower() not in known and counts[name] == 1 and not table.is_index(place)
    ]


def _unread(table: UserTable) -> list[int]:
    comma = table.has_decimal_comma()
    return [
        place
        for place in _others(table)
        if ("t" in table.types[place : place + 1] or table.numbers(place, comma) is None)
        and any(text is not None for text in table.texts(place))
    ]


def _at(values: Sequence[str | None] | None, row: int, otherwise: str | None) -> str | None:
    if values is None:
        return otherwise
    text = values[row]
    return None if text is None else text[:_MOST_NAME]


def _subset(table: UserTable, row: int, subsets: Sequence[str | None] | None) -> str:
    text = (subsets[row] if subsets else None) or ""
    if text and text.lower() not in _SUBSETS:
        rule = f"empty or one of {', '.join(_SUBSETS)}"
        shown = f"{storable(str(table.path))} row {table.rows[row] + 1}"
        raise DataError(f"{shown}: split must be {rule}, got {text!r}. Correct the row.")
    return _SUBSETS.get(text.lower(), "")


def _features(table: UserTable, rows: Sequence[int], items: Sequence[SourceItem]) -> Features | None:
    """Return the features: the columns of numbers with other names."""
    comma = table.has_decimal_comma()
    columns = {}
    for place in _others(table):
        values = None if "t" in table.types[place : place + 1] else table.numbers(place, comma)
        if values is not None:
            columns[table.names[place]] = values[np.asarray(rows, np.int64)]
    if not columns:
        return None

    def pieces() -> Iterator[tuple[Sequence[str], Mapping[str, np.ndarray]]]:
        for first in range(0, len(items), PIECE_CELLS):
            keys = [item.key for item in items[first : first + PIECE_CELLS]]
            yield keys, {name: values[first : first + PIECE_CELLS] for name, values in columns.items()}

    return Features(list(columns), pieces)


def _join(one: Features | None, other: Features | None) -> Features | None:
    """Join the features of source and table. If both have a feature of the same name, that of the table is used."""
    if one is None or other is None:
        return one or other
    first, second = one, other
    mine = [name for name in first.names if name not in second.names]

    def pieces() -> Iterator[tuple[Sequence[str], Mapping[str, np.ndarray]]]:
        for keys, values in first.pieces():
            yield keys, {name: column for name, column in values.items() if name in mine}
        yield from second.pieces()

    return Features([*mine, *second.names], pieces)
