"""Tables of a study as Markdown and CSV."""

import csv

import numpy as np
import pytest
from fixtures.study_results import LABELS, result, tables

from fastcell.compare.result_tables import Tables
from fastcell.compare.write_tables import (
    class_table,
    difference_table,
    frame_words,
    mark_best,
    time_table,
    volume_table,
    write_rows,
)


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
    three = Tables([result("knn", 40)], LABELS, ["A", "B", "C"], np.arange(100), "cell")
    rare = class_table([three.class_scores(places[-1], "test")], ["A", "B", "C"], names)
    assert rare[0] == "| measure | method | A | B |"  # no cell of C
    ones = Tables([result("knn", 20, rows=np.arange(61, 100, 2))], LABELS, ["A", "B"], np.arange(100), "cell")
    lost = class_table([ones.class_scores(places[-1], "test")], ["A", "B"], names)
    assert lost[0] == "| measure | method | B |"
    assert lost[2:4] == ["| precision | kNN | - |", "| recall | kNN | 0.000 |"]  # no cell is predicted as B
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
        assert f"the frame alone is not significantly worse than {named}" in words[0]
        assert "cannot be told" not in words[0]
        assert "kNN (+" not in words[0].replace("frame alone (kNN)", "")


def test_few_groups_cannot_tell_whether_the_frame_is_worse():
    """A method far ahead of the frame in 3 groups is not called as good as it."""
    made = tables(result("cnn", 12), result("frame", 20), units=np.arange(100) % 3)
    (one,) = made.differences(list(made.by_place), "", ["CNN", "frame"])
    assert one.verdict.startswith("cannot tell with 3 groups")
    assert one.low < 0
    words = frame_words([one], "frame")
    assert words[0].startswith(
        "**On these test cells, it cannot be told whether the frame alone is worse than CNN (+0.2"
    )


def test_an_interval_that_excludes_0_beside_no_verdict_is_explained():
    units = np.arange(100) // 10
    made = tables(result("cnn", 0), result("knn", 40), units=units)
    (four,) = made.differences(list(made.by_place), "", ["CNN", "kNN"])
    assert four.low > 0
    lines = difference_table([four])
    assert lines[2].endswith("| cannot tell with 4 groups, although the interval excludes 0 |")
    assert "over 4 groups. The verdict is that of the test." in lines[-1]
    cells = tables(result("cnn", 0), result("knn", 40))
    (forty,) = cells.differences(list(cells.by_place), "", ["CNN", "kNN"])
    assert difference_table([forty])[-1] == "Intervals and exact sign-flip tests over 40 cells."
