"""Settings of libraries: warnings, idle threads, malloc thresholds."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import logging
import os
import re
import sys
import tempfile
import threading
import warnings
from collections.abc import Iterator

from fastcell.system.resources import num_cpus

# Numbers of glibc's <malloc.h>.
_M_TRIM_THRESHOLD = -1


_M_TOP_PAD = -2


_M_MMAP_MAX = -4


_M_ARENA_MAX = -8


_TOP_PAD_BYTES = 64 << 20


_FEW_CPUS = 8


# Deprecations inside these libraries concern their authors; their users can do nothing about them.
_LIBRARIES = (
    r"(cupy|jsonargparse|lightning_fabric|lightning_utilities|numba|nvidia|pytorch_lightning|torch|torchmetrics)"
)


# What Lightning, torch and DALI remark on runs that are as they should be.
_REMARKS = (
    r"You're resuming from a checkpoint that ended before the epoch ended",  # the loaders begin at the very batch
    r".*does not have many workers which may be a bottleneck",  # DALI has its own threads
    r".*Your `?IterableDataset`? has `?__len__`? defined",
    r".*Checkpoint directory .* exists and is not empty",
    r".*The number of training batches \(\d+\) is smaller than the logging interval",
    r".*LightningCLI's args parameter is intended to run from within Python",
    r".*It is recommended to use `self\.log\(.*sync_dist=True\)`",  # the metrics reduce themselves
    r".*Trying to infer the `?batch_size`? from an ambiguous collection",
    r".*Total length of `?\w+`? across ranks is zero",  # data with no validation part
    r".*The dirpath has changed from .* therefore `best_model_score`",  # a resumed run gets a folder of its own
    r".*You defined a `?validation_step`? but have no `?val_dataloader`?",
    r".*was not set\. .*Lightning's default checkpoint",
    r".*[Cc]heckpointing enabled in a pipeline with external source",
    r".*`?isinstance\(treespec, LeafSpec\)`? is deprecated",
    r".*The pynvml package is deprecated",
    r".*'pin_memory' argument is set as true but no accelerator is found",
    r".*`?torch\.jit\.\w+`? is (deprecated|not supported)",
)


# What DALI's image decoder (nvImageCodec) and its CUDA loader write to stderr, from C, while a pipeline is built on a
# machine with no GPU, no driver or none of the optional codec libraries. A build decodes nothing, so no line about an
# image can be among them. No log level of theirs silences these lines without silencing everything else.
_DALI_NOISE = re.compile(
    rb"dlopen libcuda\.so failed\. Please install GPU driver\.\n?"
    rb"|Failed to load nv(?:jpeg|jpeg2k|tiff) library![^\n]*\n?"
    rb"|Note: If using nvImageCodec's Python distribution[^\n]*\n?"
    rb"|(?:\x1b\[[0-9;]*m)*\[(?:ERROR|WARNING)\][ ]*(?:\x1b\[[0-9;]*m)*\[nv(?:jpeg|jpeg2k|tiff)[\w .-]*\][^\n]*\n?"
)


_stderr_lock = threading.RLock()


def quiet() -> None:
    """Silence what libraries remark on a run that is as it should be: tips, device lists, their own deprecations.

    Errors, and warnings that say anything about the user's data or arguments, stay. ``python -W ...`` and
    ``PYTHONWARNINGS`` are obeyed instead where given. DALI writes from C: see :func:`quiet_dali`.
    """
    for name in ("pytorch_lightning", "lightning", "lightning_fabric", "lightning.pytorch", "lightning.fabric"):
        logging.getLogger(f"{name}.utilities.rank_zero").setLevel(logging.WARNING)
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("numba").setLevel(logging.WARNING)
    logging.getLogger("matplotlib").setLevel(logging.WARNING)
    if sys.warnoptions:
        return
    for category in (DeprecationWarning, PendingDeprecationWarning, FutureWarning):
        warnings.filterwarnings("ignore", category=category, module=rf"{_LIBRARIES}(\.|$)")
    for message in _REMARKS:
        warnings.filterwarnings("ignore", message=message)


@contextlib.contextmanager
def quiet_dali() -> Iterator[None]:
    """Keep DALI's ``nvjpeg`` lines of a GPU-less machine off stderr while a pipeline is built inside.

    Everything else written to file descriptor 2 in the meantime comes out at the end, in its order, an exception
    or not. Costs about 0.1 ms. Meant for builds alone: a running pipeline's messages are real.
    """
    with _stderr_lock, contextlib.ExitStack() as stack:
        try:
            real = os.dup(2)
        except OSError:  # stderr is closed: nothing to keep clean
            yield
            return
        stack.callback(os.close, real)
        caught = stack.enter_context(tempfile.TemporaryFile())
        _flush_stderr()
        os.dup2(caught.fileno(), 2)
        try:
            yield
        finally:
            _flush_stderr()
            os.dup2(real, 2)
            caught.seek(0)
            rest = _DALI_NOISE.sub(b"", caught.read())
            while rest:
                rest = rest[os.write(2, rest) :]


def _flush_stderr() -> None:
    with contextlib.suppress(AttributeError, OSError, ValueError):
        sys.stderr.flush()


def limit_spinning() -> None:
    """Let OpenMP's threads sleep soon where they wait for each other; only before torch is loaded, which reads it once.

    By default GNU OpenMP spins for milliseconds at every barrier. Where another thread (a loader, another program) has
    the core that a barrier waits for, both lose: training `cellnet` on 64 x 64 pixels on two busy cores ran at 190
    cells/s with the default and at 3,400 with this. A user's own GOMP_SPINCOUNT or OMP_WAIT_POLICY is kept.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")


def prepare_torch() -> None:
    """Settle libraries for a command that computes with torch: `quiet`, `raise_malloc_thresholds`, a thread per core.

    A user's own OMP_NUM_THREADS is kept.
    """
    quiet()
    raise_malloc_thresholds()
    if "OMP_NUM_THREADS" not in os.environ:
        import torch

        torch.set_num_threads(num_cpus())


@functools.cache
def raise_malloc_thresholds() -> bool:
    """Make glibc keep freed memory instead of handing each large tensor back to the kernel.

    By default each tensor above 32 MiB is mapped, page-faulted and unmapped at every step, which costs a CPU a third of
    its training rate and half of its inference rate (two cores, batch 256). The process's resident size then stays at
    its peak. On few cores all threads share one arena, unless MALLOC_ARENA_MAX is set: in an arena for each, 64 MiB at
    a time, the batches of a loader's threads are faulted in anew for epochs and take more memory. With many threads,
    where one lock might bind, that is not measured and left as it is. Call it before the first large allocation.

    Returns:
        True if set; False, having done nothing, where the C library is not glibc.
    """
    try:
        library = ctypes.CDLL(None)
        library.gnu_get_libc_version  # noqa: B018 (musl has mallopt's name at times, never this one)
        mallopt = library.mallopt
    except (AttributeError, OSError, TypeError):
        return False
    mallopt.argtypes = [ctypes.c_int, ctypes.c_int]
    mallopt.restype = ctypes.c_int
    keep = ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, -1), (_M_TOP_PAD, _TOP_PAD_BYTES))  # -1: never trim
    one_arena = num_cpus() <= _FEW_CPUS and "MALLOC_ARENA_MAX" not in os.environ
    settings = (*keep, (_M_ARENA_MAX, 1)) if one_arena else keep
    accepted = [mallopt(option, value) == 1 for option, value in settings]  # a list: each one is set, whatever the last
    return all(accepted)
