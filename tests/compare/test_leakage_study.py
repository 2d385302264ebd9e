"""The leak is found where there is one, and is not invented where there is none."""

import numpy as np
import pytest

from fastcell.compare.augmented_set import augmented_set
from fastcell.compare.leakage_study import leakage_study, protocols, run_leakage


def own_noise(name, number):
    """Cells of nothing but their own noise: only a copy of a cell tells its class."""
    return np.random.default_rng(number).integers(20, 230, (12, 16)).astype(np.uint8)


@pytest.fixture
def recipe(study_of, planted):
    return study_of(planted(folder="for-recipe"), out="for-recipe-out").recipe


def test_protocols_keep_what_they_say_whole(planted, recipe, tmp_path):
    images, sources = augmented_set(planted(num=60, groups=4), recipe, 3, 0, tmp_path)
    by_name = {scheme.name: list(scheme.splits.values()) for scheme in protocols(images, sources, 5, 0)}
    assert list(by_name) == ["augment-first", "split-first", "groups-first"]
    for folds in by_name.values():
        np.testing.assert_array_equal(np.sum([fold == "test" for fold in folds], axis=0), 1)

    def shared(fold, of):
        return set(of[fold == "test"].tolist()) & set(of[fold != "test"].tolist())

    assert all(len(shared(fold, sources)) > 10 for fold in by_name["augment-first"])
    assert not any(shared(fold, sources) for fold in by_name["split-first"])
    assert not any(shared(fold, images.groups) for fold in by_name["groups-first"])
    assert len(by_name["groups-first"]) == 4


def test_a_leak_invents_accuracy_and_its_absence_does_not(planted, study_of):
    source = study_of(planted(num=90, groups=0, draw=own_noise), components=32)
    source.recipe.data["augmentation"] = {"flip_horizontal": False, "flip_vertical": False, "rotation_deg": 1.0,
                                          "translation": 0.0, "scale": 0.0}  # fmt: skip
    study = leakage_study(source, 4, 3, 0)
    lines, entries, (leak,) = run_leakage(study, ["knn"], [1.0], 1)
    accuracy = {entry.scheme: entry.accuracy for entry in entries if entry.part == "test"}
    assert accuracy["augment-first"] > 0.8
    assert accuracy["split-first"] < 0.6
    assert leak.value == pytest.approx(accuracy["augment-first"] - accuracy["split-first"])
    assert leak.low > 0.3
    assert leak.num_cells == 360
    assert study.unit == "source cell"
    assert (study.out_dir / "accuracy_by_protocol.pdf").exists()
    assert any("kNN, augment-first minus kNN, split-first" in line for line in lines)

    alone = leakage_study(
        study_of(planted(num=90, groups=0, draw=own_noise, folder="alone-set"), out="alone", components=32), 1, 3, 0
    )
    _, _, (none,) = run_leakage(alone, ["knn"], [1.0], 1)
    assert none.low <= 0 <= none.high


def test_a_background_that_tells_the_class_is_told(planted, study_of):
    def framed(name, number):
        cell = np.random.default_rng(number).normal(120, 30, (16, 16))
        level = {"left": 60, "right": 120, "top": 180}[name]
        cell[:2], cell[-2:], cell[:, :2], cell[:, -2:] = level, level, level, level
        return np.clip(cell, 1, 255).astype(np.uint8)

    study = leakage_study(study_of(planted(draw=framed), components=4), 1, 3, 0)
    lines, entries, _ = run_leakage(study, ["frame"], [1.0], 1)
    assert min(entry.accuracy for entry in entries) == 1
    assert any(line.endswith("gives 0.333: the background separates the classes.") for line in lines)
    blank = leakage_study(study_of(planted(draw=own_noise, folder="blank"), out="blank-out", components=4), 1, 3, 0)
    lines, _, _ = run_leakage(blank, ["frame"], [1.0], 1)
    assert any(line.endswith("the background is not better than chance.") for line in lines)
