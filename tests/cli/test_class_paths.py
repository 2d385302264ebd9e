"""Class paths on the command line: a part and its arguments become one option."""

import json

import pytest

from fastcell.cli.class_paths import check_parts_of_run, join_class_paths
from fastcell.errors import ArgumentError

NET = {"class_path": "my.Net", "init_args": {"width": 32, "names": ["a"]}}


@pytest.mark.parametrize(
    "words",
    [
        ["--model.network=my.Net", "--model.network.width=32", "--model.network.names=[a]"],
        [
            "--model.network",
            "my.Net",
            "--model.network.init_args.width",
            "32",
            "--model.network.init_args.names",
            "[a]",
        ],
        ["--model.network.width=32", "--model.network.class_path=my.Net", "--model.network.names", "[a]"],
    ],
)
def test_a_part_with_arguments(words):
    (option,) = join_class_paths(words)
    name, _, value = option.partition("=")
    assert (name, json.loads(value)) == ("--model.network", NET)


def test_other_arguments_stay_as_they_are():
    words = ["--data.path", "x", "--model.network=gao", "--model.network_like=3", "--select", "last"]
    assert join_class_paths(words) == [
        "--data.path", "x", "--model.network_like=3", "--select", "last", "--model.network=gao",
    ]  # fmt: skip
    assert join_class_paths(["--model.network"]) == ["--model.network"]


def test_json_and_lists():
    assert join_class_paths(["--model.metrics=a.B,c.D"]) == ['--model.metrics=["a.B", "c.D"]']
    assert join_class_paths(["--model.metrics", "[a.B]"]) == ["--model.metrics=[a.B]"]


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("model: {network: cellnet, loss: mse}", None),
        ("model: {network: my.Net}", "my.Net"),
        ("model: {loss: {class_path: my.Loss}}", "my.Loss"),
        ("model: {metrics: [torchmetrics.classification.MulticlassF1Score, my.Score]}", "my.Score"),
        ("data: {batch_augmentation: my.flip}", "my.flip"),
        ("trainer: {callbacks: [{class_path: pytorch_lightning.callbacks.Timer}, {class_path: my.Hook}]}", "my.Hook"),
        ("trainer: {plugins: [{class_path: fastcell.runs.checkpoint.AtomicCheckpointIO}]}", None),
        ("[", None),
    ],
)
def test_code_in_the_settings_of_a_run(text, named, tmp_path):
    config = tmp_path / "config.yaml"
    config.write_text(text)
    if named is not None:
        with pytest.raises(ArgumentError, match=f"names code from outside fastcell \\({named}\\)"):
            check_parts_of_run(config, ["--resume", "x"], [])
        check_parts_of_run(config, ["--resume", "x", f"--model.network={named}"], [])
    check_parts_of_run(config, ["--resume", "x"], ["my"])
