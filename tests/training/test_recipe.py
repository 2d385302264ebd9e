"""A recipe is a preset with changes; what a study decides itself cannot be changed."""

import importlib.resources

import numpy as np
import pytest
import yaml

from fastcell.errors import ArgumentError
from fastcell.ops.augmentation import Augmentation
from fastcell.training.recipe import PRESETS, Recipe, estimator_recipe, preset_path, read_recipe


def test_presets_and_changes():
    demo = read_recipe("demo")
    assert (demo.image_size, demo.trainer["max_epochs"], demo.select) == (64, 16, "best")
    assert read_recipe("fast").select == "last"
    paper = read_recipe("paper")
    assert paper.image_size == 128
    assert paper.trainer == {"max_epochs": -1, "max_steps": 3000}
    changes = ["--data.fit", "contain", "--model.learning_rate=1e-3", "--trainer.max_epochs", "3"]
    changed = read_recipe("fast", [*changes, "--data.augmentation.rotation_deg", "90"], select="best")
    assert changed.data["fit"] == "contain"
    assert changed.model["learning_rate"] == 0.001
    assert changed.trainer == {"max_epochs": 3}
    assert changed.data["augmentation"]["rotation_deg"] == 90
    assert changed.data["augmentation"]["flip_vertical"] is True
    assert changed.select == "best"
    assert changed.at_size(32).image_size == 32
    assert changed.with_model(network="gao").model["network"] == "gao"
    assert changed.image_size == 64


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["--data.nonsense", "1"], "arguments must be those of compare, .* got '--data.nonsense'. See"),
        (["--data.path", "x"], "got '--data.path'. The study decides it itself"),
        (["--model.classes", "x"], "The study decides it itself"),
        (["--nonsense", "1"], "got '--nonsense'"),
        (["--data.fit"], "arguments must be names with a value each, got '--data.fit'"),
        (["stray"], "got 'stray'"),
    ],
)
def test_refusals(changes, message):
    with pytest.raises(ArgumentError, match=message):
        read_recipe("demo", changes)


def test_unknown_preset():
    with pytest.raises(ArgumentError, match="--preset must be one of demo, paper, fast, thorough"):
        read_recipe("slow")


def test_every_shipped_file_is_a_known_preset():
    files = importlib.resources.files("fastcell") / "presets"
    assert sorted(path.name for path in files.iterdir() if path.name.endswith(".yaml")) == sorted(
        f"{name}.yaml" for name in PRESETS
    )
    with pytest.raises(ArgumentError, match="--preset must be one of demo, paper, fast, thorough, got 'best'"):
        preset_path("best")


def test_paper_preset_is_the_papers():
    settings = yaml.safe_load(preset_path("paper").read_text())
    assert settings["model"]["init"] == "paper"
    assert settings["model"]["betas"] == [0.9, 0.999]
    assert settings["model"]["final_learning_rate"] == 1e-4
    assert settings["data"]["batch_size"] == 1300
    assert settings["data"]["balance"] == "oversample"
    assert settings["trainer"]["max_steps"] == 3000


def test_recipes_are_the_presets():
    paper = estimator_recipe("paper")
    assert paper.model["init"] == "paper"
    assert (paper.batch_size, paper.balance, paper.max_epochs, paper.max_steps) == (1300, "oversample", -1, 3000)
    assert paper.preprocessing.image_size == 128
    fast = estimator_recipe("fast", epochs=3, fit="scale", augment=False)
    assert (fast.max_epochs, fast.max_steps, fast.preprocessing.fit) == (3, -1, "scale")
    assert fast.preprocessing.image_size == 64
    assert fast.augmentation.is_none
    assert estimator_recipe("fast").augmentation.rotation_deg == 180


def test_what_the_estimator_leaves_out_is_the_preset_s():
    assert estimator_recipe("demo") == read_recipe("demo")
    changed = estimator_recipe("paper", network="gao", learning_rate=1, batch_size=np.int64(7), epochs=2)
    assert changed.model == {**read_recipe("paper").model, "network": "gao", "learning_rate": 1.0}
    assert (changed.batch_size, changed.max_epochs, changed.max_steps) == (7, 2, -1)
    with pytest.raises(ArgumentError, match="preset must be one of demo, fast, paper, thorough, got 'slow'"):
        estimator_recipe("slow")
    for wrong in (0, 2.5, True):
        with pytest.raises(ArgumentError, match="batch_size must be a positive whole number"):
            estimator_recipe("fast", batch_size=wrong)


def test_fit_reads_the_same_settings_as_every_recipe():
    """The command's parser and `read_recipe`, in what both have of a preset."""
    for preset in PRESETS:
        values, recipe = yaml.safe_load(preset_path(preset).read_text(encoding="utf-8")), read_recipe(preset)
        assert recipe.model == values["model"]
        assert recipe.data == values["data"]
        assert recipe.trainer.items() <= values["trainer"].items()
        assert recipe.select == values.get("select", "best")


def test_data_arguments_have_the_augmentation_as_an_object():
    recipe = Recipe("demo", data={"augmentation": {"rotation_deg": 90.0}, "batch_size": 3})
    assert recipe.data_arguments() == {"augmentation": Augmentation(rotation_deg=90.0), "batch_size": 3}
    assert Recipe("demo", data={"batch_size": 3}).data_arguments() == {"batch_size": 3}
    assert recipe.changed(data={"augment": False}).augmentation.is_none
    assert recipe.to_dict()["data"] == recipe.data
