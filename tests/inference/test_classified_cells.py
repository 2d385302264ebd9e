"""Answers as arrays, as a table and in a notebook."""

import sys

import numpy as np
import pytest

from fastcell.errors import FastcellError
from fastcell.inference.classified_cells import ClassifiedCells
from fastcell.inference.unlike.reasons import UnlikeScores

PROBABILITIES = np.array([[0.25, 0.75], [np.nan, np.nan], [0.5, 0.5]], np.float32)


def answers(**more):
    return ClassifiedCells(["a<b", "c"], PROBABILITIES, **more)


def test_labels_confidence_and_counts():
    found = answers()
    assert len(found) == 3
    assert found.labels.tolist() == ["c", "", "a<b"]  # of two equal probabilities, the first class
    assert found.class_numbers.tolist() == [1, -1, 0]
    np.testing.assert_array_equal(found.confidence, np.array([0.75, np.nan, 0.5], np.float32))
    assert found.counts() == {"a<b": 1, "c": 1}
    assert repr(found) == "<ClassifiedCells: 3 cells; a<b 1, c 1, without an answer 1>"


def test_table():
    found = answers(
        keys=["x.rtdc/000007", "y.png", "z.png"],
        groups=["x.rtdc", None, None],
        events=[7, None, 2],
        reasons=[None, "bad", None],
    )
    assert found.to_table().to_pylist() == [
        {
            "key": "x.rtdc/000007",
            "group": "x.rtdc",
            "event": 7,
            "class": "c",
            "confidence": 0.75,
            "p_a<b": 0.25,
            "p_c": 0.75,
            "reason": None,
        },
        {
            "key": "y.png",
            "group": None,
            "event": None,
            "class": None,
            "confidence": None,
            "p_a<b": None,
            "p_c": None,
            "reason": "bad",
        },
        {
            "key": "z.png",
            "group": None,
            "event": 2,
            "class": "a<b",
            "confidence": 0.5,
            "p_a<b": 0.5,
            "p_c": 0.5,
            "reason": None,
        },
    ]
    of_arrays = answers(unlike=UnlikeScores(np.float32([1.5, 2, 0.5]), np.full((3, 2), -1, np.int16))).to_table()
    assert of_arrays.column("key").to_pylist() == ["0", "1", "2"]
    assert of_arrays.column("unlike_training").to_pylist() == [True, None, False]
    assert of_arrays.column("unlike_score").to_pylist() == [1.5, None, 0.5]
    assert of_arrays.column("unlike_reason").to_pylist() == ["unusual combination of features", None, None]
    assert of_arrays.column("reason").to_pylist()[1] == "the network gives it no finite probability"


def test_no_cells():
    found = ClassifiedCells(["a", "b"], np.empty((0, 2), np.float32))
    assert found.labels.shape == found.confidence.shape == (0,)
    assert found.to_table().num_rows == 0
    assert "0 cells" in found._repr_html_()


def test_notebooks_show_rows_without_markup_of_strangers():
    text = answers(keys=["<script>", "b", "c"])._repr_html_()
    assert "<td>&lt;script&gt;</td>" in text
    assert "<script>" not in text
    assert "<td>0.750</td>" in text
    many = ClassifiedCells(["a"], np.ones((1000, 1), np.float32))
    assert "995 more rows" in many._repr_html_()


def test_pandas(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(FastcellError, match=r"pandas must be installed for to_pandas\(\)"):
        answers().to_pandas()
    monkeypatch.undo()
    pytest.importorskip("pandas", reason="pandas is not installed")
    assert answers().to_pandas()["class"].tolist()[0] == "c"
