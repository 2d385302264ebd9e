"""State of the server: views by query, cells that a page means, progress, what to label next, a run's answers."""

import time

import numpy as np
import pytest

from fastcell.dataset.manifest import Manifest
from fastcell.dataset.marks.cell_ranges import read_ranges
from fastcell.errors import ArgumentError
from fastcell.predictions.table import read_predictions
from fastcell.review import review_set
from fastcell.review.cell_query import CellQuery
from fastcell.review.review_set import ReviewOptions, ReviewSet, saved_answers
from fastcell.runs.run_folder import PREDICTIONS_FILE

NO_QUERY = {"terms": [], "sort": ""}


@pytest.fixture
def begin(tmp_cache):
    made = []

    def start(data, run=None):
        made.append(ReviewSet(data, ReviewOptions(run, "default", "anna", dict(NO_QUERY))))
        return made[-1]

    yield start
    for one in made:
        one.close()


def wait(data):
    end = time.monotonic() + 60
    while data.job.running and time.monotonic() < end:
        time.sleep(0.02)
    assert data.job.error == ""


def test_views_by_query(planted, begin):
    data = begin(planted(60))
    left = CellQuery([{"column": "class", "is": ["left"]}])
    view = data.view(left)
    assert data.view(CellQuery([{"is": ["left"], "column": "class"}])) is view  # the same query, the same name
    assert data.named_view(view.name) is view
    data.marking.mark(np.array([0]), "anna", {"label": "top"})
    later = data.view(left)  # it follows marks
    assert set(view.rows) - set(later.rows) == {0}
    assert data.view(CellQuery([{"cells": "0-5"}])) is data.view(CellQuery([{"cells": "0-5"}]))
    assert data.chosen_cells({"view": later.name}).tolist() == sorted(later.rows.tolist())
    assert data.chosen_cells("3-5").tolist() == [3, 4, 5]
    for chosen in ({"view": "other"}, "", "60", None, [1]):
        with pytest.raises(ArgumentError):
            data.chosen_cells(chosen)
    for number in range(review_set._MOST_VIEWS + 1):
        data.view(CellQuery([{"cells": str(number)}]))
    assert data.named_view(later.name) is None  # forgotten


def test_loop_without_a_run(planted, begin):
    manifest = planted(90)
    data = begin(manifest)
    first = read_ranges(data.next_cells(12, "mixture"), 90)  # neither embedding nor labels: random
    assert len(first) == 12
    data.start_embedding()
    wait(data)
    recorded = manifest.column("class")
    for name in ("left", "right", "top"):
        data.marking.mark(first[recorded[first] == name], "anna", {"label": name})
    data.marking.mark(np.array([(set(range(90)) - set(first.tolist())).pop()]), "anna", {"unsure": True})
    found = data.progress()
    assert (found["labelled"], found["cells"], found["unsure"], found["dropped"]) == (12, 90, 1, 0)
    assert sum(found["classes"].values()) == 12
    share = found["agreement"]
    assert share["by"] == "page"
    assert 0 <= share["low"] <= share["value"] <= share["high"] <= 1
    chosen = read_ranges(data.next_cells(200, "mixture"), 90)
    assert len(chosen) == 77
    assert not set(chosen) & set(first)
    assert data._learner is not None
    learnt = data._learner
    data.marking.mark(chosen[:1], "anna", {"label": "left"})
    data.progress()
    assert data._learner is learnt  # one label more is not worth a fit
    data.next_cells(5, "uncertainty")
    assert data._learner is not learnt


def test_answers_of_a_run(trained_run, trained_data, begin):
    manifest = Manifest.open(trained_data)
    saved = saved_answers(trained_run, manifest)
    assert saved is not None
    table = read_predictions(trained_run / PREDICTIONS_FILE)
    rows = [manifest.column("key").tolist().index(key) for key in table.keys]
    assert np.flatnonzero(saved.known).tolist() == sorted(rows)
    np.testing.assert_array_equal(saved.probabilities[rows], table.probabilities)
    data = begin(manifest, trained_run)
    wait(data)
    answers = data.columns.answers
    assert answers is not None
    assert answers.known.all()
    np.testing.assert_allclose(answers.probabilities[rows], table.probabilities, atol=5e-3)
    assert np.isfinite(data.columns.numbers("embedding_2")).all()
    again = begin(manifest, trained_run)  # from the cache
    wait(again)
    assert again.job.done == 0
    assert again.columns.answers is not None
    np.testing.assert_array_equal(again.columns.answers.probabilities, answers.probabilities)


def test_a_run_of_other_cells_has_no_answers_yet(trained_run, planted):
    assert saved_answers(trained_run, planted(20)) is None
    assert saved_answers(trained_run / "nothing", planted(20, folder="other")) is None
