"""A run that starts from the weights of another: what is taken, what is new, and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml

from fastcell.cli.main import main
from fastcell.errors import ArgumentError
from fastcell.models.lightning_module import CellModule
from fastcell.runs.checkpoint import read_checkpoint
from fastcell.training.start_weights import hash_tensors, start_from

SETTINGS = ["--data.image_size=32", "--data.threads=1", "--trainer.max_steps=2", "--trainer.max_epochs=-1"]
NUM_TENSORS = 25  # of CellNet: 3 x (weight, bias, 5 of the batch normalisation), 2 x (weight, bias)


def classes_of(run: Path) -> list[str]:
    return list(read_checkpoint(run / "last.ckpt")["hyper_parameters"]["classes"])


def make(classes: list[str], **arguments) -> CellModule:
    torch.manual_seed(5)
    content = {"image_size": 32, **arguments.pop("preprocessing", {})}
    return CellModule(classes=classes, preprocessing=content, **{"input_norm": True, **arguments})


def weights_of(run: Path) -> dict[str, torch.Tensor]:
    state = read_checkpoint(run / "last.ckpt")["state_dict"]
    return {name.removeprefix("network.1."): value for name, value in state.items() if name.startswith("network.1.")}


def test_all_tensors_are_taken_where_the_classes_are_the_same(trained_run: Path) -> None:
    model = make(classes_of(trained_run))
    started = start_from(model, trained_run)
    assert (len(started.taken), started.anew, started.unused) == (NUM_TENSORS, {}, [])
    found = model.bare_network.state_dict()
    assert all(torch.equal(found[name], value) for name, value in weights_of(trained_run).items())
    assert started.digest == hash_tensors(weights_of(trained_run))


def test_the_head_is_new_where_the_classes_differ(trained_run: Path) -> None:
    model, new = make(["x", "y"]), make(["x", "y"])
    started = start_from(model, trained_run)
    assert len(started.taken) == NUM_TENSORS - 2
    assert list(started.anew) == ["classifier.3.weight", "classifier.3.bias"]
    for name, value in model.bare_network.state_dict().items():
        source = new.bare_network.state_dict() if name in started.anew else weights_of(trained_run)
        assert torch.equal(value, source[name]), name
    lines = started.describe()
    assert lines[0].endswith("23 of 25 tensors taken")
    assert lines[1].startswith(f"  2 anew, because the classes differ ({', '.join(classes_of(trained_run))} there)")


def test_other_names_of_as_many_classes_are_other_classes(trained_run: Path) -> None:
    model = make([f"new {name}" for name in classes_of(trained_run)])
    assert list(start_from(model, trained_run).anew) == ["classifier.3.weight", "classifier.3.bias"]


def test_rows_of_the_head_follow_the_order_of_the_classes(trained_run: Path) -> None:
    classes = classes_of(trained_run)
    turned, straight = make(classes[::-1]), make(classes)
    assert start_from(turned, trained_run).anew == {}
    start_from(straight, trained_run)
    images = torch.rand(4, 1, 32, 32)
    with torch.no_grad():
        assert torch.equal(turned.eval()(images), straight.eval()(images).flip(1))


def test_averaged_weights_are_taken_and_copied_into_the_average(tmp_path: Path, trained_run: Path) -> None:
    source = read_checkpoint(trained_run / "last.ckpt")
    state = {name: value.clone() for name, value in source["state_dict"].items()}
    averaged = {name.replace("network.", "average.module.", 1): value * 2 for name, value in state.items()
                if name.startswith("network.")}  # fmt: skip
    torch.save({**source, "state_dict": state | averaged}, tmp_path / "averaged.ckpt")
    model = make(classes_of(trained_run), ema_decay=0.9)
    start_from(model, tmp_path / "averaged.ckpt")
    expected = weights_of(trained_run)["features.0.weight"] * 2
    assert torch.equal(model.bare_network.state_dict()["features.0.weight"], expected)
    assert torch.equal(model.average.module.state_dict()["1.features.0.weight"], expected)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"network": "gao"}, "--model.network of a run that starts from RUN must be cellnet as there, got gao"),
        ({"preprocessing": {"image_size": 64}}, "--data.image_size of a run that starts from RUN must be 32 as there"),
    ],
)
def test_another_network_or_image_size_is_refused(trained_run: Path, arguments: dict, message: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        start_from(make(["x", "y"], **arguments), trained_run)
    assert str(caught.value).startswith(message.replace("RUN", str(trained_run)))


def test_another_preparation_is_reported(trained_run: Path) -> None:
    model = make(["x", "y"], input_norm=False, preprocessing={"normalization": "subtract"})
    cautions = start_from(model, trained_run).cautions
    assert any(line.startswith("normalization is subtract here and divide there") for line in cautions)
    assert any(line.startswith("input_norm is False here and True there") for line in cautions)


@pytest.fixture(scope="module")
def fine_tuned(trained_run: Path, trained_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run that starts from `trained_run` with all but its head frozen."""
    runs = tmp_path_factory.mktemp("fine") / "runs"
    arguments = ["fit", str(trained_data), "--preset=fast", f"--runs={runs}", *SETTINGS]
    assert main([*arguments, f"--start_from={trained_run}", "--freeze=all but head"]) == 0
    (folder,) = runs.iterdir()
    return folder


def test_a_run_records_what_it_started_from(fine_tuned: Path, trained_run: Path) -> None:
    record = json.loads((fine_tuned / "environment.json").read_text())["started_from"]
    assert record["digest"] == hash_tensors(weights_of(trained_run))
    assert len(record["taken"]) == NUM_TENSORS
    settings = yaml.safe_load((fine_tuned / "config.yaml").read_text())
    assert (settings["start_from"], settings["freeze"]) == (str(trained_run), "all but head")
    before, after = weights_of(trained_run), weights_of(fine_tuned)
    learnt = {name for name in before if not torch.equal(before[name], after[name])}
    assert learnt == {"classifier.3.weight", "classifier.3.bias"}


def test_a_resumed_run_keeps_its_start_and_its_frozen_parts(
    fine_tuned: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for option in ("--freeze=features", "--start_from=elsewhere"):
        assert main(["fit", f"--resume={fine_tuned}", option]) == 2
        name = option.partition("=")[0]
        assert f"{name} of a resumed run must be" in capsys.readouterr().err


def test_a_run_that_begins_again_needs_the_same_weights(
    fine_tuned: Path, trained_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, source = tmp_path / "run", tmp_path / "source"
    shutil.copytree(fine_tuned, run)
    shutil.copytree(trained_run, source)
    for name in ("last.ckpt", "best.ckpt", "metrics.json"):
        (run / name).unlink(missing_ok=True)
    config = run / "config.yaml"
    config.write_text(config.read_text().replace(str(trained_run), str(source)))
    content = read_checkpoint(source / "last.ckpt")
    state = {name: value.clone() for name, value in content["state_dict"].items()}
    state["network.1.features.0.bias"] += 1
    for path in source.glob("*.ckpt"):
        path.unlink()
    torch.save({**content, "state_dict": state}, source / "last.ckpt")
    assert main(["fit", f"--resume={run}"]) == 2
    assert "have changed since. Start a new run." in capsys.readouterr().err


def test_weights_and_a_training_state_are_not_both_taken(
    trained_run: Path, trained_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    both = [f"--start_from={trained_run}", f"--ckpt_path={trained_run / 'last.ckpt'}"]
    assert main(["fit", str(trained_data), "--preset=fast", f"--runs={tmp_path / 'runs'}", *SETTINGS, *both]) == 2
    assert "--start_from must be given without --ckpt_path" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()
