"""Tables say what the finished cells say: values, spreads, intervals, marks."""

import csv

import numpy as np
import pytest

from fastcell.compare.result_tables import (
    Tables,
    basis_text,
    class_table,
    difference_table,
    frame_words,
    mark_best,
    time_table,
    volume_table,
    write_rows,
)
from fastcell.compare.saved_results import Task, make_result
from fastcell.stats.proportions import clopper_pearson_interval

LABELS = np.array([0, 1] * 50)


def result(method, wrong, seed=0, split="default", rows=None, volume=1.0):
    """Of 100 cells: the first 50 train, the next 10 validate, the others test, the first `wrong` of them wrongly."""
    rows = np.arange(60, 100) if rows is None else rows
    parts = {"train": np.arange(50), "valid": np.arange(50, 60), "test": rows}
    called = {part: LABELS[ids].copy() for part, ids in parts.items()}
    called["test"][:wrong] = 1 - called["test"][:wrong]
    task = Task(method, "default", split, volume, seed, 16)
    return make_result(task, parts, called, 2.0, 0.04, {"backend": "sklearn"})


def tables(*results, units=None):
    return Tables(
        results, LABELS, ["A", "B"], np.arange(100) if units is None else units, "cell" if units is None else "group"
    )


def test_mean_and_spread_over_seeds():
    entries = tables(result("knn", 4), result("knn", 8, seed=1)).entries()
    train, _valid, test = entries
    assert (train.accuracy, train.std, train.low, train.high) == (1, 0, pytest.approx(0.025 ** (1 / 50)), 1)
    assert test.by_seed == [0.9, 0.8]
    assert test.accuracy == pytest.approx(0.85)
    assert test.std == pytest.approx(np.std([0.9, 0.8], ddof=1))
    assert (test.num_train, test.num_cells, test.num_seeds, test.num_splits) == (50, 40, 2, 1)
    assert (test.fit_s, test.predict_us, test.device) == (2.0, pytest.approx(1000), "sklearn")
    # 34 of 40 cells on the average over two seeds: each cell counts once
    assert (test.low, test.high) == pytest.approx(clopper_pearson_interval(34, 40))
    assert (test.by, test.num_units, test.note, basis_text(test)) == ("cell", 40, "", "by cell")


def test_intervals_are_by_group():
    units = np.arange(100) // 10  # the wrong cells are all of one group out of four
    (entry,) = [e for e in tables(result("knn", 10), units=units).entries() if e.part == "test"]
    assert entry.accuracy == 0.75
    assert entry.low < 0.4
    assert entry.high > 0.93
    assert basis_text(entry) == "by group (4 groups only: rests on an assumed spread between groups)"
    one = tables(result("knn", 10), units=np.zeros(100, int))
    (entry,) = [e for e in one.entries() if e.part == "test"]
    assert (entry.low, entry.high) == pytest.approx(clopper_pearson_interval(30, 40))
    assert basis_text(entry).startswith("by cell (1 group only: holds for further cells of this group")
    many = tables(result("knn", 10), units=np.arange(100) // 5)
    (entry,) = [e for e in many.entries() if e.part == "test"]
    assert basis_text(entry) == "by group (8 of them)"


def test_folds_are_pooled():
    first, second = np.arange(60, 80), np.arange(80, 100)
    pooled = tables(result("knn", 2, split="fold-0", rows=first), result("knn", 4, split="fold-1", rows=second))
    (test,) = [entry for entry in pooled.entries() if entry.part == "test"]
    assert (test.num_cells, test.num_splits, test.accuracy) == (40, 2, pytest.approx(34 / 40))
    ((rows, _called),) = pooled.called(("default", "knn", 16, 1.0), "test")
    assert rows.tolist() == list(range(60, 100))


def test_differences_are_paired():
    made = tables(result("cnn", 4), result("knn", 14))
    places = list(made.by_place)
    (one,) = made.differences(places, "volume 1", ["CNN", "kNN"])
    assert one.value == pytest.approx(0.25)
    assert one.low == pytest.approx(
        10 / 42 - 1.96 * np.sqrt((12 / 42 - (10 / 42) ** 2) / 42), rel=1e-3
    )  # Bonett and Price
    assert one.p == pytest.approx(2 / 2**10)
    assert (one.verdict, one.by, one.num_units) == ("CNN is better (p = 0.002)", "cell", 40)
    (same,) = tables(result("cnn", 4), result("knn", 4)).differences(places, "", ["CNN", "kNN"])
    assert (same.value, same.verdict) == (0, "cannot tell with 40 cells: 0 differ, 6 must")
    assert same.low < 0 < same.high
    lines = difference_table([one])
    assert "| CNN minus kNN | +0.250 (" in lines[2]
    assert lines[-1] == "Intervals and exact sign-flip tests over 40 cells."


def test_a_verdict_needs_six_groups():
    units = np.arange(100) // 10
    made = tables(result("cnn", 0), result("knn", 40), units=units)
    (one,) = made.differences(list(made.by_place), "", ["CNN", "kNN"])
    assert (one.value, one.verdict, one.by, one.num_units) == (1, "cannot tell with 4 groups", "group", 4)
    donor = tables(result("cnn", 0), result("knn", 40), units=np.zeros(100, int))
    (one,) = donor.differences(list(donor.by_place), "", ["CNN", "kNN"])
    assert (one.by, one.num_units) == ("cell", 40)
    assert one.verdict.endswith("for cells of this one group only")
    twenty = tables(result("cnn", 0), result("knn", 40), units=np.arange(100) // 5)
    (one,) = twenty.differences(list(twenty.by_place), "", ["CNN", "kNN"])
    assert (one.verdict, one.num_units) == ("CNN is better (p = 0.0078)", 8)


def test_seeds_do_not_add_cells():
    once, twice = (
        tables(*(result(method, wrong, seed) for method, wrong in (("cnn", 4), ("knn", 14)) for seed in range(seeds)))
        for seeds in (1, 2)
    )
    found = [made.differences(list(made.by_place), "", ["CNN", "kNN"])[0] for made in (once, twice)]
    assert (found[0].low, found[0].high, found[0].p) == (found[1].low, found[1].high, found[1].p)


def test_differences_are_on_the_cells_that_both_test():
    made = tables(result("cnn", 0, rows=np.arange(60, 90)), result("knn", 5, rows=np.arange(70, 100)))
    (one,) = made.differences(list(made.by_place), "", ["CNN", "kNN"])
    assert (one.num_cells, one.value) == (20, 0.25)


def test_best_and_second_best_are_marked_as_printed():
    values = np.array([[0.9, 0.5, np.nan], [0.8, 0.5004, 0.7], [0.8004, 0.3, 0.6], [0.1, 0.2, 0.5]])
    assert mark_best(values) == [
        ["**0.900**", "**0.500**", "-"],
        ["*0.800*", "**0.500**", "**0.700**"],
        ["*0.800*", "*0.300*", "*0.600*"],
        ["0.100", "0.200", "0.500"],
    ]
    assert mark_best(np.array([[0.0], [0.0], [0.3]])) == [["0.000"], ["0.000"], ["**0.300**"]]
    assert mark_best(values[:1]) == [["0.900", "0.500", "-"]]


def test_tables_in_the_papers_form():
    made = tables(result("cnn", 0), result("knn", 10), result("knn", 20, volume=0.1))
    names = {"cnn": "CNN", "knn": "kNN"}
    entries = made.entries()
    lines = volume_table(entries, names)
    assert lines[0] == "| method | subset | 50 (0.1) | 50 (1) |"
    assert lines[2] == "| CNN | test |  | 1.000 (0.912..1.000) |"
    assert [line.split(" | ")[:2] for line in lines[5:]] == [
        ["| kNN", "test"],
        ["| kNN", "validation"],
        ["| kNN", "training"],
    ]
    places = [place for place in made.by_place if place[3] == 1]
    by_class = class_table([made.class_scores(place, "test") for place in places], ["A", "B"], names)
    assert by_class[2:6] == [
        "| precision | CNN | **1.000** | **1.000** |",
        "| precision | kNN | *0.750* | *0.750* |",
        "| recall | CNN | **1.000** | **1.000** |",
        "| recall | kNN | *0.750* | *0.750* |",
    ]
    assert time_table(entries, names)[-1] == "| kNN | sklearn | 2.0 s | 2.0 s | 1,000 µs |"


def test_rows_as_csv(tmp_path):
    entries = tables(result("knn", 4), result("knn", 8, seed=1)).entries()
    write_rows(tmp_path / "accuracy.csv", entries)
    with open(tmp_path / "accuracy.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["part"] for row in rows] == ["train", "valid", "test"]
    assert (rows[2]["accuracy"], rows[2]["by_seed"]) == ("0.85", "0.9 0.8")


@pytest.mark.parametrize(
    ("wrong", "named"),
    [({"cnn": 14, "knn": 0, "frame": 14}, "CNN (+0.000 to the frame)"), ({"cnn": 0, "knn": 0, "frame": 20}, None)],
)
def test_a_frame_that_is_as_good_as_a_method_is_said_in_words(wrong, named):
    made = tables(*(result(method, number) for method, number in wrong.items()))
    display = {"cnn": "CNN", "knn": "kNN", "frame": "frame alone (kNN)"}
    differences = made.differences(list(made.by_place), "", [display[place[1]] for place in made.by_place])
    words = frame_words(differences, display["frame"])
    assert frame_words(differences, None) == []
    if named is None:
        assert words == []
    else:
        assert named in words[0]
        assert "kNN (+" not in words[0].replace("frame alone (kNN)", "")
