"""Rows hold what contestants said and measured, and results are written with their machine."""

import subprocess
import time
from dataclasses import fields

import numpy as np
import pytest


@pytest.fixture
def harness(program):
    return program("harness")


def rounds(harness, seconds, **measured):
    """Work that tells other seconds in every round."""
    left = iter(seconds)
    return lambda: harness.Done(100, next(left), 0.002, **measured)


def test_rows_compare_within_the_round(harness):
    contestants = {
        "ours": ("all of it", rounds(harness, [9.0, 1.0, 2.0, 4.0])),
        "theirs": ("as documented", rounds(harness, [9.0, 3.0, 4.0, 12.0])),
    }
    ours, theirs = harness.time_turns(contestants, num_rounds=3, warm_up=1).rows("theirs")
    assert (ours.contestant, ours.what, ours.num_rounds, ours.num_cells) == ("ours", "all of it", 3, 100)
    assert (ours.ratio, theirs.ratio) == (3.0, 1.0)
    assert (ours.cells_per_s, ours.low, ours.high) == (50.0, 25.0, 100.0)
    assert ours.ratio_low == 2.0
    assert ours.ratio_high == 3.0
    assert ours.cpu_us_per_cell == pytest.approx(20.0)
    assert (ours.peak_rss_mb, ours.first_batch_s, ours.device, ours.data) == (None, None, "cpu", "")


def test_a_contestant_brings_its_fields_and_measures(harness):
    memory = iter([300.0, 700.0, 500.0])
    first = iter([9.0, 0.1, 0.3])

    def work():
        return harness.Done(10, 1.0, 1.0, first_batch_s=next(first), peak_rss_mb=next(memory), gpu_memory_mb=40.0)

    entry = harness.Contestant("it", work, "ragged JPEG", 128, 256, "float32", "cuda:0", 2, first_batch_cold_s=9.0)
    (row,) = harness.time_turns({"a": entry}, num_rounds=2, warm_up=1).rows("a")
    assert (row.data, row.size, row.batch, row.dtype, row.device, row.threads) == (
        "ragged JPEG",
        128,
        256,
        "float32",
        "cuda:0",
        2,
    )
    assert (row.peak_rss_mb, row.gpu_memory_mb) == (700.0, 40.0)
    assert row.first_batch_s == pytest.approx(0.2)
    assert row.first_batch_cold_s == 9.0


def test_work_that_returns_a_count_is_timed_here(harness):
    def work():
        end = time.process_time() + 0.1  # the clock of processes counts in hundredths
        while time.process_time() < end:
            np.ones(1000).sum()
        return 2_000_000

    (row,) = harness.time_turns({"sum": ("sums", work)}, 2, 0).rows("sum")
    assert row.num_cells == 2_000_000
    assert 0 < row.low <= row.cells_per_s <= row.high
    assert 0.04 <= row.cpu_us_per_cell <= 0.2


def test_a_result_is_read_with_its_machine(harness, program, tmp_path):
    (row,) = harness.time_turns({"a": ("it, again", rounds(harness, [1.0, 1.0]))}, 1, 1).rows("a")
    path = harness.Result("try", "cells", {"n": 1}, [row], absent={"b": "not installed"}).save(tmp_path)
    assert program("result_files").result_paths(tmp_path) == [path]
    assert len(list(tmp_path.iterdir())) == 2  # the machine is a file of its own
    saved = program("result_files").read_result(path)
    assert saved["absent"] == {"b": "not installed"}
    assert len(saved["environment"]["load_average_start"]) == len(saved["environment"]["load_average_end"]) == 3
    assert {"cpu", "gpus", "driver_cuda", "torch_cuda", "packages", "num_cpus"} <= saved["environment"].keys()
    (line,) = saved["rows"]
    assert list(line) == [field.name for field in fields(harness.Row)]
    assert (line["what"], line["cells_per_s"], line["peak_rss_mb"]) == ("it, again", 100.0, None)


def test_a_result_that_is_cut_off_is_none(harness, tmp_path, monkeypatch):
    write = type(tmp_path).write_bytes

    def half(path, content):
        write(path, content[: len(content) // 2])
        raise OSError("no space left on device")

    (row,) = harness.time_turns({"a": ("it", rounds(harness, [1.0]))}, 1, 0).rows("a")
    monkeypatch.setattr(type(tmp_path), "write_bytes", half)
    with pytest.raises(OSError, match="no space"):
        harness.Result("try", "cells", {}, [row]).save(tmp_path)
    assert list(tmp_path.glob("*.json*")) == []


def test_a_result_names_a_published_commit(harness, tmp_path, monkeypatch):
    monkeypatch.setattr(harness, "__file__", str(tmp_path / "harness.py"))
    assert harness.commit() == "unknown"

    def git(*words):
        user = ("-c", "user.name=a", "-c", "user.email=a@b.c")
        return subprocess.run(["git", *user, *words], cwd=tmp_path, capture_output=True, text=True, check=True).stdout

    git("init", "-q")
    (tmp_path / "harness.py").write_text("1")
    git("add", ".")
    git("commit", "-qm", "one")
    first = git("rev-parse", "--short", "HEAD").strip()
    assert harness.commit() == first  # nothing is published: every commit counts
    git("update-ref", "refs/remotes/origin/main", "HEAD")
    assert harness.commit() == first
    (tmp_path / "harness.py").write_text("2")
    assert harness.commit() == f"{first}-dirty"
    git("commit", "-qam", "two")
    assert harness.commit() == f"{first}-dirty"
    git("update-ref", "refs/remotes/origin/main", "HEAD")
    assert harness.commit() == git("rev-parse", "--short", "HEAD").strip()
