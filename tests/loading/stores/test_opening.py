"""Memory that seems free and is not gives way to the next place; thousands of shards take few files and memory."""

import logging
import resource
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest
import torch

from fastcell.dataset.manifest import Manifest
from fastcell.dataset.views import View, ViewConfig, select
from fastcell.loading.order import fill_order
from fastcell.loading.settings import LoaderSettings
from fastcell.loading.stores import opening
from fastcell.loading.stores.opening import Stores
from fastcell.loading.stores.placement import Budget

Make = Callable[..., Manifest]


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:121] . DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("CUDA error: out of memory"),
        MemoryError(),
    ],
    ids=["gpu", "host", "pinned", "python"],
)
def test_a_bank_for_which_memory_fails_becomes_a_stream(make_dataset, monkeypatch, caplog, error):
    view = select(make_dataset(60), ViewConfig("train"))

    def fail(*_, **__):
        raise error

    monkeypatch.setattr(opening, "CellBank", fail)
    with caplog.at_level(logging.WARNING, "fastcell"):
        store = Stores("auto", Budget(None, 1 << 30), LoaderSettings(), 8, 0, 1).open_training(view, 8, 32)
    assert store.placement.store == "stream"
    assert "no room for bank: 36 cells" in caplog.text
    assert "trying the next place" in caplog.text


def test_another_error_is_not_taken_for_it(make_dataset, monkeypatch):
    view = select(make_dataset(60), ViewConfig("train"))

    def fail(*_, **__):
        raise RuntimeError("something else")

    monkeypatch.setattr(opening, "CellBank", fail)
    with pytest.raises(RuntimeError, match="something else"):
        Stores("auto", Budget(None, 1 << 30), LoaderSettings(), 8, 0, 1).open_training(view, 8, 32)


READ_ALL = """
import resource, sys
from fastcell.dataset.manifest import Manifest
from fastcell.loading.ranks import training_share
from fastcell.loading.stores.stream import CellReader
from fastcell.dataset.views import View, ViewConfig, select
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (128, hard))
view = select(Manifest.open(sys.argv[1]), ViewConfig())
reader = CellReader(view, training_share(len(view), 64), shuffle=True)
sizes = []
for epoch in range(3):
    assert sum(len(cells) for cells in reader.epoch(epoch)) >= len(view)
    # Not getrusage: it begins with the size of the process that started this one.
    sizes.append(int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0]) // 1000)
print(*sizes)
"""


def read_all(manifest):
    """Peak resident size [MB] after each of three epochs, in a process that may open 128 files."""
    command = [sys.executable, "-c", READ_ALL, str(manifest.path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    return [int(size) for size in done.stdout.split()]


def test_more_shards_than_open_files(make_dataset):
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] > 128
    read_all(make_dataset(600, num_shards=300))


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_shards(make_dataset):
    """Both sets are larger than what is read ahead."""
    few, many = (read_all(make_dataset(2 * num, num_shards=num, name=str(num))) for num in (10_000, 20_000))
    assert many[-1] - many[0] < 30
    assert many[-1] - few[-1] < 40


def test_repeats_of_a_cell_count_once(make_dataset):
    """Rows of a view stand in stored order, those of a fill order shard by shard: repeats are neighbours in both."""
    view = select(make_dataset(40), ViewConfig())
    rows = fill_order(View(view.manifest, np.sort(np.concatenate([view.rows, view.rows[::3]]))), seed=1)
    assert (np.diff(rows) < 0).any()
    assert sorted(opening._each_once(rows).tolist()) == np.unique(rows).tolist()
