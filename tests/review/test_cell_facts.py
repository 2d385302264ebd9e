"""What the page shows of cells: facts in the order of the cells, one cell with neighbours and history, occlusion."""

import numpy as np

from fastcell.dataset.manifest import Manifest
from fastcell.dataset.marks.journal import Mark
from fastcell.review.cell_facts import CellFacts, numbers_or_none, rows_of, words_of
from fastcell.review.review_set import ReviewOptions, ReviewSet


def begin(data, run=None):
    return ReviewSet(data, ReviewOptions(run, "default", "anna", {"terms": [], "sort": ""}))


def test_rows(planted):
    manifest = planted(60)
    data = begin(manifest)
    data.marking.mark(np.array([7]), "anna", {"label": "new", "tag": "odd", "unsure": True})
    data.marking.mark(np.array([8]), "anna", {"verdict": "drop"})
    found = rows_of(data, np.array([8, 7, 30]))
    assert found["id"] == [8, 7, 30]
    assert found["key"] == manifest.column("key")[[8, 7, 30]].tolist()
    assert found["class"] == [manifest.column("class")[8], "new", manifest.column("class")[30]]
    assert (found["by_hand"], found["unsure"], found["drop"]) == (
        [False, True, False], [False, True, False], [True, False, False],
    )  # fmt: skip
    assert found["tags"] == [[], ["odd"], []]
    assert found["um_per_px"] == [None] * 3
    assert (found["height"], found["width"]) == ([12] * 3, [16] * 3)


def test_one_cell(planted):
    data = begin(planted(60))
    data.marking.mark(np.array([7]), "anna", {"label": "new"})
    data.marking.step_back("anna", redo=False)
    found = CellFacts(data).of(7)
    assert found["history"][0]["said"] == "class new"
    assert found["history"][0]["undone"]
    assert 7 in found["in_time"]
    assert found["near"] == []  # no embedding yet
    numbers = {name: (value, rank) for name, value, rank in found["numbers"]}
    assert numbers["cell_id"] == (7.0, 7 / 60)
    assert "um_per_px" not in numbers
    assert found["categories"]["subset"] == data.manifest.split("default")[7]


def test_occlusion_finds_what_the_network_looks_at(trained_run, trained_data, tmp_cache):
    data = begin(Manifest.open(trained_data), trained_run)
    found = CellFacts(data).occlusion(0, 4)
    data.close()
    data.job._thread.join()
    assert found is not None
    covered = np.array(found["covered"])
    assert covered.shape == (4, 4)
    answer = data.job.classifier().predict_proba([data.thumbnails.cells(np.array([0]))[0]])[0]
    assert found["name"] == data.job.classifier().classes[int(answer.argmax())]
    assert ((covered >= 0) & (covered <= 1)).all()
    assert covered.std() > 0


def test_words():
    cells = np.array([1])
    assert words_of(Mark.now("a", cells, label="x", verdict="drop")) == "class x, drop"
    assert words_of(Mark.now("a", cells, label="", unsure=False, tag="t")) == "no class, sure, tag t"
    assert words_of(Mark.now("a", cells, reset=True, untag="t", verdict="")) == (
        "class as recorded, no verdict, without tag t"
    )
    assert numbers_or_none(np.array([0.123456, np.nan, np.inf, 1234567], np.float32)) == [0.1235, None, None, 1235000.0]
