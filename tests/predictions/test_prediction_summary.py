"""Counts over predictions, whole and in pieces."""

import numpy as np
import pyarrow as pa
import pytest

from fastcell.predictions.prediction_summary import PredictionSummary, describe_unlike
from fastcell.runs.prediction_columns import NOT_FINITE, UNSURE

TABLE = pa.table(
    {
        "class": ["a", None, "b", UNSURE, "a", None],
        "group": ["g", "g", None, "h", "h", None],
        "reason": pa.array([None, NOT_FINITE, None, "below", None, "short"], pa.string()),
        "unlike_training": [True, None, False, False, True, None],
    }
)


@pytest.mark.parametrize("step", [1, 2, 6])
def test_pieces_count_as_the_whole(step):
    summary = PredictionSummary(["a", "b", "c"])
    for begin in range(0, TABLE.num_rows, step):
        summary.add(TABLE.slice(begin, step))
    summary.add(TABLE.slice(0, 0))
    assert (summary.num_rows, summary.num_unsure, summary.num_not_finite) == (6, 1, 1)
    assert summary.num_of_class == {"a": 2, "b": 1, "c": 0}
    assert summary.num_without_class == 2
    assert summary.unlike == {"g": (1, 1), "": (0, 1), "h": (1, 2)}
    assert summary.lines() == [
        "a 2  b 1  c 0  unsure 1",
        "2 of 4 cells (50.0%) look unlike training cells, chance 5%",
    ]


def test_a_class_may_have_the_name_of_unsure_cells():
    summary = PredictionSummary([UNSURE])
    summary.add(pa.table({"class": [UNSURE, None], "reason": pa.nulls(2, pa.string())}))
    assert (summary.num_unsure, summary.num_without_class, summary.lines()) == (0, 1, [f"{UNSURE} 1"])


def test_cells_without_scores_are_not_described():
    summary = PredictionSummary(["a"])
    summary.add(TABLE.set_column(3, "unlike_training", pa.nulls(6, pa.bool_())))
    assert len(summary.lines()) == 1


def counts(unlike, groups):
    return {str(name): (int(unlike[groups == name].sum()), int((groups == name).sum())) for name in np.unique(groups)}


def test_recordings_above_chance_are_named():
    unlike = np.zeros(300, bool)
    unlike[:60] = True
    groups = np.repeat(["a", "b\x1b[1m", "c"], 100)
    text = "60 of 300 cells (20.0%) look unlike training cells, chance 5%; above chance in a 60 of 100"
    assert describe_unlike(counts(unlike, groups)) == text
    unlike[150:190] = True
    assert describe_unlike(counts(unlike, groups)).endswith("above chance in a 60 of 100, b\\x1b[1m 40 of 100")
    assert describe_unlike(counts(unlike, np.full(300, ""))).endswith("chance 5%: more than by chance")
    none = counts(np.zeros(9, bool), np.full(9, ""))
    assert describe_unlike(none) == "0 of 9 cells (0.0%) look unlike training cells, chance 5%"
    many = np.repeat([f"r{number}" for number in range(8)], 40)
    assert describe_unlike(counts(np.ones(320, bool), many)).endswith("r4 40 of 40, and 3 more")
