"""Recipes of presets, and training on cells in memory."""

import numpy as np
import torch
from fixtures.spotted_cells import cells

from fastcell.loading import array_loader
from fastcell.training import on_arrays
from fastcell.training.estimator import CellClassifier
from fastcell.training.on_arrays import classify_cells, train_on_cells
from fastcell.training.recipe import estimator_recipe, read_recipe

QUICK = {"image_size": 16, "epochs": 8, "batch_size": 8, "learning_rate": 5e-3, "threads": 1, "random_state": 0}


def test_rare_classes_are_repeated_where_the_preset_says_so(monkeypatch):
    seen = {}
    loader = array_loader.PoolLoader
    monkeypatch.setattr(on_arrays, "PoolLoader", lambda *a, **k: (seen.update(k), loader(*a, **k))[1])
    images, _ = cells(12)
    names = np.array(["a"] * 9 + ["b"] * 3)
    CellClassifier(**{**QUICK, "epochs": 1}, preset="paper").fit(images, names)
    assert np.bincount(np.array([0] * 9 + [1] * 3)[seen["rows"]]).tolist() == [9, 9]


def test_auto_takes_half_of_its_repeats_back():
    labels, images = np.array([0] * 22 + [1] * 2), [np.zeros((4, 4), np.uint8)] * 24
    for changes, want in (([], [0, np.log(10) / 2]), (["--data.balance=oversample"], None)):
        recipe = read_recipe("fast", changes)
        device = torch.device("cpu")
        data = on_arrays._TrainingCells(recipe, recipe.preprocessing, images, labels, np.ones(24), 0, device, 1)
        assert (data.logit_shift is None) == (want is None)
        if want is not None:
            np.testing.assert_allclose(data.logit_shift, want, rtol=1e-6)


def test_cells_are_classified_alike_in_chunks_of_any_size():
    images, names = cells(14)
    labels = (names == "spot").astype(int)
    recipe = estimator_recipe("fast", image_size=16, batch_size=8, epochs=1)
    module = train_on_cells(recipe, list(images), labels, np.ones(14), ["plain", "spot"], seed=0)
    whole = classify_cells(module, list(images), 14)
    assert whole.shape == (14, 2)
    np.testing.assert_allclose(whole.sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(classify_cells(module, list(images), 5), whole, atol=1e-5)
