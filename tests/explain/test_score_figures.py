"""What is drawn is what the CSV has."""

import numpy as np
import pytest

from fastcell.explain.score_figures import describe_goals, draw_calibration, draw_class_curves, draw_reject
from fastcell.plots.figure_files import FigureFiles
from fastcell.stats.calibration import reliability
from fastcell.stats.intervals import Interval
from fastcell.stats.operating_curves import class_curve, reject_curve


@pytest.fixture
def cells():
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet([1, 1, 1], 200)
    return probabilities, (rng.random(200)[:, None] > probabilities.cumsum(axis=1)).sum(axis=1)


def test_calibration(tmp_path, drawn, columns, cells):
    binned = reliability(*cells)
    draw_calibration(
        FigureFiles(tmp_path), {"as trained": (binned, Interval(0.1, 0.05, 0.2, "cell", 0, ""))}, "200 cells"
    )
    table = columns(tmp_path / "calibration.csv")
    upper, lower = drawn[0].axes
    x, y = upper.lines[1].get_data()
    full = table["cells"] > 0
    np.testing.assert_allclose(x, table["confidence"][full])
    np.testing.assert_allclose(y, table["accuracy"][full])
    np.testing.assert_allclose(lower.patches[0].get_data().values, table["cells"])
    assert table["cells"].sum() == 200
    assert "0.100 (0.050 to 0.200)" in upper.lines[1].get_label()


def test_class_curves(tmp_path, drawn, columns, cells):
    probabilities, labels = cells
    curves = {name: class_curve(probabilities[:, i], labels == i) for i, name in enumerate("ABC")}
    draw_class_curves(FigureFiles(tmp_path), curves, "200 cells")
    left, right = drawn[0].axes
    for place, name in enumerate("ABC"):
        mine = columns(tmp_path / "roc_pr.csv", **{"class": name})
        points = np.stack(
            [mine[column] for column in ("false_positive_rate", "true_positive_rate", "precision")], axis=1
        )
        np.testing.assert_allclose(left.lines[place].get_xydata(), points[:, :2], rtol=1e-9)
        np.testing.assert_allclose(right.lines[place].get_xydata(), points[1:, 1:])
        assert f"{name} (n = {(labels == place).sum()})" in left.lines[place].get_label()


def test_reject(tmp_path, drawn, columns, cells):
    curve = reject_curve(*cells)
    draw_reject(FigureFiles(tmp_path), curve, "200 cells")
    table = columns(tmp_path / "reject.csv")
    x, y = drawn[0].axes[0].lines[0].get_data()
    np.testing.assert_allclose(x, 100 * table["coverage"])
    np.testing.assert_allclose(y, table["accuracy"])
    assert table["accuracy"][-1] == pytest.approx((cells[0].argmax(axis=1) == cells[1]).mean())


def test_goals_in_words():
    confidence = np.linspace(0.99, 0.5, 100)
    probabilities = np.stack([confidence, 1 - confidence], axis=1)
    curve = reject_curve(probabilities, (np.arange(100) >= 88).astype(int))
    assert describe_goals(curve, [0.8, 0.95]) == (
        "Accuracy reaches 95 % for 92 % of the cells (88 % of the cells); in brackets, share for which the lower end "
        "of the interval reaches it."
    )
    wrong = reject_curve(probabilities, np.ones(100, int))
    assert describe_goals(wrong, [0.9]) == (
        "Accuracy reaches 90 % for none (none); in brackets, share for which the lower end of the interval reaches it."
    )
    right = reject_curve(probabilities, np.zeros(100, int))
    assert describe_goals(right) == "The predictions of all cells have an accuracy of 1.000."
