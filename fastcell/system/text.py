"""Text helpers: natural order of names (`class2` before `class10`, case ignored), text safe for a terminal, columns.

Names of classes, keys, groups and files may come from untrusted sources. All text for a terminal, a figure or a page
therefore goes through `printable` (in `fastcell.errors`, whose messages contain names too), directly or through
functions of this module.
"""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any

from fastcell.errors import printable as printable

MOST_PRINTED_ROWS = 20
"""Largest number of rows that a table of classes has on a terminal."""

_NUMBER = re.compile(r"(\d+)")


def natural_key(name: str) -> tuple[list[tuple[int, int, str]], str]:
    """Return a sort key that compares runs of digits by value and all other characters without case.

    The key ends with the name itself, so that the order is total: `a` and `A`, or `a01` and `a1`, never tie.
    """
    pieces = [
        (0, int(piece), "") if piece.isdecimal() else (1, 0, piece.casefold()) for piece in _NUMBER.split(name) if piece
    ]
    return pieces, name


def natural_sorted(names: Iterable[str]) -> list[str]:
    """Return names in natural order; duplicates are kept."""
    return sorted(names, key=natural_key)


def storable(text: str | None) -> Any:
    """Return a text that UTF-8 can encode; other bytes, which file names may contain, are escaped."""
    if text is None or text.isascii():
        return text
    return text.encode("utf-8", "backslashreplace").decode()


def one_form(text: str) -> str:
    """Return a text in Unicode form NFC: names that differ only in their form are one name."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def one_name(text: str | None) -> Any:
    """Return a name as data sets store it: in Unicode form NFC, with escapes for what UTF-8 cannot encode."""
    return text if text is None or text.isascii() else storable(one_form(text))


def printable_lines(text: object) -> str:
    """Return a text of several lines, each as `printable` returns it."""
    return "\n".join(map(printable, str(text).split("\n")))


def html_text(text: object) -> str:
    """Return a text for HTML: as `printable` returns it, with ``& < > " '`` as entities."""
    return html.escape(printable(text))


def join_lines(lines: Iterable[object]) -> str:
    """Return lines, each as `printable` returns it, as one text: a line break inside a line is escaped."""
    return "\n".join(map(printable, lines))


def list_names(names: Sequence[str], most: int = 6) -> str:
    """Return the first `most` names, separated by commas, and the number of the others."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more:,} more" if more > 0 else "")


def largest_rows(sizes: Sequence[int], most: int = MOST_PRINTED_ROWS) -> tuple[list[int], list[int]]:
    """Divide the rows of a table into those to print and those to add up in one row.

    Args:
        sizes: size of each row, e.g. the number of cells of a class.
        most: largest number of printed rows, including the one that adds up the others.

    Returns:
        Indices of the largest rows and of the others, each in ascending order; no others if all rows fit.
    """
    if len(sizes) <= most:
        return list(range(len(sizes))), []
    by_size = sorted(range(len(sizes)), key=lambda row: -sizes[row])
    return sorted(by_size[: most - 1]), sorted(by_size[most - 1 :])


def align_columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return rows of words as aligned lines: the first column left-aligned, the others right-aligned.

    Words come back as `printable` returns them.
    """
    rows = [[printable(word) for word in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            [row[0].ljust(widths[0]), *(word.rjust(width) for word, width in zip(row[1:], widths[1:], strict=True))]
        ).rstrip()
        for row in rows
    ]
