"""Bias-corrected Cramér's V and its chance level."""

import numpy as np
import pytest

from fastcell.stats.association import associate, cramers_v


def test_known_values():
    assert cramers_v(np.array([[50, 0], [0, 50]])) == pytest.approx(1.0, abs=0.01)
    assert cramers_v(np.array([[25, 25], [25, 25]])) == 0.0
    # Bergsma's correction by hand: phi2 = 0.04, less 1/99, over 2 - 1/99 - 1
    assert cramers_v(np.array([[30, 20], [20, 30]])) == pytest.approx(np.sqrt((0.04 - 1 / 99) / (1 - 1 / 99)), abs=1e-9)
    assert cramers_v(np.array([[10, 0], [5, 0]])) == 0.0


def test_no_bias_where_there_is_no_association():
    rng = np.random.default_rng(0)
    values = [cramers_v(rng.multinomial(200, np.full(40, 1 / 40)).reshape(4, 10)) for _ in range(200)]
    assert np.mean(values) < 0.08  # uncorrected it is about 0.21


def test_associate():
    rng = np.random.default_rng(0)
    classes = np.repeat(["A", "B", ""], [300, 200, 10])
    columns = np.where(rng.random(510) < 0.8, np.where(classes == "A", "x", "y"), np.where(classes == "A", "y", "x"))
    columns[0] = ""
    found = associate(classes, columns, 200, rng)
    assert found.table.sum() == 499
    assert found.result.p == pytest.approx(1 / 201)
    assert found.result.chance < 0.05
    assert found.guess == pytest.approx((found.table / found.table.sum(1, keepdims=True)).max(0).sum() / 2)
    assert found.single() == []


def test_single_and_pure():
    found = associate(np.array(list("AAABBBC")), np.array(list("xxyzzwx")), 20, np.random.default_rng(0))
    assert found.single() == ["C"]
    assert found.pure() == 3


def test_one_column_is_nothing():
    assert associate(np.array(["A", "B"]), np.array(["x", "x"]), 10, np.random.default_rng(0)) is None
