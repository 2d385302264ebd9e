import csv
import importlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pyarrow.parquet
import pytest
import torch
import yaml

from fastcell.cli import main as cli
from fastcell.cli import pack
from fastcell.errors import ArgumentError, DataError
from fastcell.runs.checkpoint import load_classifier
from fastcell.training.recipe import PRESETS

pytestmark = pytest.mark.usefixtures("quick_figures")

CLASSES = ["dots", "plain", "stripes"]
CELLS = 40
SMALL = ["--data.image_size=16", "--data.batch_size=12", "--data.threads=1"]


def main(arguments):
    """Run a command in this process; its errors are raised."""
    return importlib.import_module(f"fastcell.cli.{arguments[0]}").main(arguments[1:])


def draw_cell(name, generator):
    height, width = generator.integers(14, 24, 2)
    image = generator.normal(100, 5, (height, width))
    if name == "stripes":
        image[:, ::4] += 90
        image[:, 1::4] += 90
    if name == "dots":
        image[height // 2 - 3 : height // 2 + 3, width // 2 - 3 : width // 2 + 3] += 120
    return image.clip(0, 255).astype(np.uint8)


def draw_folder(folder, classes, cells=CELLS, seed=0):
    generator = np.random.default_rng(seed)
    for name in classes:
        (folder / name).mkdir(parents=True)
        for number in range(cells):
            cv2.imwrite(str(folder / name / f"{number:03d}.png"), draw_cell(name, generator))
    return folder


def pack_folder(source, out, *arguments):
    assert pack.main([str(source), str(out), *arguments]) == 0
    return out


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return draw_folder(tmp_path_factory.mktemp("source"), CLASSES)


@pytest.fixture(scope="module")
def data(source, tmp_path_factory):
    (source / "plain" / "broken.png").write_bytes(b"no image")
    return pack_folder(source, tmp_path_factory.mktemp("data") / "cells")


@pytest.fixture(scope="module")
def unlabelled(source, tmp_path_factory):
    """The same cells with no class."""
    flat = tmp_path_factory.mktemp("flat")
    for path in source.glob("*/[0-9]*.png"):
        shutil.copy(path, flat / f"{path.parent.name}_{path.name}")
    return pack_folder(flat, tmp_path_factory.mktemp("unlabelled") / "cells", "--pattern", "{name}")


def fit(data, runs, *arguments):
    """Runs the command on few threads and returns its run folder."""
    before = set(runs.glob("*"))
    assert main(["fit", f"--data.path={data}", f"--runs={runs}", *SMALL, *arguments]) == 0
    (folder,) = set(runs.glob("*")) - before
    return folder


@pytest.fixture(scope="module")
def run_folder(data, tmp_path_factory):
    return fit(data, tmp_path_factory.mktemp("runs"), "--trainer.max_epochs=7", "--model.learning_rate=5e-3")


def test_run_folder_is_complete(run_folder):
    assert sorted(path.name for path in run_folder.iterdir()) == [
        "best.ckpt",
        "config.yaml",
        "confusion.csv",
        "confusion.pdf",
        "confusion.png",
        "curves.pdf",
        "curves.png",
        "environment.json",
        "last.ckpt",
        "metrics.csv",
        "metrics.json",
        "predictions.parquet",
    ]
    assert run_folder.name.endswith("-cellnet")
    assert json.loads((run_folder / "environment.json").read_text())["torch_threads"] >= 1
    assert yaml.safe_load((run_folder / "config.yaml").read_text())["data"]["image_size"] == 16


def test_the_last_weights_are_evaluated_where_asked(data, run_folder, tmp_path):
    assert json.loads((run_folder / "metrics.json").read_text())["checkpoint"] == "best.ckpt"
    folder = fit(data, tmp_path, "--select=last", "--trainer.max_epochs=2")
    assert json.loads((folder / "metrics.json").read_text())["checkpoint"] == "last.ckpt"
    out = tmp_path / "again.parquet"
    assert main(["test", f"--ckpt_path={folder / 'last.ckpt'}", f"--data.path={data}", f"--out={out}"]) == 0
    assert pyarrow.parquet.read_table(out).equals(pyarrow.parquet.read_table(folder / "predictions.parquet"))


def test_scores_agree_with_confusion_and_predictions(run_folder):
    metrics = json.loads((run_folder / "metrics.json").read_text())
    table = pyarrow.parquet.read_table(run_folder / "predictions.parquet").to_pydict()
    right = np.mean([true == called for true, called in zip(table["true_class"], table["class"], strict=True)])
    assert metrics["test"]["accuracy"]["value"] == pytest.approx(right)
    assert right > 0.8  # three classes that anyone can tell apart
    with (run_folder / "confusion.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["true", *CLASSES]
    assert [[int(number) for number in row[1:]] for row in rows[1:]] == metrics["test"]["confusion"]
    assert sum(map(sum, metrics["test"]["confusion"])) == len(table["key"]) == metrics["test"]["num_cells"]
    assert metrics["cells_per_s"]["train"] > 0


def test_curves_have_training_and_validation_at_the_same_steps(run_folder):
    with (run_folder / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 7
    assert all(float(row["train_loss"]) > 0 and float(row["valid_loss"]) > 0 for row in rows)
    assert float(rows[-1]["train_accuracy"]) > float(rows[0]["train_accuracy"])
    assert [int(row["step"]) for row in rows] == [7 * epoch for epoch in range(1, 8)]


def test_resolved_config_repeats_the_run_bit_by_bit(run_folder, tmp_path):
    config = run_folder / "config.yaml"
    assert main(["fit", f"--config={config}", f"--runs={tmp_path}"]) == 0
    (again,) = tmp_path.iterdir()
    assert weights(again, "last.ckpt") == weights(run_folder, "last.ckpt")
    assert (again / "predictions.parquet").read_bytes() == (run_folder / "predictions.parquet").read_bytes()


def test_another_seed_gives_other_weights(run_folder, data, tmp_path):
    short = ["--trainer.max_epochs=1", "--trainer.limit_train_batches=1"]
    assert weights(fit(data, tmp_path, "--seed_everything=1", *short), "last.ckpt") != weights(
        fit(data, tmp_path, "--seed_everything=2", *short), "last.ckpt"
    )


def weights(folder, name):
    model = load_classifier(folder / name)
    return [parameter.detach().flatten().tolist() for parameter in model.parameters()]


def test_predict_needs_checkpoint_and_shards_only(run_folder, unlabelled, data, tmp_path):
    for name, where in (("a.csv", unlabelled), ("b.csv", data)):
        arguments = [f"--ckpt_path={run_folder / 'best.ckpt'}", f"--data.path={where}", f"--out={tmp_path / name}"]
        assert main(["predict", *arguments]) == 0
    with (tmp_path / "b.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    answers = ["class", "confidence", "p_dots", "p_plain", "p_stripes"]
    unlike = ["unlike_training", "unlike_score", "unlike_reason"]
    assert list(rows[0]) == ["key", "group", "event", *answers, "reason", *unlike]
    keys = pyarrow.parquet.read_table(data / "manifest.parquet").column("key").to_pylist()
    assert [row["key"] for row in rows] == [*keys, "plain/broken.png"]
    assert (rows[-1]["class"], rows[-1]["confidence"]) == ("", "")
    assert rows[-1]["reason"]
    for row in rows[:-1]:
        chances = [float(row[f"p_{name}"]) for name in CLASSES]
        assert sum(chances) == pytest.approx(1, abs=1e-5)
        assert row["class"] == CLASSES[int(np.argmax(chances))]
        assert float(row["confidence"]) == max(chances)
    with (tmp_path / "a.csv").open(newline="") as file:
        without_labels = {row["key"]: row for row in csv.DictReader(file)}
    for row in rows[:-1]:  # in another order and chunk
        again = without_labels[row["key"].replace("/", "_")]
        assert float(again["p_dots"]) == pytest.approx(float(row["p_dots"]), abs=1e-5)


def test_test_repeats_the_scores_of_fit(run_folder, data, tmp_path, capsys):
    out = tmp_path / "test.parquet"
    arguments = [f"--ckpt_path={run_folder / 'best.ckpt'}", f"--data.path={data}", f"--out={out}"]
    assert main(["test", *arguments]) == 0
    assert pyarrow.parquet.read_table(out).equals(pyarrow.parquet.read_table(run_folder / "predictions.parquet"))
    accuracy = json.loads((run_folder / "metrics.json").read_text())["test"]["accuracy"]["value"]
    text = capsys.readouterr().out
    assert "f-score" in text
    assert "one-against-rest average accuracy (equation 6)" in text
    assert f"{accuracy:.3f}" in text
    assert main(["validate", *arguments[:2]]) == 0
    assert "valid subset" in capsys.readouterr().out


def test_classes_are_matched_by_name(run_folder, tmp_path, capsys):
    fewer = pack_folder(draw_folder(tmp_path / "s", ["stripes", "dots"], seed=5), tmp_path / "fewer")
    out = tmp_path / "test.parquet"
    arguments = [f"--ckpt_path={run_folder / 'best.ckpt'}", f"--data.path={fewer}"]
    assert main(["test", *arguments, f"--out={out}"]) == 0
    table = pyarrow.parquet.read_table(out).to_pydict()
    right = np.mean([true == called for true, called in zip(table["true_class"], table["class"], strict=True)])
    assert right > 0.8
    other = pack_folder(draw_folder(tmp_path / "o", ["stripes", "cubes"], cells=12), tmp_path / "other")
    with pytest.raises(DataError, match=r"among the checkpoint's \(dots, plain, stripes\), got also cubes"):
        main(["test", arguments[0], f"--data.path={other}"])


def test_without_a_validation_part_the_last_weights_are_taken(source, tmp_path, capsys):
    two = pack_folder(source, tmp_path / "two", "--split", "80/0/20")
    folder = fit(two, tmp_path / "runs", "--trainer.max_epochs=1")
    assert "no validation subset" in capsys.readouterr().out
    assert json.loads((folder / "metrics.json").read_text())["checkpoint"] == "last.ckpt"
    assert not (folder / "best.ckpt").exists()


def test_interrupted_runs_go_on(data, tmp_path):
    steady = ["--model.schedule=constant", "--model.warmup=0"]
    first = fit(data, tmp_path, "--trainer.max_epochs=1", *steady)
    second = fit(data, tmp_path, "--trainer.max_epochs=2", *steady, f"--ckpt_path={first / 'last.ckpt'}")
    whole = fit(data, tmp_path, "--trainer.max_epochs=2", *steady)
    assert weights(second, "last.ckpt") == weights(whole, "last.ckpt")


def test_trial_run_leaves_nothing(data, tmp_path):
    runs = tmp_path / "runs"
    assert main(["fit", f"--data.path={data}", f"--runs={runs}", *SMALL, "--trainer.fast_dev_run=true"]) == 0
    assert not runs.exists()


def test_refused_data_leave_no_run_folder(unlabelled, tmp_path, capsys):
    one = pack_folder(draw_folder(tmp_path / "s", ["plain"], cells=12), tmp_path / "one")
    for folder in (unlabelled, one, tmp_path / "none"):
        status = cli.main(["fit", f"--data.path={folder}", f"--runs={tmp_path / 'runs'}", *SMALL])
        assert status == 2
        assert str(folder) in capsys.readouterr().err
    assert not any((tmp_path / "runs").glob("*"))


@pytest.mark.parametrize("name", PRESETS)
def test_presets_parse_and_their_checkpoints_load_safely(name, data, tmp_path):
    small = ["--trainer.max_steps=1", "--trainer.val_check_interval=1", "--trainer.check_val_every_n_epoch=null"]
    folder = fit(data, tmp_path, f"--preset={name}", *small)
    assert folder.name.endswith("-residual" if name == "thorough" else "-cellnet")
    for checkpoint in ("best.ckpt", "last.ckpt"):
        content = torch.load(folder / checkpoint, weights_only=True)
        assert content["hyper_parameters"]["classes"] == CLASSES
        assert load_classifier(folder / checkpoint).preprocessing["image_size"] == 16


def test_commands_keep_openmp_from_spinning(monkeypatch):
    monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    assert cli.main(["fit", "--help"]) == 0
    assert os.environ["GOMP_SPINCOUNT"] == "1000"
    monkeypatch.setenv("GOMP_SPINCOUNT", "5")
    assert cli.main(["fit", "--help"]) == 0
    assert os.environ["GOMP_SPINCOUNT"] == "5"


@pytest.mark.slow
def test_two_processes_predict_and_score_as_one(run_folder, data, tmp_path):
    checkpoint = run_folder / "best.ckpt"
    for ranks in (1, 2):
        arguments = [f"--ckpt_path={checkpoint}", f"--data.path={data}", f"--out={tmp_path / f'{ranks}.csv'}"]
        launch("predict", *arguments, "--data.eval_batch_size=32", f"--trainer.devices={ranks}")
    assert (tmp_path / "1.csv").read_bytes() == (tmp_path / "2.csv").read_bytes()
    text = launch(
        "fit", f"--data.path={data}", f"--runs={tmp_path}", *SMALL, "--trainer.max_epochs=2", "--trainer.devices=2"
    )
    (folder,) = tmp_path.glob("*-cellnet")
    assert (folder / "metrics.json").exists()
    assert text.count("run folder") == 1
    assert json.loads((folder / "metrics.json").read_text())["test"]["num_cells"] == 23


def launch(*arguments):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "fastcell", *arguments, "--trainer.accelerator=cpu"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=280, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_checkpoints_are_written_atomically(data, tmp_path, monkeypatch):
    """On a full disk the run ends, and no half checkpoint keeps its folder alive."""

    def no_room(content, file):
        Path(file).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("fastcell.runs.checkpoint.torch.save", no_room)
    with pytest.raises(OSError, match="No space"):
        fit(data, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_rare_classes_are_repeated_and_named(tmp_path, capsys):
    source = draw_folder(tmp_path / "source", ["plain", "stripes"])
    draw_folder(source, ["dots"], cells=3, seed=1)
    data = pack_folder(source, tmp_path / "cells")
    capsys.readouterr()
    run = fit(data, tmp_path / "runs", "--trainer.max_epochs=2", "--trainer.precision=auto")
    printed = capsys.readouterr().out
    said = "rare classes are repeated up to 10 times (--data.balance auto): plain has 26 times as many training cells"
    assert said in printed
    rare = "Caution: classes with fewer than 20 training cells: dots 1."
    first, last = printed.index(rare), printed.rindex(rare)
    assert first < printed.index("test subset, ") < printed.index("mean loss") < last
    assert any(line.startswith(rare) for line in json.loads((run / "metrics.json").read_text())["cautions"])
    chosen = json.loads((run / "environment.json").read_text())["resolved"]
    assert chosen["balance"] == "oversample"
    assert f"precision {chosen['precision']}: " in printed
    assert "(--trainer.precision auto)" in printed
    assert yaml.safe_load((run / "config.yaml").read_text())["trainer"]["precision"] == "auto"
    with open(run / "metrics.csv", newline="") as file:
        losses = [row for row in csv.DictReader(file) if row["valid_loss"]]
    assert all(row["valid_balanced_loss"] not in ("", row["valid_loss"]) for row in losses)
    best = torch.load(run / "best.ckpt", weights_only=True)
    (state,) = [state for name, state in best["callbacks"].items() if "valid_balanced_loss" in name]
    assert float(state["best_model_score"]) == pytest.approx(min(float(row["valid_balanced_loss"]) for row in losses))
    last_point = torch.load(run / "last.ckpt", weights_only=True)
    assert last_point["fastcell_settings"]["resolved"]["trainer.precision"] == chosen["precision"]
    with pytest.raises(ArgumentError, match="balance_cap of a resumed run must be null as in the run, got 4"):
        main(["fit", f"--resume={run}", "--data.balance_cap=4"])
