"""Shared models on disk: values that come back, damage that is found, strangers' content that is refused."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
import torch

from fastcell.errors import ArgumentError, DataError
from fastcell.models.lightning_module import CellModule
from fastcell.runs.checkpoint import load_classifier, read_checkpoint
from fastcell.runs.run_folder import find_checkpoint
from fastcell.runs.shared_model import (
    MODEL_ARGUMENTS,
    SHARED_CONFIG_FILE,
    SHARED_WEIGHTS_FILE,
    read_shared_config,
    write_shared_model,
)
from fastcell.storage.formats import NewerFormatError


def make_model(**changes: Any) -> CellModule:
    torch.manual_seed(0)
    return CellModule(network="gao", classes=["a", "b"], preprocessing={"image_size": 16}, **changes).eval()


def write(folder: Path, **arguments: Any) -> CellModule:
    """A shared model of random weights in a folder; `arguments` replace those of the model."""
    model = make_model()
    config = {"model": {name: model.hparams[name] for name in MODEL_ARGUMENTS} | arguments}
    config |= {"beside": {"fastcell_confidence/temperature": 1.25}, "scores": {"accuracy": {"value": 0.5}}}
    arrays = {"fastcell_confidence/confidence": torch.linspace(0, 1, 7)}
    write_shared_model(folder, config, {**model.state_dict(), **arrays})
    return model


def test_weights_and_values_come_back(tmp_path):
    model = write(tmp_path)
    assert find_checkpoint(tmp_path) == tmp_path / SHARED_WEIGHTS_FILE
    content = read_checkpoint(tmp_path / SHARED_WEIGHTS_FILE)
    assert content["fastcell_confidence"]["temperature"] == 1.25
    assert torch.equal(content["fastcell_confidence"]["confidence"], torch.linspace(0, 1, 7))
    loaded = load_classifier(find_checkpoint(tmp_path))
    images = torch.rand(3, 1, 16, 16)
    with torch.no_grad():
        assert torch.equal(loaded.predict_probabilities(images), model.predict_probabilities(images))
    assert read_shared_config(tmp_path / SHARED_WEIGHTS_FILE)["scores"] == {"accuracy": {"value": 0.5}}
    assert (tmp_path / SHARED_WEIGHTS_FILE).stat().st_mode == (tmp_path / SHARED_CONFIG_FILE).stat().st_mode


def test_a_folder_of_links_as_the_hub_keeps_it(tmp_path):
    (tmp_path / "blobs").mkdir()
    (tmp_path / "snapshot").mkdir()
    write(tmp_path / "blobs")
    for name in (SHARED_WEIGHTS_FILE, SHARED_CONFIG_FILE):
        (tmp_path / "blobs" / name).rename(tmp_path / "blobs" / f"{name}-0123")
        (tmp_path / "snapshot" / name).symlink_to(tmp_path / "blobs" / f"{name}-0123")
    assert load_classifier(find_checkpoint(tmp_path / "snapshot")).classes == ["a", "b"]


def test_every_changed_byte_is_found(tmp_path):
    """Flipped, cut and appended bytes at 200 places of both files: refused, or without an effect on any value."""
    write(tmp_path)
    before = read_shared_config(tmp_path / SHARED_WEIGHTS_FILE)
    whole = {name: (tmp_path / name).read_bytes() for name in (SHARED_WEIGHTS_FILE, SHARED_CONFIG_FILE)}
    draw, harmless = random.Random(0), 0
    for number in range(200):
        name = (SHARED_WEIGHTS_FILE, SHARED_CONFIG_FILE)[number % 2]
        place, content = draw.randrange(len(whole[name])), bytearray(whole[name])
        if number % 10 == 8:
            del content[place:]
        elif number % 10 == 9:
            content += b"0"
        else:
            content[place] ^= 1 << draw.randrange(8)
        (tmp_path / name).write_bytes(content)
        try:
            assert read_shared_config(tmp_path / SHARED_WEIGHTS_FILE) == before  # white space of config.json
            harmless += 1
        except DataError:
            pass
        (tmp_path / name).write_bytes(whole[name])
    assert harmless < 30
    assert read_shared_config(tmp_path / SHARED_WEIGHTS_FILE) == before


def test_files_of_two_models_do_not_mix(tmp_path):
    for name, classes in (("one", ["a", "b"]), ("two", ["b", "a"])):
        (tmp_path / name).mkdir()
        write(tmp_path / name, classes=classes)
    (tmp_path / "two" / SHARED_CONFIG_FILE).replace(tmp_path / "one" / SHARED_CONFIG_FILE)
    with pytest.raises(
        DataError, match=r"model.safetensors is damaged, or of another model \(its content does not match"
    ):
        load_classifier(find_checkpoint(tmp_path / "one"))


def test_a_changed_value_is_refused(tmp_path):
    """Also where the hash is left as it was: the weights hold the values once more."""
    write(tmp_path)
    content = json.loads((tmp_path / SHARED_CONFIG_FILE).read_text())
    content["model"]["classes"] = ["b", "a"]
    (tmp_path / SHARED_CONFIG_FILE).write_text(json.dumps(content))
    with pytest.raises(DataError, match="must hold the values that are in model.safetensors, got others"):
        read_shared_config(tmp_path / SHARED_WEIGHTS_FILE)


def test_a_newer_format_names_the_version(tmp_path):
    write(tmp_path)
    content = json.loads((tmp_path / SHARED_CONFIG_FILE).read_text())
    (tmp_path / SHARED_CONFIG_FILE).write_text(json.dumps(content | {"format": 2, "fastcell": "9.0"}))
    with pytest.raises(NewerFormatError, match="shared model format must be 1, got 2. Install fastcell 9.0"):
        load_classifier(find_checkpoint(tmp_path))


def without_config(folder: Path) -> None:
    (folder / SHARED_CONFIG_FILE).unlink()


def of_transformers(folder: Path) -> None:
    (folder / SHARED_CONFIG_FILE).write_text('{"architectures": ["BertModel"]}')


def deep(folder: Path) -> None:
    (folder / SHARED_CONFIG_FILE).write_text("[" * 100_000)


def no_text(folder: Path) -> None:
    (folder / SHARED_CONFIG_FILE).write_bytes(b"\xff\xfe\x00")


def a_list(folder: Path) -> None:
    (folder / SHARED_CONFIG_FILE).write_text('["format"]')


@pytest.mark.parametrize("spoil", [without_config, of_transformers, deep, no_text, a_list])
def test_other_folders_are_refused_by_name(tmp_path, spoil):
    write(tmp_path)
    spoil(tmp_path)
    with pytest.raises(DataError, match="must be the config.json that fastcell export wrote beside model.safetensors"):
        load_classifier(find_checkpoint(tmp_path))


@pytest.mark.parametrize(
    "changes",
    [
        {"network": "no-such-network"},
        {"network": 3},
        {"classes": ["a"]},
        {"classes": "ab"},
        {"preprocessing": {"image_size": 10**9}},
        {"preprocessing": [1]},
        {"input_norm": True},
        {"loss": "none"},
    ],
)
def test_values_that_do_not_fit_the_weights(tmp_path, changes):
    write(tmp_path, **changes)
    with pytest.raises(
        (DataError, ArgumentError), match=r"model.safetensors (does not fit this version|has the network)"
    ):
        load_classifier(find_checkpoint(tmp_path))


def test_code_of_strangers_is_not_imported(tmp_path, monkeypatch):
    (tmp_path / "stranger_net.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(str(tmp_path))
    write(tmp_path, network={"class_path": "stranger_net.Net", "init_args": {}})
    with pytest.raises(ArgumentError, match="--trust stranger_net"):
        load_classifier(find_checkpoint(tmp_path))


def test_unknown_entries_are_refused(tmp_path):
    model = make_model()
    config = {"model": {name: model.hparams[name] for name in MODEL_ARGUMENTS}, "scores": {}}
    write_shared_model(tmp_path, config | {"beside": {"code/run": "x"}}, model.state_dict())
    with pytest.raises(DataError, match="has 'code/run', which no version of fastcell writes"):
        load_classifier(find_checkpoint(tmp_path))
    write_shared_model(tmp_path, {**config, "beside": {}, "model": {}}, model.state_dict())
    with pytest.raises(DataError, match="must describe a model of fastcell"):
        load_classifier(find_checkpoint(tmp_path))
