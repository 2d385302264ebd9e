"""Stream and bank in training: with every transform, decoder and fit, real cells, and memory."""

import subprocess
import sys

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from fixtures.recorded_training import Recorder, data, trainer

from fastcell.cli.synth import main as synth
from fastcell.errors import ArgumentError
from fastcell.loading.decode_choice import choose_decoding
from fastcell.loading.stores import stream
from fastcell.packing.pack import pack
from fastcell.splits.make_splits import SplitOptions


def test_small_real_cells_of_donors_train_in_each_fit(real_data, tmp_path):
    """T cells of 18 pixels and more, four donors; no donor on two sides."""
    manifest = pack(real_data / "tcell", tmp_path / "tcell", pattern="{group}/{class}/{name}", jobs=1)
    sides, groups = manifest.split(), manifest.groups[:]
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
def test_ragged_real_cells_in_each_fit(real_data, tmp_path, fit, layout):
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
def test_every_store_with_every_transform(make_dataset, store, layout, transform):
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
def test_the_decoder_reaches_every_store(make_dataset, monkeypatch, store, arguments, way):
    seen = []
    monkeypatch.setattr(stream, "choose_decoding", lambda *args: seen.append(choose_decoding(*args)) or seen[-1])
    module = data(make_dataset(900, sides=(0.9, 0.95)), **store, **arguments)
    module.setup("fit")
    next(iter(module.train_dataloader()))
    assert set(seen) == {way}
    seen.clear()
    next(iter(module.val_dataloader()))
    assert set(seen) == {way}


def test_a_bank_that_is_too_small_streams_and_says_so(make_dataset, caplog):
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


def test_auto_streams_where_a_bank_does_not_fit(make_dataset):
    module = data(make_dataset(300), bank_gib=1000 / 2**30)
    module.setup("fit")
    assert type(module.train_dataloader()).__name__ == "CellLoader"
    module = data(make_dataset(300, name="again"))
    module.setup("fit")
    assert type(module.train_dataloader()).__name__ == "BankLoader"


def test_validation_lies_in_the_bank_beside_training(make_dataset):
    """After the first epoch the tars may go away."""
    manifest, model = make_dataset(100), Recorder()

    class Unlink(pl.Callback):
        def on_train_epoch_end(self, trainer, pl_module):
            for shard in manifest.path.glob("*.tar"):
                shard.unlink()

    trainer(max_epochs=3, callbacks=[Unlink()]).fit(model, datamodule=data(manifest))
    assert model.epoch("valid", 2) == list(range(60, 80))


def test_groups_of_batches(make_dataset):
    one, four = (data(make_dataset(200, name=str(steps)), steps_per_call=steps) for steps in (1, 4))
    for module in (one, four):
        module.setup("fit")
    groups = list(four.train_dataloader())
    assert [len(group) for group in groups] == [4, 4] == [4] * len(four.train_dataloader())
    for alone, grouped in zip(one.train_dataloader(), [batch for group in groups for batch in group], strict=True):
        assert torch.equal(alone.images, grouped.images)


def test_16_bits_reach_the_network(make_dataset):
    """The cells hold 8-bit levels in 16 bits, so both depths give the same images."""
    manifest = make_dataset(60, encoding="png16")
    images = {}
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
def test_memory_is_flat_over_20_epochs(tmp_path, options):
    """Resident size after the 5th and after the 20th epoch: within 8 MB, a tenth of what one epoch's images take."""
    path = tmp_path / "cells"
    assert synth([str(path), "--cells", "6000", "--seed", "1"]) == 0
    script = RSS_SCRIPT.format(path=str(path), options=options)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr[-3000:]
    sizes = [int(line) for line in done.stdout.split()]
    print(f"resident [MB] by epoch: {[round(size / 1e6) for size in sizes]}")
    assert sizes[-1] - sizes[4] < 8e6
