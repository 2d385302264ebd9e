"""Occlusion maps, layers in the plane and errors: what is drawn is what the CSV has."""

import numpy as np
import pyarrow.csv
import pytest

from fastcell.explain.cell_figures import ConfidentErrors, draw_embeddings, draw_errors, draw_occlusion
from fastcell.explain.embedding import Embedding
from fastcell.explain.occlusion import OcclusionMaps
from fastcell.plots.figure_files import FigureFiles


def test_occlusion(tmp_path, drawn, columns):
    rng = np.random.default_rng(0)
    maps = OcclusionMaps(rng.random((7, 4, 4)).astype(np.float32), rng.random(7).astype(np.float32))
    labels, ids = np.array([0, 2, 0, 0, 0, 0, 2]), np.arange(7) * 10
    files = FigureFiles(tmp_path)
    draw_occlusion(files, rng.random((7, 8, 8)), maps, labels, ids, ["A", "B", "C"], "seven cells.")
    table = columns(tmp_path / "occlusion.csv")
    assert len(table["row"]) == 7 * 16
    assert np.unique(table["cell_id"][table["is_drawn"].astype(bool)]).tolist() == [
        0,
        10,
        20,
        30,
        40,
        60,
    ]  # four of A, both of C
    of_third = columns(tmp_path / "occlusion.csv", cell_id=20)["probability"].reshape(4, 4)
    np.testing.assert_allclose(of_third, maps.covered[2], rtol=1e-6)
    lost = maps.plain[:, None, None] - maps.covered
    shown = drawn[0].axes[3].images[0]
    np.testing.assert_allclose(shown.get_array(), lost[2], rtol=1e-6)
    of_a = np.abs(lost[[0, 2, 3, 4]]).max()  # a scale for each class, from the cells that are drawn
    assert shown.get_clim() == pytest.approx((-of_a, of_a))
    assert "Up to 4 cells per class are shown" in files.captions["occlusion"]
    assert "the number above a cell is p without a square" in files.captions["occlusion"]
    means = columns(tmp_path / "occlusion_mean.csv", **{"class": "C"})
    expected = (maps.plain[:, None, None] - maps.covered)[labels == 2].mean(axis=0)
    np.testing.assert_allclose(means["loss"], expected.ravel(), rtol=1e-5)
    np.testing.assert_allclose(drawn[1].axes[1].images[0].get_array(), expected, rtol=1e-5)
    assert drawn[1].axes[1].get_title() == "C, n = 2"


def test_embeddings(tmp_path, drawn, columns):
    rng = np.random.default_rng(0)
    labels = np.arange(30) % 3
    layers = [Embedding(f"layer {i}", 5, rng.random((30, 2)).astype(np.float32), 0.5) for i in range(3)]
    draw_embeddings(FigureFiles(tmp_path), layers, labels, ["A", "B", "C"], "30 cells")
    assert len(columns(tmp_path / "embedding.csv")["x"]) == 90
    table = columns(tmp_path / "embedding.csv", layer="layer 1")
    shown = np.concatenate([dots.get_offsets() for dots in drawn[0].axes[1].collections])
    mine = np.stack([table["x"], table["y"]], axis=1)
    np.testing.assert_allclose(np.sort(shown, axis=0), np.sort(mine, axis=0), rtol=1e-6)


def test_the_most_confident_errors_of_each_class(tmp_path, drawn):
    probabilities = np.array([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8], [0.7, 0.3], [0.45, 0.55]])
    labels = np.array([0, 0, 0, 1, 1])
    errors = ConfidentErrors(probabilities, labels, most=8)
    assert errors.rows.tolist() == [2, 1, 3]
    assert errors.num_wrong.tolist() == [2, 1]
    assert ConfidentErrors(probabilities, labels, most=1).rows.tolist() == [2, 3]
    pictures = [np.full((4, 6), 50 * i, np.uint8) for i in range(3)]
    keys = np.array([f"k{i}" for i in range(5)])
    draw_errors(FigureFiles(tmp_path), errors, pictures, probabilities, labels, keys, ["A", "B"], "5 cells")
    assert pyarrow.csv.read_csv(tmp_path / "errors.csv").to_pylist() == [
        {"key": "k2", "true_class": "A", "called_class": "B", "confidence": 0.8, "p_true_class": 0.2},
        {"key": "k1", "true_class": "A", "called_class": "B", "confidence": 0.6, "p_true_class": 0.4},
        {"key": "k3", "true_class": "B", "called_class": "A", "confidence": 0.7, "p_true_class": 0.3},
    ]
    axes = drawn[0].axes
    assert axes[0].get_xlabel() == "B 0.80"
    assert axes[0].get_ylabel() == "A\n2 of 3"
    assert (axes[1].images[0].get_array() == 50).all()
