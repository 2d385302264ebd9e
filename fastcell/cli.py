"""The ``fastcell`` command: finds the command's module, loads that one alone and turns errors into messages.

Nothing heavy is imported here: ``fastcell --help`` answers before torch could be found on the disk.
"""

from __future__ import annotations

import difflib
import errno
import importlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NamedTuple, cast

from fastcell import __version__
from fastcell.errors import FastcellError
from fastcell.system import library_settings


class Command(NamedTuple):
    """One command: its line in the help, and ``module:function`` with ``function(argv: list[str]) -> int``."""

    help: str
    target: str
    takes_name: bool = False
    """The function gets the command's own name as ``argv[0]``: one function that serves several commands."""


COMMANDS: dict[str, Command] = {
    "synth": Command("make a synthetic data set of ATOM-like cells", "fastcell.simulator.synth:main"),
    "pack": Command("turn images of cells, in any of its formats, into a data set", "fastcell.packing.pack:main"),
    "index": Command("make the manifest of WebDataset tars that others wrote", "fastcell.packing.index:main"),
    "split": Command("make new splits: groups whole, copies of a cell on one side", "fastcell.splits.resplit:main"),
    "verify": Command("check every cell of a data set against its hash", "fastcell.packing.verify:main"),
    "qc": Command("find poor images, and why: scores, contact sheets, verdicts", "fastcell.quality.review_sheets:main"),
    "explain": Command("draw what a network looks at, and where it is wrong", "fastcell.explain.explanation:main"),
    "report": Command("write one HTML page: data, scores, figures, errors, speed", "fastcell.report.page:main"),
    "info": Command("show what a data set holds, as tables and figures", "fastcell.report.data_summary:main"),
    "audit": Command("find what tells classes and is not the cell", "fastcell.audit.write_report:main"),
    "fit": Command("train and evaluate a classifier", "fastcell.training.fit:main", takes_name=True),
    "validate": Command("evaluate a checkpoint on the validation part", "fastcell.training.fit:main", takes_name=True),
    "test": Command("evaluate a checkpoint on the test part", "fastcell.training.fit:main", takes_name=True),
    "predict": Command("classify cells: one row per cell, in order", "fastcell.training.fit:main", takes_name=True),
    "bench": Command("measure what this machine does with the cells, and what binds", "fastcell.bench.measure:main"),
    "convert": Command("write predictions as files of other programs", "fastcell.predictions.convert:main"),
    "count": Command("count the cells of each class, corrected for confusions", "fastcell.predictions.counts:main"),
    "export": Command("write a classifier as ONNX, checked against torch", "fastcell.inference.onnx.export:main"),
    "compare": Command("compare networks, SVM and kNN on the same cells", "fastcell.compare.study_report:main"),
    "doctor": Command(
        "show the environment, and the way out where a part is not usable", "fastcell.system.environment_report:main"
    ),
}


class _Terminated(KeyboardInterrupt):
    """SIGTERM, as a scheduler or a container sends it: ends like an interrupt, with unfinished files removed."""


_NO_ROOM = {errno.ENOSPC, errno.EDQUOT}
_NO_PERMISSION = {errno.EACCES, errno.EPERM, errno.EROFS}


def usage() -> str:
    """Return the text of ``fastcell --help``."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {command.help}" for name, command in COMMANDS.items()]
    return "\n".join(
        [
            "usage: fastcell COMMAND [ARGUMENTS]",
            "",
            "Packs, checks, trains on and classifies single-cell images.",
            "",
            "commands:",
            *lines,
            "",
            "fastcell COMMAND --help   the command's own arguments",
            "fastcell --version        the version",
        ]
    )


def main(argv: list[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: the arguments after the program's name; ``sys.argv[1:]`` if None.

    Returns:
        The exit status: 0 when all went well, 1 where ``verify`` has found damage, 2 for an error the user can mend,
        3 for a ``--strict`` failure,
        130 after an interrupt, 143 when terminated, 141 when the reader of the output went away.
    """
    args = sys.argv[1:] if argv is None else argv
    try:
        return _run(args)
    except FastcellError as error:
        return _fail(str(error), error.exit_code)
    except _Terminated:
        return _fail("terminated.", 143)
    except KeyboardInterrupt:
        return _fail("interrupted.", 130)
    except BrokenPipeError:
        # What is still buffered has no reader either: without this the interpreter complains at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:
        message = _explain(error)
        if message is None:
            raise
        return _fail(message, 2)


def _run(args: list[str]) -> int:
    if not args:
        print(usage(), file=sys.stderr)
        return 2
    if args[0] in ("-h", "--help", "help"):
        print(usage(), flush=True)
        return 0
    if args[0] in ("-V", "--version", "version"):
        print(f"fastcell {__version__}", flush=True)
        return 0
    name, rest = args[0], args[1:]
    command = COMMANDS.get(name)
    if command is None:
        near = difflib.get_close_matches(name, COMMANDS, n=1)
        hint = f"Did you mean 'fastcell {near[0]}'?" if near else "'fastcell --help' lists them."
        return _fail(f"COMMAND must be one of {', '.join(COMMANDS)}, got {name!r}. {hint}", 2)
    library_settings.limit_spinning()
    module_name, function_name = command.target.split(":")
    function = cast(Callable[[list[str]], int], getattr(importlib.import_module(module_name), function_name))
    if command.takes_name:  # Lightning sees to signals itself
        status = function([name, *rest])
    else:
        with _termination_raised():
            status = function(rest)
    sys.stdout.flush()
    return status


@contextmanager
def _termination_raised() -> Iterator[None]:
    """SIGTERM raises in here, so that what a failure removes is removed and workers end."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def terminate(number: int, frame: FrameType | None) -> None:
        raise _Terminated

    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _explain(error: OSError) -> str | None:
    """Return what a user can do about ``error``, or None if it is not one of the file system's usual refusals."""
    where = f" {os.fspath(error.filename)!r}" if error.filename is not None else ""
    if error.errno in _NO_ROOM:
        return f"no space left on the disk{' for' if where else ''}{where}. Free some, or write to another place."
    if error.errno in _NO_PERMISSION:
        return f"no permission for{where or ' a file'} ({error.strerror}). Choose another place, or change its rights."
    return None


def _fail(message: str, status: int) -> int:
    print(f"fastcell: error: {message}", file=sys.stderr)
    return status
