"""Settings of third-party libraries: warnings, waiting threads, memory allocation."""

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

# Option numbers from glibc's <malloc.h>.
_M_TRIM_THRESHOLD = -1


_M_TOP_PAD = -2


_M_MMAP_MAX = -4


_M_ARENA_MAX = -8


_TOP_PAD_BYTES = 64 << 20


_FEW_CPUS = 8


# Deprecation warnings raised inside these libraries concern their authors. Users of fastcell cannot act on them.
_LIBRARIES = (
    r"(cupy|jsonargparse|lightning_fabric|lightning_utilities|numba|nvidia|pytorch_lightning|torch|torchmetrics)"
)


# Remarks of Lightning, torch and DALI on correct runs.
_REMARKS = (
    r"You're resuming from a checkpoint that ended before the epoch ended",  # the loaders resume at the exact batch
    r".*does not have many workers which may be a bottleneck",  # DALI has its own threads
    r".*Your `?IterableDataset`? has `?__len__`? defined",
    r".*Checkpoint directory .* exists and is not empty",
    r".*The number of training batches \(\d+\) is smaller than the logging interval",
    r".*LightningCLI's args parameter is intended to run from within Python",
    r".*It is recommended to use `self\.log\(.*sync_dist=True\)`",  # the metrics synchronise themselves
    r".*Trying to infer the `?batch_size`? from an ambiguous collection",
    r".*Total length of `?\w+`? across ranks is zero",  # data without validation subset
    r".*The dirpath has changed from .* therefore `best_model_score`",  # a resumed run has its own folder
    r".*You defined a `?validation_step`? but have no `?val_dataloader`?",
    r".*was not set\. .*Lightning's default checkpoint",
    r".*[Cc]heckpointing enabled in a pipeline with external source",
    r".*`?isinstance\(treespec, LeafSpec\)`? is deprecated",
    r".*The pynvml package is deprecated",
    r".*'pin_memory' argument is set as true but no accelerator is found",
    r".*`?torch\.jit\.\w+`? is (deprecated|not supported)",
)


# Lines that DALI's image decoder (nvImageCodec) and its CUDA loader write to stderr, from C, while a pipeline is built
# on a machine without GPU, driver or the optional codec libraries. Building decodes no image, so none of these lines
# can be about an image. No log level of these libraries silences only these lines.
_DALI_NOISE = re.compile(
    rb"dlopen libcuda\.so failed\. Please install GPU driver\.\n?"
    rb"|Failed to load nv(?:jpeg|jpeg2k|tiff) library![^\n]*\n?"
    rb"|Note: If using nvImageCodec's Python distribution[^\n]*\n?"
    rb"|(?:\x1b\[[0-9;]*m)*\[(?:ERROR|WARNING)\][ ]*(?:\x1b\[[0-9;]*m)*\[nv(?:jpeg|jpeg2k|tiff)[\w .-]*\][^\n]*\n?"
)


_stderr_lock = threading.RLock()


def quiet() -> None:
    """Silence remarks of libraries on correct runs: tips, device lists, deprecations inside the libraries.

    Errors, and warnings about the user's data or arguments, are kept. If ``python -W ...`` or ``PYTHONWARNINGS`` is
    given, it takes effect instead. DALI writes from C: see :func:`quiet_dali`.
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
        warnings.filterwarnings("ignore", message=f"(?s:{message})")  # a path in the message may hold a line break


@contextlib.contextmanager
def quiet_dali() -> Iterator[None]:
    """Keep DALI's ``nvjpeg`` lines off stderr while a pipeline is built inside this context on a machine without GPU.

    All other output to file descriptor 2 is written at the end, in its order, even after an exception. The overhead is
    about 0.1 ms. Use it only for building: messages of a running pipeline are meaningful.
    """
    with _stderr_lock, contextlib.ExitStack() as stack:
        try:
            real = os.dup(2)
        except OSError:  # stderr is closed: nothing to filter
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
    """Let waiting OpenMP threads sleep soon. Call it before torch is imported, because OpenMP reads the setting once.

    By default GNU OpenMP spins for milliseconds at every barrier. If another thread (a loader, another program)
    occupies the core that a barrier waits for, both slow down: training `cellnet` on 64 x 64 pixels on two busy cores
    ran at 190 cells/s with the default and at 3,400 cells/s with this setting. GOMP_SPINCOUNT or OMP_WAIT_POLICY set by
    the user is kept.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")


def prepare_torch() -> None:
    """Set up libraries for a command that computes with torch: `quiet`, `raise_malloc_thresholds`, one thread per core.

    OMP_NUM_THREADS set by the user is kept.
    """
    quiet()
    raise_malloc_thresholds()
    if "OMP_NUM_THREADS" not in os.environ:
        import torch

        torch.set_num_threads(num_cpus())


@functools.cache
def raise_malloc_thresholds() -> bool:
    """Make glibc keep freed memory instead of returning each large tensor to the kernel.

    Call it before the first large allocation. By default each tensor above 32 MiB is mapped, page-faulted and unmapped
    at every step. This costs a CPU a third of its training rate and half of its inference rate (two cores, batch 256).
    With the new thresholds the resident size of the process stays at its peak.

    With up to 8 cores all threads also share one arena, unless MALLOC_ARENA_MAX is set. With one arena per thread, each
    grown by 64 MiB at a time, the batches of loader threads cause page faults for several epochs and take more memory.
    With more cores the single lock could become a bottleneck; this was not measured, and the default is kept.

    Returns:
        True if set; False if the C library is not glibc (nothing is changed) or rejects a setting.
    """
    try:
        library = ctypes.CDLL(None)
        library.gnu_get_libc_version  # noqa: B018 (musl may define mallopt, but never this function)
        mallopt = library.mallopt
    except (AttributeError, OSError, TypeError):
        return False
    mallopt.argtypes = [ctypes.c_int, ctypes.c_int]
    mallopt.restype = ctypes.c_int
    keep = ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, -1), (_M_TOP_PAD, _TOP_PAD_BYTES))  # -1: never trim
    one_arena = num_cpus() <= _FEW_CPUS and "MALLOC_ARENA_MAX" not in os.environ
    settings = (*keep, (_M_ARENA_MAX, 1)) if one_arena else keep
    accepted = [mallopt(option, value) == 1 for option, value in settings]  # a list: set all, even if one fails
    return all(accepted)
