"""Flags of cells as numbers, from tables that have all columns and from those that lack some."""

from pathlib import Path

import numpy as np
import pyarrow as pa

from fastcell.predictions import gate_columns
from fastcell.predictions.gate_columns import code_texts
from fastcell.predictions.table import Predictions


def predictions(**columns):
    """Two classes; the last cell has no prediction."""
    scores = {"p_A": pa.array([0.75, None], pa.float32()), "p_B": pa.array([0.25, None], pa.float32())}
    table = pa.table({"key": ["a", "b"], "class": ["A", None], **scores, **columns})
    return Predictions(table, ["A", "B"], Path("p"))


def test_a_table_of_an_older_version():
    """Confidence comes from the probabilities; what nobody wrote is left out or unknown."""
    found = gate_columns.gate_columns(predictions())
    assert list(found.numbers()) == list(found.columns()) == ["confidence", "unsure", "reason"]
    np.testing.assert_array_equal(found.confidence, np.array([0.75, np.nan], np.float32))
    np.testing.assert_array_equal(found.unsure, [0, np.nan])
    assert found.numbers()["reason"].tolist() == [0, 0]
    assert found.texts() == {"reason": []}


def test_columns_without_a_value():
    """A checkpoint without statistics of training cells leaves these columns empty: they stay, as unknown."""
    empty = {"unlike_training": pa.nulls(2, pa.bool_()), "unlike_score": pa.nulls(2, pa.float32())}
    found = gate_columns.gate_columns(predictions(**empty, unlike_reason=pa.nulls(2, pa.string())))
    assert np.isnan(found.numbers()["unlike_training"]).all()
    assert np.isnan(found.numbers()["unlike_score"]).all()
    assert found.numbers()["unlike_reason"].tolist() == [0, 0]


def test_codes_are_those_of_the_texts():
    codes, texts = code_texts(np.array(["b", "", "a", "b"], object))
    assert (codes.tolist(), texts) == ([2, 0, 1, 2], ["a", "b"])
    codes, texts = code_texts(np.array([], object))
    assert (codes.tolist(), texts) == ([], [])


def test_more_texts_than_codes(monkeypatch):
    monkeypatch.setattr(gate_columns, "MOST_TEXTS", 3)
    codes, texts = code_texts(np.array(["d", "a", "c", "b", "d", "b", ""], object))
    assert texts == ["b", "d", "other"]
    assert codes.tolist() == [2, 3, 3, 1, 2, 1, 0]
