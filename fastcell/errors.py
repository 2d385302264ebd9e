"""Errors that a user can act on, and the exit codes they end the program with.

Form of every message: ``<name> must be <rule>, got <value>. <what to do>.``
An error about data names the shard and the key of the cell.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class FastcellError(Exception):
    """Base of all errors whose message is meant for the user; the command line prints it in one line.

    Attributes:
        exit_code: what the process ends with (2, as for wrong usage).
    """

    exit_code = 2


class ArgumentError(FastcellError, ValueError):
    """An argument, flag or configuration value that cannot be used."""


class BusyError(ArgumentError):
    """Another run is making what was asked for; it goes on undisturbed."""


class DataError(FastcellError):
    """A file, shard or cell that cannot be used.

    Args:
        message: what is wrong and the way out.
        shard: file name of the shard, if known; put in front of the message.
        key: key of the cell, if known; put in front of the message.
    """

    def __init__(self, message: str, shard: str | None = None, key: str | None = None) -> None:
        place = ", ".join(f"{name} {value!r}" for name, value in (("shard", shard), ("cell", key)) if value is not None)
        super().__init__(f"{place}: {message}" if place else message)
        self.shard = shard
        self.key = key


class StrictError(FastcellError):
    """Bad cells were found and ``--strict`` asked to stop at the first sign of them."""

    exit_code = 3


class StoppedError(FastcellError):
    """A run was asked to stop by a signal, did so in good order, and can go on.

    Args:
        message: how it goes on.
        number: of the signal; the process ends with 128 more, as shells say it.
    """

    def __init__(self, message: str, number: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + number


class BadCell(Exception):  # noqa: N818, a cell is bad, the program is not
    """Stored bytes that give no usable cell.

    It is caught where cells are read: while a data set is written the cell goes to the quarantine, later it counts as
    corrupt.

    Args:
        reason: for the quarantine table, see `fastcell.packing.quarantine.QUARANTINE_REASONS`.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def invalid(name: str, rule: str, got: object, hint: str) -> ArgumentError:
    """Build the error for an argument that breaks its rule.

    Args:
        name: the argument as the user wrote it, e.g. ``--split``.
        rule: what it must be, e.g. ``three positive numbers``.
        got: the value found.
        hint: one sentence that says what to do, without the final dot.
    """
    return ArgumentError(f"{name} must be {rule}, got {got!r}. {hint}.")


def did_you_mean(got: str, known: Iterable[str]) -> str:
    """Return ``"Did you mean X?"`` with the known name nearest to `got`; an empty text if none is near."""
    names = {_folded(name): name for name in known}
    near = difflib.get_close_matches(_folded(got), names, n=1, cutoff=0.6)
    return f"Did you mean {names[near[0]]}?" if near else ""


def _folded(name: str) -> str:
    return name.lower().replace("-", "_")
