"""Columns by value: of the manifest, of quality, of marks, of a run's answers."""

import numpy as np
import pytest

from fastcell.cli.qc import main as qc
from fastcell.dataset.manifest import Manifest
from fastcell.dataset.marks.journal import Mark
from fastcell.errors import ArgumentError
from fastcell.quality.quality_table import read_quality_columns
from fastcell.review.cell_columns import CellAnswers, CellColumns


def names_of(columns, name):
    column = columns.category(name)
    return [column.names[code] for code in column.codes.tolist()]


def test_columns_of_the_manifest(planted):
    data = planted(60)
    columns = CellColumns(data, "default")
    assert names_of(columns, "class") == names_of(columns, "recorded") == data.column("class").tolist()
    assert names_of(columns, "group") == data.column("group").tolist()
    assert names_of(columns, "subset") == data.split("default").tolist()
    assert np.array_equal(columns.numbers("height"), data.column("height"))
    assert columns.numbers("cell_id").tolist() == list(range(60))
    assert "collection" not in columns.category_names()
    assert "confidence" not in columns.number_names()
    assert "subset" not in CellColumns(data, "other").category_names()
    assert columns.classes == ["left", "right", "top"]


def test_quality(planted):
    data = planted(60)
    assert "quality" not in CellColumns(data, "default").number_names()
    assert qc([str(data.path)]) == 0
    columns = CellColumns(Manifest.open(data.path), "default")
    table = data.quality()
    assert table is not None
    assert np.array_equal(columns.numbers("quality"), table.column("score").to_numpy())
    assert names_of(columns, "fault") == table.column("reason").to_pylist()
    assert names_of(columns, "qc") == table.column("verdict").to_pylist()
    focus = read_quality_columns(data).column("focus").to_numpy()
    assert np.array_equal(columns.numbers("qc_focus"), focus)


def test_marks_change_their_columns(planted):
    columns = CellColumns(planted(60), "default")
    before = names_of(columns, "class")
    touched = columns.take_marks(
        [
            Mark.now("anna", np.array([0, 1]), label="new"),
            Mark.now("anna", np.array([2]), label=""),
            Mark.now("ben", np.array([3]), unsure=True, tag="odd"),
        ]
    )
    assert touched.tolist() == [0, 1, 2, 3]
    assert names_of(columns, "class") == ["new", "new", "", *before[3:]]
    assert names_of(columns, "by_hand")[:4] == ["yes", "yes", "yes", "no"]
    assert names_of(columns, "unsure")[:4] == ["no", "no", "no", "yes"]
    assert np.flatnonzero(columns.tag("odd")).tolist() == [3]
    assert columns.classes == ["left", "right", "top", "new"]
    assert columns.labels()[:4].tolist() == [3, 3, -1, 0]
    columns.set_drop(np.arange(60) == 5)
    assert names_of(columns, "verdict").index("drop") == 5
    columns.reset_marks([])
    assert names_of(columns, "class") == before


def test_answers_of_a_run(planted):
    data = planted(6)
    columns = CellColumns(data, "default")
    probabilities = np.array(
        [[0.7, 0.2, 0.1], [0.1, 0.5, 0.4], [0.6, 0.3, 0.1], [np.nan] * 3, [0.2, 0.3, 0.5], [0, 0, 1]], np.float32
    )
    unlike = np.array([0.5, 2, np.nan, np.nan, 1, 0], np.float32)
    columns.set_answers(CellAnswers(["top", "left", "other"], probabilities, unlike))
    assert names_of(columns, "called") == ["top", "left", "top", "", "other", "other"]
    assert names_of(columns, "agrees") == ["no", "no", "yes", "", "no", "no"]
    assert names_of(columns, "unlike") == ["no", "yes", "", "", "no", "no"]
    expected = [0.7, 0.5, 0.6, np.nan, 0.5, 1]
    np.testing.assert_allclose(columns.numbers("confidence"), np.float32(expected))
    np.testing.assert_allclose(columns.numbers("margin"), [0.5, 0.1, 0.3, np.nan, 0.2, 1], rtol=1e-5)
    np.testing.assert_array_equal(columns.numbers("p_left"), probabilities[:, 1])
    assert columns.classes == ["left", "right", "top", "other"]
    assert columns.called().tolist() == [2, 0, 2, -1, 3, 3]
    assert columns.version == 1


def test_other_columns_are_refused(planted):
    columns = CellColumns(planted(6), "default")
    for name in ("confidence", "p_left", "", "class", "embedding_1"):
        with pytest.raises(ArgumentError, match="column must be one of the tables"):
            columns.numbers(name)
    for name in ("called", "agrees", "height"):
        with pytest.raises(ArgumentError, match="column must be one of the tables"):
            columns.category(name)
