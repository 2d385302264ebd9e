"""Which cells are exchanged and held out, by how classes lie in groups."""

import numpy as np

from fastcell.audit.permutation_designs import block_folds, class_design, recording_designs


def lay(*parts):
    """Labels and groups from (group, label, cells)."""
    labels = np.concatenate([np.full(num, label) for _, label, num in parts])
    groups = np.concatenate([np.full(num, group) for group, _, num in parts])
    return labels, groups


def test_free_without_groups():
    labels = np.repeat([0, 1, -1, 2], [30, 30, 5, 3])
    found = class_design(labels, None, np.ones(68, bool))
    assert found.kind == "free"
    assert found.classes == (0, 1)  # three cells are too few, the unlabelled are none
    assert found.design.rows.tolist() == list(range(60))
    assert np.bincount(found.design.folds).tolist() == [12] * 5
    assert len(np.unique(found.design.units)) == 60


def test_folds_are_runs_of_neighbours_of_every_code():
    folds = block_folds(np.zeros(200, np.int64))
    assert folds.tolist() == [run % 5 for run in range(25) for _ in range(8)]
    assert block_folds(np.array([0, 1, 0, 1, 0, 0, 0])).tolist() == [0, 0, 1, 1, 2, 3, 4]


def test_crossed_groups_are_strata_and_folds():
    labels, groups = lay(*[(f"d{g}", k, 20) for g in range(3) for k in range(2)], ("d9", 0, 10))
    found = class_design(labels, groups, np.ones(len(labels), bool))
    assert found.kind == "crossed"
    assert len(found.design.rows) == 120  # d9 holds one class: it says nothing about classes
    assert (found.design.folds == found.design.strata).all()
    assert found.design.centered
    assert "3 groups" in found.describe()


def test_two_crossed_groups_are_held_out_by_runs():
    labels, groups = lay(*[(f"d{g}", k, 20) for g in range(2) for k in range(2)])
    found = class_design(labels, groups, np.ones(80, bool))
    assert found.kind == "crossed"
    assert found.design.folds.max() == 4


def test_nested_groups_are_units_and_lonely_classes_are_named():
    labels, groups = lay(("a", 0, 20), ("b", 0, 20), ("c", 1, 20), ("d", 1, 18), ("e", 2, 20))
    labels[78 - 20] = 1  # the first of e's cells is of another class: its main class counts
    found = class_design(labels, groups, np.ones(len(labels), bool))
    assert found.kind == "nested"
    assert found.alone == (2,)
    assert found.classes == (0, 1)
    assert len(np.unique(found.design.units)) == 4
    assert (found.design.folds == found.design.units).all()
    assert found.design.num_arrangements() < 6.001


def test_class_and_group_that_are_the_same_thing():
    labels, groups = lay(("a", 0, 20), ("b", 1, 20))
    found = class_design(labels, groups, np.ones(40, bool))
    assert found.design is None
    assert found.alone == (0, 1)
    assert "cannot be separated" in found.why_not


def test_one_class():
    found = class_design(np.zeros(40, np.int64), None, np.ones(40, bool))
    assert found.design is None
    assert found.why_not.startswith("one class")
    assert class_design(np.full(4, -1), None, np.ones(4, bool)).why_not.startswith("no class")


def test_recordings_within_classes():
    labels, groups = lay(("a", 0, 20), ("b", 0, 20), ("c", 1, 20), ("a", 1, 4), ("b", -1, 12), ("c", -1, 12))
    found = recording_designs(groups, labels, np.ones(len(labels), bool))
    assert [names for _, names in found] == [["b", "c"], ["a", "b"]]  # class 1: four cells of a are too few
    assert found[1][0].labels.tolist() == [0] * 20 + [1] * 20
