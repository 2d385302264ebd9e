"""The shipped presets."""

import importlib.resources

import pytest
import yaml

from fastcell.errors import ArgumentError
from fastcell.training.fit import PRESETS, preset_path


def test_every_shipped_file_is_a_known_preset():
    files = importlib.resources.files("fastcell") / "presets"
    assert sorted(path.name for path in files.iterdir() if path.name.endswith(".yaml")) == sorted(
        f"{name}.yaml" for name in PRESETS
    )
    with pytest.raises(ArgumentError, match="--preset must be one of demo, paper, fast, got 'best'"):
        preset_path("best")


def test_paper_preset_is_the_papers():
    settings = yaml.safe_load(preset_path("paper").read_text())
    assert settings["model"]["init"] == "paper"
    assert settings["model"]["betas"] == [0.9, 0.999]
    assert settings["model"]["final_learning_rate"] == 1e-4
    assert settings["data"]["batch_size"] == 1300
    assert settings["data"]["balance"] == "oversample"
    assert settings["trainer"]["max_steps"] == 3000
