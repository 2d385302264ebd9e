"""The training path that the command, the studies and the estimator share; the command's own tests are in tests/cli."""

import numpy as np
import pytest
import torch

from fastcell.compare.saved_results import Task
from fastcell.compare.train_network import make_data
from fastcell.training.fit import build_model, train_recipe
from fastcell.training.recipe import Recipe


def test_a_model_is_made_of_the_recipe():
    recipe = Recipe("fast", {"network": "gao", "learning_rate": 0.5}, {"image_size": 16, "normalization": "subtract"})
    model = build_model(recipe, ["a", "b", "c"], recipe.preprocessing)
    assert (model.hparams["network"], model.hparams["learning_rate"]) == ("gao", 0.5)
    assert model.classes == ["a", "b", "c"]
    assert (model.preprocessing["image_size"], model.preprocessing["normalization"]) == (16, "subtract")


@pytest.mark.parametrize("select", ["best", "last"])
def test_the_same_seed_trains_the_same_weights(planted, study_of, select):
    study = study_of(planted())
    parts = study.parts(Task("cnn", "default", "default", 1.0, 0, 16))
    recipe = Recipe(**{**study.recipe.to_dict(), "select": select})
    states = []
    for seed in (0, 0, 1):
        data = make_data(study.manifest, parts, recipe, seed, 16)
        classes = list(study.manifest.info.classes)
        trained = train_recipe(recipe, data, classes, data.preprocessing, seed, torch.device("cpu"), max_epochs=1)
        assert trained.seconds > 0
        assert not trained.model.training
        states.append({name: value.numpy() for name, value in trained.model.state_dict().items()})
    assert all(np.array_equal(value, states[1][name]) for name, value in states[0].items())
    assert not all(np.array_equal(value, states[2][name]) for name, value in states[0].items())
