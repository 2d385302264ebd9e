"""Sentences about classes that a run can hardly learn or score."""

from types import SimpleNamespace

import numpy as np

from fastcell.dataset.class_balance import class_weights, oversample
from fastcell.dataset.views import View
from fastcell.training.class_cautions import call_cautions, describe_balance, describe_shift, training_cautions

CLASSES = ["a", "b", "c"]


def test_classes_with_few_training_cells_are_named_the_rarest_first():
    assert training_cautions(CLASSES, [20, 300, 20], [1, 1, 1], "best") == []
    (said,) = training_cautions(CLASSES, [19, 300, 1], [1, 1, 1], "best")
    assert said.startswith("Caution: classes with fewer than 20 training cells: c 1, a 19.")
    (said, none) = training_cautions(CLASSES, [19, 300, 0], [1, 1, 1], "best")
    assert said.startswith("Caution: classes with fewer than 20 training cells: a 19.")
    assert none == "Caution: classes without training cells: c. The network cannot learn to predict them."
    (many,) = training_cautions([f"k{k}" for k in range(9)], range(1, 10), None, "last")
    assert "k0 1, k1 2, k2 3, k3 4, k4 5, k5 6 and 3 more" in many


def test_a_validation_subset_of_one_class_is_named():
    (said,) = training_cautions(CLASSES, [50, 50, 50], [0, 7, 0], "best")
    assert said.startswith("Caution: all cells of the validation subset are of class b: the lowest validation loss")
    (said,) = training_cautions(CLASSES, [50, 50, 50], [0, 7, 0], "last")
    assert "is about this class alone" in said
    for valid in ([0, 0, 0], None, [1, 6, 0]):
        assert training_cautions(CLASSES, [50, 50, 50], valid, "best") == []


def test_classes_that_no_cell_was_called_are_named_with_their_cells():
    confusion = np.array([[5, 1, 0], [2, 0, 0], [3, 4, 0]])
    (said,) = call_cautions(CLASSES, confusion, "test")
    assert said.startswith("Caution: classes that are never predicted on the test subset: c (7 cells).")
    assert call_cautions(CLASSES, np.array([[5, 0, 0], [0, 3, 0], [0, 0, 0]]), "valid") == []  # none to be found


def test_repeated_classes_are_one_line_with_the_cost():
    labels = np.array([*[0] * 44, *[1] * 4, -1])
    manifest = SimpleNamespace(cell_labels=labels, info=SimpleNamespace(classes=["a", "b"]))
    said = describe_balance(View(manifest, oversample(np.arange(49), labels, 0, 10)), "auto")
    assert said is not None
    assert said.startswith(
        "rare classes are repeated up to 10 times (--data.balance auto): a has 11 times as many training cells as b. "
        "Cost: an epoch has 1.75 times the cells. Gain:"
    )
    assert "\n" not in said
    assert describe_balance(View(manifest, np.arange(49)), "auto") is None
    assert describe_balance(View(manifest, np.arange(49), class_weights(labels, 2)), "weights") is None


def test_a_shift_is_told_with_its_factors_for_the_rarest_and_the_most_frequent_class():
    said = describe_shift(CLASSES, [0, 9, 90], 0.1)
    assert said is not None
    assert said.startswith("decisions are shifted towards rare classes (--model.decision_shift 0.1): ")
    assert "the probability of b counts 2.1 times, that of c 1.11 times." in said  # 1 + 0.1 x 99 / 9, 1 + 0.1 x 99 / 90
    assert "\n" not in said
    assert describe_shift(CLASSES, [0, 9, 90], 0.0) is None
    assert describe_shift(CLASSES, [0, 0, 0], 0.1) is None
