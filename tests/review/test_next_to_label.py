"""Which cells to label next: by uncertainty, spread, balance; and what the learner says."""

import numpy as np
import pytest

from fastcell.review.next_to_label import choose_next, class_shares, fit_learner, k_centre, uncertainty


def test_uncertainty_is_one_less_the_margin():
    p = np.array([[0.5, 0.5, 0], [1, 0, 0], [0.6, 0.3, 0.1], [np.nan] * 3], np.float32)
    np.testing.assert_allclose(uncertainty(p), [1, 0, 0.7, 1], atol=1e-6)
    assert uncertainty(np.ones((2, 1), np.float32)).tolist() == [1, 1]


def test_shares_even_out_the_classes():
    called = np.array([0] * 50 + [1] * 3 + [2] * 10)
    assert class_shares(called, 12, None, 4).tolist() == [5, 3, 4, 0]
    assert class_shares(called, 6, np.array([10, 9, 0, 0]), 4).tolist() == [0, 0, 6, 0]
    assert class_shares(called, 63, None, 4).tolist() == [50, 3, 10, 0]


def test_k_centre_takes_the_farthest():
    values = np.array([[0.0], [1], [5], [5.1], [-8], [np.nan]], np.float32)
    rng = np.random.default_rng(0)
    assert k_centre(values, np.arange(1, 6), np.array([0]), 3, rng).tolist() == [4, 3, 1]
    assert k_centre(values, np.arange(1, 6), np.array([0]), 5, rng).tolist()[-1] == 5  # without an embedding: last
    assert len(set(k_centre(values, np.arange(6), np.empty(0, np.int64), 6, rng).tolist())) == 6


def test_k_centre_covers_every_cluster():
    rng = np.random.default_rng(0)
    middles = rng.normal(scale=50, size=(8, 5))
    values = (middles[np.repeat(np.arange(8), 100)] + rng.normal(size=(800, 5))).astype(np.float32)
    chosen = k_centre(values, rng.permutation(800), np.array([0]), 7, rng)
    assert sorted((chosen // 100).tolist()) == [1, 2, 3, 4, 5, 6, 7]


def test_ways():
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.ones(3), 300).astype(np.float32)
    values = rng.normal(size=(300, 4)).astype(np.float32)
    free, labelled = np.arange(20, 300), np.arange(20)

    def chosen(how, **changed):
        given = {"probabilities": probabilities, "values": values, "labelled": labelled} | changed
        found = choose_next(free, 30, how, **given).tolist()
        assert len(set(found)) == 30
        assert min(found) >= 20
        return found

    doubt = uncertainty(probabilities)
    assert set(chosen("uncertainty")) == set((np.argsort(-doubt[20:], kind="stable")[:30] + 20).tolist())
    called = probabilities.argmax(1)
    mixed = chosen("mixture", counts=np.array([50, 0, 0]))
    assert np.bincount(called[mixed], minlength=3).tolist() == [0, 15, 15]
    given = {"probabilities": probabilities, "values": values, "labelled": labelled, "counts": np.array([50, 0, 0])}
    for cell in choose_next(free, 4, "mixture", **given).tolist():
        same = free[called[free] == called[cell]]
        assert (doubt[same] > doubt[cell]).sum() < 20  # one of the ten most uncertain for each that is chosen
    assert sorted(doubt[mixed], reverse=True) == doubt[mixed].tolist()
    assert chosen("mixture", probabilities=None) == chosen("diversity")
    assert chosen("mixture", values=None) == chosen("uncertainty")
    assert chosen("mixture", values=None, probabilities=None) == chosen("random")
    assert chosen("random", seed=1) != chosen("random", seed=2)
    for how in ("mixture", "uncertainty", "diversity", "random"):
        given = {"probabilities": probabilities, "values": values, "labelled": labelled}
        assert sorted(choose_next(free[:7], 30, how, **given).tolist()) == free[:7].tolist()
        assert len(choose_next(free[:0], 30, how, **given)) == 0
    unknown = np.full_like(probabilities, np.nan)
    assert len(chosen("mixture", probabilities=unknown)) == 30


def test_learner_calls_what_it_was_told():
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 2], 200)
    values = (np.where(labels == 0, -3, 3)[:, None] + rng.normal(size=(400, 2))).astype(np.float32)
    values[5] = np.nan
    rows = np.arange(0, 400, 10)
    found = fit_learner(values, rows, labels[rows], 4)
    assert found is not None
    assert found.probabilities.shape == (400, 4)
    assert np.isnan(found.probabilities[5]).all()
    known = np.arange(400) != 5
    assert (found.probabilities[known].argmax(1) == labels[known]).mean() > 0.98
    assert found.probabilities[known][:, [1, 3]].max() == 0
    assert (found.num_compared, found.agreement) == (40, pytest.approx(1, abs=0.1))
    assert fit_learner(values, rows[:5], labels[rows[:5]], 4) is None  # one class
    single = fit_learner(values, np.array([0, 399]), np.array([0, 2]), 4)
    assert single is not None
    assert (single.num_compared, np.isnan(single.agreement)) == (0, True)
