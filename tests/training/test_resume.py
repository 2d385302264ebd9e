"""Runs that are killed or torn go on at the very next batch, and end with the same bytes of weights."""

import csv
import random
import shutil
import zipfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from fixtures.stopped_runs import assert_same_run, fit, fit_until, main, new_run

from fastcell.cli import main as cli
from fastcell.dataset.manifest import Manifest
from fastcell.models import lightning_module
from fastcell.training.resume import POINT_CONTENT, latest_point


@pytest.mark.parametrize(
    "arguments",
    [
        ["--data.store=stream"],
        ["--data.store=bank"],
        pytest.param(["--data.store=bank", "--data.bank_gib=2e-5"], marks=pytest.mark.slow),
        pytest.param(
            ["--data.store=stream", "--data.transform=dali", "--data.augmentation.noise_std=0"], marks=pytest.mark.slow
        ),
        pytest.param(["--data.store=bank", "--model.steps_per_call=3"], marks=pytest.mark.slow),
        pytest.param(["--data.store=bank", "--trainer.val_check_interval=0.5"], marks=pytest.mark.slow),
    ],
    ids=["stream", "bank", "small bank", "dali", "calls", "validation"],
)
def test_a_killed_run_ends_as_the_unbroken_one(data, tmp_path, monkeypatch, arguments):
    whole = fit(data, tmp_path / "whole", *arguments)
    seed, runs = random.Random(",".join(arguments)), tmp_path / "broken"
    folder = fit_until(monkeypatch, seed.randrange(5, 19), new_run(data, runs, *arguments), runs)
    folder = fit_until(monkeypatch, seed.randrange(1, 19), ["fit", f"--resume={folder}"], runs)
    assert main(["fit", f"--resume={folder}"]) == 0
    assert_same_run(folder, whole)


@pytest.mark.slow
@pytest.mark.parametrize("planned", [False, True])
def test_steps_in_a_call_that_a_machine_chose_are_kept_by_another(data, tmp_path, monkeypatch, planned):
    """As on a GPU, where a call makes several steps, on batches or planned ones; the other machine chooses one."""
    monkeypatch.setattr(lightning_module, "can_replay", lambda model: planned)
    choose = "fastcell.cli.lightning_fit.choose_steps_per_call"
    monkeypatch.setattr(choose, lambda settings: 3)
    whole = fit(data, tmp_path / "whole", "--data.store=bank")
    runs = tmp_path / "broken"
    folder = fit_until(monkeypatch, 7, new_run(data, runs, "--data.store=bank"), runs)
    monkeypatch.setattr(choose, lambda settings: 1)
    assert main(["fit", f"--resume={folder}"]) == 0
    assert_same_run(folder, whole)
    content = torch.load(folder / "last.ckpt", weights_only=True)
    assert content["hyper_parameters"]["steps_per_call"] == 3


def test_a_torn_point_is_left_aside(data, whole, tmp_path, monkeypatch, capsys):
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


def test_a_run_without_a_point_begins_anew(whole, tmp_path):
    """As after a kill in its first steps: the folder is there, with its settings."""
    folder = tmp_path / "killed"
    folder.mkdir(parents=True)
    for name in ("config.yaml", "environment.json"):
        (folder / name).write_bytes((whole / name).read_bytes())
    assert main(["fit", f"--resume={folder}"]) == 0
    assert_same_run(folder, whole)


def test_a_run_folder_that_was_moved_keeps_its_best(data, tmp_path, monkeypatch):
    """The epochs before the stop were the best: best.ckpt is not replaced by a worse one."""
    contradicted = contradict_validation(data, tmp_path / "data")
    rise = ["--model.learning_rate=0.001", "--model.schedule=constant"]
    whole = fit(contradicted, tmp_path / "whole", *rise)
    with open(whole / "metrics.csv", newline="") as file:
        losses = [float(row["valid_loss"]) for row in csv.DictReader(file) if row["valid_loss"]]
    best = losses.index(min(losses))
    assert best < len(losses) - 1, losses
    runs = tmp_path / "runs"
    folder = fit_until(monkeypatch, 10 * (best + 1) + 5, new_run(contradicted, runs, *rise), runs)
    moved = tmp_path / "elsewhere" / "run"
    moved.parent.mkdir()
    folder.rename(moved)
    assert main(["fit", f"--resume={moved}"]) == 0
    assert_same_run(moved, whole)
    ours, theirs = (torch.load(path / "best.ckpt", weights_only=True) for path in (moved, whole))
    assert ours["global_step"] == theirs["global_step"] == 10 * (best + 1)
    assert all(torch.equal(value, theirs["state_dict"][name]) for name, value in ours["state_dict"].items())
    for name in ("best.ckpt", "last.ckpt"):
        content = b"".join(zipped(moved / name))
        assert str(tmp_path).encode() not in content.replace(str(contradicted).encode(), b"")


def contradict_validation(data, copy):
    """A copy of the data set with wrong labels on its validation cells: what training learns raises their loss."""
    shutil.copytree(data, copy)
    rows, subsets = pq.read_table(copy / "manifest.parquet"), Manifest.open(copy).split()
    wrong = {"dim": "grey", "grey": "bright", "bright": "dim"}
    labels = [
        wrong[label] if subset == "valid" else label
        for label, subset in zip(rows["class"].to_pylist(), subsets, strict=True)
    ]
    place = rows.schema.get_field_index("class")
    pq.write_table(rows.set_column(place, "class", pa.array(labels)), copy / "manifest.parquet")
    return copy


def zipped(path):
    with zipfile.ZipFile(path) as archive:
        return [archive.read(name) for name in archive.namelist()]


def test_damaged_best_weights_are_refused_by_name(data, tmp_path, monkeypatch, capsys):
    folder = fit_until(monkeypatch, 15, new_run(data, tmp_path / "runs"), tmp_path / "runs")
    content = bytearray((folder / "best.ckpt").read_bytes())
    content[len(content) // 2] ^= 1
    (folder / "best.ckpt").write_bytes(content)
    assert cli.main(["fit", f"--resume={folder}"]) == 2
    assert f"{folder / 'best.ckpt'} is damaged" in capsys.readouterr().err
    (folder / "best.ckpt").unlink()
    assert main(["fit", f"--resume={folder}"]) == 0
    assert (folder / "best.ckpt").is_file()


def assert_kept_or_refused(folder, whole, capsys, hurt):
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
def test_damage_inside_a_run_folder(data, whole, tmp_path, monkeypatch, capsys, rounds):
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
