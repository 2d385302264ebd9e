"""Slips: one or two lines with the nearest right name, status 2."""

import re

import pytest
from fixtures.golden_files import check_golden, run_command

from fastcell.cli.slips import (
    Setting,
    kind_of,
    missing,
    of_argparse,
    of_jsonargparse,
    outside_choices,
    refused_part,
    unknown_words,
)
from fastcell.system.optional_packages import install_hint

SLIPS = {
    "fastcell": [["trian"], ["fti"], ["pakc"], ["--hlep"]],
    "synth": [[], ["OUT", "--cels", "3"], ["OUT", "--layout", "heap"], ["OUT", "--cells", "x"], ["OUT", "more"]],
    "pack": [[], ["SRC"], ["SRC", "OUT", "--laoyut", "cell"], ["SRC", "OUT", "--format", "tifff"],
             ["SRC", "OUT", "--window", "1"], ["SRC", "OUT", "--window", "1", "b"], ["SRC", "OUT", "--tile", "4"],
             ["SRC", "OUT", "--patern={name}"], ["SRC", "OUT", "--out", "more"], ["SRC", "OUT", "--strict=yes"]],
    "index": [[], ["DIR", "--patern", "x"], ["DIR", "--jobs", "x"], ["DIR", "--um-per-px"]],
    "split": [[], ["DATA", "--groupby", "x"], ["DATA", "--folds"]],
    "verify": [[], ["DATA", "--lst", "x"], ["DATA", "--jobs", "many"]],
    "qc": [[], ["DATA", "--aply"], ["DATA", "--max-bad-passed", "x"]],
    "explain": [[], ["RUN", "--part=roc"], ["RUN", "--cels=3"], ["RUN", "--sede", "3"]],
    "report": [[], ["RUN", "--cels", "3"], ["RUN", "--seed", "x"], ["--cels=3"], ["--run", "RUN"]],
    "distill": [[], ["RUN", "--budgt", "3us"], ["RUN", "--share", "x"], ["RUN", "--preset", "fats"],
                ["RUN", "DATA", "more"]],
    "review": [[], ["DATA", "--selct", "x"], ["DATA", "--port", "x"], ["DATA", "RUN", "more"]],
    "serve": [[], ["RUN", "--prot", "3"], ["RUN", "--when-full", "drp"], ["RUN", "--queue", "x"]],
    "watch": [[], ["RUN", "FOLDER"], ["RUN", "FOLDER", "OUT", "--until_idel", "5"],
              ["RUN", "FOLDER", "OUT", "--poll", "x"]],
    "info": [[], ["DATA", "--figure-dir", "x"], ["DATA", "--seed", "x"], ["DATA", "--seed", "1.5"]],
    "audit": [[], ["DATA", "--permutation-s", "5"], ["DATA", "--permutations", "x"], ["DATA", "RUN", "more"]],
    "fit": [["--data.pth", "cells"], ["--batch_size=3"],
            ["--data.fit=strech"], ["--data.batch_size=x"],
            ["--preset=fats"], ["--select=worst"], ["--trainer.accelerator=gpuu"], ["--data.threads=x"],
            ["--trainer.precision=8"],
            ["--config=BAD"], ["--config=NO-SUCH-SETTING"], ["--config=NO-SUCH-VALUE"], ["--config=NO-MAPPING"],
            ["--config=MISSING"], ["a", "b"], ["a", "--data.path=b"], ["--data.path"], ["--data.augmentation.noise=3"],
            ["--model.loss=mze"], ["--model.betas=x"], ["--trainer.strategy=dpp"], ["--trainer.profiler=simpel"],
            ["--trainer.gradient_clip_algorithm=nrm"], ["--trainer.deterministic=maybe"], ["--model=x"],
            ["--resume", "--preset=fast"], ["--data.fit", "--preset=fast"]],
    "validate": [[], ["RUN", "--model.network=gao"], ["RUN", "DATA", "more"]],
    "test": [[], ["RUN", "--tat=true"], ["RUN", "--tta=maybe"]],
    "predict": [[], ["RUN", "DATA"], ["RUN", "DATA", "--otu=x.csv"],
                ["RUN", "DATA", "-o", "x.csv", "--data.predict_split=tset"]],
    "bench": [["--preset", "demmo"], ["--instrument_rte", "5"], ["--seconds", "x"]],
    "convert": [[], ["PREDICTIONS"], ["PREDICTIONS", "OUT", "--score", "--rtdc-sorce", "x"]],
    "count": [[], ["PREDICTIONS"], ["PREDICTIONS", "RUN", "--confusoin", "x"]],
    "export": [[], ["RUN"], ["RUN", "a.onnx", "--chekc", "4"], ["RUN", "a.onnx", "--check", "x"]],
    "compare": [["DATA", "--study", "volumes"], ["DATA", "--metods", "svm"], ["DATA", "--se", "3"],
                ["DATA", "--backend", "abacus"], ["DATA", "--data.ft=contain"], ["DATA", "--data.fit"]],
    "doctor": [["--jsno"], ["--probe", "nothing"]],
    "completion": [[], ["fish"], ["zhs"]],
}  # fmt: skip

FILES = {
    "BAD": "data: {batch_size: [3\n",
    "NO-SUCH-SETTING": "data:\n  pth: cells\n",
    "NO-SUCH-VALUE": "data:\n  fit: strech\n",
    "NO-MAPPING": "- 3\n",
}


@pytest.mark.parametrize("name", SLIPS)
def test_slips(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for file, text in FILES.items():
        (tmp_path / file).write_text(text)
    parts = []
    for words in SLIPS[name]:
        arguments = words if name == "fastcell" else [name, *words]
        status, out, err = run_command(arguments, capsys)
        parts.append(f"$ fastcell {' '.join(arguments)}\n{err}")
        assert (status, out) == (2, ""), arguments
        assert 1 <= len(err.splitlines()) <= 2, err
        assert err.startswith("fastcell: error: ")
        assert not re.search(r"usage:|typing\.|<class|Traceback", err)
    check_golden("slips", name, "\n".join(parts))
    assert {path.name for path in tmp_path.iterdir()} == set(FILES)


def test_unknown_options():
    known = ["--data.path", "--data.batch_size", "--out", "--jobs"]
    assert unknown_words(["--data.pth=3"], known) == "unknown option --data.pth. Did you mean --data.path?"
    assert unknown_words(["--batch-size"], known) == "unknown option --batch-size. Did you mean --data.batch_size?"
    assert unknown_words(["--lr=1"], [*known, "--model.learning_rate"]).endswith("Did you mean --model.learning_rate?")
    assert unknown_words(["--epochs", "3"], ["--trainer.max_epochs"]).endswith("Did you mean --trainer.max_epochs?")
    assert unknown_words(["--xyzzy", "3"], known) == "unknown option --xyzzy."
    assert unknown_words(["3"], known) == "unexpected argument '3'."
    assert unknown_words(["--run=x"], known, ["RUN"]) == "unknown option --run. RUN is given without an option name."


def test_values():
    said = outside_choices("--fit", ["stretch", "scale"], "strech")
    assert said == "--fit must be one of stretch, scale, got 'strech'. Did you mean stretch?"
    assert missing(["SRC", "OUT"], "fastcell pack SRC OUT") == "SRC and OUT must be given. Write: fastcell pack SRC OUT"
    assert kind_of("int|NoneType") == "a whole number or null"


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ("argument -o/--out: expected one argument", "--out needs a value."),
        ("argument --layout: not allowed", "--layout not allowed."),
        ("ambiguous option: --s=1 could match --seed, --split", "--s is ambiguous: it could be --seed or --split."),
    ],
)
def test_messages_of_argparse(message, said):
    assert of_argparse(message, "fastcell pack SRC OUT") == said


def test_messages_of_jsonargparse():
    union = 'Parser key "a.b":\n  Does not validate against any of the Union subtypes\n  Given value: x'
    chosen = {"a.b": Setting("--a.b", ["y", "z"])}
    assert of_jsonargparse(union, "", chosen) == "--a.b must be one of y, z, got 'x'."
    assert of_jsonargparse(union, "", {"a.b": Setting("--a.b", (), "a number")}) == "--a.b must be a number, got 'x'."
    element = "Parser key \"pair\" element 2:\n  Expected a <class 'float'>. Got value: b"
    assert of_jsonargparse(element, "", {"pair": Setting("PAIR", (), "a number")}) == "PAIR must be a number, got 'b'."
    empty = "Parser key \"n\":\n  Expected a <class 'int'>. Got value: "
    assert of_jsonargparse(empty, "", {"n": Setting("--n", (), "a number")}) == "--n must be a number, got ''."
    both = f"{empty}True\n    - Expected a <class 'str'>. Got value: True\n  Given value: true"
    assert of_jsonargparse(both, "", {"n": Setting("--n", (), "a number")}) == "--n must be a number, got 'true'."
    made = "Parser key \"log\":\n  Errors:\n    - Problem with given class_path 'a.b.Kind':\n        "
    needs = f"{made}the following arguments are required: place\n    - Expected a <class 'bool'>\n  Given value: x"
    assert of_jsonargparse(needs, "", {}) == "--log Kind needs place. Add --log.place=VALUE."
    other = f"{made}Group 'x' does not accept option 'y.z'\n    - Expected a <class 'bool'>\n  Given value: x"
    assert of_jsonargparse(other, "", {}) == "--log Kind has no argument y.z. Leave it out."
    file = 'Parser key "config": File does not exist: x.yaml'
    assert of_jsonargparse(file, "", {}) == "--config must be an existing file, got x.yaml."


@pytest.mark.parametrize(
    ("message", "want"),
    [
        ("another error", None),
        (
            "Requirement 'tensorboardX' not met. HINT: Try running `pip install -U 'tensorboardX'`",
            f"the package tensorboard is not installed. {install_hint('tensorboard')}",
        ),
        (
            "Requirement 'mlflow>=1.0.0' not met",
            f"the package mlflow is not installed. {install_hint('mlflow>=1.0.0')}",
        ),
        (
            (
                "Does not validate against any of the Union subtypes\nSubtypes: [Logger, bool]\nErrors:\n"
                "  - The filesystem tracking backend is in maintenance mode.\n  - Expected a <class 'bool'>\n"
                "Given value: Namespace(class_path='pytorch_lightning.loggers.MLFlowLogger')"
            ),
            "MLFlowLogger cannot be made: The filesystem tracking backend is in maintenance mode.",
        ),
    ],
)
def test_parts_that_cannot_be_made(message, want):
    assert refused_part(message) == want
