"""Weights kept as the best, and the choice of the last ones."""

from types import SimpleNamespace

import torch
from pytorch_lightning.callbacks import ModelCheckpoint

from fastcell.training.best_weights import BALANCED, PLAIN, BestWeights, checkpoint_callback, choose_weights, monitor_of
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


def state_of(folder, loss):
    """State of the checkpoints of a run in `folder` whose least loss is `loss`."""
    best = checkpoint_callback(folder, validates=True)
    best.best_model_score = best.kth_value = torch.tensor(loss)
    best.best_model_path = best.kth_best_model_path = f"{folder}/best.ckpt"
    best.best_k_models, best.last_model_path = {f"{folder}/best.ckpt": torch.tensor(loss)}, f"{folder}/last.ckpt"
    return best.state_dict()


def test_the_best_score_moves_with_the_folder(tmp_path):
    state = state_of(tmp_path / "old", 0.5)
    assert not [value for value in state.values() if str(tmp_path) in str(value)]
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "best.ckpt").touch()
    moved = checkpoint_callback(tmp_path / "new", validates=True)
    moved.load_state_dict(state)
    assert float(moved.best_model_score) == 0.5
    assert moved.best_model_path == str(tmp_path / "new" / "best.ckpt")
    assert list(moved.best_k_models) == [moved.best_model_path]
    trainer = SimpleNamespace(strategy=SimpleNamespace(reduce_boolean_decision=bool))
    assert not moved.check_monitor_top_k(trainer, torch.tensor(0.6))
    assert moved.check_monitor_top_k(trainer, torch.tensor(0.4))
    absolute = {**state, "best_model_path": "/elsewhere/best.ckpt", "dirpath": "/elsewhere"}  # of an older version
    moved.load_state_dict(absolute)
    assert moved.best_model_path == str(tmp_path / "new" / "best.ckpt")


def test_the_best_score_of_another_folder_is_none(tmp_path):
    other = checkpoint_callback(tmp_path, validates=True)
    other.load_state_dict(state_of(tmp_path / "old", 0.5))
    assert other.best_model_score is None
    assert other.best_model_path == ""


def test_the_state_has_the_name_that_lightning_gives(tmp_path):
    ours = checkpoint_callback(tmp_path, validates=True).state_key
    assert ours == ModelCheckpoint(tmp_path, monitor="valid_loss", filename="best").state_key


def test_a_balanced_loss_selects_where_there_is_one():
    kept, models = BestWeights(), [make_model(seed) for seed in range(3)]
    for model, plain, balanced in zip(models, (1.0, 2.0, 3.0), (0.5, 0.2, 0.3), strict=True):
        values = {PLAIN: torch.tensor(plain), BALANCED: torch.tensor(balanced)}
        kept.on_validation_end(SimpleNamespace(callback_metrics=values), model)
    assert same(kept.weights, models[1].state_dict())


def test_a_checkpoint_names_the_loss_that_selects(tmp_path):
    for name in (PLAIN, BALANCED):
        callback = checkpoint_callback(tmp_path, validates=True, monitor=name)
        assert callback.monitor == name
        assert monitor_of({"callbacks": {"Other": {}, callback.state_key: {}}}) == name
    last = checkpoint_callback(tmp_path, validates=False)
    assert monitor_of({"callbacks": {last.state_key: {}}}) is None
    assert monitor_of({}) is None
