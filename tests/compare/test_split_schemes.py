"""Every way of dividing tests a cell once, and keeps groups whole where it says so."""

import numpy as np
import pytest

from fastcell.compare.split_schemes import SplitManifest, find_schemes
from fastcell.dataset.rows.split_table import write_split
from fastcell.errors import ArgumentError


def test_few_groups_are_left_out_in_turn_by_default(planted):
    manifest = planted(groups=4)
    (scheme,) = find_schemes(manifest, None)
    assert list(scheme.splits) == ["group-0", "group-1", "group-2", "group-3"]
    for number, sides in enumerate(scheme.splits.values()):
        assert set(manifest.groups[sides == "test"]) == {f"donor-{number}"}
        assert not set(manifest.groups[sides == "train"]) & set(manifest.groups[sides == "valid"])
    (many,) = find_schemes(planted(groups=20, folder="many"), None)
    assert list(many.splits) == ["default"]


@pytest.mark.parametrize(("asked", "num"), [("groups", 4), ("random", 4)])
def test_pooled_folds_test_every_cell_once(planted, asked, num):
    (scheme,) = find_schemes(planted(groups=4), asked)
    sides = np.stack(list(scheme.splits.values()))
    assert sides.shape == (num, 120)
    np.testing.assert_array_equal((sides == "test").sum(0), 1)
    assert ((sides == "train").any(1) & (sides == "valid").any(1)).all()


def test_random_folds_ignore_groups(planted):
    manifest = planted(groups=4)
    (scheme,) = find_schemes(manifest, "random")
    sides = scheme.splits["random-0"]
    assert set(manifest.groups[sides == "test"]) == set(manifest.groups[sides == "train"])


def test_several_schemes_and_named_splits(planted):
    manifest = planted()
    sides = manifest.split()
    write_split(manifest.path, "fold-0", np.where(sides == "test", "train", np.where(sides == "valid", "test", sides)))
    groups, default = find_schemes(manifest, "groups,default")
    assert (groups.name, default.name, list(default.splits)) == ("groups", "default", ["default"])
    (pooled,) = find_schemes(manifest, "default,fold-0")
    assert (pooled.name, list(pooled.splits)) == ("default-fold-0", ["default", "fold-0"])
    (folds,) = find_schemes(manifest, "folds")
    assert list(folds.splits) == ["fold-0"]


def test_refusals(planted):
    manifest = planted()
    with pytest.raises(ArgumentError, match="--splits must be among groups, random, folds, default, got 'nonsense'"):
        find_schemes(manifest, "nonsense")
    with pytest.raises(ArgumentError, match="got 'gruops'. Did you mean groups. List them with"):
        find_schemes(manifest, "gruops")
    with pytest.raises(
        ArgumentError, match="--splits must be a scheme of the data set: it has no folds, got 'folds'. Pack it with"
    ):
        find_schemes(manifest, "folds")
    write_split(manifest.path, "again", manifest.split())
    with pytest.raises(ArgumentError, match="--splits must be splits that share no test cell, got 'default, again'"):
        find_schemes(manifest, "default,again")
    with pytest.raises(ArgumentError, match="--splits groups must have 2 to 200 groups and every labelled cell in one"):
        find_schemes(planted(groups=0, folder="loose"), "groups")


def test_a_manifest_with_splits_of_its_own(planted):
    manifest = planted()
    sides = np.array(["test"] * len(manifest))
    mine = SplitManifest.of(manifest, {"mine": sides})
    np.testing.assert_array_equal(mine.split("mine"), sides)
    assert mine.split_names() == ["default", "mine"]
    np.testing.assert_array_equal(mine.split("default"), manifest.split())
    np.testing.assert_array_equal(mine.labels, manifest.labels)
