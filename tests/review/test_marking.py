"""Marks from the page: on disk before they are acknowledged, shared with other processes, verdicts in their file."""

import os
import shutil

import numpy as np
import pytest

from fastcell.dataset.manifest import Manifest
from fastcell.errors import ArgumentError, DataError
from fastcell.quality.verdicts_file import VERDICTS_FILE, Verdicts, read_verdicts, write_verdicts
from fastcell.review.cell_columns import CellColumns
from fastcell.review.marking import Marking, check_said, checked_person


def cells(*ids):
    return np.array(ids, np.int64)


def begin(data):
    return Marking(CellColumns(Manifest.open(data.path), "default"))


def dropped(data):
    return np.flatnonzero(~Manifest.open(data.path).verdicts()).tolist()


def test_what_is_acknowledged_is_on_disk(planted):
    data = planted(20)
    marking = begin(data)
    assert marking.mark(cells(0, 1), "anna", {"label": " top "}) == 1
    assert marking.mark(cells(2), "anna", {"verdict": "drop"}) > 1
    again = Manifest.open(data.path)
    assert again.column("class").tolist()[:2] == ["top", "top"]
    assert dropped(data) == [2]
    assert marking.name_classes(["later"], "anna") == marking.sequence
    assert begin(data)._columns.classes[-1] == "later"


def test_marks_are_written_to_the_address_of_a_data_set(planted, tmp_cache):
    fsspec = pytest.importorskip("fsspec")
    memory = fsspec.filesystem("memory")
    memory.put(str(planted(20).path), "/reviewed/cells", recursive=True)
    marking = Marking(CellColumns(Manifest.open("memory://reviewed/cells"), "default"))
    marking.mark(cells(0, 1), "anna", {"label": "top"})
    marking.mark(cells(2), "anna", {"verdict": "drop"})
    shutil.rmtree(tmp_cache)
    again = Manifest.open("memory://reviewed/cells")
    assert again.column("class").tolist()[:2] == ["top", "top"]
    assert np.flatnonzero(~again.verdicts()).tolist() == [2]
    memory.rm("/reviewed", recursive=True)


def test_two_servers_see_each_other(planted):
    data = planted(20)
    one, two = begin(data), begin(data)
    one.mark(cells(0, 1), "anna", {"label": "top"})
    two.mark(cells(1, 2), "ben", {"label": "left"})
    seen = two.sequence
    assert one.follow() > 0
    for marking in (one, two):
        assert marking._columns.labels()[:3].tolist() == [2, 0, 0]
    one.mark(cells(3), "anna", {"verdict": "drop"})
    two.follow()
    assert two._columns.drop[3]
    touched = two.touched_since(seen)
    assert touched is not None
    assert touched.tolist() == [3]
    assert [mark.who for mark in two._columns.marked.history(1)] == ["anna", "ben"]
    undone = one.step_back("anna", redo=False)
    assert undone is not None
    assert undone.verdict == "drop"
    two.follow()
    assert not two._columns.drop.any()


def test_undo_brings_back_what_quality_control_said(planted):
    data = planted(60)
    poor = Verdicts(cells(4, 9, 30), np.ones(3, bool), np.array(["cut", "empty", "cut"], object), np.zeros(3, bool))
    write_verdicts(data.path / VERDICTS_FILE, data, poor)
    before, kept = [4, 9, 30], 5
    assert dropped(data) == before
    marking = begin(data)
    marking.mark(cells(*before), "anna", {"verdict": "keep"})
    assert dropped(data) == []
    marking.mark(cells(kept, before[0]), "anna", {"verdict": "drop"})
    assert dropped(data) == sorted([kept, before[0]])
    rows = read_verdicts(data.path / VERDICTS_FILE, data)
    assert rows.where(rows.cell_ids == kept).by_hand.all()
    marking.step_back("anna", redo=False)
    assert dropped(data) == []
    marking.step_back("anna", redo=False)
    assert dropped(data) == before
    rows = read_verdicts(data.path / VERDICTS_FILE, data)
    assert (rows.reasons.tolist(), rows.by_hand.any()) == (["cut", "empty", "cut"], False)
    assert marking.step_back("anna", redo=False) is None
    marking.step_back("anna", redo=True)
    marking.step_back("anna", redo=True)
    assert dropped(data) == sorted([kept, before[0]])


def test_a_changed_or_removed_file_is_read_again(planted):
    data = planted(20)
    marking = begin(data)
    marking.mark(cells(0), "anna", {"label": "top"})
    (data.path / "marks.jsonl").unlink()
    marking.follow()
    assert not marking._columns.marked.labelled.any()
    (data.path / VERDICTS_FILE).write_text("cell_id,verdict\n7,drop\n")
    marking.follow()
    assert np.flatnonzero(marking._columns.drop).tolist() == [7]
    assert marking.touched_since(0) is not None or marking.sequence > 1000
    with open(data.path / "marks.jsonl", "wb") as file:
        file.write(b"no mark\n")
    with pytest.raises(DataError, match=r"marks\.jsonl"):
        marking.follow()


@pytest.mark.parametrize(
    "said",
    [
        {},
        {"label": "x" * 101},
        {"label": "a\nb"},
        {"label": 5},
        {"label": None},
        {"verdict": "maybe"},
        {"verdict": 1},
        {"unsure": 1},
        {"reset": "yes"},
        {"tag": ""},
        {"who": "ben"},
        {"label": "a", "undo": "x"},
    ],
)
def test_other_words_are_refused(said, planted):
    marking = begin(planted(20))
    with pytest.raises(ArgumentError):
        marking.mark(cells(0), "anna", said)
    assert marking.sequence == 0


def test_names_are_stored_in_one_form():
    assert check_said({"label": " Zelle\u0308 ", "unsure": True}) == {"label": "Zell\u00eb", "unsure": True}
    assert checked_person(" anna ") == "anna"
    for name in ("", " ", None, "a\u202eb", 7):
        with pytest.raises(ArgumentError, match="who must be"):
            checked_person(name)


def test_a_mark_needs_a_cell(planted):
    with pytest.raises(ArgumentError, match="Choose cells first"):
        begin(planted(20)).mark(cells(), "anna", {"label": "top"})


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_folder_that_cannot_be_written(planted):
    data = planted(20)
    data.path.chmod(0o500)
    try:
        assert not begin(data).writable
    finally:
        data.path.chmod(0o700)
