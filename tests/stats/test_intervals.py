"""The core of all intervals: degrees of freedom, never narrower than by cell, coverage, degenerate groups."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastcell.stats.intervals import Interval, degrees_of_freedom, group_note, no_interval, unit_numbers
from fastcell.stats.proportions import clopper_pearson_interval
from fastcell.stats.score_intervals import proportion


def test_degrees_of_freedom_are_those_of_the_matrices():
    rng = np.random.default_rng(0)
    for _ in range(20):
        num = int(rng.integers(2, 9))
        share = rng.dirichlet(np.full(num, 2.0))
        removes_mean = np.eye(num) - np.outer(np.ones(num), share)
        found = []
        for variance in (1 / share, np.ones(num)):
            form = removes_mean.T @ np.diag(share**2 / (1 - share)) @ removes_mean @ np.diag(variance)
            found.append(np.trace(form) ** 2 / np.trace(form @ form))
        assert degrees_of_freedom(share) == pytest.approx(min(found), rel=1e-6)
        assert degrees_of_freedom(np.append(share, 0.0)) == pytest.approx(min(found), rel=1e-6)  # an absent group
    assert degrees_of_freedom(np.full((3, 7), 1 / 7)) == pytest.approx([6, 6, 6])


counts = st.lists(st.tuples(st.integers(0, 200), st.floats(0, 1)), min_size=1, max_size=12)


@settings(max_examples=100)
@given(counts)
def test_by_group_is_never_narrower_than_by_cell(groups):
    cells = np.array([num for num, _ in groups])
    hits = np.array([round(num * share) for num, share in groups])
    if not cells.sum():
        assert np.isnan(proportion(hits, cells).low)
        return
    by_group, by_cell = proportion(hits, cells).interval(), proportion(hits, cells, grouped=False).interval()
    assert 0 <= by_group.low <= by_cell.low <= by_cell.value <= by_cell.high <= by_group.high <= 1
    assert by_group.num_groups == (cells > 0).sum()
    assert by_group.by == ("group" if by_group.num_groups > 1 else "cell")
    expected = clopper_pearson_interval(int(hits.sum()), int(cells.sum()))
    np.testing.assert_allclose((by_cell.low, by_cell.high), expected, atol=1e-9)


def test_examples_whose_intervals_are_known():
    """Where the percentile bootstrap gave .851 to .853, .915 to .963 and 1 to 1."""
    two = proportion([80, 87], [94, 102]).interval()
    assert (two.low, two.high) == pytest.approx((0.478, 0.984), abs=5e-4)
    assert two.note == "2 groups only, interval relies on an assumed spread between groups"
    four = proportion([148, 152, 156, 159], [164] * 4).interval()
    assert (four.low, four.high) == pytest.approx((0.833, 0.981), abs=5e-4)
    right = proportion([3, 3], [3, 3]).interval()
    assert (right.low, right.high) == pytest.approx((0.32, 1), abs=0.01)


def test_each_cell_a_group_is_by_cell():
    hits = (np.arange(400) < 340).astype(int)
    by_group, by_cell = proportion(hits, np.ones(400)).interval(), proportion([340], [400], grouped=False).interval()
    assert (by_group.low, by_group.high) == pytest.approx((by_cell.low, by_cell.high), abs=0.01)


def test_a_giant_group_and_many_groups():
    giant = proportion([990, 0], [1000, 1]).interval()
    assert giant.high - giant.low > 0.15  # as one group is nearly all there is
    rng = np.random.default_rng(0)
    many = proportion(rng.binomial(100, 0.9, 10_000), np.full(10_000, 100)).interval()
    assert (many.low, many.high) == pytest.approx((0.9, 0.9), abs=0.002)


def test_groups_with_no_name_are_cells_by_themselves():
    assert unit_numbers(np.array(["b", "", "a", "b", ""])).tolist() == [1, 2, 0, 1, 3]
    assert unit_numbers(np.array([7, 3, 7])).tolist() == [1, 0, 1]
    assert unit_numbers(np.array([], str)).tolist() == []


def test_what_is_said_beside_it():
    assert [group_note(num) for num in (0, 6, 100)] == ["", "", ""]
    assert group_note(1).startswith("1 group only")
    assert "5 groups only, interval relies on an assumed spread" in group_note(5)
    assert Interval(0.9124, 0.89, 0.9309, "cell", 0, "").describe() == "0.912 (0.890 to 0.931)"
    none = no_interval(0.5, "3 cells")
    assert none.describe() == "0.500 (no interval: 3 cells)"
    expected = {"value": 0.5, "low": None, "high": None, "by": "none", "note": "3 cells"}
    assert json.loads(json.dumps(none.as_json())) == expected


@pytest.mark.parametrize(("num_groups", "deviation"), [(2, 0.6), (3, 0.6), (6, 1.0), (20, 0.0)])
def test_coverage(num_groups, deviation):
    """2,000 sets of 60 cells a group."""
    rng = np.random.default_rng(1)
    odds = 2.0 + deviation * rng.standard_normal((2_000_000,))
    truth = (1 / (1 + np.exp(-odds))).mean()
    groups = 1 / (1 + np.exp(-odds[: 2000 * num_groups].reshape(2000, num_groups)))
    found = proportion(rng.binomial(60, groups), np.full(groups.shape, 60))
    covered = ((found.low <= truth) & (truth <= found.high)).mean()
    assert covered >= 0.93
    assert np.median(found.high - found.low) < {2: 0.6, 3: 0.45, 6: 0.32, 20: 0.07}[num_groups]
