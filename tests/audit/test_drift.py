"""Drift over the order of cells, planted and absent."""

import numpy as np
import pytest

from fastcell.audit.drift import drift_finding, find_drift
from fastcell.audit.findings import judge

SEQUENCES = np.repeat(["a", "b", "c"], 200)
NAMES = ["one", "two", "three"]


def test_no_drift_has_uniform_p():
    rng = np.random.default_rng(0)
    found = [find_drift(rng.normal(size=(600, 3)), NAMES, SEQUENCES, 39, rng).result.p for _ in range(80)]
    assert np.mean(np.array(found) <= 0.1) < 0.2
    assert np.mean(found) > 0.35


def test_few_permutations_of_many_features_do_not_alarm_by_themselves():
    rng = np.random.default_rng(6)
    names = [str(number) for number in range(30)]
    found = [find_drift(rng.normal(size=(60, 30)), names, np.full(60, "a"), 20, rng).result.p for _ in range(150)]
    assert np.mean(np.array(found) <= 0.1) < 0.18  # 0.095 by right, with a standard error of 0.024
    assert np.mean(found) > 0.42


def test_a_ramp_is_found_with_its_size_and_place():
    rng = np.random.default_rng(1)
    values = rng.normal(size=(600, 3))
    values[200:400, 1] += np.linspace(0, 2, 200)
    values[:, 2] += np.repeat([0, 50, 100], 200)  # sequences differ: no drift
    found = find_drift(values, NAMES, SEQUENCES, 99, rng)
    assert found.names[found.strongest] == "two"
    assert found.p[1] == pytest.approx(0.01)
    assert found.p[2] > 0.05
    # a ramp over 2 deviations has a variance of 4 / 12, in one sequence of three
    assert found.shares[1] == pytest.approx((4 / 12) / (1 + 4 / 12) / 3, abs=0.04)
    assert found.sequences[int(found.by_sequence[1].argmax())] == "b"
    assert found.swing[1, 1] == pytest.approx(2 / np.sqrt(4 / 3), abs=0.5)
    (made,) = judge([drift_finding("drift", "drift", found, "features")])
    assert made.verdict == "warning"
    assert "two changes with the order of cells, most in b" in made.says["warning"]
    assert made.advice["warning"].startswith("see drift.png")
    assert drift_finding("confidence_drift", "", found, "").advice["warning"].startswith("see confidence_drift.png")


def test_opposite_drifts_do_not_cancel():
    rng = np.random.default_rng(2)
    values = rng.normal(size=(600, 3))
    values[:200, 0] += np.linspace(0, 2, 200)
    values[200:400, 0] -= np.linspace(0, 2, 200)
    found = find_drift(values, NAMES, SEQUENCES, 99, rng)
    assert found.p[0] == pytest.approx(0.01)
    assert found.shares[0] > 0.1


def test_short_sequences_constants_and_gaps():
    rng = np.random.default_rng(3)
    values = rng.normal(size=(100, 3))
    assert find_drift(values, NAMES, np.repeat(["a", "b", "c", "d"], 25), 20, rng) is None
    assert find_drift(np.ones((100, 3)), NAMES, np.full(100, "a"), 20, rng) is None
    values[:, 0], values[::7] = 5, np.nan
    found = find_drift(values, NAMES, np.full(100, "a"), 20, rng)
    assert found.names == ["two", "three"]
    assert found.sizes.tolist() == [85]
