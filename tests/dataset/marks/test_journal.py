"""The journal of marks: nothing acknowledged is lost, torn lines count for nothing, two processes take turns."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys

import numpy as np
import pytest

from fastcell.dataset.manifest import Manifest
from fastcell.dataset.marks.journal import MARKS_FILE, Mark, append_marks, checked_name, read_marks
from fastcell.errors import DataError


def label(cells, name, who="anna"):
    return Mark.now(who, np.array(cells, np.int64), label=name)


def test_marks_come_back_as_they_were(make_dataset):
    data = make_dataset(20)
    marks = [
        label([3, 1, 2], "A"),
        Mark.now("ben <b>", np.array([7]), verdict="drop", before=((7, "keep", "", True),)),
        Mark.now("anna", np.array([4]), unsure=False, tag="a b"),
        Mark.now("anna", np.empty(0, np.int64), undo="x", classes=("Q",)),
        Mark.now("anna", np.array([5]), label=""),
    ]
    append_marks(data.path, data.table, lambda: marks[:2])
    part = read_marks(data.path, data.table)
    append_marks(data.path, data.table, lambda: marks[2:])
    later = read_marks(data.path, data.table, part.end)
    for found, made in zip(part.marks + later.marks, marks, strict=True):
        np.testing.assert_array_equal(found.cells, made.cells)
        assert found._replace(cells=made.cells) == made
    assert later.end == (data.path / MARKS_FILE).stat().st_size


def test_a_torn_line_counts_for_nothing_and_goes(make_dataset):
    data = make_dataset(20)
    append_marks(data.path, data.table, lambda: [label([1], "A")])
    path = data.path / MARKS_FILE
    whole = path.read_bytes()
    for length in (1, 40, len(label([2], "B").to_line()) - 1):
        path.write_bytes(whole + label([2], "B").to_line()[:length])
        assert [mark.label for mark in read_marks(data.path, data.table).marks] == ["A"]
    append_marks(data.path, data.table, lambda: [label([3], "C")])
    assert [mark.label for mark in read_marks(data.path, data.table).marks] == ["A", "C"]


def test_a_torn_header_is_written_again(make_dataset):
    data = make_dataset(20)
    (data.path / MARKS_FILE).write_bytes(b'{"fastcell_ma')
    assert read_marks(data.path, data.table).marks == []
    append_marks(data.path, data.table, lambda: [label([3], "C")])
    assert [mark.label for mark in read_marks(data.path, data.table).marks] == ["C"]


@pytest.mark.parametrize(
    "line",
    [
        b"\xff\xfe",
        b"[]",
        b"{}",
        b'{"op":"a","at":"b"}',
        b'{"op":"a","at":"b","who":"c","cells":"20"}',
        b'{"op":"a","at":"b","who":"c","cells":[1]}',
        b'{"op":"a","at":"b","who":"c","cells":"1","label":7}',
        b'{"op":"a","at":"b","who":"c","cells":"1","verdict":"maybe"}',
        b'{"op":"a","at":"b","who":"c","cells":"1","label":"\\u0007"}',
        b'{"op":"a","at":"b","who":"c","cells":"1","other":1}',
        b'{"op":"a","at":"b","who":"c","cells":"1","before":[[1]]}',
        b"[" * 100_000,
    ],
)
def test_a_damaged_line_is_named(make_dataset, line):
    data = make_dataset(20)
    append_marks(data.path, data.table, lambda: [label([1], "A")])
    with open(data.path / MARKS_FILE, "ab") as file:
        file.write(line + b"\n")
    with pytest.raises(DataError, match=rf"{MARKS_FILE}: line 3 must be a mark.*Restore or remove"):
        Manifest.open(data.path)


@pytest.mark.parametrize("header", [b"cell_id,label\n1,A\n", b"{}\n", b'{"fastcell_marks": "x"}\n'])
def test_another_file_is_no_journal(make_dataset, header):
    data = make_dataset(20)
    (data.path / MARKS_FILE).write_bytes(header)
    with pytest.raises(DataError, match=MARKS_FILE):
        Manifest.open(data.path)
    with pytest.raises(DataError, match=MARKS_FILE):
        append_marks(data.path, data.table, lambda: [label([1], "A")])
    assert (data.path / MARKS_FILE).read_bytes() == header


def test_marks_of_other_cells_are_refused(make_dataset):
    data, other = make_dataset(20), make_dataset(20, name="other", encoding="npy")
    append_marks(data.path, data.table, lambda: [label([1], "A")])
    (other.path / MARKS_FILE).write_bytes((data.path / MARKS_FILE).read_bytes())
    with pytest.raises(DataError, match="must be of the cells of this data set"):
        Manifest.open(other.path)


def test_a_pipe_does_not_block(make_dataset):
    data = make_dataset(20)
    os.mkfifo(data.path / MARKS_FILE)
    with pytest.raises(DataError, match="must be a file"):
        Manifest.open(data.path)


def test_a_newer_format_is_refused(make_dataset):
    data = make_dataset(20)
    append_marks(data.path, data.table, list)
    path = data.path / MARKS_FILE
    path.write_bytes(json.dumps(json.loads(path.read_bytes()) | {"fastcell_marks": 2}).encode() + b"\n")
    with pytest.raises(DataError, match="marks format must be 1, got 2"):
        Manifest.open(data.path)


@pytest.mark.parametrize("name", ["", "  ", "a\nb", "x" * 101, None, 3, "a\u202eb"])
def test_names_that_cannot_be_seen(name):
    with pytest.raises(ValueError, match="class must be 1 to 100 visible letters"):
        checked_name("class", name)
    assert checked_name("class", " e\u0301 ") == "\u00e9"


def _append_many(folder, who, count):
    data = Manifest.open(folder)
    for number in range(count):
        append_marks(folder, data.table, lambda number=number: [label([number % 20], f"{who}{number}", who)])


def test_two_processes_keep_each_others_marks(make_dataset):
    data = make_dataset(20)
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_append_many, args=(data.path, who, 60)) for who in "ab"]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    found = read_marks(data.path, data.table).marks
    for who in "ab":
        assert [mark.label for mark in found if mark.who == who] == [f"{who}{number}" for number in range(60)]


_MARKING = """
import sys, numpy as np
from pathlib import Path
from fastcell.dataset.manifest import Manifest
from fastcell.dataset.marks.journal import Mark, append_marks
data = Manifest.open(sys.argv[1])
for number in range(100_000):
    append_marks(data.path, data.table, lambda: [Mark.now("a", np.array([number % 20]), label=f"n{number}")])
    print(number, flush=True)
"""


def test_nothing_acknowledged_is_lost_on_kill(make_dataset):
    data = make_dataset(20)
    worker = subprocess.Popen([sys.executable, "-c", _MARKING, str(data.path)], stdout=subprocess.PIPE, text=True)
    assert worker.stdout is not None
    told = [int(worker.stdout.readline()) for _ in range(50)]
    worker.send_signal(signal.SIGKILL)
    told += [int(line) for line in worker.stdout.read().split()]
    worker.wait()
    found = [mark.label for mark in read_marks(data.path, data.table).marks]
    assert found[: len(told)] == [f"n{number}" for number in told]
    assert len(found) - len(told) in (0, 1)


def test_a_full_disk_leaves_the_journal_as_it_was(make_dataset, monkeypatch):
    data = make_dataset(20)
    append_marks(data.path, data.table, lambda: [label([1], "A")])
    before = (data.path / MARKS_FILE).read_bytes()

    def full(handle):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space"):
            append_marks(data.path, data.table, lambda: [label([2], "B")])
    assert (data.path / MARKS_FILE).read_bytes() == before
