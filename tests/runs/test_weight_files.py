"""Files of weights of other programs: what is read, and what is refused without running anything."""

import json
import pickle
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from fastcell.errors import DataError
from fastcell.runs.weight_files import described_network, is_weight_file, read_weight_file

WEIGHTS = {"conv.weight": torch.arange(54.0).reshape(2, 3, 3, 3), "steps": torch.tensor(3)}


def test_what_programs_write(tmp_path):
    wrapped = OrderedDict((f"module._orig_mod.{name}", value) for name, value in WEIGHTS.items())
    torch.save(WEIGHTS, tmp_path / "plain.pth")
    torch.save(WEIGHTS, tmp_path / "legacy.pth", _use_new_zipfile_serialization=False)
    torch.save({"epoch": 3, "model": WEIGHTS, "optimizer": {"lr": 0.1}}, tmp_path / "nested.bin")
    torch.save({"state_dict": {"x": torch.zeros(1)}, "state_dict_ema": wrapped}, tmp_path / "averaged.tar")
    save_file(WEIGHTS, tmp_path / "model.safetensors", metadata={"format": "pt"})
    for path in tmp_path.iterdir():
        assert is_weight_file(path), path
        found = read_weight_file(path)
        assert [*sorted(found)] == [*sorted(WEIGHTS)], path
        assert all(torch.equal(found[name], value) for name, value in WEIGHTS.items()), path


class Runs:
    """A pickle that would run code."""

    def __reduce__(self):
        return Path.touch, (Path("ran"),)


def test_what_is_refused_in_one_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    contents = {
        "text.pth": b"weights\n",
        "empty.pth": b"",
        "code.pth": pickle.dumps(Runs()),
        "cut.safetensors": b"\x08\x00\x00\x00\x00\x00\x00\x00{",
    }
    for name, content in contents.items():
        Path(name).write_bytes(content)
    torch.save({"w": Runs()}, "object.pth")
    torch.save(nn.Linear(1, 1), "module.pth")
    torch.save(torch.zeros(2), "tensor.pth")
    torch.save({}, "none.pth")
    torch.save({"epoch": 3, "lr": 0.1}, "others.pth")
    torch.save({"w": torch.zeros(2, dtype=torch.complex64)}, "complex.pth")
    torch.save({"w": torch.eye(2).to_sparse()}, "sparse.pth")
    torch.save({"w": torch.tensor([0.0, float("nan")])}, "nan.pth")
    torch.jit.script(nn.Linear(1, 1)).save("script.pth")
    for path in sorted(Path().iterdir()):
        assert is_weight_file(path), path
        with pytest.raises(DataError) as caught:
            read_weight_file(path)
        assert str(caught.value).startswith(str(path)), path
        assert "\n" not in str(caught.value), path
    assert not Path("ran").exists()


def test_checkpoints_and_shared_models_are_others(trained_run, tmp_path):
    assert not is_weight_file(trained_run / "last.ckpt")
    assert not is_weight_file(trained_run)
    assert not is_weight_file(tmp_path / "missing.pth")
    (tmp_path / "damaged.ckpt").write_bytes((trained_run / "last.ckpt").read_bytes()[:1000])
    assert not is_weight_file(tmp_path / "damaged.ckpt")


def test_the_network_that_a_folder_of_the_hub_names(tmp_path):
    path = tmp_path / "model.safetensors"
    assert described_network(path) is None
    for text, expected in (
        (json.dumps({"architecture": "resnet18", "num_classes": 1000}), "resnet18"),
        (json.dumps({"architecture": 3}), None),
        ("[]", None),
        ("{", None),
    ):
        (tmp_path / "config.json").write_text(text)
        assert described_network(path) == expected
