"""Augmented images: as many of each class, each with its source."""

import numpy as np
import pytest

from fastcell.compare.augmented_set import augmented_set, num_images
from fastcell.dataset.single_cells import read_cells
from fastcell.errors import ArgumentError


@pytest.fixture
def recipe(study_of, planted):
    return study_of(planted(folder="for-recipe"), out="for-recipe-out").recipe


def test_classes_are_brought_to_as_many_images():
    labels = np.array([0] * 10 + [1] * 4 + [2] * 7)
    number = num_images(labels, 1.5, 0)
    assert np.bincount(labels, weights=number).tolist() == [15, 15, 15]
    assert number.min() == 1
    assert number[10:14].max() - number[10:14].min() == 1
    assert num_images(labels, 1, 0)[:10].tolist() == [1] * 10


def test_the_images_know_their_sources(planted, recipe, tmp_path):
    manifest = planted(num=30)
    images, sources = augmented_set(manifest, recipe, 2, 0, tmp_path)
    assert len(images) == 60
    assert np.bincount(sources).tolist() == [2] * 30
    np.testing.assert_array_equal(images.labels, manifest.labels[sources])
    np.testing.assert_array_equal(images.groups, manifest.groups[sources])
    first = np.flatnonzero(sources == 5)
    same, other = read_cells(images, first)
    assert same.shape == (16, 16)
    (cell,) = read_cells(manifest, [5])
    # 12 x 16 stretched to 16 x 16: the left side of class 'top' (row 5: 5 % 3 = 2) is as dark as its right
    assert same.mean() == pytest.approx(cell.mean(), rel=0.03)
    assert np.abs(same.astype(float) - other).mean() > 2
    before = (images.path / "dataset.json").stat().st_mtime_ns
    again, _ = augmented_set(manifest, recipe, 2, 0, tmp_path)
    assert (again.path / "dataset.json").stat().st_mtime_ns == before
    assert augmented_set(manifest, recipe, 2, 1, tmp_path)[0].path != images.path


def test_copies_are_one_or_more(planted, recipe, tmp_path):
    with pytest.raises(ArgumentError, match=r"--copies must be 1 or more, got 0\.5\. The paper uses about 1\.3"):
        augmented_set(planted(), recipe, 0.5, 0, tmp_path)
