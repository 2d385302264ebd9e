"""What a split is said to be: classes and groups by side, copies, recall."""

import numpy as np
import pytest

from fastcell.dataset.rows.split_table import subset_codes
from fastcell.splits.copies.exact import Duplicates, NearFacts, Recall
from fastcell.splits.describe import describe_copies, describe_splits, large_sets, summarize_split
from fastcell.splits.linked_groups import link_groups
from fastcell.splits.read_groups import read_grouping

SHARES = (0.65, 0.15, 0.20)


def test_summary_says_which_class_is_missing_where():
    sides = np.array(["train", "train", "test", "train", "test", "valid"])
    labels = np.array([0, 0, 0, 1, -1, 0])
    summary = summarize_split(sides, labels, ["a", "b"], SHARES)
    assert summary.counts.tolist() == [[2, 1, 1], [1, 0, 0]]
    assert summary.shares == pytest.approx((3 / 6, 1 / 6, 2 / 6))
    assert [note.split(":")[0] for note in summary.notes] == [
        "The valid subset has no cell of class b",
        "The test subset has no cell of class b",
    ]
    assert summarize_split(sides[:2], labels[:2], ["a"], SHARES).notes == (
        "The valid subset is empty.",
        "The test subset is empty.",
    )


def copies(*sets, kinds="exact", near=None):
    ids = np.array([cell for members in sets for cell in members], np.int64)
    numbers = np.repeat(np.arange(len(sets)), [len(members) for members in sets])
    best = np.full(len(ids), 1.0 if kinds == "exact" else 0.995, np.float32)
    return Duplicates(ids, numbers, np.full(len(ids), kinds), best, np.zeros(len(ids), bool), 120, 0, near)


def test_large_sets_hold_more_than_a_share_and_two_cells_of_a_class(planted):
    manifest = planted(120)  # classes in turn, 40 cells each
    found = copies((0, 1, 2), (3, 6, 9), (12, 15), (4, 7, 10, 13))
    assert large_sets(manifest, found) == [3, 1]


def test_copies_are_counted_by_kind(planted):
    manifest = planted(120)
    lines = describe_copies(manifest, copies((0, 1), (3, 6, 9)), [1])
    assert lines[0] == "planted: 120 cells, 115 of them without copies"
    assert [line.split() for line in lines[1:3]] == [
        ["copies", "sets", "cells"], ["exact,", "rotated", "or", "mirrored", "2", "5"]
    ]  # fmt: skip
    assert lines[3] == "near copies were not searched for"
    assert lines[4] == "1 set holds more than 1 % of a class:"
    assert lines[5] == (
        "  3 cells, 7.5% of left, e.g. cell-0003.npy, lowest correlation 1.0000: "
        "not kept together (--merge-large keeps them)"
    )
    *_, last, note = describe_copies(manifest, copies((0, 1)), [])
    assert last == "no set holds more than 1 % of a class"
    assert note.startswith("note: 1 set of copies is of different classes: one label of each is wrong.")


def test_recall_of_a_search_for_near_copies(planted):
    near = NearFacts(2, 1500, 0.99, 0.97, (Recall("shifted", 90, 100),))
    lines = describe_copies(planted(120), copies((3, 6, 9), kinds="near", near=near), [])
    assert ["near", "1", "3"] in [line.split() for line in lines]
    assert (
        "near copies: 1,500 pairs of neighbours compared; correlation of copies at least 0.990 (details: 0.970)"
        in lines
    )
    assert "cells with too little structure to be compared (small, or uniformly grey): 2" in lines
    (row,) = [line.split() for line in lines if line.startswith("shifted")]
    assert row == ["shifted", "90", "100", "0.900", "0.826..0.945"]  # Wilson's interval
    assert lines[-1].endswith("lowest correlation 0.9950: kept together")


def test_classes_groups_and_folds_of_a_split(planted):
    manifest = planted(24, groups=4)
    grouping = read_grouping(manifest, "group")
    bound = link_groups(grouping.groups, np.full(24, -1))
    sides = subset_codes(np.where(manifest.groups[:] == "donor-1", "test", "train"))
    fold = subset_codes(np.where(manifest.groups[:] == "donor-0", "test", "valid"))
    lines = describe_splits(manifest, {"mine": sides, "mine-fold-0": fold}, bound, grouping, (0.8, 0.0, 0.2))
    assert lines[0] == "split mine, grouped by group:"
    table = [line.split() for line in lines[1:7]]
    assert table[1] == ["left", "6", "0", "2", "75.0", "0.0", "25.0", "0"]
    assert table[4] == ["all", "18", "0", "6", "75.0", "0.0", "25.0", "0"]
    assert table[5] == ["asked", "80.0", "0.0", "20.0"]
    assert lines[7:9] == ["train: 3 groups (donor-0, donor-2, donor-3)", "test: 1 group (donor-1)"]
    assert lines[-1].split() == ["mine-fold-0", "0", "18", "6", "donor-0"]
