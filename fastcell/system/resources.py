"""What this process may use (GPU, cores, cache folder), and the settings that libraries get wrong by default.

Importing this module loads nothing heavy.
"""

from __future__ import annotations

import ctypes
import functools
import math
import os
from pathlib import Path

CACHE_DIR_VARIABLE = "FASTCELL_CACHE_DIR"


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
