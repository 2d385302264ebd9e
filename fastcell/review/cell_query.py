"""Queries: selection and order of the cells to show.

A query is a list of terms, all of which a cell must meet, and an order; the address of the page contains it as JSON. A
term is one of::

    {"column": "class", "is": ["A", "B"]}          a category, any of these names ("" for none)
    {"column": "quality", "from": 0.2, "to": 0.8}  a number, either end may be missing
    {"gate": ["qc_focus", "qc_contrast"], "points": [[x, y], ...]}  inside a polygon in the plane of two numbers
    {"cells": "0-5,9"}                             these cell_ids
    {"tag": "doubtful"}                            cells with a tag
    {"key": "run1/"}                               cells whose key contains a text, case ignored

Each may have ``"not": true``. On the command line each term is one word: ``class=A|B quality>=0.2 quality<=0.8
cells=0-5,9 tag=doubtful key~run1/ sort=-quality``.
"""

from __future__ import annotations

import json
import math
import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from fastcell.dataset.marks.cell_ranges import read_ranges
from fastcell.errors import ArgumentError
from fastcell.review.cell_columns import MARK_COLUMNS, CellColumns

MOST_TERMS, MOST_POINTS = 50, 2_000
_WORD = re.compile(r"(?P<name>[^=<>~!|]+?)(?P<op>!=|=|<=|>=|~)(?P<value>.*)", re.DOTALL)

Term = Mapping[str, Any]


def parse_query(text: str) -> dict[str, Any]:
    """Parse a query in the words of a command line.

    Returns:
        ``terms``, a list of terms, and ``sort``, the name of a column (with ``-`` in front for descending order) or "".

    Raises:
        ArgumentError: a word is no term.
    """
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise ArgumentError(f"--select must be a file or a query, got {text[:100]!r} ({error}). Quote it.") from None
    terms: list[dict[str, Any]] = []
    sort = ""
    for word in words:
        found = _WORD.fullmatch(word)
        if found is None:
            hint = "Write for example 'class=A|B quality>=0.5 sort=-quality', or name an existing file"
            raise ArgumentError(f"--select must be a file or a query of words, got {word[:100]!r}. {hint}.")
        name, op, value = found["name"], found["op"], found["value"]
        if name == "sort" and op == "=":
            sort = value
        elif op in ("<=", ">="):
            try:
                terms.append({"column": name, "from" if op == ">=" else "to": float(value)})
            except ValueError:
                raise ArgumentError(f"--select: {name} must be compared with a number, got {value[:60]!r}.") from None
        elif name in ("cells", "tag") or op == "~":
            terms.append({"key" if op == "~" else name: value})
        else:
            terms.append({"column": name, "is": value.split("|")})
        if op == "!=":
            terms[-1]["not"] = True
    return {"terms": terms, "sort": sort}


class CellQuery:
    """A query, checked.

    Args:
        terms: terms, as in the docstring of the module.
        sort: column to sort by, with ``-`` in front for descending order; "" for the order of cell_id.

    Raises:
        ArgumentError: a term is invalid.
    """

    def __init__(self, terms: Sequence[Term], sort: str = "") -> None:
        if not isinstance(terms, list) or len(terms) > MOST_TERMS or not all(isinstance(term, dict) for term in terms):
            raise ArgumentError(f"terms must be a list of at most {MOST_TERMS} terms.")
        if not isinstance(sort, str):
            raise ArgumentError("sort must be the name of a column.")
        self.terms, self.sort = terms, sort

    @property
    def follows_marks(self) -> bool:
        """Whether marks change the cells or their order."""
        names = {str(term.get("column")) for term in self.terms} | {self.sort.lstrip("-")}
        return bool(names & MARK_COLUMNS) or any("tag" in term for term in self.terms)

    def text(self) -> str:
        """Return the query as text, equal for equal queries."""
        return json.dumps([self.terms, self.sort], sort_keys=True, ensure_ascii=False)

    def rows(self, columns: CellColumns) -> npt.NDArray[np.int32]:
        """Return the cell_ids that meet all terms, in order, (n,) int32.

        Raises:
            ArgumentError: a term names a missing column, or has another form.
            DataError: a table is damaged.
        """
        keep = np.ones(len(columns), bool)
        for term in self.terms:
            met = matches(columns, term)
            keep &= ~met if term.get("not") is True else met
        rows = np.flatnonzero(keep).astype(np.int32)
        return rows[_order(columns, self.sort, rows)] if self.sort else rows


def matches(columns: CellColumns, term: Term) -> npt.NDArray[np.bool_]:
    """Return which cells meet a term, (N,) bool.

    Raises:
        ArgumentError: the term has another form, or names a missing column.
    """
    if "is" in term:
        found, names = columns.category(str(term.get("column"))), term["is"]
        if not isinstance(names, list):
            raise ArgumentError("is must be a list of names.")
        chosen = np.array([name in names for name in found.names] or [False])
        return np.asarray(chosen[found.codes])
    if "from" in term or "to" in term:
        values = columns.numbers(str(term.get("column")))
        low, high = (_number(term.get(side), side) for side in ("from", "to"))
        with np.errstate(invalid="ignore"):
            met = ~np.isnan(values)
            met &= values >= np.float32(low) if low is not None else True
            met &= values <= np.float32(high) if high is not None else True
        return met
    if "gate" in term:
        return _in_gate(columns, term)
    if "cells" in term:
        met = np.zeros(len(columns), bool)
        if term["cells"] != "":
            try:
                met[read_ranges(str(term["cells"]), len(columns))] = True
            except ValueError as error:
                raise ArgumentError(f"{error}.") from None
        return met
    if "tag" in term:
        return columns.tag(str(term["tag"]))
    if isinstance(term.get("key"), str):
        keys = columns.manifest.table.column("key")
        return np.asarray(pc.match_substring(keys, term["key"], ignore_case=True).to_numpy(zero_copy_only=False), bool)
    raise ArgumentError(f"a term must be one of column, gate, cells, tag and key, got {str(dict(term))[:100]}.")


def inside_polygon(x: npt.ArrayLike, y: npt.ArrayLike, points: npt.ArrayLike) -> npt.NDArray[np.bool_]:
    """Return which points lie inside a closed polygon, by the even-odd rule.

    Args:
        x, y: (n,) float; a point with NaN lies outside.
        points: (p, 2) float, corners.

    Returns:
        (n,) bool.
    """
    x, y, corners = np.asarray(x, np.float64), np.asarray(y, np.float64), np.asarray(points, np.float64)
    low, high = corners.min(0), corners.max(0)
    inside = np.zeros(len(x), bool)
    near = np.flatnonzero((x >= low[0]) & (x <= high[0]) & (y >= low[1]) & (y <= high[1]))
    u, v, odd = x[near], y[near], np.zeros(len(near), bool)
    for (x0, y0), (x1, y1) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        if y0 != y1:
            crosses = (v < y0) != (v < y1)
            odd ^= crosses & (u < x0 + (v - y0) * (x1 - x0) / (y1 - y0))
    inside[near] = odd
    return inside


def _in_gate(columns: CellColumns, term: Term) -> npt.NDArray[np.bool_]:
    names, points = term["gate"], term.get("points")
    shaped = isinstance(points, list) and 3 <= len(points) <= MOST_POINTS
    if not (isinstance(names, list) and len(names) == 2 and shaped):
        raise ArgumentError(f"a gate must have two columns and 3 to {MOST_POINTS:,} points.")
    try:
        corners = np.array(points, np.float64)
    except (ValueError, TypeError):
        corners = np.empty(0)
    if corners.ndim != 2 or corners.shape[1] != 2 or not np.isfinite(corners).all():
        raise ArgumentError("points of a gate must be pairs of numbers.")
    x, y = (columns.numbers(str(name)) for name in names)
    return inside_polygon(x, y, corners)


def _number(value: object, name: str) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value):
        raise ArgumentError(f"{name} must be a number, got {str(value)[:60]!r}.")
    return float(value)


def _order(columns: CellColumns, sort: str, rows: npt.NDArray[np.int32]) -> npt.NDArray[np.int64]:
    """Return the order of some cells by a column: missing values last, ties by cell_id."""
    name, falls = sort.removeprefix("-"), sort.startswith("-")
    if name in columns.category_names():
        found = columns.category(name)
        rank = np.empty(len(found.names), np.int32)
        rank[sorted(range(len(found.names)), key=found.names.__getitem__)] = np.arange(len(found.names), dtype=np.int32)
        values: npt.NDArray[Any] = rank[found.codes[rows]]
        return np.argsort(-values if falls else values, kind="stable")
    numbers = columns.numbers(name)[rows]
    return np.argsort(-numbers if falls else numbers, kind="stable")
