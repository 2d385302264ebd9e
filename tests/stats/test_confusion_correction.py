"""Corrected counts: shares, intervals that cover the truth, and what makes a correction unsure."""

import re

import numpy as np
import pytest

from fastcell.errors import ArgumentError
from fastcell.stats import confusion_correction

RATES = np.array([[0.9, 0.08, 0.02, 0.0], [0.1, 0.8, 0.05, 0.05], [0.03, 0.07, 0.85, 0.05], [0.0, 0.1, 0.1, 0.8]])
CLASSES = ["a", "b", "c", "d"]


def test_expected_called_shares_give_back_the_shares():
    rng = np.random.default_rng(0)
    truth = rng.dirichlet(np.ones(4), 50)
    truth[0] = [1, 0, 0, 0]
    np.testing.assert_allclose(confusion_correction.likeliest_shares(truth @ RATES, RATES[None]), truth, atol=1e-6)


def test_a_share_is_never_negative_and_the_sum_is_kept():
    rng = np.random.default_rng(0)
    corners = rng.dirichlet(np.full(4, 0.1), 200)  # no mixture reaches them
    called = np.stack([rng.multinomial(1_000, row) for row in corners]) / 1_000
    found = confusion_correction.likeliest_shares(called, RATES[None])
    assert (np.linalg.solve(RATES.T, called.T) < 0).any(axis=0).sum() > 100
    assert found.min() >= 0
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-9)
    for row, share in zip(called, found, strict=True):  # no feasible direction makes the called counts likelier

        def likelihood(mixture, row=row):
            return float((row * np.log(np.maximum(mixture @ RATES, 1e-300))).sum())

        for other in np.eye(4):
            assert likelihood(0.999 * share + 0.001 * other) < likelihood(share) + 1e-5


def test_classes_that_cannot_be_told_apart_still_give_shares():
    rates = np.array([[0.5, 0.5], [0.5, 0.5]])
    found = confusion_correction.likeliest_shares(np.array([[0.5, 0.5], [0.7, 0.3]]), rates[None])
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found.sum(axis=1), 1)


def confused_recording(deviation, rng):
    """Confusion rates of one recording, whose log odds differ from those of `RATES`."""
    rates = np.maximum(RATES, 0.005) * np.exp(deviation * rng.standard_normal(RATES.shape))
    return np.asarray(rates / rates.sum(axis=1, keepdims=True))


def simulate(num_tests, deviation, truth, num_sets, seed):
    """Coverage of N x shares by class, median width and bias, over new recordings of 1,000 cells and test sets."""
    rng = np.random.default_rng(seed)
    covered, widths, corrected = [], [], []
    for _ in range(num_sets):
        tests = [confused_recording(deviation, rng) for _ in range(num_tests)]
        tables = np.stack([[rng.multinomial(240 // num_tests, row) for row in rates] for rates in tests])
        called = rng.multinomial(1000, truth @ confused_recording(deviation, rng))
        confusion = confusion_correction.Confusion(CLASSES, tables)
        estimate, low, high = confusion_correction.correct_counts(called, confusion)
        covered.append((low <= 1000 * truth) & (1000 * truth <= high))
        widths.append(high - low)
        corrected.append(estimate)
    return np.mean(covered, axis=0), np.median(widths, axis=0), np.mean(corrected, axis=0) - 1000 * truth


MIXTURES = [
    ([0.4, 0.3, 0.2, 0.1], 400),
    pytest.param([0.25, 0.25, 0.25, 0.25], 500, marks=pytest.mark.slow),
    pytest.param([0.97, 0.01, 0.01, 0.01], 500, marks=pytest.mark.slow),
    pytest.param([0.5, 0.3, 0.2, 0.0], 500, marks=pytest.mark.slow),
]


@pytest.mark.parametrize("num_tests", [1, 3, 5, 20])
@pytest.mark.parametrize(("truth", "num_sets"), MIXTURES)
def test_intervals_of_a_new_recording_cover_the_truth(truth, num_sets, num_tests):
    """Recordings differ by 0.5 in log odds; intervals that took them for alike covered .5 to .8."""
    covered, _, bias = simulate(num_tests, 0.5, np.array(truth), num_sets, seed=1)
    print(f"coverage {covered}, bias {bias}")
    assert covered.min() >= 0.93 - 2 * np.sqrt(0.93 * 0.07 / num_sets)
    assert np.abs(bias).max() < 60  # recordings that are confused differently pull rare classes up


def test_few_recordings_widen_the_interval():
    widths = [simulate(num, 0.5, np.array([0.4, 0.3, 0.2, 0.1]), 200, seed=2)[1].mean() for num in (1, 2, 5)]
    assert widths[0] > widths[1] > widths[2]
    rng = np.random.default_rng(0)
    alike = np.stack([[np.round(60 * row) for row in RATES]] * 3).astype(int)
    apart = np.stack([[rng.multinomial(60, row) for row in confused_recording(0.8, rng)] for _ in range(3)])
    called = np.array([400, 300, 200, 100])
    spans = []
    for tables in (alike, apart):
        _, low, high = confusion_correction.correct_counts(called, confusion_correction.Confusion(CLASSES, tables))
        spans.append((high - low).sum())
    assert spans[1] > 1.2 * spans[0]


def test_what_makes_it_unsure_is_said():
    table = np.array([[[500, 480, 20, 0], [480, 500, 0, 20], [0, 0, 30, 0], [0, 0, 5, 500]]])
    found = confusion_correction.Confusion(CLASSES, table).warnings()
    assert "1 test recording cannot show how much recordings differ: a typical" in found[2]
    assert re.match("class c has 30 test cells", found[0])
    assert "near-singular" in found[1]
    table[0, 1] = table[0, 0]  # a and b are called alike: there is no condition number
    (said,) = [text for text in confusion_correction.Confusion(CLASSES, table).warnings() if "apart" in text]
    assert said == "classes a and b cannot be told apart by this classifier; count them together."
    assert "classes a and b can hardly be told apart" in found[1]
    few = confusion_correction.Confusion(CLASSES, np.stack([np.eye(4, dtype=int) * 100] * 3))
    (warning,) = few.warnings()
    assert warning == (
        "3 test recordings cannot show how much recordings differ: a typical difference is assumed (log odds of "
        "each confusion, standard deviation 0.7). Test on 5 or more recordings, named as groups."
    )
    enough = confusion_correction.Confusion(CLASSES, np.stack([np.eye(4, dtype=int) * 100] * 5))
    assert enough.warnings() == []


def tables_of(rates, num=10, cells=10**8):
    """Test recordings with so many cells that their confusions are known, and alike."""
    names = CLASSES[: len(rates)]
    return confusion_correction.Confusion(names, np.stack([np.round(cells * rates).astype(np.int64)] * num))


def test_correction_by_hand():
    called = np.array([69, 31])  # 70 x 0.9 + 30 x 0.2, 70 x 0.1 + 30 x 0.8
    estimate, low, high = confusion_correction.correct_counts(called, tables_of(np.array([[0.9, 0.1], [0.2, 0.8]])))
    np.testing.assert_allclose(estimate, [70, 30], atol=1e-9)
    # The determinant of the rates widens the binomial interval; Student's t of 13 degrees of freedom.
    spread = 2.16 * np.sqrt(69.5 * 31.5 / 101**2 * 100) / 0.7
    np.testing.assert_allclose([low[0], high[0]], [70 - spread, 70 + spread], atol=0.2)
    np.testing.assert_allclose([low[1], high[1]], [30 - spread, 30 + spread], atol=0.2)


def test_matrices_without_inverse_give_an_interval_of_everything():
    estimate, low, high = confusion_correction.correct_counts(np.array([6, 4]), tables_of(np.full((2, 2), 0.5)))
    assert estimate.sum() == pytest.approx(10)
    assert (low.tolist(), high.tolist()) == ([0, 0], [10, 10])


def test_no_cell_called_anything():
    estimate, low, high = confusion_correction.correct_counts(np.zeros(4, int), tables_of(RATES))
    assert (estimate.tolist(), low.tolist(), high.tolist()) == ([0] * 4, [0] * 4, [0] * 4)


def test_a_class_without_test_cells():
    confusion = confusion_correction.Confusion(["a", "b"], np.array([[[5, 0], [0, 0]]]))
    with pytest.raises(ArgumentError, match="every class must have test cells"):
        confusion_correction.correct_counts(np.array([3, 1]), confusion)


def test_intervals_hold_what_can_be_alone():
    called = np.array([99, 1])  # fewer of the second class than the first is taken for
    estimate, low, high = confusion_correction.correct_counts(called, tables_of(np.array([[0.9, 0.1], [0.1, 0.9]])))
    np.testing.assert_allclose(estimate, [100, 0], atol=1e-3)
    assert (low[1], high[0]) == (0, 100)
    assert low.min() >= 0
    assert high.max() <= 100


def test_calls_that_no_class_gives_keep_their_number():
    never_b = np.array([[1.0, 0.0], [1.0, 0.0]])
    found = confusion_correction.likeliest_shares(np.array([[0.0, 1.0], [0.4, 0.6], [0.0, 0.0]]), never_b[None])
    np.testing.assert_allclose(found.sum(axis=1), [1, 1, 0])
    confusion = confusion_correction.Confusion(["a", "b"], np.array([[[8, 0], [9, 0]]]))
    estimate, low, high = confusion_correction.correct_counts(np.array([0, 3]), confusion)
    assert estimate.sum() == pytest.approx(3)
    assert (low.tolist(), high.tolist()) == ([0, 0], [3, 3])


@pytest.mark.parametrize(("rare", "ends_at_a_tenth"), [(0.2, True), (0.05, False)])
def test_the_upper_end_is_that_of_a_more_frequent_class(rare, ends_at_a_tenth):
    """By hand: two classes, one test recording of so many cells that only recordings differ; at most a tenth wider."""
    confusion = tables_of(np.array([[0.9, 0.1], [0.2, 0.8]]), num=1)
    called = np.rint(1e9 * (np.array([1 - rare, rare]) @ np.array([[0.9, 0.1], [0.2, 0.8]]))).astype(int)
    estimate, low, high = confusion_correction.correct_counts(called, confusion)
    np.testing.assert_allclose(estimate, [1e9 * (1 - rare), 1e9 * rare], rtol=1e-6)

    def half(share):
        """Half of the width, for (1 + 1 / 1) x 0.7^2 x p^2 (1 - p)^2 of both rows and entries, by determinant 0.7."""
        return 2.7764451 * np.sqrt(2 * 0.7**2 * ((1 - share) ** 2 * 2 * 0.09**2 + share**2 * 2 * 0.16**2) / 0.7**2)

    first = rare + half(rare)
    again, most = rare + half(first), 1.1 * first  # the lower end is 0
    assert (again > most) == ends_at_a_tenth
    assert first < min(again, most) < 1
    np.testing.assert_allclose([low[0], high[1]], [1e9 * (1 - first), 1e9 * min(again, most)], rtol=1e-3)
    assert (low[1], high[0]) == (0, 1e9)
