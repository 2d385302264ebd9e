"""Runs that are killed, terminated or torn go on at the very next batch, and end with the same bytes of weights."""

from __future__ import annotations

import csv
import importlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from fixtures.process_state import one_thread

from fastcell.cli import main as cli
from fastcell.cli import pack
from fastcell.dataset.manifest import Manifest, write_split
from fastcell.loading.batch import Batch
from fastcell.models.lightning_module import CellModule, Prediction
from fastcell.storage.formats import FORMATS
from fastcell.storage.locks import hold_run_folder
from fastcell.storage.staging import open_staging_of
from fastcell.training.resume import POINT_CONTENT, latest_point

CELLS = 60  # of each class: 117 to train, 10 steps an epoch
FIT = [
    "--data.image_size=16",
    "--data.batch_size=12",
    "--data.threads=1",
    "--trainer.max_epochs=4",
    "--model.ema_decay=0.9",
    "--checkpoint_every_steps=4",
]


def main(arguments: list[str]) -> int:
    """Run a command in this process; its errors are raised."""
    return importlib.import_module(f"fastcell.cli.{arguments[0]}").main(arguments[1:])


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, rng = tmp_path_factory.mktemp("source"), np.random.default_rng(0)
    for number, name in enumerate(("dim", "grey", "bright")):
        (folder / name).mkdir()
        for cell in range(CELLS):
            pixels = rng.normal(60 + 40 * number, 30, tuple(rng.integers(14, 24, 2)))
            cv2.imwrite(str(folder / name / f"{cell:03d}.png"), pixels.clip(0, 255).astype(np.uint8))
    out = tmp_path_factory.mktemp("data") / "cells"
    assert pack.main([str(folder), str(out), "--shard-cells", "40"]) == 0
    return out


def weights(folder: Path) -> dict[str, torch.Tensor]:
    content = torch.load(folder / "last.ckpt", weights_only=True)
    state = dict(content["state_dict"])
    for group, values in content["optimizer_states"][0]["state"].items():
        state |= {f"optimizer {group} {name}": value for name, value in values.items()}
    return {**state, "step": torch.tensor(content["global_step"])}


def assert_same_run(one: Path, other: Path, tables: bool = True) -> None:
    ours, theirs = weights(one), weights(other)
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        assert torch.equal(value, theirs[name]), name
    for name in ("metrics.csv", "predictions.parquet", "confusion.csv") if tables else ():
        assert (one / name).read_bytes() == (other / name).read_bytes(), name
    assert not list(one.glob("step-*"))


def fit(data: Path, runs: Path, *arguments: str) -> Path:
    assert main(["fit", f"--data.path={data}", f"--runs={runs}", *FIT, *arguments]) == 0
    (folder,) = runs.iterdir()
    return folder


class Killed(Exception):  # noqa: N818, stands for a signal
    pass


def fit_until(monkeypatch: pytest.MonkeyPatch, last_step: int, command: list[str], runs: Path) -> Path:
    """A run that ends in the middle of a step, counted from its start; its folder."""
    steps, loss = iter(range(10_000)), CellModule._loss

    def die_in_time(self: CellModule, *batch_and_step: Any) -> torch.Tensor:
        if next(steps) == last_step:
            raise Killed
        return loss(self, *batch_and_step)

    with monkeypatch.context() as patch:
        patch.setattr(CellModule, "_loss", die_in_time)
        with pytest.raises(Killed):
            main(command)
    (folder,) = runs.iterdir()
    return folder


def new_run(data: Path, runs: Path, *arguments: str) -> list[str]:
    return ["fit", f"--data.path={data}", f"--runs={runs}", *FIT, *arguments]


@pytest.mark.parametrize(
    "arguments",
    [
        ["--data.store=stream"],
        ["--data.store=bank"],
        ["--data.store=bank", "--data.bank_gib=2e-5"],
        pytest.param(
            ["--data.store=stream", "--data.transform=dali", "--data.augmentation.noise_std=0"], marks=pytest.mark.slow
        ),
        pytest.param(["--data.store=bank", "--model.steps_per_call=3"], marks=pytest.mark.slow),
        ["--data.store=bank", "--trainer.val_check_interval=0.5"],
    ],
    ids=["stream", "bank", "small bank", "dali", "calls", "validation"],
)
def test_a_killed_run_ends_as_the_unbroken_one(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    whole = fit(data, tmp_path / "whole", *arguments)
    seed, runs = random.Random(",".join(arguments)), tmp_path / "broken"
    folder = fit_until(monkeypatch, seed.randrange(5, 19), new_run(data, runs, *arguments), runs)
    folder = fit_until(monkeypatch, seed.randrange(1, 19), ["fit", f"--resume={folder}"], runs)
    assert main(["fit", f"--resume={folder}"]) == 0
    assert_same_run(folder, whole)


@pytest.fixture(scope="module")
def whole(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run folder of an unbroken run with the settings of FIT alone; not to be changed."""
    return fit(data, tmp_path_factory.mktemp("whole"))


def test_a_torn_point_is_left_aside(
    data: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = fit_until(monkeypatch, 19, new_run(data, tmp_path / "broken"), tmp_path / "broken")
    point, _ = latest_point(folder)
    assert point == folder / "step-000000016.ckpt"
    assert set(torch.load(point, weights_only=True)) == set(POINT_CONTENT)
    point.write_bytes(point.read_bytes()[:-3000])
    older, torn = latest_point(folder)
    assert (older, torn) == (folder / "step-000000012.ckpt", [point])
    assert main(["fit", f"--resume={folder}"]) == 0
    text = capsys.readouterr().out
    assert f"{point} is damaged and ignored" in text
    assert f"resuming from {older}" in text
    assert_same_run(folder, whole)


def test_a_run_without_a_point_begins_anew(whole: Path, tmp_path: Path) -> None:
    """As after a kill in its first steps: the folder is there, with its settings."""
    folder = tmp_path / "killed"
    folder.mkdir(parents=True)
    for name in ("config.yaml", "environment.json"):
        (folder / name).write_bytes((whole / name).read_bytes())
    assert main(["fit", f"--resume={folder}"]) == 0
    assert_same_run(folder, whole)


def test_what_resume_refuses(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = fit_until(monkeypatch, 19, new_run(data, tmp_path / "runs"), tmp_path / "runs")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    for arguments, message in (
        ([f"--resume={tmp_path}"], "--resume must be the folder of a training run"),
        (
            [f"--resume={folder}", "--data.batch_size=24"],
            "--data.batch_size of a resumed run must be 12 as in the run, got 24",
        ),
        (
            [f"--resume={folder}", "--data.seed=8"],
            "--data.seed of a resumed run must be null as in the run, got 8",
        ),
        (
            [f"--resume={folder}", "--data.subsample=100"],
            "--data.subsample of a resumed run must be null as in the run, got 100",
        ),
        ([f"--resume={folder}", "--checkpoint_every_steps=0"], "checkpoint_every_steps must be above 0"),
    ):
        assert cli.main(["fit", *arguments]) == 2
        assert message in capsys.readouterr().err
    with hold_run_folder(folder):
        assert cli.main(["fit", f"--resume={folder}"]) == 2
    assert "Wait for the process that trains in it" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_run_folder_that_was_moved_keeps_its_best(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The epochs before the stop were the best: best.ckpt is not replaced by a worse one."""
    rise = ["--model.learning_rate=0.02", "--model.schedule=constant", "--trainer.max_epochs=3"]
    whole = fit(data, tmp_path / "whole", *rise)
    with open(whole / "metrics.csv", newline="") as file:
        losses = [float(row["valid_loss"]) for row in csv.DictReader(file) if row["valid_loss"]]
    assert losses.index(min(losses)) < len(losses) - 1
    last_step = 10 * (losses.index(min(losses)) + 1) + 5
    folder = fit_until(monkeypatch, last_step, new_run(data, tmp_path / "runs", *rise), tmp_path / "runs")
    moved = tmp_path / "elsewhere" / "run"
    moved.parent.mkdir()
    folder.rename(moved)
    assert main(["fit", f"--resume={moved}"]) == 0
    assert_same_run(moved, whole)
    ours, theirs = (torch.load(path / "best.ckpt", weights_only=True) for path in (moved, whole))
    assert ours["global_step"] == theirs["global_step"] == 10 * (losses.index(min(losses)) + 1)
    assert all(torch.equal(value, theirs["state_dict"][name]) for name, value in ours["state_dict"].items())
    for name in ("best.ckpt", "last.ckpt"):
        content = b"".join(zipped(moved / name))
        assert str(tmp_path).encode() not in content.replace(str(data).encode(), b"")


def zipped(path: Path) -> list[bytes]:
    with zipfile.ZipFile(path) as archive:
        return [archive.read(name) for name in archive.namelist()]


def test_damaged_best_weights_are_refused_by_name(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = fit_until(monkeypatch, 15, new_run(data, tmp_path / "runs"), tmp_path / "runs")
    content = bytearray((folder / "best.ckpt").read_bytes())
    content[len(content) // 2] ^= 1
    (folder / "best.ckpt").write_bytes(content)
    assert cli.main(["fit", f"--resume={folder}"]) == 2
    assert f"{folder / 'best.ckpt'} is damaged" in capsys.readouterr().err
    (folder / "best.ckpt").unlink()
    assert main(["fit", f"--resume={folder}"]) == 0
    assert (folder / "best.ckpt").is_file()


def contents(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Bytes and time of change of every file of a folder."""
    return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir()}


@pytest.fixture(scope="module")
def long_run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run folder of 3 epochs at a constant learning rate; not to be changed."""
    return fit(data, tmp_path_factory.mktemp("long"), *CONSTANT, "--trainer.max_epochs=3")


CONSTANT = ["--model.schedule=constant", "--model.warmup=0"]


def test_other_settings_are_refused_by_name(long_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = contents(long_run)
    for name, value in {
        "data.normalization": "divide",
        "data.image_size": 32,
        "data.augmentation.rotation_deg": 20.0,
        "data.balance": "oversample",
        "data.store": "stream",
        "data.split_name": "other",
        "model.network": "gao",
        "model.loss": "mse",
        "model.learning_rate": 0.5,
        "model.optimizer": "adam",
        "model.schedule": "cosine",
        "trainer.precision": "bf16-mixed",
        "trainer.max_epochs": 2,
        "seed_everything": 4,
        "select": "last",
    }.items():
        assert cli.main(["fit", f"--resume={long_run}", f"--{name}={value}"]) == 2
        message = capsys.readouterr().err
        assert f"--{name} of a resumed run must be " in message
        assert f"got {value}" in message
        assert message.count("\n") <= 2
    assert contents(long_run) == before


def test_a_configuration_that_was_edited_is_none_of_the_run(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = fit_until(monkeypatch, 15, new_run(data, tmp_path / "runs"), tmp_path / "runs")
    text = (folder / "config.yaml").read_text()
    (folder / "config.yaml").write_text(text.replace("learning_rate: 0.002", "learning_rate: 0.2"))
    assert cli.main(["fit", f"--resume={folder}"]) == 2
    assert "--model.learning_rate of a resumed run must be 0.002 as in the run, got 0.2" in capsys.readouterr().err
    (folder / "config.yaml").write_text("[")
    assert cli.main(["fit", f"--resume={folder}"]) == 2
    assert "is not valid YAML" in capsys.readouterr().err


def permute_labels(data: Path) -> None:
    table = pq.read_table(data / "manifest.parquet")
    place = table.schema.get_field_index("class")
    labels = table.column("class").to_pylist()
    pq.write_table(table.set_column(place, "class", pa.array(labels[1:] + labels[:1])), data / "manifest.parquet")


def move_validation_to_test(data: Path) -> None:
    manifest = Manifest.open(data)
    subsets = manifest.split()
    valid = np.flatnonzero(subsets == "valid")
    subsets[valid[::2]] = "test"
    write_split(data, "default", subsets)


def drop_a_test_cell(data: Path) -> None:
    (cell, *_) = np.flatnonzero(Manifest.open(data).split() == "test")
    (data / "verdicts.csv").write_text(f"cell_id,verdict\n{cell},drop\n")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (permute_labels, "training cells and labels"),
        (move_validation_to_test, "validation cells and labels"),
        (drop_a_test_cell, "test cells and labels"),
    ],
)
def test_other_data_are_refused_by_name(
    data: Path,
    long_run: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    change: Callable[[Path], None],
    named: str,
) -> None:
    folder, other = shutil.copytree(long_run, tmp_path / "run"), shutil.copytree(data, tmp_path / "cells")
    change(other)
    before = contents(folder)
    assert cli.main(["fit", f"--resume={folder}", f"--data.path={other}", "--trainer.max_epochs=4"]) == 2
    assert f"{named} of a resumed run must be as before" in capsys.readouterr().err
    assert contents(folder) == before


def test_a_finished_run_is_left_alone(long_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before, changed = contents(long_run), long_run.stat().st_mtime_ns
    capsys.readouterr()
    for words in ([], ["--data.threads=2", "--trainer.max_epochs=3"]):
        assert main(["fit", f"--resume={long_run}", *words]) == 0
        following = "".join(f"next: fastcell {name} {long_run}\n" for name in ("report", "explain"))
        assert capsys.readouterr().out == f"{long_run} is finished, nothing to do.\n{following}"
    assert contents(long_run) == before
    assert long_run.stat().st_mtime_ns == changed


def test_points_of_a_finished_run_that_was_killed_are_removed(long_run: Path, tmp_path: Path) -> None:
    """Killed between its last score and the removal of its points."""
    folder = shutil.copytree(long_run, tmp_path / "run")
    shutil.copy(folder / "last.ckpt", folder / "step-000000001.ckpt")
    assert main(["fit", f"--resume={folder}"]) == 0
    assert contents(folder) == contents(long_run)


def test_more_epochs_of_a_finished_run(
    data: Path, long_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if they had been asked for at once, also where the longer run is killed; the configuration describes it."""
    whole = fit(data, tmp_path / "whole", *CONSTANT, "--trainer.max_epochs=5")
    folder = shutil.copytree(long_run, tmp_path / "runs" / "run")
    words = ["fit", f"--resume={folder}", "--trainer.max_epochs=5", "--data.threads=2"]
    fit_until(monkeypatch, 14, words, folder.parent)
    assert not (folder / "metrics.json").exists()  # those scores are of another run now
    assert main(["fit", f"--resume={folder}"]) == 0
    assert_same_run(folder, whole)
    ours, theirs = (json.loads((path / "metrics.json").read_text()) for path in (folder, whole))
    assert {name: ours[name] for name in ("epochs", "steps", "test")} == {
        name: theirs[name] for name in ("epochs", "steps", "test")
    }
    text = (folder / "config.yaml").read_text()
    settings, asked = yaml.safe_load(text), yaml.safe_load((whole / "config.yaml").read_text())
    assert settings == {**asked, "runs": settings["runs"], "data": {**asked["data"], "threads": 2}}
    assert re.search(r"# went on 20\d\d-\d\d-\d\d .* with trainer.max_epochs: 3 -> 5\n", text)
    assert re.search(r"# went on .* with data.threads: 1 -> 2\n", text)
    once, again = json.loads((folder / "environment.json").read_text())["resumed"]
    assert once["changes"] == {"trainer.max_epochs": [3, 5], "data.threads": [1, 2]}
    assert (once["step"], once["resolved"]["threads"], again["changes"]) == (30, 2, {})


@pytest.mark.parametrize("limit", ["max_epochs=0", "max_steps=0", "limit_train_batches=0", "max_time=00:00:00:00"])
def test_a_run_that_trains_nothing_is_no_run(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], limit: str
) -> None:
    assert cli.main([*new_run(data, tmp_path / "runs"), f"--trainer.{limit}"]) == 2
    assert re.search("othing (would be|was) trained", capsys.readouterr().err)
    assert not list((tmp_path / "runs").glob("*"))


def test_a_checkpoint_that_has_all_steps_is_no_new_run(
    data: Path, long_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["fit", f"--config={long_run / 'config.yaml'}", f"--runs={tmp_path / 'runs'}"]
    assert cli.main([*words, f"--ckpt_path={long_run / 'last.ckpt'}"]) == 2
    assert (
        f"nothing was trained, so there is nothing to score. {long_run / 'last.ckpt'} has 30" in capsys.readouterr().err
    )
    assert not list((tmp_path / "runs").glob("*"))
    assert cli.main([*words, f"--ckpt_path={long_run / 'last.ckpt'}", "--model.learning_rate=1"]) == 2
    assert "--model.learning_rate of a resumed run must be 0.002" in capsys.readouterr().err


def test_the_configuration_is_what_was_asked(long_run: Path) -> None:
    """What it resolved to stands in environment.json: without a terminal there is no bar, but it was not refused."""
    trainer = yaml.safe_load((long_run / "config.yaml").read_text())["trainer"]
    names = ("accelerator", "precision", "deterministic", "enable_progress_bar", "devices")
    assert [trainer[name] for name in names] == ["auto", None, None, None, "auto"]
    found = json.loads((long_run / "environment.json").read_text())
    assert found["format"] == FORMATS["run"].number
    assert found["resolved"] == {
        "accelerator": "cpu",
        "devices": 1,
        "strategy": "SingleDeviceStrategy",
        "precision": "32-true",
        "deterministic": True,
        "progress": "EpochLines",
        "store": "bank",
        "memory": "host",
        "num_parts": 1,
        "transform": "fused",
        "decoder": "threads",
        "threads": 1,
    }


def test_a_run_of_a_newer_version_is_refused(
    data: Path, long_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = shutil.copytree(long_run, tmp_path / "run")
    values = json.loads((folder / "environment.json").read_text())
    (folder / "environment.json").write_text(json.dumps({**values, "format": 9, "fastcell": "4.5"}))
    for command in (["fit", f"--resume={folder}"], ["test", str(folder)], ["explain", str(folder)]):
        assert cli.main(command) == 2
        assert "run format must be 1 to 2, got 9. Install fastcell 4.5 or a later version" in capsys.readouterr().err


def assert_kept_or_refused(folder: Path, whole: Path, capsys: pytest.CaptureFixture[str], hurt: str) -> bool:
    """Resume a damaged run: refused with a message that names a file of it, or the end of the unbroken run."""
    capsys.readouterr()
    status = cli.main(["fit", f"--resume={folder}"])
    message = capsys.readouterr().err
    if status == 0:
        assert_same_run(folder, whole)
        return True
    assert status == 2, message
    assert "Traceback" not in message
    assert hurt in message, message
    return False


@pytest.mark.parametrize("rounds", [2, pytest.param(15, marks=pytest.mark.slow)])
def test_damage_inside_a_run_folder(
    data: Path,
    whole: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    rounds: int,
) -> None:
    """Torn pages and flipped bits inside points, weights and curve of a stopped run, at seeded places."""
    stopped = fit_until(monkeypatch, 19, new_run(data, tmp_path / "runs"), tmp_path / "runs")
    rng, went_on = random.Random(rounds), 0
    names = ["step-000000016.ckpt", "last.ckpt", "metrics.csv", "best.ckpt", "step-000000012.ckpt"]
    for number in range(rounds):
        folder = shutil.copytree(stopped, tmp_path / f"run {number}")
        path = folder / names[number % len(names)]
        content = bytearray(path.read_bytes())
        place = rng.randrange(len(content))
        if number % 2:
            place = place // 4096 * 4096
            content[place : place + 4096] = bytes(len(content[place : place + 4096]))
        else:
            content[place] ^= 1 << rng.randrange(8)
        path.write_bytes(content)
        went_on += assert_kept_or_refused(folder, whole, capsys, path.name)
        shutil.rmtree(folder)
    assert went_on >= rounds // 2


def launch(arguments: list[str]) -> subprocess.Popen[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "fastcell", *arguments, "--trainer.accelerator=cpu"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def wait_for_points(runs: Path, process: subprocess.Popen[str]) -> Path:
    """Wait until a run has written a point; its folder."""
    while process.poll() is None:
        points = list(runs.glob("*/step-*.ckpt"))
        if points:
            return points[0].parent
        time.sleep(0.02)
    raise AssertionError(process.communicate()[1])


@pytest.fixture(scope="module")
def undisturbed(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run folder of 20 epochs in a process of its own, which nobody stopped."""
    runs = tmp_path_factory.mktemp("undisturbed")
    assert launch(new_run(data, runs, "--trainer.max_epochs=20")).wait(120) == 0
    (folder,) = runs.iterdir()
    return folder


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_stops_behind_the_step_with_a_point(
    data: Path, undisturbed: Path, tmp_path: Path, number: int, status: int
) -> None:
    process = launch(new_run(data, tmp_path / "runs", "--trainer.max_epochs=20"))
    folder = wait_for_points(tmp_path / "runs", process)
    process.send_signal(number)
    text = process.communicate(timeout=60)[1]
    assert process.returncode == status, text
    assert f"Resume with `fastcell fit --resume {folder}`" in text
    point, torn = latest_point(folder)
    assert point is not None
    step = int(torch.load(point, weights_only=True)["global_step"])
    assert f"after step {step}" in text
    assert not torn
    with one_thread():  # as `launch` has it: sums in the same order
        assert main(["fit", f"--resume={folder}", "--trainer.accelerator=cpu"]) == 0
    assert_same_run(folder, undisturbed)


def run_with_kills(rng: random.Random, command: list[str], runs: Path, kills: int, longest: float) -> Path:
    """SIGKILL at random moments of the run, start-up included, each time resumed; how it ends undisturbed."""
    for _ in range(kills):
        process = launch(command)
        try:
            process.wait(rng.uniform(0.3, longest))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.communicate()
        folders = list(runs.glob("*"))
        if folders:
            command = ["fit", f"--resume={folders[0]}", *[item for item in command if "trainer.devices" in item]]
    process = launch(command)
    text = process.communicate(timeout=280)[1]
    assert process.returncode == 0, text
    (folder,) = runs.iterdir()
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("store", ["stream", "bank"])
@pytest.mark.parametrize("ranks", [1, 2])
def test_killed_at_random_moments(data: Path, tmp_path: Path, store: str, ranks: int) -> None:
    arguments = [f"--data.store={store}", f"--trainer.devices={ranks}", "--trainer.max_epochs=30"]
    begun = time.monotonic()
    process = launch(new_run(data, tmp_path / "whole", *arguments))
    assert process.wait(280) == 0
    longest = time.monotonic() - begun
    (whole,) = (tmp_path / "whole").iterdir()
    rng = random.Random(f"{store} {ranks}")
    folder = run_with_kills(rng, new_run(data, tmp_path / "runs", *arguments), tmp_path / "runs", 5, longest)
    assert_same_run(folder, whole)


# -- prediction


@pytest.fixture(scope="module")
def checkpoint(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fit(data, tmp_path_factory.mktemp("model"), "--trainer.max_epochs=1") / "best.ckpt"


def predict_command(checkpoint: Path, data: Path, out: Path) -> list[str]:
    return ["predict", f"--ckpt_path={checkpoint}", f"--data.path={data}", f"--out={out}", "--data.eval_batch_size=8"]


def test_a_killed_prediction_goes_on(
    data: Path, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Chunks of a part that was saved are not predicted again; a torn part counts as none."""
    assert main(predict_command(checkpoint, data, tmp_path / "whole.csv")) == 0
    predicted, step = [], CellModule.predict_step
    monkeypatch.setattr("fastcell.predictions.saved_parts.SAVE_EVERY_S", 0.0)

    def die_in_time(self: CellModule, batch: Batch, batch_idx: int) -> Prediction:
        predicted.append(batch.cell_ids.tolist())
        if len(predicted) in (7, 12):
            raise Killed
        return step(self, batch, batch_idx)

    monkeypatch.setattr(CellModule, "predict_step", die_in_time)
    command = predict_command(checkpoint, data, tmp_path / "p.csv")
    with pytest.raises(Killed):
        main(command)
    parts = sorted((tmp_path / ".p.csv.partial").glob("run-*/saved/*.saved"))
    assert len(parts) == 6
    parts[2].write_bytes(parts[2].read_bytes()[:-40])
    with pytest.raises(Killed):
        main(command)
    assert main(command) == 0
    assert "resuming: an interrupted run has finished" in capsys.readouterr().out
    chunks = [list(range(begin, min(begin + 8, 180))) for begin in range(0, 180, 8)]
    assert predicted[:7] == chunks[:7]
    assert predicted[7:12] == [chunks[2], *chunks[6:10]]
    assert [ids[: len(chunk)] for ids, chunk in zip(predicted[12:], chunks[9:], strict=True)] == chunks[9:]
    assert (tmp_path / "p.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["p.csv", "whole.csv"]


@pytest.mark.parametrize("repaired", [True, False], ids=["repaired", "damaged otherwise"])
def test_a_prediction_tries_corrupt_cells_again(
    data: Path, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, repaired: bool
) -> None:
    """A shard is damaged, and repaired or lost between the stop and the rerun: the table is that of the data of now."""
    cells = shutil.copytree(data, tmp_path / "cells")
    manifest = Manifest.open(cells)
    shard = manifest.shard_path(1)
    whole = shard.read_bytes()
    hurt = bytearray(whole)
    for row in manifest.table.slice(44, 12).to_pylist():
        hurt[row["offset"] + 20] ^= 1
    shard.write_bytes(hurt)
    monkeypatch.setattr("fastcell.predictions.saved_parts.SAVE_EVERY_S", 0.0)
    steps, step = iter(range(100)), CellModule.predict_step

    def die_in_time(self: CellModule, batch: Batch, batch_idx: int) -> Prediction:
        if next(steps) == 10:
            raise Killed
        return step(self, batch, batch_idx)

    with monkeypatch.context() as patch:
        patch.setattr(CellModule, "predict_step", die_in_time)
        with pytest.raises(Killed):
            main(predict_command(checkpoint, cells, tmp_path / "p.csv"))
    if repaired:
        shard.write_bytes(whole)
    else:
        shard.unlink()
    assert main(predict_command(checkpoint, cells, tmp_path / "p.csv")) == 0
    assert main(predict_command(checkpoint, cells, tmp_path / "whole.csv")) == 0
    if repaired:
        assert (tmp_path / "p.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()
        assert "bytes" not in (tmp_path / "p.csv").read_text()
        return
    with open(tmp_path / "p.csv", newline="") as file:
        reasons = [row["reason"] for row in csv.DictReader(file)]
    assert reasons[:40] == [""] * 40
    assert set(reasons[40:80]) == {"", "the shard is missing"}  # those that were predicted before stay
    assert all(reason == "the shard is missing" for reason in reasons[44:56])


def test_a_prediction_of_something_else_begins_anew(
    data: Path, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastcell.predictions.saved_parts.SAVE_EVERY_S", 0.0)
    steps, step = iter(range(100)), CellModule.predict_step

    def die_in_time(self: CellModule, batch: Batch, batch_idx: int) -> Prediction:
        if next(steps) == 5:
            raise Killed
        return step(self, batch, batch_idx)

    monkeypatch.setattr(CellModule, "predict_step", die_in_time)
    with pytest.raises(Killed):
        main(predict_command(checkpoint, data, tmp_path / "p.csv"))
    assert main([*predict_command(checkpoint, data, tmp_path / "p.csv"), "--tta=true"]) == 0
    assert main([*predict_command(checkpoint, data, tmp_path / "flips.csv"), "--tta=true"]) == 0
    assert (tmp_path / "p.csv").read_bytes() == (tmp_path / "flips.csv").read_bytes()


def test_two_predictions_of_one_file(
    data: Path, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with open_staging_of(tmp_path / "p.csv"):
        assert cli.main(predict_command(checkpoint, data, tmp_path / "p.csv")) == 2
    assert "which another run" in capsys.readouterr().err
    assert not (tmp_path / "p.csv").exists()


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [1, 2])
def test_predictions_killed_at_random_moments(data: Path, checkpoint: Path, tmp_path: Path, ranks: int) -> None:
    command = [*predict_command(checkpoint, data, tmp_path / "p.csv"), f"--trainer.devices={ranks}"]
    begun = time.monotonic()
    whole = [item.replace("p.csv", "whole.csv") for item in command]
    assert launch(whole).wait(120) == 0
    longest, rng = time.monotonic() - begun, random.Random(ranks)
    for _ in range(5):
        process = launch(command)
        try:
            process.wait(rng.uniform(0.3, longest))
        except subprocess.TimeoutExpired:
            process.kill()
        process.communicate()
        wait_until_free(tmp_path)
        (tmp_path / "p.csv").unlink(missing_ok=True)
    assert launch(command).wait(120) == 0
    assert (tmp_path / "p.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["p.csv", "whole.csv"]


def wait_until_free(folder: Path) -> None:
    """Rank 1 of a killed run looks after rank 0 once a second."""
    time.sleep(2.5)


# -- ranks


@pytest.mark.slow
def test_every_cell_once_on_1_2_and_3_ranks(data: Path, checkpoint: Path, tmp_path: Path) -> None:
    """180 cells in chunks of 8, 5 of them bad: predictions byte by byte, scores and mean loss."""
    damaged = tmp_path / "damaged"
    shutil.copytree(data, damaged)
    for cell in Manifest.open(damaged).table.to_pylist()[3:180:41]:
        with open(damaged / cell["shard"], "r+b") as file:
            file.seek(cell["offset"])
            file.write(bytes(cell["bytes"]))
    texts, losses = [], []
    for ranks in (1, 2, 3):
        command = predict_command(checkpoint, damaged, tmp_path / f"{ranks}.csv")
        process = launch([*command, f"--trainer.devices={ranks}"])
        assert process.wait(120) == 0
        process = launch(["validate", *command[1:3], "--data.eval_batch_size=8", f"--trainer.devices={ranks}"])
        text = process.communicate(timeout=120)[0]
        assert process.returncode == 0
        lines = [line for line in text.splitlines() if "cells/s" not in line and "mean loss" not in line]
        texts.append(lines)
        losses.append(float(text.partition("mean loss ")[2].split()[0]))
    assert (tmp_path / "1.csv").read_bytes() == (tmp_path / "2.csv").read_bytes() == (tmp_path / "3.csv").read_bytes()
    assert (tmp_path / "1.csv").read_text().count("other bytes than were packed") == 5
    assert texts[0] == texts[1] == texts[2]
    assert max(losses) - min(losses) <= 1e-6 * max(losses)


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_a_rank_that_dies_ends_the_others(data: Path, tmp_path: Path, victim: int) -> None:
    """Within 5 seconds, with a line that names it; the run then goes on as if nothing had been."""
    command = new_run(data, tmp_path / "runs", "--trainer.max_epochs=2000", "--trainer.devices=2")
    process = launch(command)
    wait_for_points(tmp_path / "runs", process)
    child = children_of(process.pid)[0]
    begun = time.monotonic()
    os.kill(process.pid if victim == 0 else child, signal.SIGKILL)
    text = process.communicate(timeout=60)[1]
    while Path(f"/proc/{child}/cmdline").exists() and Path(f"/proc/{child}/cmdline").read_bytes():
        time.sleep(0.05)
        assert time.monotonic() - begun < 5
    assert time.monotonic() - begun < 5
    assert process.returncode != 0
    assert ("rank 0 has died" if victim == 0 else f"rank 1 (process {child}) was killed by signal 9") in text


def children_of(pid: int) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
            command = (path.parent / "cmdline").read_text()
        except OSError:
            continue
        if int(fields[1]) == pid and "fastcell" in command:
            found.append(int(path.parent.name))
    return found


@pytest.mark.slow
@pytest.mark.parametrize(("before", "after"), [(1, 2), (2, 1)])
def test_a_bank_goes_on_with_another_number_of_ranks(data: Path, tmp_path: Path, before: int, after: int) -> None:
    """The same batches; the weights are equal but for rounding and batch norm, which is per rank."""
    command = new_run(data, tmp_path / "runs", "--trainer.max_epochs=40", "--data.store=bank")
    process = launch([*command, f"--trainer.devices={before}"])
    folder = wait_for_points(tmp_path / "runs", process)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 143
    process = launch(["fit", f"--resume={folder}", f"--trainer.devices={after}"])
    text = process.communicate(timeout=280)
    assert process.returncode == 0, text
    assert weights(folder)["step"] == 400


@pytest.mark.slow
def test_a_stream_refuses_another_number_of_ranks(data: Path, tmp_path: Path) -> None:
    process = launch(new_run(data, tmp_path / "runs", "--trainer.max_epochs=40", "--data.store=stream"))
    folder = wait_for_points(tmp_path / "runs", process)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    process = launch(["fit", f"--resume={folder}", "--trainer.devices=2"])
    text = process.communicate(timeout=120)[1]
    assert process.returncode != 0
    assert "number of processes must be 1 as before, because the order of the stream depends on it" in text
