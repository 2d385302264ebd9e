"""What this process may use (GPU, cores, cache folder), and the settings that libraries get wrong by default.

Importing this module loads nothing heavy.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import logging
import math
import os
import re
import sys
import tempfile
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path

CACHE_DIR_VARIABLE = "FASTCELL_CACHE_DIR"

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


def driver_cuda_version() -> tuple[int, int] | None:
    """Return the newest CUDA version that the NVIDIA driver serves as (major, minor), or None with no driver."""
    try:
        version = ctypes.c_int(0)
        status = ctypes.CDLL("libcuda.so.1").cuDriverGetVersion(ctypes.byref(version))
    except (AttributeError, OSError):
        return None
    return (version.value // 1000, version.value % 1000 // 10) if status == 0 else None


@functools.cache
def has_gpu() -> bool:
    """Say whether torch can use an NVIDIA GPU. Loads torch only where there is a driver."""
    if driver_cuda_version() is None:
        return False
    import torch

    return torch.cuda.is_available()


def num_cpus() -> int:
    """Return how many cores this process may use: the least of affinity mask and cgroup quota, at least 1."""
    try:
        allowed = len(os.sched_getaffinity(0))
    except AttributeError:  # not on every POSIX system
        allowed = os.cpu_count() or 1
    quota = _cgroup_cpus(Path("/sys/fs/cgroup"))
    return max(1, min(allowed, math.ceil(quota)) if quota is not None else allowed)


def _cgroup_cpus(root: Path) -> float | None:
    """Return the CPU quota in cores that the cgroup file system at ``root`` states, None for no limit.

    Version 2 has ``cpu.max`` ("QUOTA PERIOD", both in microseconds, or "max PERIOD"); version 1 has two files.
    """
    try:
        quota, period = (root / "cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            quota = (root / "cpu" / "cpu.cfs_quota_us").read_text().strip()
            period = (root / "cpu" / "cpu.cfs_period_us").read_text().strip()
        except OSError:
            return None
    try:
        cpus = int(quota) / int(period)
    except (ValueError, ZeroDivisionError):  # "max"
        return None
    return cpus if cpus > 0 else None  # version 1 says -1 for no limit


def available_memory() -> int:
    """Return the bytes of memory that this process may still take: of the machine, or of its cgroup if that is less."""
    pages = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        pages = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, ValueError, IndexError, StopIteration):
        pass
    left = _cgroup_memory_left(Path("/sys/fs/cgroup"))
    return max(0, pages if left is None else min(pages, left))


def _cgroup_memory_left(root: Path) -> int | None:
    """Return the bytes that the cgroup file system at ``root`` still allows, None for no limit.

    The page cache counts as used there, though it is given back on demand: what is inactive of it is added again.
    """
    for limit_name, used_name, cache_name, folder in (
        ("memory.max", "memory.current", "inactive_file", root),
        ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file", root / "memory"),
    ):
        try:
            limit, used = int((folder / limit_name).read_text()), int((folder / used_name).read_text())
            table = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
            return limit - used + int(table.get(cache_name, 0))
        except (OSError, ValueError):  # "max" for no limit
            continue
    return None


def cache_dir() -> Path:
    """Return the folder for what fastcell makes once and can make again; it need not exist yet.

    ``$FASTCELL_CACHE_DIR``, else ``fastcell`` in ``$XDG_CACHE_HOME``, else ``~/.cache/fastcell`` (XDG Base Directory
    Specification 0.8, which says that a relative ``$XDG_CACHE_HOME`` is to be ignored).
    """
    own = os.environ.get(CACHE_DIR_VARIABLE)
    if own:
        return Path(own).expanduser().absolute()
    base = Path(os.environ.get("XDG_CACHE_HOME") or "")
    return (base if base.is_absolute() else Path("~/.cache").expanduser()) / "fastcell"
