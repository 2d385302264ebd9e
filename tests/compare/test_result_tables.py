"""Scores of a study are those of its finished tasks: pooled, paired, and with intervals by group."""

import numpy as np
import pytest
from fixtures.study_results import result, tables

from fastcell.compare.write_tables import basis_text, difference_table
from fastcell.stats.proportions import clopper_pearson_interval


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
    assert basis_text(entry) == "by group (4 groups only, interval relies on an assumed spread between groups)"
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
    assert (same.value, same.verdict) == (0, "cannot tell with 40 cells: 0 differ, 6 are needed")
    assert same.low < 0 < same.high
    lines = difference_table([one])
    assert "| CNN minus kNN | +0.250 (" in lines[2]
    assert lines[-1] == "Intervals and exact sign-flip tests over 40 cells."


def test_a_verdict_needs_six_groups():
    units = np.arange(100) // 10
    made = tables(result("cnn", 0), result("knn", 40), units=units)
    (one,) = made.differences(list(made.by_place), "", ["CNN", "kNN"])
    assert (one.value, one.by, one.num_units) == (1, "group", 4)
    assert one.verdict == "cannot tell with 4 groups, although the interval excludes 0"
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
