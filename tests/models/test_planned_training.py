"""Training from indices of cells against training on batches: the same weights, scores, counts and checkpoints."""

from collections.abc import Callable
from types import SimpleNamespace

import pytest
import pytorch_lightning as pl
import torch
from fixtures.recorded_training import data, trainer

from fastcell.dataset.manifest import Manifest
from fastcell.loading.bank_loader import PlannedLoader
from fastcell.loading.batch import PlannedSteps
from fastcell.models import lightning_module
from fastcell.models.lightning_module import CellModule
from fastcell.models.planned_training import PlannedTraining, can_replay
from fastcell.ops.augmentation import Augmentation
from fastcell.training.progress_bar import Throughput

Make = Callable[..., Manifest]
RUN = {"schedule": "one_cycle", "warmup": 0.3, "optimizer": "adamw", "weight_decay": 0.1, "label_smoothing": 0.05}


class Items(pl.Callback):
    """Notes the type of what each training step gets."""

    def __init__(self):
        self.types = set()

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.types.add(type(batch))


def run(manifest, monkeypatch, planned, *, of_model=None, of_data=None, ckpt_path=None, callbacks=(), **of_trainer):
    """Train on the CPU with 3 steps in a call, from indices or on batches; 60 cells make 4 steps, the last padded."""
    monkeypatch.setattr(lightning_module, "can_replay", lambda model: planned)
    pl.seed_everything(3, verbose=False)
    settings = {"store": "bank", "augmentation": Augmentation(noise_std=3.0, blur_sigma=0.5), **(of_data or {})}
    module = data(manifest, steps_per_call=3, **settings)
    described = {"classes": module.classes, "preprocessing": module.preprocessing.to_dict()}
    model = CellModule(**RUN, steps_per_call=3, **described, **(of_model or {}))
    items, throughput = Items(), Throughput()
    made = trainer(**{"max_epochs": 2, "callbacks": [items, throughput, *callbacks], **of_trainer})
    made.fit(model, datamodule=module, ckpt_path=ckpt_path, weights_only=True)
    assert items.types == ({PlannedSteps} if planned else {tuple})
    return model, made, throughput


@pytest.mark.parametrize(
    ("of_model", "of_data"),
    [
        ({"ema_decay": 0.9, "input_norm": True}, {"balance": "oversample"}),
        ({"part_learning_rates": {"head": 1e-2}}, {"balance": "weights"}),
        pytest.param({"loss": "sigmoid"}, {"balance": "none", "augment": False}, marks=pytest.mark.slow),
    ],
)
def test_weights_scores_and_counts_are_those_of_training_on_batches(make_dataset, monkeypatch, of_model, of_data):
    manifest = make_dataset(100)
    found = [run(manifest, monkeypatch, planned, of_model=of_model, of_data=of_data) for planned in (True, False)]
    (ours, our_trainer, our_rate), (theirs, their_trainer, their_rate) = found
    for name, value in theirs.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], value, rtol=1e-6, atol=1e-8, msg=name)
    assert our_trainer.global_step == their_trainer.global_step
    ours_lr, theirs_lr = ([g["lr"] for g in t.optimizers[0].param_groups] for t in (our_trainer, their_trainer))
    assert ours_lr == theirs_lr
    assert all(isinstance(rate, float) for rate in ours_lr)
    assert ours.last_scores == pytest.approx(theirs.last_scores, rel=1e-4)
    assert our_trainer.callback_metrics["valid_loss"] == pytest.approx(
        float(their_trainer.callback_metrics["valid_loss"])
    )
    assert our_rate.cells == their_rate.cells
    if of_data["balance"] != "oversample":
        assert our_rate.cells["train"] == 2 * 60  # without padding
    for mine, his in zip(
        our_trainer.optimizers[0].state.values(), their_trainer.optimizers[0].state.values(), strict=True
    ):
        assert float(mine["step"]) == float(his["step"]) == our_trainer.global_step


@pytest.mark.parametrize("half", ["bf16-mixed", pytest.param("bf16-true", marks=pytest.mark.slow)])
def test_in_bfloat16_the_difference_is_rounding(make_dataset, monkeypatch, half):
    """Beside the difference between bfloat16 and float32 of the same training on batches."""
    manifest = make_dataset(100)
    plan, batch, exact = (
        run(manifest, monkeypatch, planned, precision=precision)[0].state_dict()
        for planned, precision in ((True, half), (False, half), (False, "32-true"))
    )
    for name in ("network.features.0.weight", "network.classifier.1.weight", "network.classifier.3.weight"):
        noise = (batch[name] - exact[name]).norm()
        assert noise > 0
        assert (plan[name] - batch[name]).norm() < noise, name


def test_corrupt_cells_are_replaced_and_do_not_count(make_dataset, monkeypatch):
    manifest = make_dataset(100, encoding="png")
    shard = manifest.path / manifest.info.shards[0]["name"]
    content = bytearray(shard.read_bytes())
    for row in (2, 5):
        begin = int(manifest.column("offset")[row])
        content[begin : begin + 8] = b"damaged!"
    shard.write_bytes(content)
    found = [run(manifest, monkeypatch, planned)[:2] for planned in (True, False)]
    (ours, our_trainer), (theirs, their_trainer) = found
    for name, value in theirs.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], value, rtol=1e-6, atol=1e-8, msg=name)
    for made in (our_trainer, their_trainer):
        assert sorted(made.datamodule.corrupt_cells.reasons) == [2, 5]


def test_steps_end_inside_a_call(make_dataset, monkeypatch):
    assert run(make_dataset(100), monkeypatch, True, max_epochs=-1, max_steps=9)[1].global_step == 9


def test_checkpoints_are_those_of_batches_and_go_on_with_either(make_dataset, monkeypatch, tmp_path):
    manifest, saved, ends = make_dataset(100), {}, {}
    for planned in (True, False):
        saves = pl.callbacks.ModelCheckpoint(tmp_path / str(planned), "{epoch}", save_top_k=-1, monitor=None)
        options = {"callbacks": [saves], "enable_checkpointing": True}
        ends[planned] = run(manifest, monkeypatch, planned, **options)[0].state_dict()
        saved[planned] = torch.load(tmp_path / str(planned) / "epoch=0.ckpt", weights_only=True)
    ours, theirs = saved[True], saved[False]
    assert list(ours) == list(theirs)
    assert list(ours["state_dict"]) == list(theirs["state_dict"])
    assert ours["optimizer_states"][0]["param_groups"] == theirs["optimizer_states"][0]["param_groups"]
    assert ours["lr_schedulers"] == theirs["lr_schedulers"]
    assert ours["fastcell_unread"]["steps"] == theirs["fastcell_unread"]["steps"]
    for planned in (True, False):
        again = run(manifest, monkeypatch, planned, ckpt_path=tmp_path / "True" / "epoch=0.ckpt")[0].state_dict()
        for name, value in ends[True].items():
            torch.testing.assert_close(again[name], value, rtol=1e-6, atol=1e-8, msg=name)


class Hooked(pl.Callback):
    def on_after_backward(self, trainer, pl_module): ...


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, True),
        ({"world_size": 2}, False),
        ({"device": "cpu"}, False),
        ({"precision": "32-true"}, True),
        ({"precision": "16-mixed"}, False),
        ({"callbacks": [Throughput(), pl.Callback()]}, True),
        ({"callbacks": [Hooked()]}, False),
        ({"add_losses": print}, False),
    ],
)
def test_steps_are_planned_only_where_nobody_looks_into_them(changes, expected):
    values = {
        "world_size": 1,
        "device": "cuda",
        "precision": "bf16-mixed",
        "callbacks": [],
        "add_losses": None,
        **changes,
    }
    made = SimpleNamespace(**{name: values[name] for name in ("world_size", "precision", "callbacks")})
    made.strategy = SimpleNamespace(root_device=torch.device(values["device"]))
    model = CellModule(classes=["a", "b"], preprocessing={"image_size": 16})
    model.add_losses = values["add_losses"]
    model._trainer = made
    assert can_replay(model) is expected
    assert model.takes_plans is expected


def test_a_model_may_not_want_plans(monkeypatch):
    monkeypatch.setattr(lightning_module, "can_replay", lambda model: True)
    described = {"classes": ["a", "b"], "preprocessing": {"image_size": 16}}
    assert CellModule(**described).takes_plans
    assert not CellModule(**described, cuda_graph=False).takes_plans
    monkeypatch.setattr(lightning_module, "may_draw", lambda *_: True)  # dropout, or a network of the user
    assert not CellModule(**described).takes_plans


def test_own_classes_and_own_batches_get_batches(make_dataset, monkeypatch):
    monkeypatch.setattr(lightning_module, "can_replay", lambda model: True)

    class Own(CellModule):
        pass

    assert not Own(classes=["a", "b"], preprocessing={"image_size": 16}).takes_plans
    module = data(make_dataset(100), steps_per_call=3, store="bank", batch_augmentation=lambda batch: batch)
    made = trainer(max_steps=2)
    made.fit(CellModule(steps_per_call=3, classes=module.classes, preprocessing=module.preprocessing.to_dict()), module)
    assert not isinstance(made.train_dataloader, PlannedLoader)
    assert not PlannedTraining().is_captured
