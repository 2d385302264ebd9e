"""The simulation of intervals: populations with the means that it states, rows of the right kind, tables from them."""

import numpy as np
import pytest


@pytest.fixture
def intervals(program):
    return program("intervals")


@pytest.fixture
def parts(program):
    return program("interval_parts")


@pytest.fixture
def groups(program):
    return program("simulated_groups")


@pytest.mark.parametrize(("truth", "deviation"), [(0.5, 1.0), (0.95, 0.6), (0.99, 2.0)])
def test_groups_have_the_stated_mean(groups, truth, deviation):
    odds = groups.center(truth, deviation) + deviation * np.random.default_rng(0).standard_normal(1_000_000)
    assert (1 / (1 + np.exp(-odds))).mean() == pytest.approx(truth, abs=0.001)


def test_sizes(groups):
    rng = np.random.default_rng(0)
    assert (groups.draw_sizes("60", (3, 2), rng) == 60).all()
    drawn = groups.draw_sizes("5..1000", (1000, 5), rng)
    assert (drawn.min(), drawn.max()) == (pytest.approx(5, abs=1), pytest.approx(1000, rel=0.05))
    assert groups.draw_sizes(groups.SIZES[-1], (2, 3), rng).tolist() == [[1000, 20, 20]] * 2


def test_the_bootstrap_by_hand(program):
    """Two groups: each drawn twice with probability 1/4, so the limits are the groups themselves."""
    percentile_bootstrap = program("percentile_bootstrap")
    low, high = percentile_bootstrap.share_by_group(np.array([[9, 6]]), np.array([[10, 10]]), np.random.default_rng(0))
    assert (low[0], high[0]) == (0.6, 0.9)
    low, high = percentile_bootstrap.mean_by_group(np.array([[0.1, 0.3]]), np.random.default_rng(0))
    assert (low[0], high[0]) == (pytest.approx(0.1), pytest.approx(0.3))


def test_exact_sums_by_cell(parts):
    rows = [row for row in parts.by_cell(0, np.random.default_rng(0)) if row.cells == "1" and row.truth == 0.9]
    ours, boot = rows
    assert (ours.method, ours.coverage, ours.width) == ("interval", pytest.approx(1), pytest.approx(0.975))
    assert (boot.method, boot.coverage, boot.width) == ("percentile bootstrap", 0, 0)


def test_rows_of_counts_and_their_table(parts, program):
    coverages = program("coverage_tables").coverages
    rows = list(parts.counts_of_recordings(3, np.random.default_rng(0)))
    assert {row.groups for row in rows if row.assumed} == {1, 2, 3}
    lines = coverages([vars(row) for row in rows])
    assert lines[0] == "| | 1* group | 2* groups | 3* groups | 5 groups | 8 groups | 20 groups |"
    score = "share of a class in a new recording, deviation"
    names = {line.split(" | ")[0].strip("| ") for line in lines[2:6]}
    assert names == {f"{score} 0", f"{score} 0.5", f"*{score} 0.5, percentile bootstrap*", f"{score} 0.8"}
    assert lines[7] == "\\* relies on an assumed spread between groups."
    exact = coverages([vars(row) for row in parts.by_cell(0, np.random.default_rng(0))])
    assert exact[0].startswith("| cells | 1 | 2 |")
    assert exact[2].startswith("| interval | 0.9")
    assert exact[-1].startswith("Least coverage: 0.95")
    assert exact[-1].endswith("Below 0.93 less two standard errors (0.930): no setting is.")


def test_what_falls_below_the_target_is_counted(program):
    row = {"score": "F", "method": "interval", "groups": 3, "cells": "5", "deviation": 1.0, "truth": 0.8, "sets": 2000}
    row |= {"width": 0.1, "assumed": True}
    rows = [row | {"coverage": coverage} for coverage in (0.9, 0.918, 0.919)]
    rows += [row | {"score": "recall", "coverage": 0.95}, row | {"method": "percentile bootstrap", "coverage": 0.1}]
    rows.append(row | {"score": "false verdicts (no difference)", "coverage": 0.031})
    *_, covered, _, verdicts = program("coverage_tables").coverages(rows)
    assert covered == (
        "Least coverage: 0.900 (F, 3 groups, cells: 5, deviation 1, truth 0.8). Below 0.93 less two standard errors "
        "(0.919): 2 of 4 settings are. These settings by score: F, 2 of 3."
    )
    assert verdicts == "Most false verdicts: 0.031, in 1 settings; at most 0.06 is the target."


def test_widths_beside_a_trial(program):
    row = {"score": "accuracy", "width": 0.975, "trial": 0.5, "where": "cells: 1, truth 0.9"}
    rows = [row | {"groups": num, "settings": 1 + num, "wider": 1.95 - num / 2} for num in range(3)]
    lines = program("coverage_tables").widths(rows)
    assert lines[0] == "| | by cell | 1 group | 2 groups |"
    assert lines[2].startswith("| accuracy | 0.975 / 0.500 (1.950) | ")
    assert lines[-1].startswith("Widest beside the trial: 1.950 times (accuracy, by cell, cells: 1, truth 0.9), of 6")
    assert lines[-1].endswith("the target. Above it: 2 entries.")


def test_examples(intervals):
    found = {one.example: one for one in intervals.examples()}
    assert (found["4 of 4 right"].replaced, found["4 of 4 right"].interval) == ("1.000..1.000", "0.398..1.000")
    assert found["better in all of 4 groups"].interval == "cannot tell with 4 groups"
    assert found["better in all of 6 groups"].interval == "p = 0.0312"
    assert found["test subset of one donor of six"].interval.startswith("by cell (1 group only")
