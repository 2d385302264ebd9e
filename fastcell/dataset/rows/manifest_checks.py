"""Validate the files of a data set before their values are used. `Manifest.open` calls these checks, column by column.

A manifest may come from an untrusted source, and the readers use its offsets and sizes without further checks. All
checks are vectorised, and a large table is checked in parts, so that no column of it has to be in memory as a whole.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fastcell.dataset import tar
from fastcell.dataset.decode import ENCODINGS
from fastcell.dataset.image_headers import MAX_PIXELS
from fastcell.dataset.schema import LAYOUTS, NULLABLE, SPLITS, VERDICTS
from fastcell.errors import DataError
from fastcell.remote.addresses import scheme_of

_HINT = "Pack or index the data again"
_QC_HINT = "Run fastcell qc again"
_PART = 1 << 20  # rows that are checked together
_MOST_BYTES = 1 << 62  # largest shard: its size plus an offset fits into int64


def check_info(values: Mapping[str, Any], path: Path | str) -> None:
    """Check types and ranges of the fields of dataset.json.

    Args:
        values: the fields that are present, by name.
        path: path of the file, for the message.

    Raises:
        DataError: a field has an invalid value; the message names the first such field.
    """
    rules = {
        "name": ("text", lambda value: isinstance(value, str)),
        "classes": ("different names", lambda value: _all_text(value) and len(set(value)) == len(value)),
        "layout": (f"one of {', '.join(LAYOUTS)}", lambda value: isinstance(value, str) and value in LAYOUTS),
        "shards": (
            "a list of different tars, each with a relative name, bytes and num_cells",
            lambda value: (
                isinstance(value, list)
                and all(map(_is_shard, value))
                and len({item["name"] for item in value}) == len(value)
            ),
        ),
        "num_cells": ("a whole number >= 0", _is_count),
        "num_quarantined": ("a whole number >= 0", _is_count),
        "window": ("null or two grey levels, the lower one first", lambda value: value is None or _is_window(value)),
        "um_per_px": ("null or a number above 0", lambda value: value is None or (_is_number(value) and value > 0)),
        "synthetic": ("true or false", lambda value: isinstance(value, bool)),
        "generator": ("null or text", lambda value: value is None or isinstance(value, str)),
        "seed": ("a whole number", lambda value: isinstance(value, int) and not isinstance(value, bool)),
        "shards_at": (
            "null or an address",
            lambda value: value is None or (isinstance(value, str) and scheme_of(value) is not None),
        ),
        **{
            name: ("text", lambda value: isinstance(value, str))
            for name in ("created_by", "source", "licence", "command")
        },
    }
    for name, (rule, holds) in rules.items():
        if name in values and not holds(values[name]):
            raise DataError(f"{path}: {name} must be {rule}, got {_short(values[name])}. {_HINT}.")


class ManifestChecks:
    """Check the rows of manifest.parquet, some at a time, in their order.

    Args:
        info: `DatasetInfo`, checked.
        path: path of the file, for the message.
    """

    def __init__(self, info: Any, path: Path) -> None:
        self._info, self._path, self._num_rows = info, path, 0
        self._places = PlaceChecks(info, path, 1 if info.layout == "block" else tar.BLOCK)

    def add(self, table: pa.Table) -> None:
        """Check the next rows of `SCHEMA`.

        Raises:
            DataError: a row violates a rule; the message names the first violated rule, with row and value.
        """
        info, path, first = self._info, self._path, self._num_rows
        _check_nulls(table, path, NULLABLE)
        ids = table.column("cell_id").to_numpy()
        self._num_rows += len(ids)
        if self._num_rows > info.num_cells or not np.array_equal(ids, np.arange(first, self._num_rows)):
            raise DataError(f"{path} does not fit dataset.json. {_HINT}.")
        column = {name: table.column(name).to_numpy() for name in _NUMBERS}
        deep = column["depth"] == 16
        raw = column["block"] >= 0 if info.layout == "block" else np.zeros(len(ids), bool)
        height, width = column["height"].astype(np.int64), column["width"].astype(np.int64)
        pitch = column["um_per_px"]
        area = height * width
        rules = {
            "height": (f"at least 1, with at most {MAX_PIXELS:,} pixels", (height >= 1) & (area <= MAX_PIXELS)),
            "width": ("at least 1", width >= 1),
            "depth": (
                "8, or 16 where dataset.json has a window",
                (column["depth"] == 8) | (deep & (info.window is not None)),
            ),
            "channels": ("at least 1", column["channels"] >= 1),
            "um_per_px": ("above 0, or NaN where it is unknown", np.isnan(pitch) | ((pitch > 0) & (pitch < np.inf))),
            "mean_intensity": ("from 0 to 255", _is_level(column["mean_intensity"])),
            "border_median": ("from 0 to 255", _is_level(column["border_median"])),
            "block": (
                "0 or more in the block layout, -1 in the cell layout",
                raw if info.layout == "block" else column["block"] == -1,
            ),
            "bytes": (
                "the number of bytes for the size in pixels",
                _holds_pixels(table, column["bytes"], area, deep, raw),
            ),
        }
        for name, (rule, holds) in rules.items():
            _refuse(path, name, rule, column[name], holds, first)
        known = pa.array(info.classes, pa.string())
        _refuse_text(path, table, "class", "one of the classes of dataset.json", known, True, first_row=first)
        _refuse_text(path, table, "encoding", f"one of {', '.join(ENCODINGS)}", pa.array(ENCODINGS), first_row=first)
        self._places.add(table)

    def finish(self) -> None:
        """Check that no row is missing.

        Raises:
            DataError: there are fewer rows than dataset.json has, in all or of a shard.
        """
        if self._num_rows != self._info.num_cells:
            raise DataError(f"{self._path} does not fit dataset.json. {_HINT}.")
        self._places.finish()


class PlaceChecks:
    """Check shard, offset and size of rows against dataset.json, some at a time, in their order.

    All records must lie inside their tar, in stored order, without overlap.

    Args:
        info: `DatasetInfo`, checked.
        path: path of the file, for the message.
        grid: all offsets must be multiples of this number of bytes.
    """

    def __init__(self, info: Any, path: Path, grid: int) -> None:
        self._info, self._path, self._grid = info, path, grid
        self._names = pa.array([shard["name"] for shard in info.shards], pa.string())
        self._totals = np.array([item["bytes"] for item in info.shards], np.int64)
        self._there = np.zeros(len(info.shards))
        self._num_rows = 0
        self._last = -1, 0  # shard of the last row, and its end

    def add(self, table: pa.Table, counts: np.ndarray | None = None) -> None:
        """Check the next rows.

        Args:
            table: (n,) rows with columns shard, offset and bytes.
            counts: (n,) number of cells of each row; None: one per row.

        Raises:
            DataError: a row violates a rule; the message names the first violated rule.
        """
        path, grid, first = self._path, self._grid, self._num_rows
        if not table.num_rows:
            return
        self._num_rows += table.num_rows
        _refuse_text(path, table, "shard", "one of the shards of dataset.json", self._names, first_row=first)
        index = pc.index_in(table.column("shard"), value_set=self._names)
        shard = index.to_numpy(zero_copy_only=False).astype(np.int64)
        offset, size = (table.column(name).to_numpy() for name in ("offset", "bytes"))
        total = self._totals[shard]
        inside = (offset >= tar.BLOCK) & (offset % grid == 0) & (offset <= total)
        _refuse(path, "offset", f"a multiple of {grid} inside of the tar", offset, inside, first)
        _refuse(
            path, "bytes", "at least 1, up to the end of the tar", size, (size >= 1) & (size <= total - offset), first
        )
        step = np.diff(shard, prepend=self._last[0])
        ends = np.append(self._last[1], offset[:-1] + size[:-1])
        _refuse(
            path,
            "offset",
            "after the end of the previous row",
            offset,
            np.where(step == 0, ends <= offset, step > 0),
            first,
        )
        self._last = int(shard[-1]), int(offset[-1] + size[-1])
        self._there += np.bincount(shard, counts, minlength=len(self._there))

    def finish(self) -> None:
        """Check the number of rows of each shard.

        Raises:
            DataError: a shard has another number of rows than in dataset.json.
        """
        told = np.array([item["num_cells"] for item in self._info.shards], np.float64)
        if (self._there != told).any():
            number = int(np.argmax(self._there != told))
            name = self._info.shards[number]["name"]
            got = f"{int(self._there[number]):,} of {name!r} where dataset.json has {int(told[number]):,}"
            raise DataError(f"{self._path}: cells must be those of dataset.json, got {got}. {_HINT}.")


def check_blocks(blocks: pa.Table, cells: pa.Table, info: Any, path: Path) -> None:
    """Check the rows of blocks.parquet against the manifest and dataset.json.

    Args:
        blocks: rows of `BLOCKS_SCHEMA`.
        cells: rows of the manifest, checked.
        info: `DatasetInfo`, checked.
        path: path of the file, for the message.

    Raises:
        DataError: a row violates a rule; the message names the first violated rule.
    """
    _check_nulls(blocks, path, ())
    first, counts = blocks.column("first_cell").to_numpy(), blocks.column("num_cells").to_numpy().astype(np.int64)
    ends = np.cumsum(counts)
    _refuse(path, "num_cells", "at least 1", counts, counts >= 1)
    _refuse(path, "first_cell", "after the cells of the previous block", first, first == ends - counts)
    if (int(ends[-1]) if len(ends) else 0) != cells.num_rows:
        raise DataError(f"{path} must hold {cells.num_rows:,} cells, got {int(counts.sum()):,}. {_HINT}.")
    _refuse_text(path, blocks, "split", f"empty or one of {', '.join(SPLITS)}", pa.array(("", *SPLITS)))
    places = PlaceChecks(info, path, tar.BLOCK)
    places.add(blocks, counts)
    places.finish()
    for begin in range(0, cells.num_rows, _PART):
        part = cells.slice(begin, _PART)
        number = np.searchsorted(ends, np.arange(begin, begin + part.num_rows), "right")
        column = part.column("block").to_numpy()
        _refuse(path, "block of the manifest", "the block that has the cell", column, column == number, begin)
        offset, size = (blocks.column(name).to_numpy()[number] for name in ("offset", "bytes"))
        start, length = (part.column(name).to_numpy() for name in ("offset", "bytes"))
        inside = (start >= offset) & (length <= offset + size - start)
        _refuse(path, "offset of a cell", "in its block", start, inside, begin)


def check_split_part(table: pa.Table, num_cells: int, path: Path) -> None:
    """Check some rows of a split against the manifest.

    Raises:
        DataError: a row violates a rule; the message names the first violated rule.
    """
    _check_nulls(table, path, ())
    ids = table.column("cell_id").to_numpy()
    if len(ids) and (ids.min() < 0 or ids.max() >= num_cells):
        raise DataError(f"{path} names cells that the manifest does not have. Make the split again.")
    _refuse_text(path, table, "split", f"one of {', '.join(SPLITS)}", pa.array(SPLITS))


def check_quarantine(table: pa.Table, num_cells: int, path: Path) -> None:
    """Check the rows of quarantine.parquet against the manifest.

    Raises:
        DataError: a row violates a rule; the message names the first violated rule.
    """
    _check_nulls(table, path, ("cell_id", "source", *NULLABLE))
    ids = table.column("cell_id").fill_null(0).to_numpy()
    known = ((ids >= 0) & (ids < num_cells)) | table.column("cell_id").is_null().to_numpy()
    _refuse(path, "cell_id", "null or a cell of the manifest", ids, known)


def check_features(table: pa.Table, num_cells: int, path: Path) -> None:
    """Check the rows of features.parquet against the manifest.

    Raises:
        DataError: a row violates a rule; the message names the first violated rule.
    """
    ids = table.column("cell_id")
    if ids.null_count:
        raise DataError(f"{path}: column 'cell_id' must have a value in every row, got null. {_HINT}.")
    values = ids.to_numpy()
    _refuse(path, "cell_id", "a cell of the manifest", values, (values >= 0) & (values < num_cells))


def check_quality(table: pa.Table, num_cells: int, path: Path) -> None:
    """Check the rows of quality.parquet against the manifest.

    Raises:
        DataError: a row violates a rule; the message names the first violated rule.
    """
    for _ in checked_quality([table], num_cells, path):
        pass


def checked_quality(parts: Iterable[pa.Table], num_cells: int, path: Path) -> Iterator[pa.Table]:
    """Check the rows of quality.parquet as `check_quality` does, and yield them, some at a time.

    Raises:
        DataError: a row violates a rule; the message names the first violated rule.
    """
    num_rows = 0
    for part in parts:
        _check_quality_part(part, num_rows, path)
        num_rows += part.num_rows
        yield part
    if num_rows != num_cells:
        raise _other_cells(path)


def _other_cells(path: Path) -> DataError:
    return DataError(f"{path}: cell_id must be those of the manifest, in order. {_QC_HINT}.")


def _check_quality_part(table: pa.Table, first: int, path: Path) -> None:
    hint = _QC_HINT
    _check_nulls(table, path, (), hint)
    if not np.array_equal(table.column("cell_id").to_numpy(), np.arange(first, first + table.num_rows)):
        raise _other_cells(path)
    score = table.column("score").to_numpy()
    _refuse(path, "score", "from 0 to 1", score, (score >= 0) & (score <= 1), hint=hint)
    _refuse_text(path, table, "verdict", f"one of {', '.join(VERDICTS)}", pa.array(VERDICTS), hint=hint)


_NUMBERS = (
    "bytes",
    "height",
    "width",
    "depth",
    "channels",
    "um_per_px",
    "mean_intensity",
    "border_median",
    "block",
)


def _check_nulls(table: pa.Table, path: Path, nullable: tuple[str, ...], hint: str = _HINT) -> None:
    for name in table.column_names:
        if name not in nullable and table.column(name).null_count:
            raise DataError(f"{path}: column {name!r} must have a value in every row, got null. {hint}.")


def _holds_pixels(table: pa.Table, size: np.ndarray, area: np.ndarray, deep: np.ndarray, raw: np.ndarray) -> np.ndarray:
    """Return True for rows whose stored size can hold the pixels: exactly in a block, at least in a NumPy file."""
    is_raw, is_npy = (pc.equal(table.column("encoding"), name).to_numpy() for name in ("raw", "npy"))
    return np.where(raw, is_raw & (size == area), ~is_raw & (~is_npy | (size >= area * np.where(deep, 2, 1))))


def _refuse(
    path: Path,
    name: str,
    rule: str,
    values: np.ndarray,
    holds: np.ndarray,
    first_row: int = 0,
    hint: str = _HINT,
) -> None:
    if not holds.all():
        row = int(np.argmin(holds))
        raise DataError(f"{path}: {name} must be {rule}, got {values[row]} in row {row + first_row:,}. {hint}.")


def _refuse_text(
    path: Path,
    table: pa.Table,
    name: str,
    rule: str,
    known: pa.Array,
    skip_nulls: bool = False,
    hint: str = _HINT,
    first_row: int = 0,
) -> None:
    column = table.column(name)
    holds = pc.is_in(column, value_set=known, skip_nulls=True)
    if skip_nulls:
        holds = pc.or_(holds, column.is_null())
    if not pc.all(holds, min_count=0).as_py():
        row = pc.index(holds, False).as_py()
        got = _short(column[row].as_py())
        raise DataError(f"{path}: {name} must be {rule}, got {got} in row {row + first_row:,}. {hint}.")


def _is_level(values: np.ndarray) -> np.ndarray:
    return (values >= 0) & (values <= 255)


def _is_shard(value: Any) -> bool:
    if not isinstance(value, dict) or not all(_is_count(value.get(name)) for name in ("bytes", "num_cells")):
        return False
    name = value.get("name")
    if not isinstance(name, str) or not name.isprintable() or name.startswith("/") or not name.strip("./ "):
        return False
    parts = name.split("/")
    while parts[0] == "..":  # tars outside the folder of their index
        parts = parts[1:]
    return ".." not in parts and all(parts) and value["bytes"] <= _MOST_BYTES


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 63


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < math.inf


def _is_window(value: Any) -> bool:
    return (
        isinstance(value, list) and len(value) == 2 and all(map(_is_number, value)) and -1e9 < value[0] < value[1] < 1e9
    )


def _all_text(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) and item for item in value)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]}..."
