"""The data module under Lightning's Trainer: what it trains on, in which order, and what it refuses."""

import threading

import numpy as np
import pytest
import torch
from fixtures.recorded_training import Recorder, data, trainer
from pytorch_lightning.cli import LightningArgumentParser

from fastcell.compare.split_schemes import SplitManifest
from fastcell.errors import ArgumentError, DataError
from fastcell.loading.datamodule import CellDataModule
from fastcell.loading.preprocessing import Preprocessing
from fastcell.ops.augmentation import Augmentation


@pytest.mark.parametrize("layout", ["cell", "block"])
def test_fit_shows_every_cell_once_an_epoch_in_another_order(make_dataset, layout):
    model = Recorder()
    trainer(max_epochs=2).fit(model, datamodule=data(make_dataset(100, layout=layout)))
    assert sorted(model.epoch("train", 0)) == sorted(model.epoch("train", 1)) == list(range(60))
    assert model.epoch("train", 0) != model.epoch("train", 1)
    sanity = list(range(60, 76))  # two batches, before the first epoch
    assert model.epoch("valid", 0) == sanity + list(range(60, 80))
    assert model.epoch("valid", 1) == list(range(60, 80))


def test_same_seed_same_order(make_dataset):
    manifest, orders = make_dataset(100), []
    for seed in (1, 1, 2):
        model = Recorder()
        trainer().fit(model, datamodule=data(manifest, seed=seed))
        orders.append(model.epoch("train", 0))
    assert orders[0] == orders[1] != orders[2]


def test_order_of_an_epoch_does_not_depend_on_those_before(make_dataset):
    """Left early, validated in the middle, reloaded: epoch 1 is epoch 1."""
    manifest, epochs = make_dataset(100), []
    for options in (
        {},
        {"limit_train_batches": 2},
        {"val_check_interval": 0.5},
        {"reload_dataloaders_every_n_epochs": 1},
        {"num_sanity_val_steps": 0, "limit_val_batches": 0},
    ):
        model = Recorder()
        trainer(max_epochs=2, **options).fit(model, datamodule=data(manifest))
        epochs.append(model.epoch("train", 1)[:32])
    assert epochs == [epochs[0]] * 5


def test_val_check_interval(make_dataset):
    model = Recorder()
    trainer(val_check_interval=0.5, num_sanity_val_steps=0).fit(model, datamodule=data(make_dataset(100)))
    assert model.epoch("valid", 0) == 2 * list(range(60, 80))
    assert sorted(model.epoch("train", 0)) == list(range(60))


def test_fast_dev_run_and_limits(make_dataset):
    manifest = make_dataset(100)
    for options, train, valid in (
        ({"fast_dev_run": True}, 1, 1),
        ({"limit_train_batches": 3, "limit_val_batches": 1, "num_sanity_val_steps": 0}, 3, 1),
        ({"limit_train_batches": 0.5, "limit_val_batches": 0.5, "num_sanity_val_steps": 0}, 2, 1),
    ):
        model = Recorder()
        trainer(**options).fit(model, datamodule=data(manifest))
        assert (model.steps["train"], model.steps["valid"]) == (train, valid)
    assert not [thread for thread in threading.enumerate() if thread.name == "fastcell-batches"]


def test_an_exception_in_training_ends_the_threads(make_dataset):
    class Breaks(Recorder):
        def training_step(self, batch, index):
            if index == 1:
                raise RuntimeError("stop here")
            return super().training_step(batch, index)

    module = data(make_dataset(200))
    with pytest.raises(RuntimeError, match="stop here"):
        trainer().fit(Breaks(), datamodule=module)
    del module
    deadline = [thread for thread in threading.enumerate() if thread.name == "fastcell-batches"]
    for thread in deadline:
        thread.join(10)
    assert not any(thread.is_alive() for thread in deadline)


def test_validate_test_and_predict_keep_the_order(make_dataset):
    manifest, model = make_dataset(100), Recorder()
    trainer().validate(model, datamodule=data(manifest), verbose=False)
    trainer().test(model, datamodule=data(manifest), verbose=False)
    assert model.epoch("valid", 0) == list(range(60, 80))
    assert model.epoch("test", 0) == list(range(80, 100))
    cells = trainer().predict(model, datamodule=data(manifest))
    assert torch.cat(cells).tolist() == list(range(100))
    cells = trainer().predict(model, datamodule=data(manifest, predict_split="valid"))
    assert torch.cat(cells).tolist() == list(range(60, 80))


def test_predict_without_labels(make_dataset):
    manifest = make_dataset(30, labelled=False)
    module = data(manifest)
    module.use_preprocessing(Preprocessing(24), ["x", "y"])
    assert torch.cat(trainer().predict(Recorder(), datamodule=module)).tolist() == list(range(30))
    batch = next(iter(module.predict_dataloader()))
    assert batch.images.shape[-1] == 24
    assert batch.labels.tolist() == [-1] * 8


def test_a_checkpoint_decides_the_class_numbers(make_dataset):
    module = data(make_dataset(30))
    assert (module.classes, module.num_classes) == (["A", "B", "C"], 3)
    module.use_preprocessing(Preprocessing(16), ["C", "A"])
    assert module.num_classes == 2
    assert next(iter(module.predict_dataloader())).labels.tolist() == [1, -1, 0, 1, -1, 0, 1, -1]


def test_a_checkpoint_with_another_window_is_refused(make_dataset):
    module = data(make_dataset(30, encoding="png16"))
    assert module.preprocessing.window == (0, 65535)
    with pytest.raises(ArgumentError, match="window of the data must be 10 to 4095 as in training, got '0 to 65535'"):
        module.use_preprocessing(Preprocessing(16, window=(10, 4095)), ["A", "B"])


def test_augment_switches_everything_off(make_dataset):
    manifest, images = make_dataset(60), []
    for options in ({"augment": False}, {"augmentation": Augmentation.none()}, {}):
        module = data(manifest, **options)
        images.append(next(iter(module.train_dataloader())).images)
    assert torch.equal(images[0], images[1])
    assert not torch.equal(images[0], images[2])


def test_fit_without_a_validation_part(make_dataset):
    model = Recorder()
    trainer().fit(model, datamodule=data(make_dataset(50, sides=(0.8, 0.8))))
    assert model.steps == {"train": 3, "valid": 0, "test": 0}


def test_refusals(make_dataset, tmp_path):
    with pytest.raises(ArgumentError, match="has no labelled cell in the train subset"):
        data(make_dataset(30, name="none", labelled=False)).setup("fit")
    with pytest.raises(
        ArgumentError, match=r"at least two classes in the train subset of split 'default', got \['A'\]"
    ):
        data(make_dataset(30, name="one", sides=(0.04, 0.5))).setup("fit")
    manifest = make_dataset(30)
    for options, message in (
        ({"batch_size": 0}, "batch_size must be a positive whole number, got 0"),
        ({"transform": "gpu"}, "transform must be one of auto, fused, dali, got 'gpu'"),
        ({"decoder": "pillow"}, "decoder must be one of auto, dali, threads, got 'pillow'"),
        ({"dtype": "fp8"}, "dtype must be auto or one of float32"),
        ({"threads": -1}, "threads must be 0 or more, got -1"),
        ({"fit": "crop"}, "fit must be one of stretch, contain, scale, got 'crop'"),
    ):
        with pytest.raises(ArgumentError, match=message):
            data(manifest, **options)
    with pytest.raises(DataError, match="is not a packed data set"):
        CellDataModule(str(tmp_path / "nothing"))


def test_hyperparameters_survive_weights_only(make_dataset, tmp_path):
    module = data(make_dataset(30), augmentation=Augmentation(rotation_deg=7))
    torch.save(dict(module.hparams), tmp_path / "values.pt")
    values = torch.load(tmp_path / "values.pt", weights_only=True)
    assert values["augmentation"]["rotation_deg"] == 7
    assert values["image_size"] == 16


def test_command_line_flags():
    """Parsed as LightningCLI does."""
    parser = LightningArgumentParser()
    parser.add_lightning_class_args(CellDataModule, "data")
    flags = ["--data.subsample=100", "--data.augmentation.rotation_deg=20", "--data.fit=contain", "--data.seed=3"]
    values = parser.parse_args(flags).data
    # Beside Lightning's own options the parser reads 100.0: a number of cells all the same, not a share.
    subsample = CellDataModule(subsample=values.subsample).hparams["subsample"]
    assert (subsample, type(subsample)) == (100, int)
    assert (values.augmentation.rotation_deg, values.augmentation.flip_vertical) == (20.0, True)
    assert (values.fit, values.seed, values.path) == ("contain", 3, None)
    assert parser.parse_args(["--data.subsample=0.5"]).data.subsample == 0.5
    assert "size of an output pixel with fit scale" in " ".join(parser.format_help().split())


@pytest.mark.parametrize("store", ["stream", "bank"])
def test_a_resumed_run_goes_on_with_the_next_epoch(make_dataset, tmp_path, store):
    """Though Lightning asks for an iterator before it has restored the epoch, to count the steps of a schedule."""

    class Scheduled(Recorder):
        def configure_optimizers(self):
            assert self.trainer.estimated_stepping_batches > 0
            return super().configure_optimizers()

    manifest, whole, resumed = make_dataset(100), Scheduled(), Scheduled()
    trainer(max_epochs=4).fit(whole, datamodule=data(manifest, store=store))
    half = trainer(max_epochs=2)
    half.fit(Scheduled(), datamodule=data(manifest, store=store))
    half.save_checkpoint(tmp_path / "half.ckpt")
    rest = trainer(max_epochs=4)
    rest.fit(resumed, datamodule=data(manifest, store=store), ckpt_path=tmp_path / "half.ckpt", weights_only=False)
    for epoch in (2, 3):
        assert resumed.epoch("train", epoch) == whole.epoch("train", epoch)


def test_a_look_at_a_batch_before_the_run_does_no_harm(make_dataset):
    model, module = Recorder(), data(make_dataset(100))
    module.setup("fit")
    before = module.train_dataloader()
    next(iter(before))
    trainer().fit(model, datamodule=module)
    assert sorted(model.epoch("train", 0)) == list(range(60))
    assert module.train_dataloader() is not before


def first_batch(module):
    loader = module.train_dataloader()
    loader.set_epoch(0)
    return next(iter(loader))


def test_preprocessing_and_manifest_may_change_after_setup(make_dataset):
    """Whatever was opened before is opened anew."""
    manifest = make_dataset(100)
    module = data(manifest)
    module.setup("fit")
    before = first_batch(module)
    module.use_preprocessing(Preprocessing(24), ["C", "B", "A"])
    after = first_batch(module)
    assert after.images.shape[-1] == 24
    assert torch.equal(after.cell_ids, before.cell_ids)
    assert torch.equal(after.labels, 2 - before.labels)
    state = module.state_dict()
    side = np.array(["valid"] * 20 + ["train"] * 80)
    module.use_manifest(SplitManifest.of(manifest, {"default": side}))
    assert len(module.train_dataloader()) == -(-80 // module.batch_size)
    assert module.state_dict()["training cells"] != state["training cells"]


def test_a_saved_state_counts_after_the_loader_was_made(make_dataset):
    """The state of a stream: a bank that was opened before it is given up."""
    manifest = make_dataset(100)
    module = data(manifest, store="stream")
    module.train_dataloader()
    other = data(manifest)
    assert type(other.train_dataloader()).__name__ == "BankLoader"
    other.load_state_dict(module.state_dict())
    assert type(other.train_dataloader()).__name__ == "CellLoader"
