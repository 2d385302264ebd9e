"""Predictions saved in parts: what a rerun takes over, and what all parts are together."""

import os
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from pytorch_lightning.utilities.exceptions import SIGTERMException

from fastcell.dataset.corrupt_cells import CorruptCells
from fastcell.models.scored_network import Prediction
from fastcell.predictions import saved_parts as module
from fastcell.predictions.parts_of_ranks import PredictionParts


def predicted(ids, weight=None):
    chances = torch.tensor([[0.01 * number, 1 - 0.01 * number] for number in ids])
    return Prediction(chances, torch.tensor(ids), torch.tensor(weight or [1.0] * len(ids)))


class Run:
    """A run of one rank that predicts and saves into a folder."""

    def __init__(self, folder, losses):
        self.skipped = []
        data = SimpleNamespace(skip_predicted=lambda done: self.skipped.extend(done.tolist()))
        strategy = SimpleNamespace(broadcast=lambda values: values, barrier=lambda: None)
        self.trainer = SimpleNamespace(
            strategy=strategy, global_rank=0, is_global_zero=True, datamodule=data, received_sigterm=False
        )
        self.parts = PredictionParts(folder, losses)
        self.parts.setup(self.trainer, None, "predict")
        self.parts.on_predict_start(self.trainer, None)

    def batch(self, *arguments):
        self.parts.on_predict_batch_end(self.trainer, None, predicted(*arguments), None, 0)

    def end(self):
        self.parts.on_predict_epoch_end(self.trainer, None)
        self.parts.store.read_reasons()


@pytest.fixture
def losses(make_dataset):
    return CorruptCells(make_dataset(30))


def test_a_killed_run_leaves_what_it_has_saved(tmp_path, losses, monkeypatch):
    folder = tmp_path / "saved"
    folder.mkdir()
    monkeypatch.setattr(module, "SAVE_EVERY_S", 0.0)
    first = Run(folder, losses)
    assert first.skipped == []
    first.batch([5, 2, 9], [1.0, 1.0, 0.0])  # 9 is padding
    first.batch([3, 4])
    assert len(os.listdir(folder)) == 2
    losses.add({7: "short"})
    first.batch([0])
    second = Run(folder, losses)
    assert second.skipped == [0, 2, 3, 4, 5, 7]
    second.batch([9, 1])
    second.end()
    joined = second.parts.store.joined()
    assert joined.cell_ids.tolist() == [0, 1, 2, 3, 4, 5, 9]
    assert joined.probabilities[:, 0].tolist() == pytest.approx([0, 0.01, 0.02, 0.03, 0.04, 0.05, 0.09])
    assert joined.probabilities.dtype == np.float32
    assert second.parts.reasons == {7: "short"}


def test_a_torn_part_is_predicted_again(tmp_path, losses, monkeypatch):
    monkeypatch.setattr(module, "SAVE_EVERY_S", 0.0)
    first = Run(tmp_path, losses)
    first.batch([1, 2])
    first.batch([3])
    one = sorted(path for path in tmp_path.iterdir() if path.suffix == ".saved")[0]
    one.write_bytes(one.read_bytes()[:-5])
    assert Run(tmp_path, losses).skipped == [3]
    assert not one.exists()


def test_parts_are_saved_every_so_often(tmp_path, losses, monkeypatch):
    clock = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: clock[0])
    run = Run(tmp_path, losses)

    def num_saved():
        return len(list(tmp_path.glob("*.saved")))

    run.batch([1])
    assert num_saved() == 0
    clock[0] += module.SAVE_EVERY_S
    run.batch([2])
    assert num_saved() == 1
    run.batch([3])
    run.parts.on_exception(run.trainer, None, ValueError())
    assert num_saved() == 1
    run.parts.on_exception(run.trainer, None, KeyboardInterrupt())
    assert num_saved() == 2
    run.trainer.received_sigterm = True
    with pytest.raises(SIGTERMException):
        run.batch([4])
