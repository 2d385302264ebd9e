"""A recipe is a preset with changes; what a study decides itself cannot be changed."""

import pytest

from fastcell.errors import ArgumentError
from fastcell.training.recipe import read_recipe


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
    with pytest.raises(ArgumentError, match="--preset must be one of demo, paper, fast"):
        read_recipe("slow")
