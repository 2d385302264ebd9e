"""Messages to the user: lines on stderr, and file system errors with a hint."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor
from contextlib import contextmanager

from fastcell.errors import DataError


@contextmanager
def explained(what: str) -> Iterator[None]:
    """Context that turns what the file system refuses into a `DataError`: `what`, the reason, and the way out; and the
    loss of a worker process likewise."""
    try:
        yield
    except BrokenPipeError:  # nobody reads what we print
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


def printer(verbose: bool) -> Callable[[str], None]:
    """A function that prints a line to stderr; one that does not, where not `verbose`."""
    return (lambda line: print(line, file=sys.stderr, flush=True)) if verbose else (lambda line: None)
