"""Trials of training recipes: decisions shifted towards rare classes, magnified frames, folds."""

import numpy as np
import pytest


@pytest.fixture
def recipes(program):
    return program("recipes")


@pytest.fixture
def training(program):
    return program("recipe_training")


def test_shifted_decisions_by_hand(recipes):
    """Class b is three times rarer: its odds grow by (1 + 4 s) / (1 + 4 s / 3), which turns 0.47 at s = 0.051."""
    labels = np.array([0, 0, 0, 1])
    probabilities = np.array([[0.9, 0.1], [0.9, 0.1], [0.54, 0.46], [0.53, 0.47]])
    found = {(0, 0): {"test": np.arange(4), "flips": probabilities}}
    rows = {row.decision_shift: row for row in recipes.shifted(labels, ["a", "b"], "fast", found)}
    assert list(rows) == list(recipes.SHIFTS)
    assert (rows[0.0].accuracy, rows[0.0].balanced) == (0.75, 0.5)
    assert rows[0.0].recalls == {"a": 1.0, "b": 0.0}
    assert rows[0.05].recalls == rows[0.0].recalls
    assert rows[0.1].recalls == {"a": pytest.approx(2 / 3), "b": 1.0}  # 0.46 turns at s = 0.071
    assert rows[0.1].balanced == pytest.approx(5 / 6)
    assert rows[0.1].folds == 1


@pytest.mark.parametrize("factor", [1.25, 0.8])
def test_a_magnified_frame_keeps_the_pixels_of_its_middle(training, factor):
    image = np.full((40, 40), 7, np.uint8)
    image[15:25, 15:25] = np.arange(100).reshape(10, 10)
    out = training.zoomed(image, factor)
    side = round(40 / factor)
    assert out.shape == (side, side)
    start = (side - 40) // 2 + 15 if side > 40 else 15 - (40 - side) // 2
    np.testing.assert_array_equal(out[start : start + 10, start : start + 10], image[15:25, 15:25])
    assert out[0, 0] == 7


def test_every_cell_is_tested_in_one_stratified_fold(training, tmp_path):
    cv2 = pytest.importorskip("cv2")
    for name, num in (("a", 20), ("b", 10)):
        (tmp_path / name).mkdir()
        for number in range(num):
            cv2.imwrite(str(tmp_path / name / f"{number}.png"), np.full((8, 8), number, np.uint8))
    cells = training.Cells("jurkat", tmp_path)
    folds = cells.folds(3)
    assert [np.bincount(cells.labels[folds == fold]).tolist() for fold in range(5)] == [[4, 2]] * 5
    assert not np.array_equal(folds, cells.folds(4))
