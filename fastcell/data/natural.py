"""Natural order of names: `class2` before `class10`, whatever the case."""

from __future__ import annotations

import re
from collections.abc import Iterable

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
