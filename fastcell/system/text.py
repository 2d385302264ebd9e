"""Natural order of names: `class2` before `class10`, whatever the case."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

_NUMBER = re.compile(r"(\d+)")


def natural_key(name: str) -> tuple[list[tuple[int, int, str]], str]:
    """Sort key that compares runs of digits by value and the rest without case.

    The name itself closes the key, so that the order is total: `a`, `A` and `a01`, `a1` never tie.
    """
    pieces = [
        (0, int(piece), "") if piece.isdecimal() else (1, 0, piece.casefold()) for piece in _NUMBER.split(name) if piece
    ]
    return pieces, name


def natural_sorted(names: Iterable[str]) -> list[str]:
    """Names in natural order; duplicates stay."""
    return sorted(names, key=natural_key)


def storable(text: str | None) -> Any:
    """The text as UTF-8 can hold it; file names may carry bytes that are none."""
    if text is None or text.isascii():
        return text
    return text.encode("utf-8", "backslashreplace").decode()


def align_columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows of words as aligned lines: first column to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            [row[0].ljust(widths[0]), *(word.rjust(width) for word, width in zip(row[1:], widths[1:], strict=True))]
        ).rstrip()
        for row in rows
    ]
