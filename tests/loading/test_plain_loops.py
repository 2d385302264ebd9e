"""Loops of the user's own, in plain torch, in Fabric and in a Lightning module that knows no weights."""

from collections.abc import Callable

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from lightning_fabric import Fabric
from torch import nn
from torch.nn import functional

from fastcell.dataset.manifest import Manifest
from fastcell.loading.datamodule import CellDataModule
from fastcell.models.lightning_module import CellModule

Make = Callable[..., Manifest]


def make_data(manifest, **options):
    settings = {"batch_size": 16, "eval_batch_size": 16, "image_size": 16, "threads": 1, "seed": 3}
    return CellDataModule(str(manifest.path), **{**settings, **options})


def damage(manifest, cell_id):
    """Change one stored byte of a cell."""
    row = manifest.table.slice(cell_id, 1).to_pylist()[0]
    with open(manifest.path / row["shard"], "r+b") as file:
        file.seek(row["offset"] + row["bytes"] // 2)
        byte = file.read(1)[0]
        file.seek(-1, 1)
        file.write(bytes([byte ^ 255]))


@pytest.mark.parametrize("store", ["stream", "bank"])
def test_a_plain_loop_sees_each_cell_once_and_every_epoch_anew(make_dataset, store):
    manifest = make_dataset(150)

    def epochs():
        data = make_data(manifest, store=store)
        ids, images = [], []
        for _ in range(3):  # a loader in every epoch, or one for all: the same epochs
            batches = list(data.train_dataloader())
            assert [len(batch.labels) for batch in batches] == [16] * 5 + [10]
            assert all(bool((batch.weight == 1).all()) for batch in batches)
            ids.append(torch.cat([batch.cell_ids for batch in batches]).tolist())
            order = np.argsort(ids[-1])
            images.append(torch.cat([batch.images for batch in batches])[order])
        return ids, images

    ids, images = epochs()
    assert all(sorted(epoch) == list(range(90)) for epoch in ids)
    assert len({tuple(epoch) for epoch in ids}) == 3
    assert not torch.equal(images[0], images[1])
    again_ids, again_images = epochs()
    assert again_ids == ids
    assert all(torch.equal(one, other) for one, other in zip(images, again_images, strict=True))
    one_loader = make_data(manifest, store=store).train_dataloader()
    assert [torch.cat([batch.cell_ids for batch in one_loader]).tolist() for _ in range(3)] == ids
    one_loader.set_epoch(1)
    assert torch.cat([batch.cell_ids for batch in one_loader]).tolist() == ids[1]


def test_groups_of_batches_advance_too(make_dataset):
    data = make_data(make_dataset(150), steps_per_call=4)
    ids = [torch.cat([b.cell_ids for group in data.train_dataloader() for b in group]).tolist() for _ in range(2)]
    assert sorted(ids[0]) == sorted(ids[1]) == list(range(90))
    assert ids[0] != ids[1]


def test_evaluation_without_a_trainer_is_short_and_leaves_corrupt_cells_out(make_dataset):
    manifest = make_dataset(200)
    damage(manifest, 165)
    data = make_data(manifest)
    for _ in range(2):
        batches = list(data.test_dataloader())
        found = torch.cat([batch.cell_ids for batch in batches]).tolist()
        assert found == [cell for cell in range(160, 200) if cell != 165]
        assert [len(batch.labels) for batch in batches] == [15, 16, 8]
        assert torch.equal(torch.cat([b.labels for b in batches]), torch.tensor(found) % 3)


def test_evaluation_with_padding_has_the_label_of_no_class(make_dataset):
    manifest = make_dataset(200)
    damage(manifest, 165)
    loader = make_data(manifest).test_dataloader()
    loader.pads = True
    batches = list(loader)
    assert all(len(batch.labels) == 16 for batch in batches)
    labels, weight = (torch.cat([batch[column] for batch in batches]) for column in (1, 3))
    assert (weight == 0).sum() == 9  # the corrupt cell, and padding
    assert torch.equal(labels == -1, weight == 0)


class OwnModule(pl.LightningModule):
    """A module as in Lightning's documentation: it never looks at weights."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(256, 3))
        self.seen = {"valid": [], "test": [], "predict": [], "train": []}

    def _loss(self, batch, part):
        self.seen[part] += batch.cell_ids.tolist()
        return functional.cross_entropy(self.layers(batch.images), batch.labels)

    def training_step(self, batch, index):
        return self._loss(batch, "train")

    def validation_step(self, batch, index):
        self.log("valid_loss", self._loss(batch, "valid"), batch_size=len(batch.labels))

    def test_step(self, batch, index):
        self.log("test_loss", self._loss(batch, "test"), batch_size=len(batch.labels))

    def predict_step(self, batch, index):
        self.seen["predict"] += batch.cell_ids.tolist()
        return self.layers(batch.images)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.01)


@pytest.mark.parametrize("store", ["stream", "bank"])
def test_a_lightning_module_of_one_s_own_scores_each_cell_once(make_dataset, store):
    data, module = make_data(make_dataset(200), store=store), OwnModule()
    quiet = {
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "logger": False,
        "enable_checkpointing": False,
    }
    trainer = pl.Trainer(
        max_epochs=2, accelerator="cpu", devices=1, num_sanity_val_steps=0, use_distributed_sampler=False, **quiet
    )
    trainer.fit(module, datamodule=data)
    assert sorted(module.seen["train"]) == sorted([*range(120)] * 2)
    assert module.seen["train"][:120] != module.seen["train"][120:]
    assert module.seen["valid"] == [*range(120, 160)] * 2
    trainer.test(module, datamodule=data, verbose=False)
    assert module.seen["test"] == [*range(160, 200)]
    (batch,) = list(make_data(data.manifest, eval_batch_size=64).test_dataloader())
    expected = functional.cross_entropy(module.layers(batch.images), batch.labels)
    assert float(trainer.callback_metrics["test_loss"]) == pytest.approx(expected.item(), abs=1e-5)
    predicted = trainer.predict(module, datamodule=data)
    assert module.seen["predict"] == [*range(200)]
    assert predicted is not None
    assert sum(map(len, predicted)) == 200


def test_fabric_trains_and_scores_each_cell_once(make_dataset):
    data = make_data(make_dataset(200))
    fabric = Fabric(accelerator="cpu", devices=1)
    model = nn.Sequential(nn.Flatten(), nn.Linear(256, 3))
    model, optimizer = fabric.setup(model, torch.optim.SGD(model.parameters(), 0.01))
    loader, seen = data.train_dataloader(), []
    for _ in range(2):
        for batch in loader:
            images, labels = fabric.to_device((batch.images, batch.labels))
            optimizer.zero_grad()
            fabric.backward(functional.cross_entropy(model(images), labels))
            optimizer.step()
            seen += batch.cell_ids.tolist()
    assert sorted(seen) == sorted([*range(120)] * 2)
    assert seen[:120] != seen[120:]
    with torch.no_grad():
        right = [(model(batch.images).argmax(1) == batch.labels) for batch in data.val_dataloader()]
    assert len(torch.cat(right)) == 40


def test_the_module_of_this_package_keeps_full_batches(make_dataset):
    data = make_data(make_dataset(200), eval_batch_size=64)
    module = CellModule(network="gao", classes=data.classes, preprocessing=data.preprocessing.to_dict())
    sizes = []

    class Sizes(pl.Callback):
        def on_test_batch_start(self, trainer, pl_module, batch, *_):
            sizes.append(len(batch.labels))

    quiet = {
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "logger": False,
        "enable_checkpointing": False,
    }
    pl.Trainer(accelerator="cpu", devices=1, callbacks=[Sizes()], **quiet).test(module, datamodule=data, verbose=False)
    assert sizes == [64]
