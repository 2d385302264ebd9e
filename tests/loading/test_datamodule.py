"""The data module under Lightning's Trainer: what it trains on, in which order, and what it refuses."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.cli import LightningArgumentParser

import fastcell
from fastcell.cli.synth import main as synth
from fastcell.compare.split_schemes import SplitManifest
from fastcell.dataset.manifest import Manifest, write_split
from fastcell.dataset.views import ViewConfig, select
from fastcell.errors import ArgumentError, DataError
from fastcell.loading.batch import Batch
from fastcell.loading.datamodule import CellDataModule
from fastcell.loading.decode_choice import choose_decoding
from fastcell.loading.order import NUM_PARTS, BankOrder, fill_order
from fastcell.loading.preprocessing import Preprocessing
from fastcell.loading.stores import stream
from fastcell.ops.augmentation import Augmentation
from fastcell.packing.pack import pack
from fastcell.splits.make_splits import SplitOptions
from fastcell.system import library_settings

Make = Callable[..., Manifest]


class Recorder(pl.LightningModule):
    """A model of one weight that notes every cell it is shown."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen: dict[str, list[tuple[int, list[int]]]] = {"train": [], "valid": [], "test": []}
        self.steps: dict[str, int] = {"train": 0, "valid": 0, "test": 0}

    def note(self, part: str, batch: Batch) -> torch.Tensor:
        assert isinstance(batch, Batch)
        self.steps[part] += 1
        self.seen[part].append((self.current_epoch, batch.cell_ids[batch.weight == 1].tolist()))
        return (self.weight * batch.images.float().mean((1, 2, 3)) * batch.weight).sum()

    def training_step(self, batch: Batch, index: int) -> torch.Tensor:
        return self.note("train", batch)

    def validation_step(self, batch: Batch, index: int) -> None:
        self.note("valid", batch)

    def test_step(self, batch: Batch, index: int) -> None:
        self.note("test", batch)

    def predict_step(self, batch: Batch, index: int) -> torch.Tensor:
        return batch.cell_ids[batch.weight == 1]

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.0)

    def epoch(self, part: str, number: int) -> list[int]:
        return [cell for epoch, cells in self.seen[part] if epoch == number for cell in cells]


class Collectives(pl.Callback):
    """Notes the names of all collective operations that Python calls within each training step."""

    def __init__(self) -> None:
        self.of_steps: list[list[str]] = []
        self._inside = False
        for name in ("all_reduce", "barrier", "broadcast", "all_gather", "reduce", "monitored_barrier"):
            self._watch(name, getattr(torch.distributed, name))

    def _watch(self, name: str, call: Callable[..., Any]) -> None:
        def noted(*arguments: Any, **options: Any) -> Any:
            if self._inside:
                self.of_steps[-1].append(name)
            return call(*arguments, **options)

        setattr(torch.distributed, name, noted)

    def on_train_batch_start(self, *_: Any) -> None:
        self.of_steps.append([])
        self._inside = True

    def on_train_batch_end(self, *_: Any) -> None:
        self._inside = False


def trainer(**options: Any) -> pl.Trainer:
    library_settings.quiet()
    defaults: dict[str, Any] = {
        "accelerator": "cpu",
        "max_epochs": 1,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "use_distributed_sampler": False,
    }
    return pl.Trainer(**{**defaults, **options})


def data(manifest: Manifest, **options: Any) -> CellDataModule:
    defaults = {"batch_size": 16, "eval_batch_size": 8, "image_size": 16, "initial_fill": 16, "threads": 1}
    return CellDataModule(str(manifest.path), **{**defaults, **options})


@pytest.mark.parametrize("layout", ["cell", "block"])
def test_fit_shows_every_cell_once_an_epoch_in_another_order(make_dataset: Make, layout: str) -> None:
    model = Recorder()
    trainer(max_epochs=2).fit(model, datamodule=data(make_dataset(100, layout=layout)))
    assert sorted(model.epoch("train", 0)) == sorted(model.epoch("train", 1)) == list(range(60))
    assert model.epoch("train", 0) != model.epoch("train", 1)
    sanity = list(range(60, 76))  # two batches, before the first epoch
    assert model.epoch("valid", 0) == sanity + list(range(60, 80))
    assert model.epoch("valid", 1) == list(range(60, 80))


def test_same_seed_same_order(make_dataset: Make) -> None:
    manifest, orders = make_dataset(100), []
    for seed in (1, 1, 2):
        model = Recorder()
        trainer().fit(model, datamodule=data(manifest, seed=seed))
        orders.append(model.epoch("train", 0))
    assert orders[0] == orders[1] != orders[2]


def test_order_of_an_epoch_does_not_depend_on_those_before(make_dataset: Make) -> None:
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


def test_val_check_interval(make_dataset: Make) -> None:
    model = Recorder()
    trainer(val_check_interval=0.5, num_sanity_val_steps=0).fit(model, datamodule=data(make_dataset(100)))
    assert model.epoch("valid", 0) == 2 * list(range(60, 80))
    assert sorted(model.epoch("train", 0)) == list(range(60))


def test_fast_dev_run_and_limits(make_dataset: Make) -> None:
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


def test_an_exception_in_training_ends_the_threads(make_dataset: Make) -> None:
    class Breaks(Recorder):
        def training_step(self, batch: Batch, index: int) -> torch.Tensor:
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


def test_validate_test_and_predict_keep_the_order(make_dataset: Make) -> None:
    manifest, model = make_dataset(100), Recorder()
    trainer().validate(model, datamodule=data(manifest), verbose=False)
    trainer().test(model, datamodule=data(manifest), verbose=False)
    assert model.epoch("valid", 0) == list(range(60, 80))
    assert model.epoch("test", 0) == list(range(80, 100))
    cells = trainer().predict(model, datamodule=data(manifest))
    assert torch.cat(cells).tolist() == list(range(100))
    cells = trainer().predict(model, datamodule=data(manifest, predict_split="valid"))
    assert torch.cat(cells).tolist() == list(range(60, 80))


def test_scores_are_of_the_cells_that_training_announced(make_dataset: Make) -> None:
    """`qc --apply` and `split --force` may run beside a fit: its test subset stays; a new fit reads the files anew."""
    manifest = make_dataset(60)
    before = np.flatnonzero(manifest.split() == "test").tolist()
    model, module = Recorder(), data(manifest, augment=False)
    runner = trainer()
    runner.fit(model, module)
    (manifest.path / "verdicts.csv").write_text(f"cell_id,verdict\n{before[0]},drop\n")
    write_split(manifest.path, "default", np.array(["train"] * 50 + ["test"] * 10))
    runner.test(model, module, verbose=False)
    assert [cell for _, cells in model.seen["test"] for cell in cells] == before
    again = Recorder()
    trainer().fit(again, module)
    assert sorted({*range(50)} - {before[0]}) == sorted(again.epoch("train", 0))


def test_predict_without_labels(make_dataset: Make) -> None:
    manifest = make_dataset(30, labelled=False)
    module = data(manifest)
    module.use_preprocessing(Preprocessing(24), ["x", "y"])
    assert torch.cat(trainer().predict(Recorder(), datamodule=module)).tolist() == list(range(30))
    batch = next(iter(module.predict_dataloader()))
    assert batch.images.shape[-1] == 24
    assert batch.labels.tolist() == [-1] * 8


def test_a_checkpoint_decides_the_class_numbers(make_dataset: Make) -> None:
    module = data(make_dataset(30))
    assert (module.classes, module.num_classes) == (["A", "B", "C"], 3)
    module.use_preprocessing(Preprocessing(16), ["C", "A"])
    assert module.num_classes == 2
    assert next(iter(module.predict_dataloader())).labels.tolist() == [1, -1, 0, 1, -1, 0, 1, -1]


def test_a_checkpoint_with_another_window_is_refused(make_dataset: Make) -> None:
    module = data(make_dataset(30, encoding="png16"))
    assert module.preprocessing.window == (0, 65535)
    with pytest.raises(ArgumentError, match="window of the data must be 10 to 4095 as in training, got '0 to 65535'"):
        module.use_preprocessing(Preprocessing(16, window=(10, 4095)), ["A", "B"])


def test_oversampling_weights_and_subsample_concern_training_alone(make_dataset: Make) -> None:
    manifest = make_dataset(100)
    assert data(manifest).class_weights is None
    np.testing.assert_allclose(data(manifest, balance="weights").class_weights, [1, 1, 1])
    module = data(manifest, balance="oversample", subsample=7)
    module.setup("fit")
    loader = module.train_dataloader()
    ids = torch.cat([batch.cell_ids[batch.weight == 1] for batch in loader])
    assert torch.bincount(ids % 3).tolist() == [3, 3, 3]  # 7 cells of three classes: 3, 2 and 2
    assert len(ids.unique()) == 7
    assert len(module.val_dataloader()) == 3


def test_auto_takes_half_of_its_repeats_back_and_oversample_none(
    make_dataset: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = make_dataset(100)
    rare = manifest.labels.copy()  # 56, 2 and 2 training cells
    rare[:60] = [1 if row in (7, 8) else 2 if row in (9, 10) else 0 for row in range(60)]
    monkeypatch.setattr(Manifest, "labels", property(lambda self: rare))
    for balance, cap, want in (
        ("auto", None, [0, np.log(10) / 2, np.log(10) / 2]),
        ("auto", 4.0, [0, np.log(2), np.log(2)]),
        ("oversample", None, None),
        ("none", None, None),
    ):
        module = data(manifest, balance=balance, balance_cap=cap)
        module.setup("fit")
        shift = module.logit_shift
        assert (shift is None) == (want is None)
        if want is not None:
            np.testing.assert_allclose(shift, want, rtol=1e-6)


def test_augment_switches_everything_off(make_dataset: Make) -> None:
    manifest, images = make_dataset(60), []
    for options in ({"augment": False}, {"augmentation": Augmentation.none()}, {}):
        module = data(manifest, **options)
        images.append(next(iter(module.train_dataloader())).images)
    assert torch.equal(images[0], images[1])
    assert not torch.equal(images[0], images[2])


def test_fit_without_a_validation_part(make_dataset: Make) -> None:
    model = Recorder()
    trainer().fit(model, datamodule=data(make_dataset(50, sides=(0.8, 0.8))))
    assert model.steps == {"train": 3, "valid": 0, "test": 0}


def test_refusals(make_dataset: Make, tmp_path: Path) -> None:
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


def test_hyperparameters_survive_weights_only(make_dataset: Make, tmp_path: Path) -> None:
    module = data(make_dataset(30), augmentation=Augmentation(rotation_deg=7))
    torch.save(dict(module.hparams), tmp_path / "values.pt")
    values = torch.load(tmp_path / "values.pt", weights_only=True)
    assert values["augmentation"]["rotation_deg"] == 7
    assert values["image_size"] == 16


def test_command_line_flags() -> None:
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


DDP_SCRIPT = """
import json, sys
import pytorch_lightning as pl
sys.path.insert(0, {folder!r})
from test_datamodule import Collectives, Recorder, data, trainer
from fastcell.dataset.manifest import Manifest
from fastcell.models.lightning_module import CellModule

if __name__ == "__main__":
    for number, options in enumerate({options!r}):
        model = Recorder()
        module = data(Manifest.open({path!r}), batch_size=8, **options)
        fit = trainer(devices=2, strategy="ddp", max_epochs=2)
        fit.fit(model, datamodule=module)
        with open({out!r} + f"{{number}}.{{fit.global_rank}}", "w") as file:
            json.dump({{"seen": model.seen, "steps": model.steps, "weight": model.weight.item()}}, file)
    for balance in ("none", "weights"):
        module = data(Manifest.open({path!r}), batch_size=8, store="bank", balance=balance)
        model = CellModule(classes=module.classes, preprocessing=module.preprocessing.to_dict())
        calls = Collectives()
        fit = trainer(devices=2, strategy="ddp", max_epochs=2, callbacks=[calls])
        fit.fit(model, datamodule=module)
        with open({out!r} + f"{{balance}}.{{fit.global_rank}}", "w") as file:
            json.dump(calls.of_steps, file)
"""
DDP_OPTIONS: list[dict[str, Any]] = [
    {"store": "stream"},
    {"store": "bank"},
    {"store": "bank", "bank_gib": 1500 / 2**30},
]


def train_in_two_processes(manifest: Manifest, folder: Path) -> list[list[Any]]:
    """What the two ranks see, for each of DDP_OPTIONS, and the collectives that a step of `CellModule` calls.

    One training after the other runs in the same two processes.
    """
    here, root = str(Path(__file__).parent), str(Path(fastcell.__file__).parent.parent)
    script = folder / "ddp.py"
    script.write_text(DDP_SCRIPT.format(folder=here, path=str(manifest.path), out=f"{folder}/", options=DDP_OPTIONS))
    environ = {**os.environ, "OMP_NUM_THREADS": "1", "PL_GLOBAL_SEED": "5", "PYTHONPATH": root}
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=240, env=environ)
    assert done.returncode == 0, done.stderr[-3000:]
    names = [*range(len(DDP_OPTIONS)), "none", "weights"]
    return [[json.loads((folder / f"{name}.{rank}").read_text()) for rank in (0, 1)] for name in names]


def test_two_processes_train_on_disjoint_parts(make_dataset: Make, tmp_path: Path) -> None:
    """From a bank they draw, together, the batches that one process would."""
    manifest = make_dataset(101)
    *trained, plain, weighted = train_in_two_processes(manifest, tmp_path)
    for ranks, num_parts in zip(trained, (0, 1, NUM_PARTS), strict=True):
        assert_disjoint_parts(manifest, ranks, num_parts)
    assert plain == [[[]] * 16] * 2  # the weight of a global batch is known; DDP's own sums are made in C++
    assert weighted == [[["all_reduce"]] * 16] * 2


def assert_disjoint_parts(manifest: Manifest, ranks: list[dict[str, Any]], num_parts: int) -> None:
    assert ranks[0]["steps"] == ranks[1]["steps"]
    for part, rows in (("train", range(60)), ("valid", range(60, 80))):
        for epoch in (0, 1):
            parts = [{cell for at, cells in rank["seen"][part] if at == epoch for cell in cells} for rank in ranks]
            assert parts[0].isdisjoint(parts[1])
            assert parts[0] | parts[1] == set(rows)
    if num_parts:
        view = select(manifest, ViewConfig("train", labelled=True))
        order, filled = BankOrder(60, 8, 5, num_parts, 16), fill_order(view, 5)
        steps = [set(one[1]) | set(two[1]) for one, two in zip(*(rank["seen"]["train"] for rank in ranks), strict=True)]
        for epoch in (0, 1):
            batches = order.batches(epoch)
            for step in range(order.steps):
                want = filled[batches.entries[step][batches.real[step]]]
                assert steps[epoch * order.steps + step] == set(want.tolist())


def test_small_real_cells_of_donors_train_in_each_fit(real_data: Path, tmp_path: Path) -> None:
    """T cells of 18 pixels and more, four donors; no donor on two sides."""
    manifest = pack(real_data / "tcell", tmp_path / "tcell", pattern="{group}/{class}/{name}", jobs=1)
    sides, groups = manifest.split(), manifest.groups
    assert groups is not None
    for fit in ("stretch", "contain", "scale"):
        model = Recorder()
        trainer().fit(model, datamodule=data(manifest, fit=fit, batch_size=64, eval_batch_size=64))
        trainer().test(model, datamodule=data(manifest, fit=fit, eval_batch_size=64), verbose=False)
        assert sorted(model.epoch("train", 0)) == np.flatnonzero(sides == "train").tolist()
        assert model.epoch("test", 0) == np.flatnonzero(sides == "test").tolist()
        assert set(groups[model.epoch("train", 0)]).isdisjoint(groups[model.epoch("test", 0)])


@pytest.mark.parametrize("fit", ["stretch", "contain", "scale"])
@pytest.mark.parametrize("layout", ["cell", "block"])
def test_ragged_real_cells_in_each_fit(real_data: Path, tmp_path: Path, fit: str, layout: str) -> None:
    """ATOM cells, 21 x 102 to 68 x 440 pixels, through both transforms."""
    manifest = pack(
        real_data / "atom-samples",
        tmp_path / "atom",
        pattern="{class}_{name}",
        layout=layout,
        split=SplitOptions(shares=(0.6, 0.2, 0.2)),
        jobs=1,
    )
    batches = []
    for transform in ("fused", "dali"):
        module = data(manifest, image_size=128, fit=fit, transform=transform, eval_batch_size=30)
        (batch,) = list(module.predict_dataloader())
        batches.append(batch)
        np.testing.assert_allclose(batch.images.mean((1, 2, 3)).numpy(), 1, atol=1e-4)
        assert torch.equal(batch.labels, torch.from_numpy(manifest.labels))
    # Means of grey levels over 128 x 128 pixels near 1; steep pixels move by DALI's float32 coordinates.
    np.testing.assert_allclose(batches[0].images.numpy(), batches[1].images.numpy(), atol=2e-3)
    assert 0.02 < batches[0].images.std() < 2


@pytest.mark.parametrize(("store", "layout"), [("stream", "cell"), ("bank", "cell"), ("bank", "block")])
@pytest.mark.parametrize("transform", ["fused", "dali"])
def test_every_store_with_every_transform(make_dataset: Make, store: str, layout: str, transform: str) -> None:
    model = Recorder()
    module = data(make_dataset(100, layout=layout), store=store, transform=transform)
    trainer(max_epochs=2).fit(model, datamodule=module)
    for epoch in (0, 1):
        assert sorted(model.epoch("train", epoch)) == list(range(60))
    assert model.epoch("valid", 1) == list(range(60, 80))


@pytest.mark.parametrize(
    ("arguments", "way"),
    [
        ({}, "threads"),
        ({"decoder": "dali"}, "dali"),
        ({"transform": "dali"}, "dali"),
        ({"transform": "dali", "decoder": "threads"}, "threads"),
    ],
)
@pytest.mark.parametrize("store", [{"store": "stream"}, {"store": "bank"}])
def test_the_decoder_reaches_every_store(
    make_dataset: Make, monkeypatch: pytest.MonkeyPatch, store: dict[str, Any], arguments: dict[str, str], way: str
) -> None:
    seen = []
    monkeypatch.setattr(stream, "choose_decoding", lambda *args: seen.append(choose_decoding(*args)) or seen[-1])
    module = data(make_dataset(900, sides=(0.9, 0.95)), **store, **arguments)
    module.setup("fit")
    next(iter(module.train_dataloader()))
    assert set(seen) == {way}
    seen.clear()
    next(iter(module.val_dataloader()))
    assert set(seen) == {way}


def test_a_bank_that_is_too_small_streams_and_says_so(make_dataset: Make, caplog: pytest.LogCaptureFixture) -> None:
    manifest, models = make_dataset(900, sides=(0.9, 0.95)), (Recorder(), Recorder())
    options = ({"store": "bank", "bank_gib": 8000 / 2**30}, {"store": "stream"})
    for model, arguments in zip(models, options, strict=True):
        with caplog.at_level("INFO", logger="fastcell"):
            trainer(max_epochs=2).fit(model, datamodule=data(manifest, **arguments))
    for epoch in (0, 1):
        assert models[0].epoch("train", epoch) == models[1].epoch("train", epoch)
    line, _ = [record.getMessage() for record in caplog.records if record.name.startswith("fastcell")]
    assert line.startswith("stream: 810 cells, ")
    assert "more than the 8 kB of memory allowed for the bank that was asked for" in line


def test_auto_streams_where_a_bank_does_not_fit(make_dataset: Make) -> None:
    module = data(make_dataset(300), bank_gib=1000 / 2**30)
    module.setup("fit")
    assert type(module.train_dataloader()).__name__ == "CellLoader"
    module = data(make_dataset(300, name="again"))
    module.setup("fit")
    assert type(module.train_dataloader()).__name__ == "BankLoader"


def test_validation_lies_in_the_bank_beside_training(make_dataset: Make) -> None:
    """After the first epoch the tars may go away."""
    manifest, model = make_dataset(100), Recorder()

    class Unlink(pl.Callback):
        def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
            for shard in manifest.path.glob("*.tar"):
                shard.unlink()

    trainer(max_epochs=3, callbacks=[Unlink()]).fit(model, datamodule=data(manifest))
    assert model.epoch("valid", 2) == list(range(60, 80))


def test_groups_of_batches(make_dataset: Make) -> None:
    one, four = (data(make_dataset(200, name=str(steps)), steps_per_call=steps) for steps in (1, 4))
    for module in (one, four):
        module.setup("fit")
    groups = list(four.train_dataloader())
    assert [len(group) for group in groups] == [4, 4] == [4] * len(four.train_dataloader())
    for alone, grouped in zip(one.train_dataloader(), [batch for group in groups for batch in group], strict=True):
        assert torch.equal(alone.images, grouped.images)


def test_16_bits_reach_the_network(make_dataset: Make) -> None:
    """The cells hold 8-bit levels in 16 bits, so both depths give the same images."""
    manifest = make_dataset(60, encoding="png16")
    images: dict[tuple[int, str, str], dict[int, torch.Tensor]] = {}
    for depth in (8, 16):
        for store in ("stream", "bank"):
            for transform in ("fused", "dali"):
                module = data(manifest, depth=depth, store=store, transform=transform, augment=False)
                module.setup("fit")
                batches = list(module.train_dataloader())
                images[depth, store, transform] = {
                    int(cell): image
                    for batch in batches
                    for cell, image in zip(batch.cell_ids, batch.images, strict=True)
                }
    want = images[8, "stream", "fused"]
    for (_, _, transform), got in images.items():
        assert got.keys() == want.keys()
        for cell, image in got.items():
            np.testing.assert_allclose(image, want[cell], atol=2e-5 if transform == "fused" else 1e-3)
    with pytest.raises(ArgumentError, match="depth must be 8 for the 8-bit cells of"):
        data(make_dataset(30, name="shallow"), depth=16)


@pytest.mark.parametrize(("change", "message"), [
    ({"store": "disk"}, "store must be one of auto, stream, bank, got 'disk'"),
    ({"bank_gib": -1.0}, "bank_gib must be 0 or more, got -1.0"),
    ({"store": "bank", "bank_gib": 0.0}, "bank_gib must be above 0 for a bank"),
    ({"depth": 12}, "depth must be 8 or 16, got 12"),
])  # fmt: skip
def test_bad_stores_are_named(make_dataset: Make, change: dict[str, Any], message: str) -> None:
    manifest = make_dataset(300)

    def open_loader() -> None:
        module = data(manifest, **change)
        module.setup("fit")
        module.train_dataloader()

    with pytest.raises(ArgumentError, match=message):
        open_loader()


RSS_SCRIPT = """
import os, sys
from fastcell.system import library_settings
from fastcell.loading.datamodule import CellDataModule
library_settings.raise_malloc_thresholds()

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

module = CellDataModule({path!r}, batch_size=64, image_size=64, threads=1, **{options!r})
module.setup("fit")
loader = module.train_dataloader()
for epoch in range(20):
    loader.set_epoch(epoch)
    for batch in loader:
        pass
    print(resident(), flush=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize("options", [{"store": "bank"}], ids=["bank"])
def test_memory_is_flat_over_20_epochs(tmp_path: Path, options: dict[str, Any]) -> None:
    """Resident size after the 5th and after the 20th epoch: within 8 MB, a tenth of what one epoch's images take."""
    path = tmp_path / "cells"
    assert synth([str(path), "--cells", "6000", "--seed", "1"]) == 0
    script = RSS_SCRIPT.format(path=str(path), options=options)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr[-3000:]
    sizes = [int(line) for line in done.stdout.split()]
    print(f"resident [MB] by epoch: {[round(size / 1e6) for size in sizes]}")
    assert sizes[-1] - sizes[4] < 8e6


@pytest.mark.parametrize("store", ["stream", "bank"])
def test_a_resumed_run_goes_on_with_the_next_epoch(make_dataset: Make, tmp_path: Path, store: str) -> None:
    """Though Lightning asks for an iterator before it has restored the epoch, to count the steps of a schedule."""

    class Scheduled(Recorder):
        def configure_optimizers(self) -> Any:
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


def test_a_look_at_a_batch_before_the_run_does_no_harm(make_dataset: Make) -> None:
    model, module = Recorder(), data(make_dataset(100))
    module.setup("fit")
    before = module.train_dataloader()
    next(iter(before))
    trainer().fit(model, datamodule=module)
    assert sorted(model.epoch("train", 0)) == list(range(60))
    assert module.train_dataloader() is not before


def first_batch(module: CellDataModule) -> Batch:
    loader = module.train_dataloader()
    loader.set_epoch(0)
    return next(iter(loader))


def test_preprocessing_and_manifest_may_change_after_setup(make_dataset: Make) -> None:
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


def test_a_saved_state_counts_after_the_loader_was_made(make_dataset: Make) -> None:
    """The state of a stream: a bank that was opened before it is given up."""
    manifest = make_dataset(100)
    module = data(manifest, store="stream")
    module.train_dataloader()
    other = data(manifest)
    assert type(other.train_dataloader()).__name__ == "BankLoader"
    other.load_state_dict(module.state_dict())
    assert type(other.train_dataloader()).__name__ == "CellLoader"
