"""The ``fastcell`` command: finds and loads the module of the command alone, and turns errors into messages.

This module imports nothing heavy, so that ``fastcell --help`` responds immediately.
"""

from __future__ import annotations

import difflib
import errno
import importlib
import os
import resource
import signal
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from types import TracebackType

from fastcell import __version__
from fastcell.errors import FastcellError
from fastcell.system import library_settings
from fastcell.system.signals import handle_signals

COMMANDS = {
    "synth": "make a synthetic data set of ATOM-like cells",
    "pack": "pack images of cells, in any supported format, as a data set",
    "index": "write the manifest of WebDataset tars of other programs",
    "split": "make new splits: groups stay whole, copies of a cell stay in one subset",
    "verify": "check every cell of a data set against its hash",
    "qc": "find poor images and their faults: scores, contact sheets, verdicts",
    "review": "see, sort, correct and label cells on a page in the browser",
    "explain": "draw occlusion maps, embeddings, calibration and errors of a network",
    "report": "write one HTML page: data, scores, figures, cells and errors, speed",
    "info": "show the contents of a data set as tables and figures",
    "audit": "find class information outside the cell",
    "fit": "train and evaluate a classifier",
    "distill": "train a small, fast network that learns from a trained one",
    "validate": "evaluate a run on the validation subset",
    "test": "evaluate a run on the test subset",
    "predict": "classify cells: one row per cell, in order",
    "bench": "measure the throughput of this machine, and its bottleneck",
    "convert": "write predictions as files of other programs",
    "serve": "classify cells as they come, over a socket or HTTP",
    "watch": "classify the cells of a folder or file that is being written",
    "count": "count the cells of each class, corrected for confusions",
    "export": "write a classifier as an ONNX file, or as a folder with a model card",
    "compare": "compare networks, SVM and kNN on the same cells",
    "doctor": "show the environment, and how to get missing parts",
    "completion": "print a script that completes commands and options in a shell",
}
"""Name and help of each command; ``fastcell.cli.NAME`` holds its ``main(argv: list[str]) -> int``."""

_BEGAN = time.time()
HANDLE_SIGNALS = {"fit", "distill", "validate", "test", "predict"}
"""Commands in which Lightning handles SIGTERM."""

_WRITE_ADDRESSES = {"index", "pack", "synth", "predict"}
_READ_ADDRESSES = {*HANDLE_SIGNALS, *_WRITE_ADDRESSES, "info", "verify", "audit", "explain", "report", "qc", "bench"}
_READ_ADDRESSES |= {"review", "split", "compare"}
"""Commands that take a data set at an address such as ``s3://bucket/cells``."""
_READ_DATA_OPTION = {"export", "convert"}
"""Commands that take it in ``--data``."""

_STEPS = {
    "data": ("synth", "pack", "index", "info", "verify", "qc", "audit", "review", "split"),
    "training": ("fit", "distill", "validate", "test", "compare"),
    "results": ("predict", "serve", "watch", "count", "convert", "explain", "report", "export"),
    "program": ("bench", "doctor", "completion"),
}
"""Commands in the order of a user's work, for the help."""

_OTHER_NAMES = {
    "train": "fit",
    "evaluate": "test",
    "score": "test",
    "classify": "predict",
    "benchmark": "bench",
    "inspect": "info",
    "check": "verify",
    "simulate": "synth",
    "label": "review",
    "annotate": "review",
    "browse": "review",
}
"""Names of commands in other programs."""


class _Terminated(KeyboardInterrupt):
    """Raised by SIGTERM, as from a scheduler or a container: ends like an interrupt, with unfinished files removed."""


_WITH_TORCH = {"fit", "distill", "validate", "test", "predict", "explain", "report", "export", "compare", "bench"}
_LEAST_ADDRESS_SPACE = 1_000_000 << 10
"""Address space that is too small for torch and Lightning, which would end in a segmentation fault instead of an error.
"""
_COMPILER = "fastcell.ops.cpu.compiled_loops"
"""Logger that tells when loops are compiled; the module itself is loaded with the first loop."""
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT}
_PLACES = {errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP, errno.EIO}
_NO_PERMISSION = {errno.EACCES, errno.EPERM, errno.EROFS}


def usage() -> str:
    """Return the text of ``fastcell --help``."""
    width = max(map(len, COMMANDS))
    lines = []
    for step, names in _STEPS.items():
        lines += [f"{step}:", *(f"  {name:<{width}}  {COMMANDS[name]}" for name in names), ""]
    return "\n".join(
        [
            "usage: fastcell COMMAND [ARGUMENTS]",
            "",
            "Packs, checks, trains on and classifies single-cell images.",
            "",
            *lines,
            "first steps with simulated cells:",
            "  fastcell synth cells",
            "  fastcell fit cells",
            "",
            "fastcell COMMAND --help   arguments of a command",
            "fastcell --version        the version",
        ]
    )


def main(argv: list[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: the arguments after the program's name; ``sys.argv[1:]`` if None.

    Returns:
        The exit status: 0 for success, 1 if ``verify`` has found damage, 2 for an error that the user can correct, 3
        for a ``--strict`` failure, 130 after an interrupt, 143 after SIGTERM, 141 if the reader of the output has
        closed it.
    """
    if argv is None:
        sys.excepthook = _print_traceback
    args = sys.argv[1:] if argv is None else argv
    fail = partial(_fail, of_ranks=args[:1] != [] and args[0] in HANDLE_SIGNALS)
    try:
        return _run(args)
    except FastcellError as error:
        return fail(str(error), error.exit_code)
    except _Terminated:
        return fail("terminated.", 143)
    except KeyboardInterrupt:
        return fail("interrupted.", 130)
    except ModuleNotFoundError as error:
        message = _missing_package(error)
        if message is None:
            raise
        return fail(message, 2)
    except BrokenPipeError:
        # Buffered output has no reader either. Without this, the interpreter prints an error at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except MemoryError:
        return fail(_explain_memory(), 2)
    except ImportError as error:
        if "failed to map segment" not in str(error):
            raise
        return fail(_explain_memory(), 2)
    except RuntimeError as error:
        if "can't start new thread" not in str(error):
            raise
        return fail(_explain_memory(), 2)
    except UnicodeEncodeError as error:
        if not any(
            "\udc80" <= letter <= "\udcff" for letter in str(error.object)
        ):  # bytes of a file name that are not UTF-8
            raise
        return fail(f"paths must be UTF-8 text, got {error.object!r}. Rename the file or the folder.", 2)
    except OSError as error:
        message = _explain(error)
        if message is None:
            raise
        return fail(message, 2)


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
    if name not in COMMANDS:
        near = difflib.get_close_matches(name.lower(), [*COMMANDS, *_OTHER_NAMES, "--help", "--version"], n=1)
        meant = _OTHER_NAMES.get(near[0], near[0]) if near else None
        hint = f"Did you mean 'fastcell {meant}'?" if meant else "'fastcell --help' lists them."
        return _fail(f"COMMAND must be one of fastcell's commands, got {name!r}. {hint}", 2)
    from fastcell.storage.places import local_words

    rest = local_words(rest, name in _READ_ADDRESSES, name in _WRITE_ADDRESSES, name in _READ_DATA_OPTION)
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if name in _WITH_TORCH and limit != resource.RLIM_INFINITY and limit < _LEAST_ADDRESS_SPACE:
        return _fail(_explain_memory(), 2)
    library_settings.limit_spinning()
    command: Callable[[list[str]], int] = importlib.import_module(f"fastcell.cli.{name}").main
    from fastcell.system.messages import log_printed, safe_output

    ends = nullcontext() if name in HANDLE_SIGNALS else handle_signals(_terminate, signal.SIGTERM)
    with safe_output(), log_printed(_COMPILER), ends:
        status = command(rest)
    sys.stdout.flush()
    return status


def _terminate() -> None:
    """Raise an exception at SIGTERM, so that unfinished files are removed and workers end."""
    raise _Terminated


def _explain_memory() -> str:
    """Return a hint for the user after memory ran out, with the limit of the shell if there is one."""
    hint = "fewer --jobs, smaller shards or batches"
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit == resource.RLIM_INFINITY:
        return f"memory ran out. Take {hint}."
    return f"memory ran out: ulimit -v allows {limit >> 10:,} KiB. Allow more (ulimit -v), or take {hint}."


def _explain(error: OSError) -> str | None:
    """Return a hint for the user about a common error of the file system; None for other errors."""
    where = f" {os.fspath(error.filename)!r}" if error.filename is not None else ""
    if error.errno in _NO_ROOM:
        return f"no space left on the disk{' for' if where else ''}{where}. Free some, or write to another place."
    if error.errno == errno.EFBIG:
        return f"ulimit -f allows no larger files{' for' if where else ''}{where}. Allow more: ulimit -f unlimited."
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return f"too many open files{where}. Allow more: ulimit -n 4096."
    if error.errno in _PLACES and where:
        return f"{(error.strerror or 'an error').lower()}:{where}. Check the path."
    if error.errno in _NO_PERMISSION:
        return f"no permission for{where or ' a file'} ({error.strerror}). Choose another place, or change its rights."
    return None


def _missing_package(error: ModuleNotFoundError) -> str | None:
    """Return the way to install a missing package; None if a module of fastcell itself is missing."""
    module = error.name or ""
    from fastcell.system.optional_packages import install_hint_of

    hint = install_hint_of(module)
    return None if hint is None else f"the package {module} is not installed. {hint}"


def _print_traceback(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    from fastcell.system.messages import print_traceback

    print_traceback(kind, error, trace)


def _fail(message: str, status: int, of_ranks: bool = False) -> int:
    """Print an error. With `of_ranks` the command may run in several processes (ranks), of which one prints it."""
    from fastcell.system import rank_errors
    from fastcell.system.messages import print_error

    if of_ranks and rank_errors.is_further_rank() and rank_errors.rank_zero_reports(_BEGAN):
        return status
    print_error(message)
    if of_ranks:
        rank_errors.note_report()
    return status
