"""Resampling: what is drawn, and intervals known from theory."""

import numpy as np
import pytest

from fastcell.stats.bootstrap import (
    Interval,
    bootstrap_statistic,
    draw_rates,
    draw_shares,
    mean_interval,
    paired_difference,
    percentile_interval,
    resample_confusion,
    resample_table,
    resample_weights,
    resampled_unit,
    usable_groups,
)
from fastcell.stats.scores import score


def test_resamples_are_of_whole_groups_and_of_the_right_size():
    groups = np.array(["a", "a", "b", "c"])
    for weight in resample_weights(4, groups, 50):
        assert weight[0] == weight[1]
        assert weight[0] + weight[2] + weight[3] == 3
    assert all(weight.sum() == 4 for weight in resample_weights(4, None, 50))
    assert usable_groups(np.array(["a", "a"])) is None
    assert usable_groups(None) is None


def test_bootstrap_by_cell_has_the_binomial_spread():
    labels = np.zeros(400, int)
    predicted = (np.arange(400) >= 300).astype(int)
    low, high = percentile_interval(score(resample_confusion(labels, predicted, 2)).accuracy)
    sigma = np.sqrt(0.75 * 0.25 / 400)
    assert low == pytest.approx(0.75 - 1.96 * sigma, abs=0.01)
    assert high == pytest.approx(0.75 + 1.96 * sigma, abs=0.01)


def test_bootstrap_by_group_is_wider_where_groups_differ():
    labels = np.zeros(400, int)
    groups = np.repeat(np.arange(8), 50)
    predicted = (groups >= 6).astype(int)  # two recordings wrong throughout
    by_cell = percentile_interval(score(resample_confusion(labels, predicted, 2)).accuracy)
    by_group = percentile_interval(score(resample_confusion(labels, predicted, 2, groups)).accuracy)
    assert by_group[1] - by_group[0] > 3 * (by_cell[1] - by_cell[0])


def test_every_resample_by_group_is_made_of_whole_groups():
    labels = np.array([0, 0, 1, 1, 1])
    groups = np.array(["a", "a", "b", "b", "b"])
    tables = resample_confusion(labels, labels, 2, groups, num_resamples=200)
    seen = {tuple(np.diagonal(table)) for table in tables}
    assert seen == {(4, 0), (2, 3), (0, 6)}


def test_paired_difference():
    labels = np.zeros(1000, int)
    first, second = np.zeros(1000, int), np.zeros(1000, int)
    first[:100] = 1
    second[50:250] = 1
    gain, low, high = paired_difference(labels, first, second)
    assert gain == pytest.approx(0.1)
    spread = np.sqrt((0.05 + 0.15 - 0.1**2) / 1000)
    assert low == pytest.approx(0.1 - 1.96 * spread, abs=0.004)
    assert high == pytest.approx(0.1 + 1.96 * spread, abs=0.004)
    assert paired_difference(labels, first, first) == (0, 0, 0)


def test_interval_by_hand_and_without_what_is_not_known():
    values = np.stack([np.arange(101.0), np.full(101, np.nan)], axis=1)
    low, high = percentile_interval(values, tail=5)
    np.testing.assert_allclose(low, [5, np.nan])
    np.testing.assert_allclose(high, [95, np.nan])
    gaps = np.where(np.arange(202) % 2, np.nan, np.arange(202) / 2)
    assert percentile_interval(gaps, tail=5) == pytest.approx((5, 95))


def test_mean_of_cells_and_of_whole_units():
    values = np.array([1.0, 1.0, 0.0, 0.0] * 100)
    mean, low, high = mean_interval(values)
    assert mean == 0.5
    assert high - 0.5 == pytest.approx(1.96 * np.sqrt(0.25 / 400), rel=0.05)
    assert 0.5 - low == pytest.approx(high - 0.5, abs=0.005)
    units = np.repeat(np.arange(4), 100)  # four units with means of 1, 1, 0 and 0
    values = np.repeat([1.0, 1.0, 0.0, 0.0], 100)
    mean, low, high = mean_interval(values, units)
    assert (mean, low, high) == (0.5, 0.0, 1.0)  # (1/2)^4 = 6 % of the draws hold one kind of unit alone


def test_large_units_count_with_all_their_cells():
    values, units = np.array([1.0] * 9 + [0.0]), np.array(["a"] * 9 + ["b"])
    mean, low, high = mean_interval(values, units, num_resamples=2000)
    assert (mean, low, high) == (0.9, 0.0, 1.0)
    assert mean_interval(np.full(10, 0.25), units) == (0.25, 0.25, 0.25)


def test_the_seed_makes_the_draw():
    labels, predicted = np.array([0, 0, 1, 1, 1, 0]), np.array([0, 1, 1, 1, 0, 0])
    first = resample_confusion(labels, predicted, 2, num_resamples=50, seed=1)
    assert np.array_equal(first, resample_confusion(labels, predicted, 2, num_resamples=50, seed=1))
    assert not np.array_equal(first, resample_confusion(labels, predicted, 2, num_resamples=50, seed=2))
    assert (first.sum(axis=(1, 2)) == 6).all()
    assert (
        resample_confusion(np.array([0, -1]), np.array([1, 0]), 2, num_resamples=3).tolist() == [[[0, 1], [0, 0]]] * 3
    )


def test_a_statistic_of_weights_is_computed_for_each_resample():
    values, groups = np.array([1.0, 2.0, 4.0, 8.0]), np.array(["a", "a", "b", "b"])

    def mean(weight):
        return np.float32((weight * values).sum() / weight.sum())

    draws = bootstrap_statistic(mean, 4, groups, 200, seed=3)
    assert draws.shape == (200,)
    assert draws.dtype == np.float32
    assert set(draws.tolist()) == {1.5, 3.75, 6.0}  # one group twice, or both
    by_cell = bootstrap_statistic(mean, 4, None, 50, seed=3)
    assert np.array_equal(by_cell, bootstrap_statistic(mean, 4, np.full(4, "a"), 50, seed=3))
    expected = [mean(weight) for weight in resample_weights(4, None, 50, 3)]
    assert by_cell.tolist() == expected
    assert bootstrap_statistic(lambda weight: [weight.sum(), 0], 4, None, 7).tolist() == [[4, 0]] * 7


def test_a_table_is_resampled_as_its_cells_are():
    table = np.array([[60, 0], [20, 20]])
    draws = resample_table(table, 4000, np.random.default_rng(0))
    assert draws.shape == (4000, 2, 2)
    assert (draws.sum(axis=(1, 2)) == 100).all()
    assert not draws[:, 0, 1].any()
    assert draws[:, 0, 0].mean() == pytest.approx(60, abs=0.5)
    assert draws[:, 0, 0].std() == pytest.approx(np.sqrt(100 * 0.6 * 0.4), rel=0.05)
    one_by_one, rng = [], np.random.default_rng(0)
    for _ in range(3):
        one_by_one.append(resample_table(table, 1, rng)[0])
    assert np.array_equal(draws[:3], one_by_one)


def test_what_is_resampled_has_a_name():
    assert [resampled_unit(groups) for groups in (None, np.array(["a", "a"]), np.array([1, 2]))] == [
        "cell", "cell", "group",
    ]  # fmt: skip
    assert Interval(0.9124, 0.89, 0.9309).describe() == "0.912 (0.890 to 0.931)"


def test_rates_are_drawn_about_the_counts_with_jeffreys_prior():
    tables = np.array([[[30, 10], [0, 5]]])
    drawn = draw_rates(tables, False, 20_000, np.random.default_rng(0))
    np.testing.assert_allclose(drawn.sum(axis=2), 1)
    np.testing.assert_allclose(drawn.mean(axis=0), [[30.5 / 41, 10.5 / 41], [0.5 / 6, 5.5 / 6]], atol=0.005)
    twice = np.concatenate([tables, tables])  # groups that agree add nothing to the spread, and twice the cells less
    by_group = draw_rates(twice, True, 20_000, np.random.default_rng(0))
    np.testing.assert_allclose(by_group[:, 0].mean(axis=0), [60.5 / 81, 20.5 / 81], atol=0.005)
    assert by_group[:, 0, 0].std() == pytest.approx(drawn[:, 0, 0].std() / np.sqrt(2), rel=0.05)


def test_shares_are_drawn_about_the_counts():
    drawn = draw_shares(np.array([9, 0, 1]), 20_000, np.random.default_rng(0))
    np.testing.assert_allclose(drawn.mean(axis=0), np.array([9.5, 0.5, 1.5]) / 11.5, atol=0.005)
    np.testing.assert_allclose(drawn.sum(axis=1), 1)
