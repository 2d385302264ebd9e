"""The rolling window: every cell once, its own pixels, an order known beforehand, memory as stated."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastcell.dataset.manifest import Manifest
from fastcell.dataset.views import ViewConfig, select
from fastcell.errors import ArgumentError, DataError
from fastcell.loading.ranks import training_share
from fastcell.loading.stores.rolling_bank import PANES, RollingReader, mixing, plan_window

Make = Callable[..., Manifest]


@given(st.lists(st.integers(1, 40), min_size=1, max_size=600), st.integers(40, 400), st.integers(0, 5))
def test_plan_deals_every_cell_out_once_and_inside_its_pane(sizes: list[int], pane_pixels: int, epoch: int) -> None:
    pixels = np.array(sizes)
    window = plan_window(pixels, pane_pixels, 3, epoch)
    np.testing.assert_array_equal(np.sort(window.order), np.arange(len(pixels)))
    assert (window.start >= 0).all()
    assert (window.start + pixels <= pane_pixels).all()
    for pane in range(int(window.pane[-1]) + 1):
        mine = window.pane == pane
        np.testing.assert_array_equal(window.start[mine], np.cumsum(pixels[mine]) - pixels[mine])
    arrived = window.pane[window.order]
    assert (np.maximum.accumulate(arrived) - arrived < PANES - 1).all()  # never more panes at once than there are


def test_plan_depends_on_seed_and_epoch_alone() -> None:
    sizes = np.full(500, 10)
    orders = [plan_window(sizes, 400, seed, epoch).order.tolist() for seed in (0, 1) for epoch in (0, 1)]
    assert len({tuple(order) for order in orders}) == 4
    assert plan_window(sizes, 400, 1, 1).order.tolist() == orders[3]


def test_mixing_is_1_for_uniform_draws_and_grows_as_the_window_shrinks() -> None:
    rng = np.random.default_rng(0)
    assert mixing(rng.permutation(100_000), 256) == pytest.approx(1.0, abs=0.06)
    figures = [
        mixing(plan_window(np.full(100_000, 1), cells // PANES, 0, 0).order, 256) for cells in (800_000, 50_000, 5_000)
    ]
    assert figures[0] == pytest.approx(1.0, abs=0.06)
    assert 2 < figures[1] < figures[2]
    assert mixing(np.arange(100_000), 256) == pytest.approx(13.8, rel=0.02)  # in order: 0.75 of 0.0543


def reader_of(manifest: Manifest, batch: int = 16, window_bytes: int = 8 * 500, **options: Any) -> RollingReader:
    view = select(manifest, ViewConfig("train"))
    share = training_share(len(view), batch, **options)
    return RollingReader(view, share, window_bytes=window_bytes, seed=2)


@pytest.mark.parametrize("layout", ["cell", "block"])
def test_every_cell_once_with_its_own_pixels(make_dataset: Make, tagged: Any, layout: str) -> None:
    manifest = make_dataset(900, layout=layout, num_shards=6)
    reader = reader_of(manifest)
    assert reader._pool.numel() == PANES * 500
    orders = []
    for epoch in range(2):
        ids: list[int] = []
        for step, cells in enumerate(reader.epoch(epoch)):
            real = reader.share.num_real(step)
            for slot in range(len(cells)):
                np.testing.assert_array_equal(cells.pixels[slot][:, :, 0], tagged(int(cells.cell_ids[slot])))
            ids += cells.cell_ids[:real].tolist()
        assert sorted(ids) == list(range(540))
        orders.append(ids)
    assert orders[0] != orders[1]


@pytest.mark.parametrize("layout", ["cell", "block"])
@pytest.mark.parametrize("first", [0, 1, 9, 20, 33])
def test_replays_from_any_step(make_dataset: Make, layout: str, first: int) -> None:
    manifest = make_dataset(900, layout=layout, num_shards=6)
    reader = reader_of(manifest)
    unbroken = [cells.cell_ids.tolist() for cells in reader.epoch(3)]
    replayed = []
    for cells in reader.epoch(3, first):
        replayed.append(cells.cell_ids.tolist())
        for slot in (0, 15):
            tag = cells.pixels[slot][0, :2, 0].astype(int)
            assert tag[0] * 256 + tag[1] == cells.cell_ids[slot]
    assert replayed == unbroken[first:]


def test_padding_is_other_cells_that_were_drawn_before(make_dataset: Make, tagged: Any) -> None:
    """61 cells in batches of 12: the last one has a single cell, and copies of it would spoil a batch norm."""
    manifest = make_dataset(61, sides=(1.0, 1.0))
    for first in (0, 5):
        *_, last = reader_of(manifest, 12).epoch(0, first)
        assert len(set(last.cell_ids.tolist())) == 12
        for slot in range(12):
            np.testing.assert_array_equal(last.pixels[slot][:, :, 0], tagged(int(last.cell_ids[slot])))


@pytest.mark.parametrize("num_ranks", [2, 3])
def test_ranks_together_see_the_whole(make_dataset: Make, num_ranks: int) -> None:
    manifest, ids = make_dataset(500), []
    for rank in range(num_ranks):
        reader = reader_of(manifest, 8 * num_ranks, rank=rank, num_ranks=num_ranks)
        for step, cells in enumerate(reader.epoch(0)):
            ids += cells.cell_ids[: reader.share.num_real(step)].tolist()
    assert sorted(ids) == list(range(300))


def test_a_window_too_small_for_its_batches_is_refused(make_dataset: Make) -> None:
    manifest = make_dataset(900)
    with pytest.raises(ArgumentError, match="bank_gib must be enough for 8 panes of a batch of 64 cells each"):
        reader_of(manifest, 64, 8 * 300)
    with pytest.raises(ArgumentError, match="bank_gib must be enough for panes of a cell of 70 pixels"):
        reader_of(manifest, 16, 8 * 60)


def test_leaving_early_leaks_neither_threads_nor_files(make_dataset: Make) -> None:
    reader = reader_of(make_dataset(900))
    list(reader.epoch(0))
    gc.collect()
    before = threading.active_count(), len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task"))
    for steps in range(6):
        epoch = reader.epoch(0)
        for _ in range(steps):
            next(epoch)
        epoch.close()
    gc.collect()
    assert (threading.active_count(), len(os.listdir("/proc/self/fd"))) == before[:2]
    assert len(os.listdir("/proc/self/task")) <= before[2]


def test_a_bad_cell_reaches_the_user_by_name(make_dataset: Make) -> None:
    manifest = make_dataset(500, encoding="npy")
    row = manifest.table.slice(111, 1).to_pylist()[0]
    with open(manifest.path / row["shard"], "r+b") as file:
        file.seek(row["offset"])
        file.write(bytes(row["bytes"]))
    with pytest.raises(DataError, match="cell 'cell-00111.npy'"):
        list(reader_of(manifest).epoch(0))


def test_an_iteration_ends_the_one_before_it(make_dataset: Make, tagged: Any) -> None:
    """There is one window: nobody may go on reading what another writes over."""
    reader = reader_of(make_dataset(900, num_shards=6))
    first = reader.epoch(0)
    next(first)
    second = reader.epoch(1)
    for cells in second:
        for slot in range(len(cells)):
            np.testing.assert_array_equal(cells.pixels[slot][:, :, 0], tagged(int(cells.cell_ids[slot])))
    with pytest.raises(RuntimeError, match="another iteration over this rolling window has begun"):
        next(first)


EXIT_SCRIPT = """
from fastcell.dataset.manifest import Manifest
from fastcell.loading.ranks import training_share
from fastcell.loading.stores.rolling_bank import RollingReader
from fastcell.loading.loader import CellLoader
from fastcell.loading.preprocessing import Preprocessing
from fastcell.dataset.views import ViewConfig, select

view = select(Manifest.open({path!r}), ViewConfig("train"))
share = training_share(len(view), 16)
batches = iter(CellLoader(view, share, Preprocessing(16), reader=RollingReader(view, share, window_bytes=8 * 500)))
next(batches)
print("left")
"""


def test_interpreter_exits_with_an_iteration_left_open(make_dataset: Make) -> None:
    script = EXIT_SCRIPT.format(path=str(make_dataset(900, num_shards=6).path))
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "left\n", "")


def test_pinned_memory_is_refused(make_dataset: Make) -> None:
    view = select(make_dataset(100), ViewConfig("train"))
    with pytest.raises(ArgumentError, match="memory must be host or gpu, got 'pinned'"):
        RollingReader(view, training_share(len(view), 4), window_bytes=4000, memory="pinned")
