"""A user's own augmentation: reproducible, on training batches only, and checked."""

from __future__ import annotations

import pytest
import torch

from fastcell.errors import ArgumentError
from fastcell.loading.batch import Batch
from fastcell.loading.batch_augmentation import BatchAugmentation, find_function, name_of_function
from fastcell.loading.datamodule import CellDataModule


def add_noise(batch: Batch) -> Batch:
    return batch._replace(images=batch.images + torch.rand_like(batch.images))


def batches(num: int = 4) -> list[Batch]:
    return [Batch(torch.zeros(3, 1, 8, 8), torch.arange(3), torch.arange(3), torch.ones(3)) for _ in range(num)]


def test_draws_follow_from_seed_epoch_step_and_rank_and_leave_no_trace():
    torch.manual_seed(1)
    expected = torch.rand(2)
    torch.manual_seed(1)
    whole = [batch.images for batch in BatchAugmentation(add_noise, 5)(iter(batches()), 2, 0)]
    assert torch.equal(torch.rand(2), expected)
    resumed = [batch.images for batch in BatchAugmentation(add_noise, 5)(iter(batches(2)), 2, 2)]
    assert all(torch.equal(one, other) for one, other in zip(whole[2:], resumed, strict=True))
    assert not torch.equal(whole[0], whole[1])
    for seed, epoch, rank in ((6, 2, 0), (5, 3, 0), (5, 2, 1)):
        other = next(BatchAugmentation(add_noise, seed, rank)(iter(batches()), epoch, 0)).images
        assert not torch.equal(other, whole[0])


def test_training_batches_are_changed_and_others_are_not(trained_data):
    settings = {"image_size": 16, "threads": 1, "batch_size": 64}
    plain, own = (CellDataModule(str(trained_data), batch_augmentation=each, **settings) for each in (None, add_noise))
    for data in (plain, own):
        data.setup("fit")
    before, after = next(iter(plain.train_dataloader())), next(iter(own.train_dataloader()))
    assert torch.equal(before.cell_ids, after.cell_ids)
    added = after.images - before.images
    assert float(added.min()) >= 0
    assert float(added.mean()) == pytest.approx(0.5, abs=0.02)
    same = [next(iter(data.val_dataloader())).images for data in (plain, own)]
    assert torch.equal(*same)
    assert own.hparams["batch_augmentation"] == f"{__name__}.add_noise"
    none = CellDataModule(str(trained_data), batch_augmentation=add_noise, augment=False, **settings)
    none.setup("fit")
    bare = CellDataModule(str(trained_data), augment=False, **settings)
    bare.setup("fit")
    assert torch.equal(*(next(iter(data.train_dataloader())).images for data in (none, bare)))


def test_groups_of_batches_are_changed_as_single_ones(trained_data):
    settings = {"image_size": 16, "threads": 1, "batch_size": 32, "batch_augmentation": add_noise}
    single, grouped = (CellDataModule(str(trained_data), steps_per_call=each, **settings) for each in (1, 3))
    for data in (single, grouped):
        data.setup("fit")
    together = [batch.images for group in grouped.train_dataloader() for batch in group]
    assert all(torch.equal(one.images, other) for one, other in zip(single.train_dataloader(), together, strict=True))


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda batch: batch.images, "a function that returns a Batch, got 'Tensor'"),
        (lambda batch: batch._replace(images=batch.images[:, :, :4]), "one that keeps the shapes"),
        (lambda batch: None, "a function that returns a Batch, got 'NoneType'"),
    ],
)
def test_what_is_no_batch_is_refused(function, message):
    with pytest.raises(ArgumentError) as caught:
        next(BatchAugmentation(function, 0)(iter(batches()), 0, 0))
    assert message in str(caught.value)


def test_functions_by_class_path():
    assert find_function(None) is None
    assert find_function(add_noise) is add_noise
    assert name_of_function({"class_path": "a.B"}) == {"class_path": "a.B"}
    assert find_function({"class_path": "torch.nn.Identity"})(3) == 3
    with pytest.raises(ArgumentError, match="batch_augmentation must be a function from Batch to Batch"):
        find_function("flip")
