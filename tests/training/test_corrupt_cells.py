"""Cells that go bad after packing: every run ends, and its list of losses is the set of cells with other bytes."""

import csv
import json
import os
import shutil
import subprocess
import sys
import time
from hashlib import blake2b

import numpy as np
import pyarrow.csv
import pyarrow.parquet
import pytest

from fastcell.cli.fit import main as fit_main
from fastcell.cli.main import main
from fastcell.cli.synth import main as synth
from fastcell.dataset.manifest import Manifest
from fastcell.models.lightning_module import CellModule

FIT = ["--data.image_size=32", "--data.batch_size=64", "--trainer.max_epochs=2"]
WAYS = ("cut at 10 %", "cut at 50 %", "cut at 90 %", "emptied", "text", "other type", "flipped", "overwritten")


def damage(manifest, share, seed):
    """Damages cells in eight ways, cuts one tar, and gives those whose stored bytes then differ from their hash."""
    rng = np.random.default_rng(seed)
    cells = manifest.table.to_pylist()
    chosen = rng.choice(len(cells), round(share * len(cells)), replace=False)
    for place, cell_id in enumerate(chosen.tolist()):
        cell, way = cells[cell_id], WAYS[place % len(WAYS)]
        with open(manifest.path / cell["shard"], "r+b") as file:
            offset, size = cell["offset"], cell["bytes"]
            file.seek(offset)
            data = bytearray(file.read(size))
            if way.startswith("cut"):
                keep = size * int(way[7:9]) // 100
                data[keep:] = bytes(size - keep)
            elif way == "emptied":
                data[:] = bytes(size)
            elif way == "text":
                data[:] = (b"this was an image once. " * size)[:size]
            elif way == "other type":
                data[:6] = b"GIF89a"
            elif way == "flipped":
                for position in rng.integers(size // 2, size - 4, 3).tolist():
                    data[position] ^= 1 << int(rng.integers(8))
            else:  # the header of the record too
                offset, data = offset - 512, bytearray(rng.bytes(size + 512))
            file.seek(offset)
            file.write(data)
    last = manifest.path / cells[-1]["shard"]
    os.truncate(last, cells[-1 - round(0.2 * share * len(cells))]["offset"] + 5)
    lost = set()
    for cell in cells:
        with open(manifest.path / cell["shard"], "rb") as file:
            file.seek(cell["offset"])
            if blake2b(file.read(cell["bytes"]), digest_size=16).digest() != cell["byte_hash"]:
                lost.add(cell["cell_id"])
    return lost


def check(tmp_path, num_cells, share, capsys, layout):
    data = tmp_path / "cells"
    synth([str(data), "--cells", str(num_cells), "--seed", "1", "--layout", layout, "--shard-cells", "500"])
    manifest = Manifest.open(data)
    lost = damage(manifest, share, seed=2)
    assert len(lost) >= share * num_cells
    keys = {cell["key"] for cell in manifest.table.to_pylist() if cell["cell_id"] in lost}
    capsys.readouterr()
    runs = {}
    for store in ("stream", "bank"):
        assert main(["fit", f"--data.path={data}", f"--runs={tmp_path / store}", f"--data.store={store}", *FIT]) == 0
        (folder,) = (tmp_path / store).iterdir()
        text = capsys.readouterr().out
        assert f"{len(lost)} corrupt cells replaced with weight 0" in text
        with open(folder / "losses.csv", newline="") as file:
            listed = list(csv.DictReader(file))
        assert {int(row["cell_id"]) for row in listed} == lost
        for row in listed:
            cell = manifest.table.slice(int(row["cell_id"]), 1).to_pylist()[0]
            assert (row["key"], row["shard"], row["class"]) == (cell["key"], cell["shard"], cell["class"])
        runs[store] = folder
    predictions = pyarrow.parquet.read_table(runs["bank"] / "predictions.parquet").to_pylist()
    assert {row["key"] for row in predictions if row["reason"]} == keys & {row["key"] for row in predictions}
    out = tmp_path / "all.csv"
    assert main(["predict", f"--ckpt_path={runs['bank'] / 'best.ckpt'}", f"--data.path={data}", f"--out={out}"]) == 0
    rows = pyarrow.csv.read_csv(out).to_pylist()
    assert len(rows) == len(manifest)
    assert {row["key"] for row in rows if row["class"] in (None, "")} == keys
    assert {row["key"] for row in rows if row["reason"]} == keys
    assert main(["verify", str(data), "--list", str(tmp_path / "lost.csv")]) == 1
    assert set(pyarrow.csv.read_csv(tmp_path / "lost.csv").column("cell_id").to_pylist()) == lost
    assert main(["fit", f"--data.path={data}", f"--runs={tmp_path / 'no'}", "--data.on_bad_cell=error", *FIT]) == 2
    text = capsys.readouterr().err
    assert "Restore the shard from a copy" in text
    assert any(f"cell {key!r}" in text for key in keys)
    assert not list((tmp_path / "no").iterdir())


@pytest.mark.parametrize("layout", ["cell", pytest.param("block", marks=pytest.mark.slow)])
def test_the_losses_are_the_cells_with_other_bytes(tmp_path, capsys, layout):
    check(tmp_path, 2_000, 0.02, capsys, layout)


@pytest.mark.slow
def test_the_losses_of_twenty_thousand_cells(tmp_path, capsys):
    """1 % of 20,000 cells; DALI ends a pipeline, or the process, at one of them."""
    check(tmp_path, 20_000, 0.01, capsys, "cell")


class Killed(Exception):  # noqa: N818, stands for a signal
    pass


@pytest.mark.parametrize("store", ["stream", pytest.param("bank", marks=pytest.mark.slow)])
def test_a_run_that_goes_on_knows_its_corrupt_cells(tmp_path, monkeypatch, capsys, store):
    """Killed when all are found, in the last batches of the last epoch: the list is that of the unbroken run.

    Cells that were repaired meanwhile stay left out: a run has the same cells to its end.
    """
    data = tmp_path / "cells"
    synth([str(data), "--cells", "600", "--seed", "1", "--shard-cells", "100"])
    manifest = Manifest.open(data)
    whole_bytes = {path: path.read_bytes() for path in data.glob("*.tar")}
    lost = damage(manifest, 0.02, seed=2)
    words = [f"--data.path={data}", f"--data.store={store}", *FIT, "--checkpoint_every_steps=2", "--data.threads=1"]
    words += ["--data.initial_fill=64"]
    assert main(["fit", f"--runs={tmp_path / 'whole'}", *words]) == 0
    steps, loss, last = iter(range(10_000)), CellModule._loss, 11  # 6 steps an epoch

    def die_in_time(self, batch, step):
        if next(steps) == last:
            raise Killed
        return loss(self, batch, step)

    for repaired in (False, True) if store == "stream" else (False,):
        runs = tmp_path / f"broken {repaired}"
        with monkeypatch.context() as patch:
            steps = iter(range(10_000))
            patch.setattr(CellModule, "_loss", die_in_time)
            with pytest.raises(Killed):
                fit_main([f"--runs={runs}", *words])
        (folder,), (whole,) = runs.iterdir(), (tmp_path / "whole").iterdir()
        if repaired:
            for path, content in whole_bytes.items():
                path.write_bytes(content)
        capsys.readouterr()
        assert main(["fit", f"--resume={folder}"]) == 0
        assert ("cells that were corrupt before are intact now" in capsys.readouterr().out) == repaired
        assert (folder / "losses.csv").read_bytes() == (whole / "losses.csv").read_bytes()
        ours, theirs = (json.loads((path / "metrics.json").read_text()) for path in (folder, whole))
        assert ours["num_lost"] == theirs["num_lost"] == len(lost)
        assert ours["test"] == theirs["test"]
        assert (folder / "predictions.parquet").read_bytes() == (whole / "predictions.parquet").read_bytes()


@pytest.mark.slow
def test_two_ranks_know_the_corrupt_cells_of_both(tmp_path):
    """Killed in two processes and continued in two, and in one: the list of the unbroken run."""
    data = tmp_path / "cells"
    synth([str(data), "--cells", "600", "--seed", "1", "--shard-cells", "50"])
    lost = damage(Manifest.open(data), 0.02, seed=2)
    words = ["fit", str(data), "--data.store=bank", *FIT, "--checkpoint_every_steps=2", "--data.threads=1"]
    two = ["--trainer.devices=2", "--trainer.accelerator=cpu"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}

    def run(*arguments):
        return subprocess.Popen([sys.executable, "-m", "fastcell", *arguments], env=environment)

    assert run(*words, *two, f"--runs={tmp_path / 'whole'}", "--trainer.max_epochs=3").wait(280) == 0
    process = run(*words, *two, f"--runs={tmp_path / 'runs'}", "--trainer.max_epochs=3")
    while process.poll() is None and not list((tmp_path / "runs").glob("*/step-0000000[2-9]*.ckpt")):
        time.sleep(0.02)
    process.kill()
    process.wait()
    (folder,), (whole,) = (tmp_path / "runs").iterdir(), (tmp_path / "whole").iterdir()
    shutil.copytree(folder, tmp_path / "alone")
    for place, devices in ((folder, two), (tmp_path / "alone", ["--trainer.devices=1"])):
        assert run("fit", f"--resume={place}", *devices).wait(280) == 0
        assert (place / "losses.csv").read_bytes() == (whole / "losses.csv").read_bytes()
        ours, theirs = (json.loads((path / "metrics.json").read_text()) for path in (place, whole))
        assert ours["num_lost"] == theirs["num_lost"] == len(lost)
    assert (folder / "predictions.parquet").read_bytes() == (whole / "predictions.parquet").read_bytes()
