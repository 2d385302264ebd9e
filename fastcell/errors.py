"""Errors that a user can act on, the exit codes with which they end the program, and text that is safe to show.

All messages have the form ``<name> must be <rule>, got <value>. <what to do>.``
An error about data names the shard and the key of the cell.
"""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Iterable


def printable(text: object) -> str:
    """Return a text as one line without control sequences, safe to show on a terminal.

    Control characters (including line breaks and tabs), invisible and direction-changing characters, and surrogates are
    written as Python escapes: ``\\x1b``, ``\\n``, ``\\u202e``.
    """
    text = str(text)
    return text if text.isprintable() else "".join(map(_escaped, text))


def _escaped(character: str) -> str:
    if character.isprintable() or unicodedata.category(character) == "Zs":  # other spaces are spaces
        return character
    return character.encode("unicode_escape").decode()


def one_message(text: str) -> str:
    """Return a message like `printable`, but keep the line break before the hint on help."""
    return "\n".join(map(printable, re.split(r"\n(?='fastcell )", text)))


class FastcellError(Exception):
    """Base class of all errors with a message for the user; the command line prints the message in one line.

    Names in a message may come from untrusted files, so the message contains no control sequences, even in a traceback.

    Attributes:
        exit_code: exit code of the process (2, as for wrong usage).
    """

    exit_code = 2

    def __str__(self) -> str:
        return one_message(super().__str__())


class ArgumentError(FastcellError, ValueError):
    """Invalid argument, flag or configuration value."""


class BusyError(ArgumentError):
    """Another run is already producing the requested result. That run is left alone."""


class DataError(FastcellError):
    """File, shard or cell that cannot be used.

    Args:
        message: the problem and a hint.
        shard: file name of the shard, if known; put in front of the message.
        key: key of the cell, if known; put in front of the message.
    """

    def __init__(self, message: str, shard: str | None = None, key: str | None = None) -> None:
        place = ", ".join(f"{name} {value!r}" for name, value in (("shard", shard), ("cell", key)) if value is not None)
        super().__init__(f"{place}: {message}" if place else message)
        self.shard = shard
        self.key = key


class StrictError(FastcellError):
    """A problem was found although ``--strict`` allows none: an unusable cell, or a problem in an audit."""

    exit_code = 3


class DivergedError(FastcellError):
    """Training gave numbers that are not finite."""


DIVERGED_HINT = "Train anew with a smaller learning_rate, a longer warmup, or gradient_clip_val 1"
"""What to do after a `DivergedError`."""


class StoppedError(FastcellError):
    """A run stopped cleanly after a signal, and can be resumed.

    Args:
        message: how to resume the run.
        number: number of the signal; the exit code is 128 plus this number, as in shells.
    """

    def __init__(self, message: str, number: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + number


class BadCell(Exception):  # noqa: N818, the cell is at fault, not the program
    """Stored bytes that do not yield a usable cell.

    The error is caught where cells are read. While a data set is written, the cell is quarantined; later it counts as
    corrupt.

    Args:
        reason: reason for the quarantine table, see `fastcell.packing.quarantine.QUARANTINE_REASONS`.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def invalid(name: str, rule: str, got: object, hint: str) -> ArgumentError:
    """Build the error for an argument that violates its rule.

    Args:
        name: the argument as the user wrote it, e.g. ``--split``.
        rule: what the argument must be, e.g. ``three positive numbers``.
        got: the value found.
        hint: one sentence with what to do, without the final full stop.
    """
    return ArgumentError(f"{name} must be {rule}, got {got!r}. {hint}.")


def did_you_mean(got: str, known: Iterable[str]) -> str:
    """Return ``"Did you mean X?"`` with the known name nearest to `got`; an empty text if none is near."""
    names = {_folded(name): name for name in known}
    near = difflib.get_close_matches(_folded(got), names, n=1, cutoff=0.6)
    return f"Did you mean {names[near[0]]}?" if near else ""


def _folded(name: str) -> str:
    return name.lower().replace("-", "_")
