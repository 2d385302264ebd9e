"""The simulation of intervals: populations with the means that it states, rows of the right kind, tables from them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest


@pytest.fixture
def intervals(program: Any) -> Any:
    return program("intervals")


@pytest.mark.parametrize(("truth", "deviation"), [(0.5, 1.0), (0.95, 0.6), (0.99, 2.0)])
def test_groups_have_the_stated_mean(intervals: Any, truth: float, deviation: float) -> None:
    odds = intervals.center(truth, deviation) + deviation * np.random.default_rng(0).standard_normal(1_000_000)
    assert (1 / (1 + np.exp(-odds))).mean() == pytest.approx(truth, abs=0.001)


def test_sizes(intervals: Any) -> None:
    rng = np.random.default_rng(0)
    assert (intervals.draw_sizes("60", (3, 2), rng) == 60).all()
    drawn = intervals.draw_sizes("5..1000", (1000, 5), rng)
    assert (drawn.min(), drawn.max()) == (pytest.approx(5, abs=1), pytest.approx(1000, rel=0.05))
    assert intervals.draw_sizes(intervals.SIZES[-1], (2, 3), rng).tolist() == [[1000, 20, 20]] * 2


def test_the_bootstrap_by_hand(program: Any) -> None:
    """Two groups: each drawn twice with probability 1/4, so the limits are the groups themselves."""
    percentile_bootstrap = program("percentile_bootstrap")
    low, high = percentile_bootstrap.share_by_group(np.array([[9, 6]]), np.array([[10, 10]]), np.random.default_rng(0))
    assert (low[0], high[0]) == (0.6, 0.9)
    low, high = percentile_bootstrap.mean_by_group(np.array([[0.1, 0.3]]), np.random.default_rng(0))
    assert (low[0], high[0]) == (pytest.approx(0.1), pytest.approx(0.3))


def test_exact_sums_by_cell(intervals: Any) -> None:
    rows = [row for row in intervals.by_cell(0, np.random.default_rng(0)) if row.cells == "1" and row.truth == 0.9]
    ours, boot = rows
    assert (ours.method, ours.coverage, ours.width) == ("interval", pytest.approx(1), pytest.approx(0.975))
    assert (boot.method, boot.coverage, boot.width) == ("percentile bootstrap", 0, 0)


def test_rows_of_counts_and_their_table(intervals: Any, program: Any) -> None:
    rows = list(intervals.counts_of_recordings(3, np.random.default_rng(0)))
    assert {row.groups for row in rows if row.assumed} == {1, 2, 3}
    lines = program("table")._coverages([vars(row) for row in rows])
    assert lines[0] == "| | 1* group | 2* groups | 3* groups | 5 groups | 8 groups | 20 groups |"
    score = "share of a class in a new recording"
    names = {line.split(" | ")[0].strip("| ") for line in lines[2:5]}
    assert names == {score, f"*{score}, percentile bootstrap*", f"{score}, deviation 0.8"}
    assert lines[-1] == "\\* rests on an assumed spread."
    exact = program("table")._coverages([vars(row) for row in intervals.by_cell(0, np.random.default_rng(0))])
    assert exact[0].startswith("| cells | 1 | 2 |")
    assert exact[2].startswith("| interval | 0.9")


def test_examples(intervals: Any) -> None:
    found = {one.example: one for one in intervals.examples()}
    assert (found["4 of 4 right"].replaced, found["4 of 4 right"].interval) == ("1.000..1.000", "0.398..1.000")
    assert found["better in all of 4 groups"].interval == "cannot tell with 4 groups"
    assert found["better in all of 6 groups"].interval == "p = 0.0312"
    assert found["test subset of one donor of six"].interval.startswith("by cell (1 group only")
