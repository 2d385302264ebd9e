"""A run that starts from the weights of another: what is taken, what is new, and what is refused."""

import json
import shutil

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


def classes_of(run):
    return list(read_checkpoint(run / "last.ckpt")["hyper_parameters"]["classes"])


def make(classes, **arguments):
    torch.manual_seed(5)
    content = {"image_size": 32, **arguments.pop("preprocessing", {})}
    return CellModule(classes=classes, preprocessing=content, **{"input_norm": True, **arguments})


def weights_of(run):
    state = read_checkpoint(run / "last.ckpt")["state_dict"]
    return {name.removeprefix("network.1."): value for name, value in state.items() if name.startswith("network.1.")}


def test_all_tensors_are_taken_where_the_classes_are_the_same(trained_run):
    model = make(classes_of(trained_run))
    started = start_from(model, trained_run)
    assert (len(started.taken), started.anew, started.unused) == (NUM_TENSORS, {}, [])
    found = model.bare_network.state_dict()
    assert all(torch.equal(found[name], value) for name, value in weights_of(trained_run).items())
    assert started.digest == hash_tensors(weights_of(trained_run))


def test_the_head_is_new_where_the_classes_differ(trained_run):
    model, new = make(["x", "y"]), make(["x", "y"])
    started = start_from(model, trained_run)
    assert len(started.taken) == NUM_TENSORS - 2
    assert list(started.anew) == ["classifier.3.weight", "classifier.3.bias"]
    for name, value in model.bare_network.state_dict().items():
        source = new.bare_network.state_dict() if name in started.anew else weights_of(trained_run)
        assert torch.equal(value, source[name]), name
    lines = started.describe()
    assert lines[0].endswith("23 of 25 tensors taken")
    assert lines[1].startswith(
        f"  2 initialised, because the classes differ ({', '.join(classes_of(trained_run))} there)"
    )


def test_other_names_of_as_many_classes_are_other_classes(trained_run):
    model = make([f"new {name}" for name in classes_of(trained_run)])
    assert list(start_from(model, trained_run).anew) == ["classifier.3.weight", "classifier.3.bias"]


def test_rows_of_the_head_follow_the_order_of_the_classes(trained_run):
    classes = classes_of(trained_run)
    turned, straight = make(classes[::-1]), make(classes)
    assert start_from(turned, trained_run).anew == {}
    start_from(straight, trained_run)
    images = torch.rand(4, 1, 32, 32)
    with torch.no_grad():
        assert torch.equal(turned.eval()(images), straight.eval()(images).flip(1))


def test_averaged_weights_are_taken_and_copied_into_the_average(tmp_path, trained_run):
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
def test_another_network_or_image_size_is_refused(trained_run, arguments, message):
    with pytest.raises(ArgumentError) as caught:
        start_from(make(["x", "y"], **arguments), trained_run)
    assert str(caught.value).startswith(message.replace("RUN", str(trained_run)))


def test_another_preparation_is_reported(trained_run):
    model = make(["x", "y"], input_norm=False, preprocessing={"normalization": "subtract"})
    cautions = start_from(model, trained_run).cautions
    assert any(
        line.startswith("normalization is subtract in this run and divide in that of the weights") for line in cautions
    )
    assert any(line.startswith("input_norm is False in this run and True in that of the weights") for line in cautions)


@pytest.fixture(scope="module")
def fine_tuned(trained_run, trained_data, tmp_path_factory):
    """Run that starts from `trained_run` with all but its head frozen."""
    runs = tmp_path_factory.mktemp("fine") / "runs"
    arguments = ["fit", str(trained_data), "--preset=fast", f"--runs={runs}", *SETTINGS]
    assert main([*arguments, f"--start_from={trained_run}", "--freeze=all but head"]) == 0
    (folder,) = runs.iterdir()
    return folder


def test_a_run_records_what_it_started_from(fine_tuned, trained_run):
    record = json.loads((fine_tuned / "environment.json").read_text())["started_from"]
    assert record["digest"] == hash_tensors(weights_of(trained_run))
    assert len(record["taken"]) == NUM_TENSORS
    settings = yaml.safe_load((fine_tuned / "config.yaml").read_text())
    assert (settings["start_from"], settings["freeze"]) == (str(trained_run), "all but head")
    before, after = weights_of(trained_run), weights_of(fine_tuned)
    learnt = {name for name in before if not torch.equal(before[name], after[name])}
    assert learnt == {"classifier.3.weight", "classifier.3.bias"}


def test_a_resumed_run_keeps_its_start_and_its_frozen_parts(fine_tuned, capsys):
    for option in ("--freeze=features", "--start_from=elsewhere"):
        assert main(["fit", f"--resume={fine_tuned}", option]) == 2
        name = option.partition("=")[0]
        assert f"{name} of a resumed run must be" in capsys.readouterr().err


def test_a_run_that_begins_again_needs_the_same_weights(fine_tuned, trained_run, tmp_path, capsys):
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


def test_weights_and_a_training_state_are_not_both_taken(trained_run, trained_data, tmp_path, capsys):
    both = [f"--start_from={trained_run}", f"--ckpt_path={trained_run / 'last.ckpt'}"]
    assert main(["fit", str(trained_data), "--preset=fast", f"--runs={tmp_path / 'runs'}", *SETTINGS, *both]) == 2
    assert "--start_from must be given without --ckpt_path" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def saved_for_colours(path, **changes):
    """Weights of a CellNet for colour images and other classes, written to a file."""
    torch.manual_seed(9)
    weights = {name: torch.rand(value.shape) for name, value in make(["x", "y", "z"]).bare_network.state_dict().items()}
    first = weights["features.0.weight"]
    weights["features.0.weight"] = torch.rand(first.shape[0], 3, *first.shape[2:])
    weights |= changes
    torch.save(weights, path)
    return weights


def test_a_file_of_weights_for_colour_images(tmp_path):
    weights = saved_for_colours(tmp_path / "colour.pth", extra=torch.zeros(3))
    model, new = make(["x", "y", "z"], ema_decay=0.9), make(["x", "y", "z"])
    started = start_from(model, tmp_path / "colour.pth")
    assert (len(started.taken), started.unused) == (NUM_TENSORS - 2, ["extra"])
    head = ["classifier.3.weight", "classifier.3.bias"]  # nobody knows the classes of a file, even if there are three
    assert started.anew == dict.fromkeys(head, "because the classes are not known there")
    found, average = model.bare_network.state_dict(), model.average.module.state_dict()
    colours = weights["features.0.weight"]
    assert torch.equal(found["features.0.weight"], (colours[:, :1] + colours[:, 1:2]) + colours[:, 2:])
    for name, value in found.items():
        if name != "features.0.weight":
            expected = new.bare_network.state_dict()[name] if name in head else weights[name].to(value.dtype)
            assert torch.equal(value, expected), name
        assert torch.equal(average[f"1.{name}"], value), name
    images = torch.rand(2, 1, 32, 32)  # a grey image gives what its three equal colours give
    expected = torch.nn.functional.conv2d(images.expand(-1, 3, -1, -1), colours)
    assert torch.allclose(torch.nn.functional.conv2d(images, found["features.0.weight"]), expected, atol=1e-5)
    lines = started.describe()
    assert lines[-1] == "  features.0.weight was summed over the three colours, because cells are grey"


def test_a_stem_that_makes_channels_of_pixels():
    from fastcell.training.start_weights import _summed_over_colours

    source = torch.rand(5, 12, 3, 3).half()  # 2 x 2 neighbours by 3 colours
    found = _summed_over_colours(source, torch.Size((5, 4, 3, 3)))
    assert found is not None
    assert found.dtype == torch.half
    expected = torch.stack([source[:, 3 * n : 3 * n + 3].float().sum(1) for n in range(4)], dim=1).half()
    assert torch.equal(found, expected)
    for shape in ((5, 3, 3, 3), (4, 4, 3, 3), (5, 4, 3, 5), (5, 4, 9)):
        assert _summed_over_colours(source, torch.Size(shape)) is None


@pytest.mark.parametrize("missing", [12, 25])
def test_a_file_of_another_network_is_refused(tmp_path, missing):
    path = tmp_path / "model.pth"
    weights = saved_for_colours(path)
    renamed = {
        (f"net.{name}" if number < missing else name): value for number, (name, value) in enumerate(weights.items())
    }
    torch.save(renamed, path)
    model = make(["x", "y"])
    before = {name: value.clone() for name, value in model.bare_network.state_dict().items()}
    with pytest.raises(
        ArgumentError, match=f"must be weights of cellnet, but {max(23 - missing, 0)} of its 23 tensors"
    ):
        start_from(model, path)
    assert all(torch.equal(value, before[name]) for name, value in model.bare_network.state_dict().items())
    (tmp_path / "config.json").write_text('{"architecture": "resnet18"}')
    with pytest.raises(ArgumentError, match="config.json there names resnet18"):
        start_from(model, path)


def test_fit_starts_from_a_folder_of_the_hub(trained_data, tmp_path, capsys):
    from safetensors.torch import save_file

    (tmp_path / "hub").mkdir()
    save_file(saved_for_colours(tmp_path / "colour.pth"), tmp_path / "hub" / "model.safetensors")
    (tmp_path / "hub" / "config.json").write_text('{"architecture": "cellnet"}')
    arguments = ["fit", str(trained_data), "--preset=fast", f"--runs={tmp_path / 'runs'}", *SETTINGS]
    assert main([*arguments, f"--start_from={tmp_path / 'hub'}", "--freeze=all-but-head"]) == 0
    assert "23 of 25 tensors taken" in capsys.readouterr().out
    (run,) = (tmp_path / "runs").iterdir()
    assert json.loads((run / "environment.json").read_text())["started_from"]["source"].endswith(
        "hub/model.safetensors"
    )


@pytest.mark.slow
@pytest.mark.parametrize("network", ["test_resnet", "test_vit", "test_efficientnet", "convnext_atto"])
def test_weights_of_timm_are_taken_as_by_timm(network, tmp_path):
    timm = pytest.importorskip("timm", reason="timm is not installed")
    size = 160 if network == "test_vit" else 64
    source = timm.create_model(network, num_classes=10)
    torch.save(source.state_dict(), tmp_path / "weights.pth")
    there = {"file": str(tmp_path / "weights.pth"), "num_classes": 10}
    expected = timm.create_model(
        network, pretrained=True, pretrained_cfg_overlay=there, in_chans=1, num_classes=3
    ).state_dict()
    model = make(["x", "y", "z"], network=network, preprocessing={"image_size": size})
    started = start_from(model, tmp_path / "weights.pth")
    assert len(started.anew) == 2
    assert len(started.cautions) == 1
    for name, value in model.bare_network.state_dict().items():
        if name not in started.anew:
            assert torch.allclose(value, expected[name], atol=1e-6), name
