"""When a backend agrees with torch: share of the same class, and the end of the interval of the loss."""

import numpy as np
import pytest

from fastcell.inference.backends.agreement import Agreement, compare


def one_hot(classes, num=4):
    return np.eye(num, dtype=np.float32)[classes]


def test_many_cells_without_a_difference_agree():
    labels = np.tile(np.arange(4), 500)
    found = compare(labels, one_hot(labels), one_hot(labels))
    assert (found.num_same, found.share_same, found.loss, found.largest) == (2000, 1.0, 0.0, 0.0)
    assert found.agrees
    assert Agreement.from_json(found.to_json()) == found
    assert "same class as torch on 100.00% of 2,000 validation cells" in found.describe()


def test_few_cells_cannot_agree():
    labels = np.tile(np.arange(4), 20)
    found = compare(labels, one_hot(labels), one_hot(labels))
    assert not found.agrees
    assert "on 80 validation cells, a loss of up to" in found.obstacle()


def test_a_cell_in_a_hundred_is_too_many():
    labels = np.tile(np.arange(4), 500)
    called = labels.copy()
    called[::100] = (called[::100] + 1) % 4
    found = compare(labels, one_hot(labels), one_hot(called))
    assert not found.agrees
    assert found.num_same == 1980
    assert found.obstacle().startswith("99.00% of 2,000 cells get the same class as from torch")
    assert compare(labels, one_hot(called), one_hot(called)).share_same == 1.0


def test_a_class_that_is_lost_is_a_loss_even_if_few_cells_have_it():
    labels = np.concatenate([np.zeros(4000, int), np.ones(2000, int), np.full(10, 2)])
    called = np.where(labels == 2, 0, labels)
    found = compare(labels, one_hot(labels), one_hot(called))
    assert found.share_same > 0.995
    assert found.loss == pytest.approx(1 / 3)
    assert not found.agrees


def test_a_probability_that_is_no_number_is_no_answer():
    labels = np.tile(np.arange(2), 10)
    broken = one_hot(labels, 2)
    broken[3] = np.nan
    assert compare(labels, one_hot(labels, 2), broken).num_same == 19
