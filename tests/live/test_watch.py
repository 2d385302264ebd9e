"""Watched sources that grow: each cell once, files left until they are whole, and the table of predict at the end."""

import random
import shutil
import subprocess
import sys
import threading
import time
from dataclasses import replace

import pyarrow.parquet as pq
import pytest
from fixtures.unpacked_files import (
    SOURCES,
    FixedNetwork,
    assert_equal_tables,
    fixed_classifier,
    make_flat_folder,
    write_png,
)

from fastcell.errors import ArgumentError, DataError
from fastcell.inference.source_cells import open_cells
from fastcell.live.watch import WatchTask, watch
from fastcell.predictions.from_source import predict_source
from fastcell.sources.registry import ReadOptions


class Counting(FixedNetwork):
    """Fixed network that counts its images, and may be killed."""

    def __init__(self):
        self.num = 0
        self.kill_at = -1

    def run(self, images):
        self.num += len(images)
        if 0 <= self.kill_at <= self.num:
            raise SystemExit("killed")
        return super().run(images)


def opened(source):
    deep = (source / "donor0").is_dir()
    return open_cells(source, read=ReadOptions(pattern="{group}/{class}/{name}") if deep else None)


def task_of(source, out, network=None, **options):
    classifier = fixed_classifier()
    classifier.backend, classifier.chunk = network or Counting(), 4
    checkpoint = out.parent / "checkpoint"
    checkpoint.write_bytes(b"weights")
    settings = {"until_idle_s": 0.3, "poll_s": 0.02, **options}
    return WatchTask(classifier, lambda: opened(source), source, out, checkpoint, **settings)


def expected_table(source, folder):
    (folder / "other").mkdir(exist_ok=True)
    (folder / "other" / "checkpoint").write_bytes(b"weights")
    out = folder / "other" / "p.parquet"
    predict_source(fixed_classifier(), opened(source), out, folder / "other" / "checkpoint", lambda line: None)
    return pq.read_table(out)


def run_beside(writer, task):
    said = []
    thread = threading.Thread(target=writer)
    thread.start()
    watch(task, said.append)
    thread.join()
    return said


@pytest.mark.parametrize("name", ["folder", "rtdc", "ifcb", "stack", "arrays"])
def test_a_source_that_is_whole_has_the_table_of_predict(tmp_path, name):
    source = SOURCES[name][0](tmp_path / "source")
    network = Counting()
    task = task_of(source, tmp_path / "w.parquet", network)
    watch(task, lambda line: None)
    found, expected = pq.read_table(tmp_path / "w.parquet"), expected_table(source, tmp_path)
    assert_equal_tables(found, expected)
    assert network.num == expected.column("class").is_valid().to_numpy().sum()  # each cell once
    assert not list(tmp_path.glob(".w*"))


def test_a_folder_that_is_filled_slowly_is_classified_once(tmp_path):
    source = make_flat_folder(tmp_path / "source")

    def write():
        for number in range(7, 25):
            write_png(tmp_path / "new.png", number)
            data = (tmp_path / "new.png").read_bytes()
            with open(source / f"{number}.png", "wb", buffering=0) as file:
                for begin in range(0, len(data), 40):  # a file that grows
                    file.write(data[begin : begin + 40])
                    time.sleep(0.004)

    network = Counting()
    run_beside(write, task_of(source, tmp_path / "w.parquet", network))
    table = pq.read_table(tmp_path / "w.parquet")
    assert_equal_tables(table, expected_table(source, tmp_path))
    assert table.num_rows == 25
    assert network.num == 25


def test_cells_that_are_classified_are_not_counted_as_incomplete(tmp_path, monkeypatch):
    monkeypatch.setattr("fastcell.live.watch._SAY_EVERY_S", 0.0)
    source, said = make_flat_folder(tmp_path / "source"), []
    watch(task_of(source, tmp_path / "w.parquet"), said.append)
    assert [line for line in said if "classified" in line] == ["7 cells classified, 0 not complete yet"]


def test_a_file_that_changes_after_it_was_classified_is_classified_again(tmp_path):
    source = make_flat_folder(tmp_path / "source")
    network = Counting()

    def write():
        while network.num < 7:
            time.sleep(0.01)
        write_png(source / "3.png", 99)

    run_beside(write, task_of(source, tmp_path / "w.parquet", network))
    assert_equal_tables(pq.read_table(tmp_path / "w.parquet"), expected_table(source, tmp_path))
    assert network.num == 8


WRITE_RTDC = """
import sys, time, numpy as np, h5py
path, how = sys.argv[1:]
images = np.random.default_rng(0).integers(0, 255, (60, 10, 12)).astype(np.uint8)
with h5py.File(path, "w", libver="earliest" if how == "earliest" else "latest", locking=False) as file:
    file.attrs["imaging:pixel size"] = 0.34
    shown = file.create_dataset("events/image", (0, 10, 12), "u1", chunks=(8, 10, 12), maxshape=(None, 10, 12))
    deform = file.create_dataset("events/deform", (0,), maxshape=(None,), chunks=(8,))
    if how == "swmr":
        file.swmr_mode = True
    for num in range(2, 61, 2):
        shown.resize(num, 0)
        shown[num - 2 : num] = images[num - 2 : num]
        deform.resize(num, 0)
        file.flush()
        if num == 2:
            print("begun", flush=True)
        time.sleep(0.04)
"""


@pytest.mark.parametrize("how", ["earliest", "swmr", pytest.param("latest", marks=pytest.mark.slow)])
def test_an_rtdc_file_that_another_process_writes_has_the_table_of_predict(tmp_path, how):
    """With the latest format and no SWMR, the file can be read after it was closed only."""
    path = tmp_path / "now.rtdc"
    writer = subprocess.Popen([sys.executable, "-c", WRITE_RTDC, str(path), how], stdout=subprocess.PIPE)
    assert writer.stdout is not None
    assert writer.stdout.readline() == b"begun\n"
    network = Counting()
    steps = []
    task = task_of(path, tmp_path / "w.parquet", network, until_idle_s=1.0)
    thread = threading.Thread(target=lambda: [steps.append(network.num) or time.sleep(0.02) for _ in range(100)])
    thread.start()
    said = []
    watch(task, said.append)
    thread.join()
    assert writer.wait(20) == 0
    table = pq.read_table(tmp_path / "w.parquet")
    assert table.num_rows == 60
    assert_equal_tables(table, expected_table(path, tmp_path))
    if how == "latest":
        assert any("already open for write" in line for line in said)
    else:
        assert len(set(steps)) > 5  # classified as they came


def grow_bins(whole, growing, wait):
    """Write bins of the Imaging FlowCytobot as the instrument does: rows and pixels of one region after the other."""
    usable = 0
    for rows in sorted(whole.glob("*.adc")):
        (growing / f"{rows.stem}.hdr").write_bytes(rows.with_suffix(".hdr").read_bytes())
        pixels, sent = rows.with_suffix(".roi").read_bytes(), 0
        with open(growing / rows.name, "wb", 0) as adc, open(growing / f"{rows.stem}.roi", "wb", 0) as roi:
            for row in rows.read_bytes().splitlines(keepends=True):
                width, height, offset = map(int, row.split(b",")[15:18])
                for data, file in ((row[:20], adc), (pixels[sent : sent + 50], roi), (row[20:], adc)):
                    file.write(data)
                    time.sleep(0.002)
                roi.write(pixels[sent + 50 : sent + width * height])
                sent += width * height
                usable += offset < 10**6
                wait(usable)


def test_bins_that_grow_have_the_table_of_predict(tmp_path):
    whole, source = SOURCES["ifcb"][0](tmp_path / "whole"), tmp_path / "source"
    source.mkdir()
    network = Counting()

    def wait(usable):
        """Return when all cells but the last, which may not be whole, have been classified."""
        limit = time.monotonic() + 60
        while network.num < usable - 1:
            assert time.monotonic() < limit
            time.sleep(0.002)

    run_beside(
        lambda: grow_bins(whole, source, wait), task_of(source, tmp_path / "w.parquet", network, until_idle_s=2.0)
    )
    expected = expected_table(source, tmp_path)
    assert_equal_tables(pq.read_table(tmp_path / "w.parquet"), expected)
    num = expected.column("class").is_valid().to_numpy().sum()
    assert num == 9
    assert num <= network.num <= num + 2  # a row or an image that was seen in part and stood still counts twice


@pytest.mark.parametrize("kind", ["flat", "rtdc"])
def test_a_killed_watch_goes_on(tmp_path, kind):
    """Killed while it classifies, again and again: the answers of whole chunks are kept."""
    source = SOURCES[kind][0](tmp_path / "source")
    network = Counting()
    kills = 0
    rng = random.Random(0)
    for _ in range(10):
        network.kill_at = network.num + rng.randrange(1, 9)
        try:
            watch(task_of(source, tmp_path / "w.parquet", network), lambda line: None)
            break
        except SystemExit:
            kills += 1
    else:
        network.kill_at = -1
        watch(task_of(source, tmp_path / "w.parquet", network), lambda line: None)
    assert kills > 0
    expected = expected_table(source, tmp_path)
    assert_equal_tables(pq.read_table(tmp_path / "w.parquet"), expected)
    assert network.num <= expected.num_rows + 4 * kills


def test_an_empty_folder_is_waited_for(tmp_path):
    source = tmp_path / "source"
    source.mkdir()

    def write():
        time.sleep(0.1)
        make_flat_folder(source)

    said = run_beside(write, task_of(source, tmp_path / "w.parquet", until_idle_s=2.0))
    assert pq.read_table(tmp_path / "w.parquet").num_rows == 7
    assert sum(line.startswith("waiting: ") for line in said) == 1


def test_a_folder_that_stays_empty_is_an_error(tmp_path):
    (tmp_path / "source").mkdir()
    with pytest.raises((DataError, ArgumentError)):
        watch(task_of(tmp_path / "source", tmp_path / "w.parquet"), lambda line: None)
    assert not (tmp_path / "w.parquet").exists()


def test_a_file_that_cannot_be_read_to_the_end_does_not_keep_the_command(tmp_path):
    source = SOURCES["rtdc"][0](tmp_path / "source")

    class Broken:
        """Source whose file is damaged behind its listing."""

        name, stamp, describe = "broken", staticmethod(lambda item: "same"), staticmethod(lambda: "broken")

        def load(self, item):
            raise DataError("now.rtdc cannot be read (it is damaged).")

    said = []
    task = task_of(source, tmp_path / "w.parquet", until_idle_s=0.2)
    cells = task.open_source()
    task = replace(task, open_source=lambda: replace(cells, source=Broken()))
    with pytest.raises(DataError, match="it is damaged"):
        watch(task, said.append)
    assert [line for line in said if "damaged" in line] == ["waiting: now.rtdc cannot be read (it is damaged)."]


def test_16_bit_cells_without_a_window_are_an_error(tmp_path):
    source = SOURCES["deep"][0](tmp_path / "source")
    with pytest.raises(ArgumentError, match="window"):
        watch(task_of(source, tmp_path / "w.parquet"), lambda line: None)


def test_another_window_classifies_anew(tmp_path):
    source = SOURCES["deep"][0](tmp_path / "source")
    network = Counting()
    task = task_of(source, tmp_path / "w.parquet", network)
    tasks = [
        replace(task, open_source=lambda window=window: open_cells(source, window=window, depth=16))
        for window in ((100, 3000), (100, 2000))
    ]
    network.kill_at = 5
    with pytest.raises(SystemExit):
        watch(tasks[0], lambda line: None)
    before, network.kill_at = network.num, -1
    watch(tasks[1], lambda line: None)
    assert network.num - before >= pq.read_table(tmp_path / "w.parquet").num_rows


def test_another_run_starts_from_the_beginning(tmp_path):
    source = make_flat_folder(tmp_path / "source")
    network = Counting()
    network.kill_at = 6
    with pytest.raises(SystemExit):
        watch(task_of(source, tmp_path / "w.parquet", network), lambda line: None)
    network.kill_at = -1
    before = network.num
    task = task_of(source, tmp_path / "w.parquet", network)
    task.checkpoint.write_bytes(b"other weights")
    said = []
    watch(task, said.append)
    assert network.num == before + 7
    assert any("different checkpoint" in line for line in said)


def test_files_that_vanish_are_left_out(tmp_path):
    source = make_flat_folder(tmp_path / "source")
    network = Counting()

    def write():
        while network.num < 7:
            time.sleep(0.01)
        (source / "2.png").unlink()

    run_beside(write, task_of(source, tmp_path / "w.parquet", network))
    table = pq.read_table(tmp_path / "w.parquet")
    assert "2.png" not in table.column("key").to_pylist()
    assert_equal_tables(table, expected_table(source, tmp_path))
    shutil.rmtree(source)
