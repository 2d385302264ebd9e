"""Cores, memory, GPU and cache folder that the process may use."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fastcell.system import resources

REPO_DIR = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("files", "cpus"),
    [
        ({"cpu.max": "max 100000\n"}, None),
        ({"cpu.max": "150000 100000\n"}, 1.5),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
        ({"cpu/cpu.cfs_quota_us": "400000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 4.0),
        ({"cpu.max": "rubbish\n"}, None),
        ({}, None),
    ],
)
def test_cgroup_quota(files, cpus, tmp_path):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert resources._cgroup_cpus(tmp_path) == cpus


@pytest.mark.parametrize(("quota", "cpus"), [(None, 6), (0.5, 1), (2.5, 3), (64.0, 6)])
def test_num_cpus_is_the_least_of_mask_and_quota(quota, cpus, monkeypatch):
    monkeypatch.setattr(resources.os, "sched_getaffinity", lambda pid: set(range(6)), raising=False)
    monkeypatch.setattr(resources, "_cgroup_cpus", lambda root: quota)
    assert resources.num_cpus() == cpus


def test_cache_dir(monkeypatch, tmp_path):
    monkeypatch.delenv("FASTCELL_CACHE_DIR", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert resources.cache_dir() == tmp_path / ".cache" / "fastcell"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert resources.cache_dir() == tmp_path / ".cache" / "fastcell"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert resources.cache_dir() == tmp_path / "xdg" / "fastcell"
    monkeypatch.setenv("FASTCELL_CACHE_DIR", str(tmp_path / "own"))
    assert resources.cache_dir() == tmp_path / "own"


def test_no_driver_means_no_gpu_and_no_torch():
    code = (
        "import sys\nfrom fastcell.system import resources\n"
        "resources.driver_cuda_version = lambda: None\n"
        "print(resources.has_gpu(), 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=REPO_DIR, capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["False", "False"], done.stderr


def test_available_memory_is_some_and_not_more_than_there_is():
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert 1 << 20 < resources.available_memory() <= total


@pytest.mark.parametrize(
    ("files", "left"),
    [
        ({"memory.max": "1000\n", "memory.current": "700\n", "memory.stat": "anon 5\ninactive_file 250\n"}, 550),
        ({"memory.max": "max\n", "memory.current": "700\n", "memory.stat": "inactive_file 250\n"}, None),
        (
            {
                "memory/memory.limit_in_bytes": "900\n",
                "memory/memory.usage_in_bytes": "600\n",
                "memory/memory.stat": "total_inactive_file 100\n",
            },
            400,
        ),
        ({}, None),
    ],
)
def test_memory_that_a_cgroup_leaves(tmp_path, files, left):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert resources._cgroup_memory_left(tmp_path) == left
