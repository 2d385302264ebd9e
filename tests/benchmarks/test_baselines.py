"""Baselines: what is timed is the library's own fit, predictions are compared, exponents are those of the times."""

import numpy as np
import pytest


@pytest.fixture
def baselines(program):
    return program("baselines")


def data(num_cells, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, num_cells)
    return (rng.normal(size=(num_cells, 40)) + 2 * labels[:, None]).astype(np.float32), labels


def test_steps_of_all_methods_are_measured(baselines):
    (train, train_labels), (test, test_labels) = data(200), data(baselines.TEST_CELLS, 1)
    arrays = {"train": train, "train_labels": train_labels, "test": test, "test_labels": test_labels}
    backend = baselines.find_backend("sklearn")
    rows = baselines.measure(arrays, 150, [4, 8], [backend], rounds=2, threads=1)
    assert [(row.method, row.step, row.features) for row in rows[:5]] == [
        ("pca", "fit", 4),
        ("knn", "fit", 4),
        ("knn", "predict", 4),
        ("svm", "fit", 4),
        ("svm", "predict", 4),
    ]
    assert [row.features for row in rows[5:]] == [8] * 5
    svm = rows[4]
    assert (svm.backend, svm.num_train, svm.num_cells, svm.num_rounds) == ("sklearn", 150, 1000, 2)
    assert svm.seconds == pytest.approx(1000 / svm.cells_per_s)
    assert (svm.ratio, svm.agreement) == (1.0, 1.0)
    assert svm.accuracy > 0.95
    assert (rows[0].accuracy, rows[0].agreement) == (None, None)


def test_other_predictions_are_counted(baselines, program):
    harness = program("harness")
    names = {f"{who}: {step}": ("svm", step, who, 4) for who in ("sklearn", "other") for step in ("fit", "predict")}
    contestants = {name: harness.Contestant("", baselines.Step(lambda: None, 4)) for name in names}
    contestants["sklearn: predict"].work.made = np.array([0, 1, 1, 0])
    contestants["other: predict"].work.made = np.array([0, 1, 2, 1])
    rate = np.array([[2.0, 8.0, 4.0, 2.0]])
    turns = harness.Turns(list(names), dict.fromkeys(names, ""), rate, rate, np.full(4, 4), contestants)
    row = baselines.make_row(turns, contestants, names, "other: predict", 100, np.array([0, 1, 2, 0]))
    assert (row.ratio, row.seconds, row.agreement, row.accuracy) == (0.25, 2.0, 0.5, 0.75)


def test_growth_is_the_slope_of_the_logarithms(baselines):
    def row(cells, seconds, backend):
        values = {"contestant": "", "what": "", "num_rounds": 1, "num_cells": 1}
        rates = ("cells_per_s", "low", "high", "cpu_us_per_cell", "ratio", "ratio_low", "ratio_high")
        values |= dict.fromkeys(rates, 1.0)
        named = {"method": "svm", "step": "fit", "backend": backend, "num_train": cells, "features": 16}
        return baselines.BaselineRow(**values, **named, seconds=seconds)

    rows = [row(1000 * n, 0.1 * n**2, "sklearn") for n in (1, 2, 8)] + [row(1000, 1.0, "once")]
    rows += [row(1000, 1.0, "bent"), row(2000, 1.0, "bent"), row(4000, 4.0, "bent")]
    square, bent = baselines.growth_rows(rows)
    assert (square.exponent, square.low, square.high) == pytest.approx((2.0, 2.0, 2.0))
    assert (square.method, square.backend, square.from_cells, square.to_cells) == ("svm", "sklearn", 1000, 8000)
    assert (bent.exponent, bent.low, bent.high) == pytest.approx((1.0, 0.0, 2.0))
