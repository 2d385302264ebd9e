"""What is in a data set, as tables and figures."""

import csv
from dataclasses import replace
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from fastcell.dataset.manifest import Manifest
from fastcell.dataset.rows.cell_groups import CellGroups
from fastcell.dataset.rows.split_table import subset_codes
from fastcell.errors import ArgumentError
from fastcell.ops.augmentation import Augmentation
from fastcell.packing.pack import pack
from fastcell.report import data_summary
from fastcell.report.data_summary import (
    AUGMENTATIONS,
    TrainingLook,
    _augment,
    describe_contents,
    draw_figures,
    num_groups_in_several_subsets,
)


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("info")
    rng = np.random.default_rng(0)
    for name, num in (("a", 40), ("b", 20)):
        (folder / "src" / name).mkdir(parents=True)
        for i in range(num):
            cell = rng.integers(0, 256, (20 + i % 5, 30), dtype=np.uint8)
            cv2.imwrite(str(folder / "src" / name / f"{i}.png"), cell)
    (folder / "src" / "b" / "bad.png").write_bytes(b"not an image")
    pack(folder / "src", folder / "out", jobs=1)
    return folder / "out"


def test_counts_sizes_and_quarantine(packed):
    text = describe_contents(Manifest.open(packed))
    assert "60 cells, recorded, layout cell" in text
    assert "height 20..24 px, width 30..30 px" in text
    lines = [line.split() for line in text.splitlines()]
    assert ["a", "-", "26", "6", "8", "40"] in lines
    assert ["total", "40", "9", "11", "60"] in lines
    assert "quarantine: 1 cell\n" in text
    assert "b: not an image: 1" in text


def test_figures_are_written(packed, tmp_path):
    draw_figures(Manifest.open(packed), tmp_path / "new" / "figures")
    for name in ("contact_sheet.png", "augmentation.png", "class_counts.png"):
        assert cv2.imread(str(tmp_path / "new" / "figures" / name)) is not None
        assert (tmp_path / "new" / "figures" / name).with_suffix(".pdf").read_bytes().startswith(b"%PDF")
    with open(tmp_path / "new" / "figures" / "contact_sheet.csv", newline="") as file:
        shown = list(csv.DictReader(file))
    keys = Manifest.open(packed).column("key")
    assert [row["key"] for row in shown] == [keys[int(row["cell_id"])] for row in shown]
    assert [row["row"] for row in shown] == ["a"] * 8 + ["b"] * 8


def test_an_unknown_split(packed):
    with pytest.raises(ArgumentError, match="--split-name must be one of default, got 'fold-7'"):
        describe_contents(Manifest.open(packed), "fold-7")


def test_the_pictures_of_the_augmentation_differ_as_named():
    rng = np.random.default_rng(0)
    cell = cv2.GaussianBlur(rng.integers(0, 256, (60, 200), dtype=np.uint8), (0, 0), 3)
    shown = {name: image.astype(float) for name, image in zip(AUGMENTATIONS, _augment(cell, 0), strict=True)}
    plain = shown["original"]
    resized = cv2.resize(cell.astype(np.float32), (128, 128), interpolation=cv2.INTER_LINEAR)
    assert np.abs(plain - resized).max() <= 1.01
    assert np.abs(shown["flip"] - plain[:, ::-1]).max() <= 1
    assert shown["blur"].std() < 0.9 * plain.std()
    assert (shown["noise"] - plain).std() == pytest.approx(12, rel=0.1)
    for name in ("translation", "rotation"):
        assert np.abs(shown[name] - plain).mean() > 2


def test_a_group_in_three_subsets_counts_once():
    manifest = SimpleNamespace(groups=CellGroups.of_names(["a", "a", "a", "b", "b", "c", "", ""], 8))
    subsets = subset_codes(np.array(["train", "valid", "test", "train", "test", "train", "train", "test"]))
    assert num_groups_in_several_subsets(manifest, subsets) == 2


def test_figures_of_a_run_show_its_balance_augmentation_and_size(packed, tmp_path, drawn):
    manifest = Manifest.open(packed)
    changes = replace(Augmentation.none(), flip_horizontal=True)
    look = TrainingLook("none", changes, 24, "stretch")
    written = draw_figures(manifest, tmp_path / "run", look=look)
    assert [path.name for path in written] == ["contact_sheet.png", "augmentation.png", "class_counts.png"]
    sheets = [figure for figure in drawn if "augmentation" in (figure.get_suptitle() or "")]
    images = [image.get_array() for axes in sheets[0].axes for image in axes.images]
    assert {image.shape for image in images} == {(24, 24)}
    first = [images[0], images[0][:, ::-1]]
    assert all(min(np.abs(image - one).max() for one in first) <= 1 for image in images[:6])  # flips alone
    with open(tmp_path / "run" / "class_counts.csv", newline="") as file:
        assert [(row["class"], row["cells"]) for row in csv.DictReader(file)] == [("a", "26"), ("b", "14")]
    assert look.describe() == (
        "This run trained with classes as they are, images of 24 x 24 px (stretch), augmented by mirroring left to "
        "right."
    )
    none = TrainingLook("oversample", Augmentation.none(), 24, "stretch")
    written = draw_figures(manifest, tmp_path / "none", look=none)
    assert [path.name for path in written] == ["contact_sheet.png", "class_counts.png"]
    with open(tmp_path / "none" / "class_counts.csv", newline="") as file:
        assert [row["after"] for row in csv.DictReader(file)] == ["26", "26"]
    assert "rare classes repeated" in none.describe()
    assert none.describe().endswith("(stretch), without augmentation.")
    every = TrainingLook("weights", Augmentation(noise_probability=0.0), 32, "contain").describe()
    assert every.endswith(
        "augmented by mirroring left to right, mirroring top to bottom, rotation up to 10°, shifts up to 5 % of the "
        "side, magnification or reduction by a factor of up to 1.1, blur up to 1 px in 20 % of the cells."
    )
    assert "without augmentation" in none.describe()


def test_figures_of_many_classes_stay_of_a_size_that_can_be_read(tmp_path, monkeypatch):
    """Many classes and a name of 300 characters: the largest classes are shown, and the caption says so."""
    monkeypatch.setattr(data_summary, "MOST_SHEET_CLASSES", 4)
    for number in range(45):
        name = f"class {number:03d}" + ("x" * 150) * (number == 3)
        for cell in range(2 + (number < 4)):
            path = tmp_path / "images" / name / f"{cell}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), np.full((8, 8), number + cell, np.uint8))
    manifest = pack(tmp_path / "images", tmp_path / "cells", jobs=1, allow_absent=True)
    draw_figures(manifest, tmp_path / "figures")
    with open(tmp_path / "figures" / "contact_sheet.csv", encoding="utf-8") as file:
        classes = {row["row"] for row in csv.DictReader(file)}
    assert sorted(int(name[6:9]) for name in classes) == [0, 1, 2, 3]
    for stem in ("contact_sheet", "class_counts"):
        height, width = cv2.imread(str(tmp_path / "figures" / f"{stem}.png")).shape[:2]
        assert height * width < 20e6
