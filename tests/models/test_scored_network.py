"""Predictions of batches, and the scores that validation logs."""

import pytest
import pytorch_lightning as pl
import torch
from fixtures.small_models import Batches, make_batch, make_model, make_trainer

from fastcell.models.losses import cell_losses


def test_the_balanced_validation_loss_by_hand(tmp_path):
    """A validation cell counts as a training cell of its class; without emphasis there is no such loss."""
    model, batch = make_model(), make_batch(9)
    labels = batch.labels.clone()
    labels[4] = -1
    valid = batch._replace(labels=labels, weight=torch.tensor([0.0] + [1.0] * 11))

    class Data(pl.LightningDataModule):
        emphasis = None

        def train_dataloader(self):
            return Batches(*(make_batch(seed) for seed in range(4)))

        def val_dataloader(self):
            return Batches(valid)

    data = Data()
    trainer = make_trainer(tmp_path, max_steps=-1, max_epochs=2)
    trainer.fit(make_model(), datamodule=data)
    assert "valid_balanced_loss" not in trainer.callback_metrics
    emphasis = torch.tensor([1.0, 3.0, 10.0])
    data.emphasis = emphasis.numpy()
    trainer = make_trainer(tmp_path, max_steps=-1, max_epochs=2)
    trainer.fit(model, datamodule=data)
    found = {name: float(value) for name, value in trainer.callback_metrics.items()}
    model.eval()
    losses = cell_losses("cross_entropy", model(batch.images), batch.labels).detach()
    counted = [row for row in range(12) if row not in (0, 4)]
    weight = emphasis[batch.labels]
    expected = float((losses * weight)[counted].sum() / weight[counted].sum())
    assert found["valid_balanced_loss"] == pytest.approx(expected, rel=1e-5)
    assert found["valid_loss"] == pytest.approx(float(losses[counted].mean()), rel=1e-5)
    assert abs(found["valid_balanced_loss"] - found["valid_loss"]) > 1e-4


def test_predict_step_gives_probabilities_ids_and_weight():
    model = make_model().eval()
    batch = make_batch()._replace(cell_ids=torch.arange(100, 112))
    prediction = model.predict_step(batch, 0)
    assert prediction.cell_ids.tolist() == list(range(100, 112))
    assert torch.allclose(prediction.probabilities.sum(1), torch.ones(12))
    assert prediction.weight.tolist() == [1.0] * 12
