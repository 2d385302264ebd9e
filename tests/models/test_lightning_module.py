"""Training steps: weights, shifts, ranks, optimizer steps in a call."""

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from fixtures.small_models import CLASSES, SIZE, Batches, fit, make_batch, make_model, make_trainer

from fastcell.errors import ArgumentError
from fastcell.loading.batch import Batch
from fastcell.models.lightning_module import CellModule
from fastcell.models.losses import cell_losses


def test_training_step_is_the_weighted_mean_and_padding_changes_nothing():
    model = make_model(label_smoothing=0.1)
    batch = make_batch()
    weight = torch.ones(12)
    weight[[1, 5]] = 0
    labels = batch.labels.clone()
    labels[2] = -1
    loss = model.training_step(batch._replace(weight=weight, labels=labels), 0)
    losses = cell_losses("cross_entropy", model(batch.images), batch.labels, 0.1)
    counted = [row for row in range(12) if row not in (1, 2, 5)]
    assert float(loss.detach()) == pytest.approx(float(losses[counted].mean().detach()), rel=1e-6)
    assert int(model.train_scores.confusion.sum()) == len(counted)


def test_batch_norm_sees_every_cell_of_the_batch():
    one, two = make_model().train(), make_model().train()
    batch = make_batch()
    weight = torch.ones(12)
    weight[:6] = 0
    one.training_step(batch, 0)
    two.training_step(batch._replace(weight=weight), 0)
    assert torch.equal(one.network.features[3].running_mean, two.network.features[3].running_mean)


def test_class_weights_by_hand():
    model = make_model()
    batch = make_batch()
    model.class_weights = torch.tensor([1.0, 2.0, 5.0])
    assert model.double().class_weights.dtype == torch.float64  # moved with the network, not in each step
    assert "class_weights" not in model.float().state_dict()
    found = float(model.training_step(batch, 0).detach())
    losses = cell_losses("cross_entropy", model(batch.images), batch.labels)
    weight = torch.tensor([1.0, 2.0, 5.0])[batch.labels]
    assert found == pytest.approx(float(((losses * weight).sum() / weight.sum()).detach()), rel=1e-6)


def test_the_loss_sees_shifted_logits_and_the_scores_do_not(tmp_path):
    model, batch = make_model().eval(), make_batch()
    plain = float(model.training_step(batch, 0).detach())
    shift = torch.tensor([0.0, 0.5, 1.2])
    model.logit_shift = shift
    found = float(model.training_step(batch, 0).detach())
    logits = model(batch.images).detach()
    expected = float(cell_losses("cross_entropy", logits + shift, batch.labels).mean())
    assert found == pytest.approx(expected, rel=1e-6)
    assert abs(found - plain) > 0.01
    assert torch.equal(model.predict_probabilities(batch.images).detach(), logits.softmax(1))
    model.emphasis = torch.tensor([1.0, 3.0, 10.0])
    model.validation_step(batch, 0)
    weight = model.emphasis[batch.labels]
    balanced = float((cell_losses("cross_entropy", logits + shift, batch.labels) * weight).sum() / weight.sum())
    assert float(model.balanced_scores.compute()["loss"]) == pytest.approx(balanced, rel=1e-5)
    assert float(model.eval_scores.compute()["loss"]) == pytest.approx(
        float(cell_losses("cross_entropy", logits, batch.labels).mean()), rel=1e-5
    )


@pytest.mark.parametrize(("loss", "is_shifted"), [("cross_entropy", True), ("mse", False), ("sigmoid", False)])
def test_only_a_softmax_is_shifted_and_only_in_a_fit(tmp_path, loss, is_shifted):
    class Data(pl.LightningDataModule):
        logit_shift = np.array([0.0, 0.5, 1.2], np.float32)

        def train_dataloader(self):
            return Batches(make_batch())

        def test_dataloader(self):
            return Batches(make_batch())

    model = make_model(loss=loss)
    trainer = make_trainer(tmp_path, max_steps=1)
    trainer.fit(model, datamodule=Data())
    assert (model.logit_shift is not None) == is_shifted
    trainer.test(model, datamodule=Data(), verbose=False)
    assert model.logit_shift is None


def test_ranks_average_to_the_weighted_mean_of_the_global_batch(monkeypatch):
    model = make_model().eval()  # evaluation: batch norm per rank is another matter
    batch = make_batch()
    weight = torch.ones(12)
    weight[[0, 1, 2, 3, 7]] = 0  # the ranks count 2 and 5 cells
    whole = model.training_step(batch._replace(weight=weight), 0)
    monkeypatch.setattr(model, "_num_ranks", lambda: 2)
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda value: value.copy_(weight.sum()))
    parts = [Batch(*(column[rows] for column in batch._replace(weight=weight))) for rows in (slice(0, 6), slice(6, 12))]
    losses = [model.training_step(part, 0) for part in parts]
    assert float(sum(losses).detach()) / 2 == pytest.approx(float(whole.detach()), rel=1e-6)


class CountedBatches(Batches):
    """A loader that knows how many cells a batch should have; the last has two fewer than its weights say."""

    def global_weight(self, step):
        return len(self.batches[step].weight) - 2 * (step == len(self.batches) - 1)


def test_the_loader_knows_the_weight_of_a_global_batch(tmp_path):
    batches = [make_batch(seed) for seed in range(4)]
    losses = []

    class Noted(CellModule):
        def training_step(self, batch, batch_idx):
            loss = super().training_step(batch, batch_idx)
            each = cell_losses("cross_entropy", self(batch.images), batch.labels)
            losses.append((float(loss.detach()), float(each.sum().detach())))
            return loss

    torch.manual_seed(0)
    model = Noted(classes=CLASSES, preprocessing={"image_size": SIZE})
    make_trainer(tmp_path).fit(model, CountedBatches(*batches))
    assert [total / loss for loss, total in losses] == pytest.approx([12, 12, 12, 10], rel=1e-5)


def test_learns_a_separable_set_and_scores_it(tmp_path):
    model = make_model(learning_rate=3e-3)
    trainer = fit(model, tmp_path, valid=Batches(make_batch(9)), max_steps=-1, max_epochs=12)
    assert float(trainer.callback_metrics["valid_accuracy"]) == 1.0
    assert float(trainer.callback_metrics["train_accuracy"]) > 0.9
    assert float(trainer.callback_metrics["valid_loss"]) < 0.3


def test_same_seed_same_weights_other_seed_others(tmp_path):
    def weights(seed):
        pl.seed_everything(seed)
        model = CellModule(classes=CLASSES, preprocessing={"image_size": SIZE})
        fit(model, tmp_path, deterministic=True)
        return torch.cat([p.detach().flatten() for p in model.parameters()])

    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))


@pytest.mark.parametrize(("name", "kind"), [("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW)])
def test_optimizer_decays_weights_but_no_biases(tmp_path, name, kind):
    trainer = fit(make_model(optimizer=name, weight_decay=0.1, betas=[0.8, 0.9]), tmp_path)
    optimizer = trainer.optimizers[0]
    assert type(optimizer) is kind
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.1, 0.0]
    assert all(p.ndim > 1 for p in optimizer.param_groups[0]["params"])
    assert sum(len(group["params"]) for group in optimizer.param_groups) == 16
    assert optimizer.defaults["betas"] == (0.8, 0.9)
    assert optimizer.defaults["fused"]


def test_schedule_ends_at_the_final_rate(tmp_path):
    model = make_model(schedule="exponential", learning_rate=1e-2, final_learning_rate=1e-4)
    trainer = fit(model, tmp_path, max_steps=8)
    assert trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(1e-4)


def test_schedule_of_a_run_without_end_is_refused(tmp_path):
    with pytest.raises(ArgumentError, match="schedule must be constant in a run without an end, got 'cosine'"):
        fit(make_model(schedule="cosine"), tmp_path, max_steps=-1, max_epochs=-1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"loss": "hinge"}, "loss must be one of cross_entropy, mse, sigmoid"),
        ({"optimizer": "sgd"}, "optimizer must be one of adam, adamw"),
        ({"label_smoothing": 1.0}, r"label_smoothing must be in \[0, 1\), got 1.0"),
        ({"learning_rate": 0.0}, "learning_rate must be above 0"),
        ({"final_learning_rate": 0.0}, "final_learning_rate must be above 0"),
        ({"betas": [0.9]}, "betas must be two numbers"),
        ({"weight_decay": -1.0}, "weight_decay must be 0 or more"),
        ({"warmup": 1.0}, "warmup must be in"),
        ({"ema_decay": 1.0}, "ema_decay must be in"),
        ({"network": "alexnet"}, "network must be a known name, got 'alexnet'"),
        ({"schedule": "step"}, "schedule must be one of constant"),
    ],
)
def test_bad_hyper_parameters(arguments, message):
    with pytest.raises(ArgumentError, match=message):
        make_model(**arguments)


class Groups(Batches):
    """A loader of groups of batches."""

    def __init__(self, group, *batches):
        super().__init__(*(batches[begin : begin + group] for begin in range(0, len(batches), group)))
        self.num_steps = len(batches)


@pytest.mark.parametrize("group", [2, 3, 8])
def test_several_steps_in_a_call_are_the_same_steps(tmp_path, group):
    """Weights, averages, schedule, step count and scores; the last call of an epoch has fewer batches."""
    settings = {"schedule": "one_cycle", "warmup": 0.3, "ema_decay": 0.9, "optimizer": "adamw", "weight_decay": 0.1}
    batches = [make_batch(seed) for seed in range(7)]
    states = []
    for loader, steps in ((Batches(*batches), 1), (Groups(group, *batches), group)):
        model = make_model(**settings, steps_per_call=steps)
        trainer = make_trainer(tmp_path, max_steps=-1, max_epochs=3)
        trainer.fit(model, loader)
        assert trainer.global_step == 21
        assert set(model.last_scores) == {"loss", "accuracy"}  # read though the last call was short
        states.append((model.state_dict(), trainer.optimizers[0].param_groups[0]["lr"], model.last_scores))
    for name, value in states[0][0].items():
        assert torch.equal(value, states[1][0][name]), name
    assert states[0][1] == states[1][1] == pytest.approx(1e-6, rel=1e-3)


def test_several_steps_in_a_call_end_at_max_steps(tmp_path):
    model = make_model(steps_per_call=4)
    trainer = make_trainer(tmp_path, max_steps=6)
    trainer.fit(model, Groups(4, *(make_batch(seed) for seed in range(8))))
    assert trainer.global_step == 6


def test_several_steps_in_a_call_must_be_a_number():
    with pytest.raises(ArgumentError, match="steps_per_call must be at least 1, got 0"):
        make_model(steps_per_call=0)
