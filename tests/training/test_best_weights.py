"""Weights kept as the best, and the choice of the last ones."""

from types import SimpleNamespace

import torch

from fastcell.training.best_weights import BestWeights, checkpoint_callback, choose_weights
from fastcell.training.fit import build_model
from fastcell.training.recipe import Recipe


def make_model(seed):
    torch.manual_seed(seed)
    recipe = Recipe("demo", {"network": "gao"}, {"image_size": 16})
    return build_model(recipe, ["a", "b"], recipe.preprocessing)


def same(one, other):
    return all(torch.equal(value, other[name]) for name, value in one.items())


def test_the_best_weights_replace_the_last_ones_where_they_are_chosen():
    best, last = (make_model(seed).state_dict() for seed in (0, 1))
    assert not same(best, last)
    for select, given, expected in (("best", best, best), ("best", None, last), ("last", best, last)):
        model = make_model(1)
        assert choose_weights(model, select, given) == (expected is best)
        assert same(model.state_dict(), expected)


def test_weights_of_the_least_loss_are_kept():
    kept, models = BestWeights(), [make_model(seed) for seed in range(4)]
    assert kept.weights is None
    for model, loss in zip(models, (3.0, 1.0, 1.0, 2.0), strict=True):
        kept.on_validation_end(SimpleNamespace(callback_metrics={"valid_loss": torch.tensor(loss)}), model)
    assert same(kept.weights, models[1].state_dict())
    with torch.no_grad():
        next(models[1].parameters()).zero_()
    assert not same(kept.weights, models[1].state_dict())


def test_a_run_that_validates_keeps_the_checkpoint_of_the_least_loss(tmp_path):
    best = checkpoint_callback(tmp_path, validates=True)
    assert (best.filename, best.monitor, best.mode, best.save_last) == ("best", "valid_loss", "min", True)
    last = checkpoint_callback(tmp_path, validates=False)
    assert (last.filename, last.monitor) == ("last", None)
