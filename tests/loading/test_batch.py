"""A batch keeps its kind and its columns wherever it goes."""

import torch
from pytorch_lightning.utilities import move_data_to_device

from fastcell.loading.batch import Batch


def test_columns_stay_in_place_when_lightning_moves_a_batch():
    images, labels, ids = torch.rand(2, 1, 4, 4), torch.tensor([1, -1]), torch.tensor([7, 3])
    batch = Batch(images, labels, ids, torch.tensor([1.0, 0.0]))
    moved = move_data_to_device(batch, torch.device("meta"))
    assert isinstance(moved, Batch)
    assert {tensor.device.type for tensor in moved} == {"meta"}
    assert Batch._fields == ("images", "labels", "cell_ids", "weight")  # the order is that of every consumer
    assert (moved.images.shape, moved.labels.dtype, moved.weight.dtype) == ((2, 1, 4, 4), torch.int64, torch.float32)
