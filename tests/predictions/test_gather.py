"""Predictions of all batches and ranks come together once each, in the order of cell_id."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from fastcell.models.lightning_module import Prediction
from fastcell.predictions.gather import PredictionGatherer, counted_predictions


def make_prediction(ids: list[int], weight: list[float]) -> Prediction:
    probabilities = torch.tensor([[number / 10, 1 - number / 10] for number in ids])
    return Prediction(probabilities, torch.tensor(ids), torch.tensor(weight))


def test_gathering_sorts_and_drops_padding(tmp_path):
    gatherer = PredictionGatherer(tmp_path)
    gatherer.on_test_batch_end(None, None, make_prediction([5, 2, 2], [1, 1, 0]), None, 0)
    gatherer.on_test_batch_end(None, None, make_prediction([0, 9], [1, 0]), None, 1)
    gatherer.on_test_epoch_end(SimpleNamespace(world_size=1), None)
    assert gatherer.cell_ids.tolist() == [0, 2, 5]
    assert gatherer.probabilities[:, 0].tolist() == pytest.approx([0.0, 0.2, 0.5])


def test_of_no_batch_there_is_no_prediction():
    ids, probabilities = counted_predictions([])
    assert (ids.shape, ids.dtype) == ((0,), np.int64)
    assert probabilities.shape == (0, 0)
    ids, probabilities = counted_predictions([make_prediction([4, 1], [0, 1]), make_prediction([3], [0.5])])
    assert ids.tolist() == [1, 3]
    assert probabilities[:, 0].tolist() == pytest.approx([0.1, 0.3])


def test_ranks_leave_their_parts_to_the_first_one(tmp_path):
    others = {"ids": np.array([7, 2]), "probabilities": np.array([[0.7, 0.3], [0.2, 0.8]], np.float32)}

    def barrier():
        (folder,) = tmp_path.iterdir()
        np.savez(folder / "1.npz", **others)

    strategy = SimpleNamespace(broadcast=lambda made: made, barrier=barrier)
    trainer = SimpleNamespace(world_size=2, is_global_zero=True, global_rank=0, strategy=strategy)
    gatherer = PredictionGatherer(tmp_path)
    gatherer.on_validation_batch_end(None, None, make_prediction([5, 2], [1, 1]), None, 0)
    gatherer.on_validation_epoch_end(trainer, None)
    assert gatherer.cell_ids.tolist() == [2, 5, 7]
    assert gatherer.probabilities[:, 0].tolist() == pytest.approx([0.2, 0.5, 0.7])
    assert list(tmp_path.iterdir()) == []
