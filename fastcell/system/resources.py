"""Resources that this process may use (GPU, cores, memory) and its cache folder.

Importing this module loads no heavy library.
"""

from __future__ import annotations

import ctypes
import functools
import math
import os
from pathlib import Path

CACHE_DIR_VARIABLE = "FASTCELL_CACHE_DIR"


def driver_cuda_version() -> tuple[int, int] | None:
    """Return the newest CUDA version that the NVIDIA driver supports as (major, minor), or None without a driver."""
    try:
        version = ctypes.c_int(0)
        status = ctypes.CDLL("libcuda.so.1").cuDriverGetVersion(ctypes.byref(version))
    except (AttributeError, OSError):
        return None
    return (version.value // 1000, version.value % 1000 // 10) if status == 0 else None


@functools.cache
def has_gpu() -> bool:
    """Return whether torch can use an NVIDIA GPU. Imports torch only if there is a driver."""
    if driver_cuda_version() is None:
        return False
    import torch

    return torch.cuda.is_available()


def num_cpus() -> int:
    """Return the number of cores that this process may use: the lower of affinity mask and cgroup quota, at least 1."""
    try:
        allowed = len(os.sched_getaffinity(0))
    except AttributeError:  # not available on every POSIX system
        allowed = os.cpu_count() or 1
    quota = _cgroup_cpus(Path("/sys/fs/cgroup"))
    return max(1, min(allowed, math.ceil(quota)) if quota is not None else allowed)


def _cgroup_cpus(root: Path) -> float | None:
    """Return the CPU quota in cores from the cgroup file system at ``root``; None for no limit.

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
    return cpus if cpus > 0 else None  # version 1 uses -1 for no limit


def available_memory() -> int:
    """Return the memory in bytes that this process may still allocate: the lower of the machine's and its cgroup's."""
    pages = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        pages = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, ValueError, IndexError, StopIteration):
        pass
    left = _cgroup_memory_left(Path("/sys/fs/cgroup"))
    return max(0, pages if left is None else min(pages, left))


def _cgroup_memory_left(root: Path) -> int | None:
    """Return the memory in bytes that the cgroup file system at ``root`` still allows; None for no limit.

    The cgroup counts the page cache as used, although it is freed on demand. Its inactive part is therefore added.
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
    """Return the folder for files that fastcell can always create again; it may not exist yet.

    The folder is ``$FASTCELL_CACHE_DIR``, otherwise ``fastcell`` in ``$XDG_CACHE_HOME``, otherwise
    ``~/.cache/fastcell`` (XDG Base Directory Specification 0.8, which requires a relative ``$XDG_CACHE_HOME`` to be
    ignored).
    """
    own = os.environ.get(CACHE_DIR_VARIABLE)
    if own:
        return Path(own).expanduser().absolute()
    base = Path(os.environ.get("XDG_CACHE_HOME") or "")
    return (base if base.is_absolute() else Path("~/.cache").expanduser()) / "fastcell"
