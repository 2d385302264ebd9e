"""Corrected counts: shares, intervals that cover the truth, and what makes a correction unsure."""

from __future__ import annotations

import re

import numpy as np
import pytest

from fastcell.stats import confusion_correction

RATES = np.array([[0.9, 0.08, 0.02, 0.0], [0.1, 0.8, 0.05, 0.05], [0.03, 0.07, 0.85, 0.05], [0.0, 0.1, 0.1, 0.8]])
CLASSES = ["a", "b", "c", "d"]


def test_expected_called_shares_give_back_the_shares() -> None:
    rng = np.random.default_rng(0)
    truth = rng.dirichlet(np.ones(4), 50)
    truth[0] = [1, 0, 0, 0]
    np.testing.assert_allclose(confusion_correction.likeliest_shares(truth @ RATES, RATES[None]), truth, atol=1e-6)


def test_a_share_is_never_negative_and_the_sum_is_kept() -> None:
    rng = np.random.default_rng(0)
    corners = rng.dirichlet(np.full(4, 0.1), 200)  # no mixture reaches them
    called = np.stack([rng.multinomial(1_000, row) for row in corners]) / 1_000
    found = confusion_correction.likeliest_shares(called, RATES[None])
    assert (np.linalg.solve(RATES.T, called.T) < 0).any(axis=0).sum() > 100
    assert found.min() >= 0
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-9)
    for row, share in zip(called, found, strict=True):  # no feasible direction makes the called counts likelier

        def likelihood(mixture: np.ndarray, row: np.ndarray = row) -> float:
            return float((row * np.log(np.maximum(mixture @ RATES, 1e-300))).sum())

        for other in np.eye(4):
            assert likelihood(0.999 * share + 0.001 * other) < likelihood(share) + 1e-5


def test_classes_that_cannot_be_told_apart_still_give_shares() -> None:
    rates = np.array([[0.5, 0.5], [0.5, 0.5]])
    found = confusion_correction.likeliest_shares(np.array([[0.5, 0.5], [0.7, 0.3]]), rates[None])
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found.sum(axis=1), 1)


def simulate(num_recordings: int, truth: np.ndarray, cells: int, per_class: int, rates: np.ndarray, seed: int):
    """Coverage of N x shares by class, mean raw and mean corrected counts, over recordings and test sets."""
    rng = np.random.default_rng(seed)
    covered, raw, corrected = [], [], []
    for _ in range(num_recordings):
        table = np.stack([rng.multinomial(per_class, row) for row in rates])
        confusion = confusion_correction.Confusion(CLASSES, table[None])
        called = rng.multinomial(cells, truth @ rates)
        estimate, low, high = confusion_correction.correct_counts(
            called, confusion.rates, confusion.draw(400, rng), rng
        )
        covered.append((low <= cells * truth) & (cells * truth <= high))
        raw.append(called)
        corrected.append(estimate)
    return np.mean(covered, axis=0), np.mean(raw, axis=0), np.mean(corrected, axis=0)


MIXTURES = [
    ([0.7, 0.2, 0.08, 0.02], 1_000, 200),
    pytest.param([0.25, 0.25, 0.25, 0.25], 300, 100, marks=pytest.mark.slow),
    pytest.param([0.97, 0.01, 0.01, 0.01], 2_000, 100, marks=pytest.mark.slow),
    pytest.param([0.5, 0.3, 0.2, 0.0], 200, 50, marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("truth", "cells", "per_class"), MIXTURES)
def test_intervals_cover_the_truth(truth: list[float], cells: int, per_class: int) -> None:
    """Over 500 simulated recordings, each with test cells of its own; the standard error of a coverage is 1 %."""
    covered, raw, corrected = simulate(500, np.array(truth), cells, per_class, RATES, seed=1)
    expected = cells * np.array(truth)
    bias_raw, bias = np.abs(raw - expected).max(), np.abs(corrected - expected).max()
    print(f"coverage {covered}, mean {covered.mean():.3f}; largest bias called {bias_raw:.1f}, corrected {bias:.1f}")
    assert covered.min() > 0.90
    assert 0.93 < covered.mean() < 0.99
    if max(truth) > 0.6:
        assert bias_raw > 0.04 * cells
        assert bias < 0.25 * bias_raw


def test_groups_widen_the_interval_where_they_differ() -> None:
    """Test recordings with error rates of their own: by cell the interval would be too narrow."""
    rng = np.random.default_rng(0)
    tables = []
    for _ in range(12):
        rates = RATES.copy()
        rates[0, 0] = rng.uniform(0.75, 0.97)
        rates[0, 1] = 0.98 - rates[0, 0]
        tables.append([rng.multinomial(200, row / row.sum()) for row in rates])
    grouped = confusion_correction.Confusion(CLASSES, np.array(tables))
    pooled = confusion_correction.Confusion(CLASSES, np.array(tables).sum(axis=0, keepdims=True))
    assert grouped.by_group
    assert not pooled.by_group
    spread = [confusion.draw(2_000, np.random.default_rng(1))[:, 0, 0].std() for confusion in (grouped, pooled)]
    assert spread[0] > 2 * spread[1]


def test_what_makes_it_unsure_is_said() -> None:
    table = np.array([[[500, 480, 20, 0], [480, 500, 0, 20], [0, 0, 30, 0], [0, 0, 5, 500]]])
    found = confusion_correction.Confusion(CLASSES, table).warnings()
    assert re.match("class c has 30 test cells", found[0])
    assert "near-singular" in found[1]
    assert "classes a and b can hardly be told apart" in found[1]
    few = confusion_correction.Confusion(CLASSES, np.stack([np.eye(4, dtype=int) * 100] * 3))
    assert few.warnings() == ["the test cells have 3 groups, too few to resample: intervals are by cell."]


def test_correction_by_hand() -> None:
    rates = np.array([[0.9, 0.1], [0.2, 0.8]])
    called = np.array([69, 31])  # 70 x 0.9 + 30 x 0.2, 70 x 0.1 + 30 x 0.8
    estimate, low, high = confusion_correction.correct_counts(
        called, rates, np.stack([rates] * 500), np.random.default_rng(0)
    )
    np.testing.assert_allclose(estimate, [70, 30], atol=1e-9)
    spread = 1.96 * np.sqrt(69 * 31 / 100) / 0.7  # the determinant of the rates widens the binomial interval
    np.testing.assert_allclose([low[0], high[0]], [70 - spread, 70 + spread], atol=2)
    np.testing.assert_allclose([low[1], high[1]], [30 - spread, 30 + spread], atol=2)


def test_matrices_without_inverse_give_an_interval_of_everything() -> None:
    flat = np.full((2, 2), 0.5)
    estimate, low, high = confusion_correction.correct_counts(
        np.array([6, 4]), flat, np.stack([flat] * 9), np.random.default_rng(0)
    )
    assert estimate.sum() == pytest.approx(10)
    assert (low.tolist(), high.tolist()) == ([0, 0], [10, 10])


def test_no_cell_called_anything() -> None:
    estimate, low, high = confusion_correction.correct_counts(
        np.zeros(4, int), RATES, np.stack([RATES] * 9), np.random.default_rng(0)
    )
    assert (estimate.tolist(), low.tolist(), high.tolist()) == ([0] * 4, [0] * 4, [0] * 4)


def test_intervals_hold_what_can_be_alone() -> None:
    rates = np.array([[0.9, 0.1], [0.1, 0.9]])
    called = np.array([99, 1])  # fewer of the second class than the first is taken for
    estimate, low, high = confusion_correction.correct_counts(
        called, rates, np.stack([rates] * 500), np.random.default_rng(0)
    )
    np.testing.assert_allclose(estimate, [100, 0], atol=1e-3)
    assert (low[1], high[0]) == (0, 100)
    assert low.min() >= 0
    assert high.max() <= 100
