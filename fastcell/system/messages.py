"""Messages to the user: lines of progress and results, and readable errors of the file system."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor
from contextlib import contextmanager

from fastcell.errors import DataError
from fastcell.system.progress_line import bars_hidden

Say = Callable[[str], None]
"""Function that takes one line for the user."""


def say_nothing(line: str) -> None:
    """Ignore a line."""


def printer(verbose: bool) -> Say:
    """Return a function that prints a line to stderr immediately, or `say_nothing` if not `verbose`."""
    return _print_to_stderr if verbose else say_nothing


def print_line(line: str) -> None:
    """Print a line to stdout and flush it, so that a pipe receives it immediately."""
    with bars_hidden():
        print(line, flush=True)


class LineHandler(logging.Handler):
    """Logging handler that prints each record to stdout as a line without level or time."""

    def emit(self, record: logging.LogRecord) -> None:
        print_line(record.getMessage())


def _print_to_stderr(line: str) -> None:
    with bars_hidden():
        print(line, file=sys.stderr, flush=True)


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
