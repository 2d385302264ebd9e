"""Networks, losses, metrics and augmentations of the user's own, through every command."""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml
from fixtures.golden_files import run_command

import fastcell
from fastcell.audit.unlike_training import find_unlike
from fastcell.cli.main import main
from fastcell.dataset.manifest import Manifest
from fastcell.models import registry
from fastcell.models.losses import probabilities
from fastcell.runs.checkpoint import load_classifier, read_checkpoint

pytestmark = pytest.mark.usefixtures("quick_figures")

EXAMPLE = Path(__file__).parents[2] / "examples" / "own_parts.py"
SHORT = ["--data.image_size=16", "--data.threads=1", "--trainer.max_steps=3", "--trainer.max_epochs=-1"]
OWN = [
    "--model.network=own_parts.SmallNet",
    "--model.network.width=4",
    "--model.loss=own_parts.FocalLoss",
    "--model.loss.init_args.gamma",
    "1.5",
    "--model.metrics=torchmetrics.classification.MulticlassF1Score",
    "--data.batch_augmentation=own_parts.invert_half",
]


def forget() -> None:
    """Let this process know nothing of the user's code, as a new one does."""
    sys.modules.pop("own_parts", None)
    registry._REGISTERED.clear()


@pytest.fixture(scope="module")
def code(tmp_path_factory):
    """Folder on Python's path that holds the example."""
    folder = tmp_path_factory.mktemp("code")
    shutil.copy(EXAMPLE, folder)
    sys.path.append(str(folder))
    yield folder
    sys.path.remove(str(folder))
    forget()


@pytest.fixture(scope="module")
def own_run(code, trained_data, tmp_path_factory):
    """Run of a network, a loss, a metric and an augmentation that are not of the package."""
    runs = tmp_path_factory.mktemp("own") / "runs"
    assert main(["fit", str(trained_data), "--preset=fast", f"--runs={runs}", *SHORT, *OWN]) == 0
    (folder,) = runs.iterdir()
    return folder


def test_a_run_has_the_parts_that_were_named(own_run):
    hparams = read_checkpoint(own_run / "last.ckpt")["hyper_parameters"]
    assert hparams["network"] == {"class_path": "own_parts.SmallNet", "init_args": {"width": 4}}
    assert hparams["loss"] == {"class_path": "own_parts.FocalLoss", "init_args": {"gamma": 1.5}}
    assert own_run.name.endswith("-SmallNet")
    saved = yaml.safe_load((own_run / "config.yaml").read_text())
    assert saved["model"]["network"] == hparams["network"]
    assert saved["trust"] is None
    scores = json.loads((own_run / "metrics.json").read_text())["test"]
    f_scores = [entry["f_score"]["value"] for entry in scores["classes"].values()]
    assert scores["metrics"]["multiclass_f1_score"] == pytest.approx(np.nanmean(f_scores), abs=1e-6)
    model = load_classifier(own_run / "last.ckpt", ["own_parts"])
    assert model.network[1].features[0].out_channels == 4


def test_the_own_loss_is_the_one_that_counts(own_run):
    model = load_classifier(own_run / "last.ckpt", ["own_parts"])
    logits, labels = torch.randn(5, 4), torch.tensor([0, 3, -1, 2, 1])
    plain = torch.nn.functional.cross_entropy(logits, labels.clamp_min(0), reduction="none")
    expected = (1 - torch.exp(-plain)) ** 1.5 * plain * (labels >= 0)
    assert torch.allclose(model._cell_losses(logits, labels), expected)
    assert torch.equal(model._probabilities(logits), probabilities("cross_entropy", logits))


COMMANDS = {
    "predict": ["predict", "RUN", "DATA", "--out", "OUT.csv"],
    "test": ["test", "RUN"],
    "validate": ["validate", "RUN"],
    "explain": ["explain", "RUN", "--cells", "3", "--positions", "2", "--embed", "20", "--out", "OUT"],
    "report": ["report", "RUN", "--no-explain", "--cells", "10", "--out", "OUT.html"],
    "bench": ["bench", "DATA", "--run", "RUN", "--seconds", "1", "--cells", "100"],
    "bench --latency": ["bench", "DATA", "--run", "RUN", "--latency", "--seconds", "1"],
    "export": ["export", "RUN", "OUT.onnx", "--check", "20"],
    "export FOLDER": ["export", "RUN", "OUT", "--check", "20"],
    "predict FILES": ["predict", "RUN", "FILES", "--out", "OUT.csv"],
    "predict --backend": ["predict", "RUN", "DATA", "--out", "OUT.csv", "--backend=onnxruntime", "--precision=fp32"],
    "distill": ["distill", "RUN", "--budget=1ms", "--out=OUT", "--trainer.max_steps=2"],
    "fit --teacher": ["fit", "DATA", "--teacher=RUN", "--preset=fast", "--runs=OUT", *SHORT],
}
SLOW = {*COMMANDS} - {"predict", "test", "export FOLDER", "predict FILES"}


@pytest.fixture
def words(own_run, trained_data, tmp_path):
    """Paths for the words in `COMMANDS`, beside an empty folder ``out``."""
    (tmp_path / "files").mkdir()
    (tmp_path / "out").mkdir()
    cv2.imwrite(str(tmp_path / "files" / "1.png"), np.random.default_rng(0).integers(0, 256, (20, 30)).astype(np.uint8))
    out = str(tmp_path / "out" / "made")
    return {"RUN": str(own_run), "DATA": str(trained_data), "FILES": str(tmp_path / "files"), "OUT": out}


def filled(command: list[str], words: dict[str, str]) -> list[str]:
    """A command with paths in place of the words."""
    return [re.sub("RUN|DATA|FILES|OUT", lambda found: words[found[0]], word) for word in command]


@pytest.mark.parametrize("name", COMMANDS)
def test_no_command_imports_code_unasked(name, words, capsys):
    forget()
    status, _, err = run_command(filled(COMMANDS[name], words), capsys)
    assert status == 2
    assert "own_parts" not in sys.modules
    assert err.count("\n") == 1
    assert "If you trust it, name its package: --trust own_parts" in err
    assert not any(Path(words["OUT"]).parent.iterdir())


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in COMMANDS])
def test_every_command_takes_a_network_of_the_users_own(name, words, capsys):
    forget()
    status, out, err = run_command([*filled(COMMANDS[name], words), "--trust", "own_parts"], capsys)
    assert status == 0
    assert "--trust" not in out + err  # no backend is left out


def test_a_prepared_backend_needs_no_code(own_run, words, tmp_path):
    run = shutil.copytree(own_run, tmp_path / "run")
    named = ["--backend=onnxruntime", "--precision=fp32"]
    for number, trust in enumerate((["--trust=own_parts"], [], ["--trust=own_parts"])):
        forget()
        assert main(["predict", str(run), words["DATA"], f"--out={tmp_path / f'{number}.csv'}", *named, *trust]) == 0
        assert ("own_parts" in sys.modules) == (number == 0)  # which writes the network
    assert (tmp_path / "0.csv").read_bytes() == (tmp_path / "1.csv").read_bytes() == (tmp_path / "2.csv").read_bytes()
    found = fastcell.load(run, backend="onnxruntime", precision="fp32").predict_proba(words["FILES"])
    assert "own_parts" not in sys.modules
    assert np.allclose(found, fastcell.load(run, trust=["own_parts"]).predict_proba(words["FILES"]), atol=1e-6)


@pytest.mark.slow
def test_audit_and_count_go_without_code(own_run, trained_data, tmp_path):
    forget()
    table = own_run / "predictions.parquet"
    assert main(["count", str(table), str(own_run)]) == 0
    few = ["--permutations", "20", "--cells", "100", "--out", str(tmp_path / "audit")]
    assert main(["audit", str(trained_data), str(own_run), *few]) == 0
    assert "own_parts" not in sys.modules
    assert main(["audit", str(trained_data), str(own_run), *few, "--trust=own_parts"]) == 0
    assert main(["audit", str(trained_data), str(own_run), *few, "--trust=nowhere"]) == 2


def test_audit_compares_with_training_where_the_code_is_trusted(own_run, trained_data):
    forget()
    manifest, rows = Manifest.open(trained_data), np.arange(40)
    found = find_unlike(manifest, own_run, rows)
    assert found.verdict == "skipped"
    assert "name its package: --trust own_parts" in found.notes[0]
    assert "own_parts" not in sys.modules
    assert find_unlike(manifest, own_run, rows, trust=["own_parts"]).details["cells"] == 40


def test_changed_code_is_named_wherever_the_network_is_opened(own_run, code, trained_data, tmp_path, capsys):
    source = code / "own_parts.py"
    before = source.read_text()
    shared = tmp_path / "shared"
    assert main(["export", str(own_run), str(shared), "--check=5", "--trust=own_parts"]) == 0
    try:
        for text, warns in ((before + "# a comment\n", False), (before + "EXTRA = 1\n", True)):
            source.write_text(text)
            for model in (own_run, shared):
                forget()
                capsys.readouterr()
                command = ["predict", str(model), str(trained_data), f"--out={tmp_path / 'p.csv'}"]
                status, out, err = run_command([*command, "--trust=own_parts"], capsys)
                assert status == 0
                told = "the code of network own_parts.SmallNet has changed since" in out + err
                assert told == warns
    finally:
        source.write_text(before)


def test_a_shared_model_of_own_code_answers_as_the_run(own_run, words, tmp_path):
    forget()
    assert main(["export", str(own_run), str(tmp_path / "shared"), "--check=5", "--trust=own_parts"]) == 0
    forget()
    with pytest.raises(fastcell.ArgumentError, match="trust=\\['own_parts'\\]"):
        fastcell.load(tmp_path / "shared")
    assert "own_parts" not in sys.modules
    shared = fastcell.load(tmp_path / "shared", trust=["own_parts"])
    expected = fastcell.load(own_run, trust=["own_parts"]).predict(words["FILES"])
    assert shared.predict(words["FILES"]).to_table().equals(expected.to_table())
    with pytest.raises(fastcell.FastcellError, match="is a shared model, which names no data set"):
        fastcell.load(tmp_path / "shared", trust=["own_parts"], backend="onnxruntime")
    as_onnx = fastcell.load(tmp_path / "shared", trust=["own_parts"], backend="onnxruntime", precision="fp32")
    assert np.allclose(as_onnx.predict_proba(words["FILES"]), expected.probabilities, atol=1e-6)


def test_an_estimator_with_own_code(own_run, tmp_path):
    forget()
    images, names = np.random.default_rng(0).integers(0, 256, (12, 20, 20)).astype(np.uint8), ["x", "y"] * 6
    arguments = {"image_size": 16, "epochs": 1, "random_state": 0, "augment": False}
    model = fastcell.CellClassifier(network="own_parts.SmallNet", **arguments).fit(images, names)
    model.save(tmp_path / "saved")
    forget()
    for opened in (lambda: fastcell.CellClassifier.load(tmp_path / "saved"), lambda: model.from_run(own_run)):
        with pytest.raises(fastcell.ArgumentError, match="name its package: --trust own_parts"):
            opened()
    assert "own_parts" not in sys.modules
    again = fastcell.CellClassifier.load(tmp_path / "saved", trust=["own_parts"])
    assert np.array_equal(again.predict_proba(images), model.predict_proba(images))
    of_run = fastcell.CellClassifier.from_run(own_run, trust=["own_parts"])
    expected = fastcell.load(own_run, trust=["own_parts"]).predict_proba(images)
    assert np.array_equal(of_run.predict_proba(images), expected.astype(np.float64))


def test_a_loaded_run_answers_as_predict(own_run, trained_data):
    forget()
    with pytest.raises(fastcell.ArgumentError, match="trust=\\['own_parts'\\]"):
        fastcell.load(own_run)
    classifier = fastcell.load(own_run, trust=["own_parts"])
    found = classifier.predict_proba(np.full((3, 20, 30), 7, np.uint8))
    assert found.shape == (3, 4)
    assert np.allclose(found.sum(axis=1), 1)


def test_a_run_goes_on_with_its_code_named_again(own_run, tmp_path, capsys):
    run = tmp_path / own_run.name
    shutil.copytree(own_run, run)
    (run / "metrics.json").unlink()
    forget()
    status, _, err = run_command(["fit", f"--resume={run}"], capsys)
    assert status == 2
    assert "config.yaml names code from outside fastcell (own_parts." in err
    assert "own_parts" not in sys.modules
    assert main(["fit", f"--resume={run}", "--trust=own_parts"]) == 0
    assert (run / "metrics.json").is_file()


def test_a_registered_name_is_known_where_its_package_is_named(code, trained_data, tmp_path, capsys):
    forget()
    runs = tmp_path / "runs"
    arguments = ["fit", str(trained_data), "--preset=fast", f"--runs={runs}", *SHORT, "--model.network=small-16"]
    status, _, err = run_command(arguments, capsys)
    assert status == 2
    assert "network must be a known name, got 'small-16'" in err
    assert main([*arguments, "--trust", "own_parts"]) == 0
    (run,) = runs.iterdir()
    forget()
    status, _, err = run_command(["test", str(run)], capsys)
    assert status == 2
    assert "has the network 'small-16', which neither fastcell nor timm has here" in err
    assert main(["test", str(run), "--trust", "own_parts"]) == 0


def test_weights_of_a_run_are_taken_without_its_code(own_run, tmp_path):
    """Names and numbers are read; the class is the one that this run names itself."""
    from fastcell.models.lightning_module import CellModule
    from fastcell.training.start_weights import start_from

    model = CellModule(
        network={"class_path": "own_parts.SmallNet", "init_args": {"width": 4}},
        input_norm=True,
        classes=["x", "y"],
        preprocessing={"image_size": 16},
    )
    started = start_from(model, own_run)
    assert list(started.anew) == ["head.weight", "head.bias"]
    assert len(started.taken) == 14


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--model.network=nowhere.Net", "network must be of a package that can be imported, got 'nowhere'"),
        ("--model.network=own_parts.SmalNet", "Did you mean SmallNet"),
        ("--model.network=own_parts.SmallNet --model.network.widht=3", "Did you mean width"),
        (
            "--model.network=own_parts.SmallNet --model.network.width=no",
            "own_parts.SmallNet could not be built",
        ),
        ("--model.network=own_parts.FocalLoss", "network own_parts.FocalLoss must take images of shape"),
        ("--model.network=own_parts.invert_half", "network own_parts.invert_half could not be built"),
        ("--model.loss=torch.nn.CrossEntropyLoss", "loss must be a function that returns one number per cell"),
        ("--model.metrics=own_parts.SmallNet", "metrics must be metrics of torchmetrics"),
        ("--data.batch_augmentation=own_parts.SmallNet", "batch_augmentation own_parts.SmallNet could not be built"),
        ("--model.loss=nothing", "--model.loss must be"),
    ],
)
def test_what_does_not_fit_is_refused_before_a_folder_is_made(option, message, code, trained_data, tmp_path, capsys):
    runs = tmp_path / "runs"
    arguments = ["fit", str(trained_data), "--preset=fast", f"--runs={runs}", *SHORT, *option.split()]
    status, _, err = run_command(arguments, capsys)
    assert status == 2
    assert message in err
    assert err.count("\n") <= 2
    assert not runs.exists() or not any(runs.iterdir())


@pytest.mark.parametrize("path", ["torch.load", "torch.nn.functional.torch.load", "os.system", "torch.nn.init"])
def test_a_checkpoint_cannot_reach_other_code_through_a_known_package(path, trained_run, tmp_path):
    content = read_checkpoint(trained_run / "last.ckpt")
    content["hyper_parameters"]["network"] = {"class_path": path, "init_args": {"f": "x"}}
    torch.save(content, tmp_path / "last.ckpt")
    with pytest.raises(fastcell.ArgumentError, match="was trained with code that is not of fastcell"):
        load_classifier(tmp_path / "last.ckpt")
