"""Predictions of all batches and ranks, brought together."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from fastcell.models.scored_network import Prediction
from fastcell.predictions.gather import PredictionGatherer, counted_predictions


def make_prediction(ids, weight):
    chances = torch.tensor([[number / 10, 1 - number / 10] for number in ids])
    return Prediction(chances, torch.tensor(ids), torch.tensor(weight))


def test_gathering_sorts_and_drops_padding(tmp_path):
    gatherer = PredictionGatherer(tmp_path)
    gatherer.on_test_batch_end(None, None, make_prediction([5, 2, 2], [1, 1, 0]), None, 0)
    gatherer.on_test_batch_end(None, None, make_prediction([0, 9], [1, 0]), None, 1)
    gatherer.on_test_epoch_end(SimpleNamespace(world_size=1), None)
    assert gatherer.cell_ids.tolist() == [0, 2, 5]
    assert gatherer.probabilities[:, 0].tolist() == pytest.approx([0.0, 0.2, 0.5])


def test_validation_runs_are_gathered_alike_and_start_afresh(tmp_path):
    gatherer = PredictionGatherer(tmp_path)
    trainer = SimpleNamespace(world_size=1)
    gatherer.on_validation_batch_end(None, None, make_prediction([3], [1]), None, 0)
    gatherer.on_validation_epoch_end(trainer, None)
    assert gatherer.cell_ids.tolist() == [3]
    gatherer.on_validation_batch_end(None, None, make_prediction([1], [1]), None, 0)
    gatherer.on_validation_epoch_end(trainer, None)
    assert gatherer.cell_ids.tolist() == [1]


def test_ranks_leave_their_parts_to_the_first(tmp_path):
    parts = {0: make_prediction([4, 0], [1, 1]), 1: make_prediction([2, 4], [1, 1])}  # 4 is padding of one of them
    ranks = {rank: PredictionGatherer(tmp_path) for rank in parts}
    folder = ""

    def trainer(rank):
        def broadcast(made):
            nonlocal folder
            folder = made or folder
            return folder

        def barrier():
            if rank == 0:  # the other rank has come so far
                ranks[1].on_test_epoch_end(trainer(1), None)

        strategy = SimpleNamespace(broadcast=broadcast, barrier=barrier)
        return SimpleNamespace(world_size=2, global_rank=rank, is_global_zero=rank == 0, strategy=strategy)

    for rank, part in parts.items():
        ranks[rank].on_test_batch_end(None, None, part, None, 0)
    ranks[0].on_test_epoch_end(trainer(0), None)
    assert ranks[0].cell_ids.tolist() == [0, 2, 4]
    assert ranks[0].probabilities[:, 0].tolist() == pytest.approx([0.0, 0.2, 0.4])
    assert list(tmp_path.iterdir()) == []


def test_of_no_batch_there_is_no_prediction():
    ids, probabilities = counted_predictions([])
    assert (ids.shape, ids.dtype) == ((0,), np.int64)
    assert probabilities.shape == (0, 0)
    ids, probabilities = counted_predictions([make_prediction([4, 1], [0, 1]), make_prediction([3], [0.5])])
    assert ids.tolist() == [1, 3]
    assert probabilities[:, 0].tolist() == pytest.approx([0.1, 0.3])
