"""Intervals of scores from counts: exact by cell, coverage of F and balanced accuracy, bad counts."""

import numpy as np
import pytest
from scipy import stats

from fastcell.errors import ArgumentError
from fastcell.stats.score_intervals import f_score, mean_recall, one_vs_rest_accuracy, proportion
from fastcell.stats.scores import score


@pytest.mark.parametrize(("hits", "num"), [(4, 4), (0, 1), (1, 1), (0, 11), (93, 100)])
def test_shares_by_cell_are_clopper_pearson(hits, num):
    expected = stats.binomtest(hits, num).proportion_ci(0.95, "exact")
    found = proportion([hits], [num], grouped=False).interval()
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-9)
    assert (found.by, found.num_groups, found.note) == ("cell", 0, "")


def test_many_sets_at_once_are_as_one_by_one():
    rng = np.random.default_rng(0)
    cells = rng.integers(0, 50, (20, 6))
    hits = rng.binomial(cells, 0.8)
    together = proportion(hits, cells)
    for number in range(20):
        np.testing.assert_allclose(proportion(hits[number], cells[number])[:3], [part[number] for part in together[:3]])


def test_scores_by_group_have_the_values_of_the_pooled_matrix():
    rng = np.random.default_rng(0)
    tables = rng.integers(0, 30, (5, 3, 3))
    pooled = score(tables.sum(0))
    hits, support, called = (np.diagonal(tables, axis1=1, axis2=2).T, tables.sum(2).T, tables.sum(1).T)
    np.testing.assert_allclose(f_score(hits, support, called).value, pooled.f_score)
    assert mean_recall(tables).value == pytest.approx(pooled.balanced_accuracy)
    one = one_vs_rest_accuracy(hits.sum(0), support.sum(0), 3)
    assert one.value == pytest.approx(pooled.one_vs_rest_accuracy)
    assert one.low <= one.value <= one.high


def test_what_has_no_cells_has_no_interval():
    assert np.isnan(f_score([0], [0], [0])[:3]).all()
    assert np.isnan(mean_recall(np.zeros((2, 3, 3)))[:3]).all()
    one_class = mean_recall(np.array([[[9, 1], [0, 0]]]), grouped=False)
    assert one_class.value == pytest.approx(0.9)
    assert (one_class.low, one_class.high) == pytest.approx(
        stats.binomtest(9, 10).proportion_ci(0.95, "exact"), abs=0.02
    )


def test_a_group_without_the_class_drops_out():
    whole, part = proportion([8, 9, 0], [10, 10, 0]), proportion([8, 9], [10, 10])
    assert whole == part
    assert proportion([8, 0, 0], [10, 0, 0]).interval().by == "cell"


@pytest.mark.parametrize("hits", [[5, -1], [5, 11], [5, np.nan]])
def test_counts_that_cannot_be(hits):
    with pytest.raises(ArgumentError, match="hits must be at least 0"):
        proportion(hits, [10, 10])


@pytest.mark.parametrize("num", [10, 30, 300])
def test_coverage_by_cell(num):
    """F of a class of 20 % and balanced accuracy, 2,000 sets."""
    rng = np.random.default_rng(0)
    chances = np.array([0.2 * 0.8, 0.2 * 0.2, 0.8 * 0.05, 0.8 * 0.95])
    tables = rng.multinomial(num, chances, 2000).reshape(2000, 1, 2, 2)
    hits, support, called = tables[..., 0, 0], tables[..., 0, :].sum(-1), tables[..., :, 0].sum(-1)
    for bounds, truth in (
        (f_score(hits, support, called, grouped=False), 2 * 0.16 / (0.2 + 0.16 + 0.04)),
        (mean_recall(tables, grouped=False), (0.8 + 0.95) / 2),
    ):
        known = ~np.isnan(bounds.low) & (support[:, 0] > 0)
        assert ((bounds.low <= truth) & (truth <= bounds.high))[known].mean() >= 0.93
