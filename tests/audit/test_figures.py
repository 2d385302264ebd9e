"""Figures of an audit."""

import warnings

import cv2
import numpy as np

from fastcell.audit.drift import find_drift
from fastcell.audit.figures import _styles, draw_backgrounds, draw_doubtful, draw_drift, draw_numbers, draw_table
from fastcell.audit.findings import Finding
from fastcell.stats.association import Association
from fastcell.stats.permutation import Outcome


def test_backgrounds_that_no_class_shows_are_drawn_in_silence(tmp_path):
    weight = np.ones((2, 32, 32))
    weight[:, 10:20, 10:20] = 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        draw_backgrounds(100 * weight, weight, ["A", "B"], tmp_path / "background.png", "two classes")
    assert cv2.imread(str(tmp_path / "background.png")).shape[0] > 100


def outcome_of(number):
    return Outcome(number, 0.5, 0.55, 0.002, 0.002, 500)


def test_numbers_stand_beside_their_chance(tmp_path, drawn):
    findings = [
        Finding("a", "first", result=outcome_of(0.9), verdict="problem"),
        Finding("b", "second", verdict="skipped"),
        Finding("c", "third", result=outcome_of(0.52), verdict="ok"),
    ]
    draw_numbers(findings, tmp_path / "numbers.png", "title")
    (axes,) = drawn[0].axes
    assert [text.get_text() for text in axes.get_yticklabels()] == ["first", "third"]
    points = [line.get_xydata().tolist() for line in axes.lines[:4]]
    assert points == [[[0.5, 0], [0.55, 0]], [[0.9, 0]], [[0.5, 1], [0.55, 1]], [[0.52, 1]]]
    assert axes.lines[1].get_marker() == "X"
    assert axes.lines[3].get_marker() == "o"
    assert axes.lines[1].get_color() != axes.lines[3].get_color()
    bottom, top = axes.get_ylim()
    assert bottom > top  # the first one above


def test_table_has_numbers_and_shares(tmp_path, drawn):
    table = np.array([[30, 10], [0, 1200]])
    found = Association(["A", "B"], ["g1", "g2"], table, outcome_of(0.8), 0.9)
    draw_table(found, tmp_path / "table.png", "group", "title")
    axes = drawn[0].axes[0]
    np.testing.assert_allclose(axes.images[0].get_array(), [[0.75, 0.25], [0, 1]])
    assert {text.get_text(): text.get_position() for text in axes.texts} == {
        "30": (0, 0), "10": (1, 0), "1,200": (1, 1)
    }  # fmt: skip
    assert axes.get_title() == "title: Cramér's V 0.80"
    assert [text.get_text() for text in axes.get_yticklabels()] == ["A", "B"]
    assert [text.get_text() for text in axes.get_xticklabels()] == ["g1", "g2"]
    assert axes.get_xlabel() == "group"


def test_backgrounds_are_means_and_differences(tmp_path, drawn):
    weight = np.full((4, 8, 8), 10.0)
    weight[1] = 0  # never shown
    weight[2, 0, 0] = 1  # hardly ever
    grey = weight * np.array([100, 0, 104, 90])[:, None, None]
    draw_backgrounds(grey, weight, ["A", "B", "C", "D"], tmp_path / "background.png", "title")
    top, bottom = drawn[0].axes[:3], drawn[0].axes[3:6]
    assert [axes.get_title() for axes in top] == ["A", "C", "D"]
    means = [np.ma.filled(axes.images[0].get_array(), np.nan) for axes in top]
    assert [mean[4, 4] for mean in means] == [100, 104, 90]
    assert np.isnan(means[1][0, 0])
    off = [np.ma.filled(axes.images[0].get_array(), np.nan) for axes in bottom]
    np.testing.assert_allclose([part[4, 4] for part in off], [2, 6, -8])
    np.testing.assert_allclose([off[0][0, 0], off[2][0, 0]], [5, -5])  # the mean of the two that show it
    assert bottom[0].images[0].get_clim() == (-8, 8)


def test_drift_shows_the_features_that_move_most(tmp_path, drawn):
    rng = np.random.default_rng(0)
    values = rng.normal(size=(300, 3))
    values[:, 1] += np.linspace(0, 3, 300)
    sequences = np.repeat(["a", "b"], [200, 100])
    drift = find_drift(values, ["one", "two", "three"], sequences, 39, rng)
    draw_drift(drift, tmp_path / "drift.png", "title", most=2)
    axes = drawn[0].axes
    assert len(axes) == 4
    assert axes[0].get_ylabel().startswith("two\n")
    assert axes[0].get_title() == f"order explains {drift.shares[1]:.1%} beyond chance, p {drift.p[1]:.3f}"
    x, y = axes[0].lines[0].get_data()
    assert (x[0], x[-1]) == (2.5, 97.5)
    np.testing.assert_allclose(y, drift.curves[1])
    courses = {line.get_label(): line.get_ydata() for line in axes[1].lines if "(" in line.get_label()}
    assert sorted(courses) == ["a (200)", "b (100)"]
    np.testing.assert_allclose(courses["a (200)"], drift.courses[1, 0])


def test_doubtful_cells_are_those_given(tmp_path, drawn):
    cells = {"A, perhaps B": [np.full((6, 8), 40, np.uint8), np.full((8, 6), 90, np.uint8)]}
    notes = {"A, perhaps B": ["1. cell 17", "4. cell 2"]}
    draw_doubtful(cells, notes, tmp_path / "label_noise.png", "title", columns=2)
    assert [axes.get_xlabel() for axes in drawn[0].axes] == ["1. cell 17", "4. cell 2"]
    shown = [np.unique(image.get_array()).tolist() for axes in drawn[0].axes for image in axes.images]
    assert shown == [[40], [90]]


def test_a_class_has_one_colour_in_all_panels_of_drift():
    names = ["r1 / A", "r1 / B", "r2 / A", "r2 / B"]
    assert _styles(names, [2, 1, 0]) == {2: (0, 0), 1: (1, 0), 0: (0, 1)}
