"""Messages to the user: lines of progress and results, and readable errors of the file system.

All text on its way to a terminal passes through here and is made safe for it (`fastcell.system.text.printable`).
"""

from __future__ import annotations

import logging
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor
from contextlib import contextmanager
from types import TracebackType
from typing import TextIO

from fastcell.errors import DataError, one_message
from fastcell.system.progress_line import bars_hidden
from fastcell.system.text import printable, printable_lines

Say = Callable[[str], None]
"""Function that takes one line for the user."""


def say_nothing(line: str) -> None:
    """Ignore a line."""


def printer(verbose: bool) -> Say:
    """Return a function that prints a line to stderr immediately, or `say_nothing` if not `verbose`."""
    return print_remark if verbose else say_nothing


def print_remark(line: str) -> None:
    """Print a line to stderr and flush it; a line break in it is escaped."""
    _print(printable(line), sys.stderr)


def print_line(text: str) -> None:
    """Print a line, or a text of several lines, to stdout and flush it, so that a pipe receives it immediately.

    Line breaks are kept: names inside the text go through `printable` first.
    """
    _print(printable_lines(text), sys.stdout)


def print_error(message: str) -> None:
    """Print the error that ends a command to stderr."""
    _print(one_message(f"fastcell: error: {message}"), sys.stderr)


def print_traceback(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print an unexpected error like `sys.excepthook`, as a text that is safe for a terminal."""
    _print(printable_lines("".join(traceback.format_exception(kind, error, trace)).rstrip("\n")), sys.stderr)


class LineHandler(logging.Handler):
    """Logging handler that prints each record as a line without level or time; a line break in it is escaped.

    Args:
        say: function that receives a line.
        level: lowest level of the records that are printed.
    """

    def __init__(self, say: Say = print_line, level: int = logging.NOTSET) -> None:
        super().__init__(level)
        self._say = say

    def emit(self, record: logging.LogRecord) -> None:
        self._say(printable(record.getMessage()))


@contextmanager
def log_printed(name: str) -> Iterator[None]:
    """Print the records of a logger, from the level INFO on, to stderr inside the context, and nowhere else."""
    log, handler = logging.getLogger(name), LineHandler(print_remark)
    before = log.level, log.propagate
    log.setLevel(logging.INFO)
    log.propagate = False
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(before[0])
        log.propagate = before[1]


@contextmanager
def safe_output() -> Iterator[None]:
    """Make warnings, and log records that no handler takes, safe for a terminal inside the context."""
    format_warning, last_handler = warnings.formatwarning, logging.lastResort
    warnings.formatwarning = lambda *values, **named: printable_lines(format_warning(*values, **named))
    logging.lastResort = LineHandler(print_remark, logging.WARNING)  # type: ignore[assignment]
    try:
        yield
    finally:
        warnings.formatwarning, logging.lastResort = format_warning, last_handler


_OTHER_NAMES: dict[str, str] = {}


@contextmanager
def shown_as(path: str, name: str) -> Iterator[None]:
    """Show another name in place of a path in all messages inside the block, e.g. of a file that is uploaded then."""
    _OTHER_NAMES[path] = name
    try:
        yield
    finally:
        del _OTHER_NAMES[path]


def other_name(path: str) -> str | None:
    """Return the name that `shown_as` shows in place of a path; None for none."""
    return _OTHER_NAMES.get(path)


def _print(text: str, stream: TextIO) -> None:
    for path, name in _OTHER_NAMES.items():
        text = text.replace(path, printable(name))
    with bars_hidden():
        print(text, file=stream, flush=True)


@contextmanager
def explained(what: str) -> Iterator[None]:
    """Turn an error of the file system, or a killed worker process, into an error with a hint.

    Args:
        what: start of the message, e.g. ``OUT cannot be written``; the reason and a hint follow.

    Raises:
        DataError: an OSError (except BrokenPipeError) or a BrokenExecutor was raised inside the context.
    """
    try:
        yield
    except BrokenPipeError:  # the reader of our output has gone
        raise
    except BrokenExecutor as error:
        raise DataError(
            "a worker process was killed, most often because memory ran out. Take fewer --jobs or --shard-cells."
        ) from error
    except OSError as error:
        where = f" ({error.filename})" if error.filename is not None else ""
        raise DataError(
            f"{what}: {error.strerror or error}{where}. Nothing was made. Free some space, change the rights, or name "
            "another place."
        ) from error
