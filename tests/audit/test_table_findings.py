"""Findings about tables: class by recording, groups and copies on two sides of a split."""

import numpy as np
import pytest

from fastcell.audit.findings import judge
from fastcell.audit.table_findings import duplicate_finding, split_findings, table_finding
from fastcell.dataset.rows.split_table import write_split
from fastcell.splits.copies.exact import Duplicates, exact_sets


def test_copies_on_two_sides(make_audit_set):
    manifest = make_audit_set(copies=True)
    found = duplicate_finding(manifest, exact_sets(manifest, jobs=1))
    assert found.verdict == "problem"
    assert found.details["sets"] == 1
    assert found.details["two_classes"] == 1
    assert "two subsets of a split" in found.says["else"]
    clean = make_audit_set()
    assert duplicate_finding(clean, exact_sets(clean, jobs=1)).verdict == "ok"


def table(manifest, column="group"):
    finding, found = table_finding(manifest, column, column, 99, np.random.default_rng(0))
    return judge([finding])[0], found


def test_no_groups_and_no_classes(planted, make_set):
    finding, found = table(planted(12, groups=0, folder="plain"))
    assert (finding.verdict, finding.notes, found) == ("skipped", ("the cells have no groups.",), None)
    finding, _ = table(make_set(4))
    assert finding.notes == ("the cells have no classes.",)
    finding, _ = table(planted(12, groups=1, folder="one"))
    assert finding.notes == ("fewer than two classes or two groups.",)


def test_a_class_in_one_group_alone_is_a_problem(planted):
    names = [["left", "right"][number // 3 % 2] for number in range(60)]
    finding, found = table(planted(60, groups=2, names=names))
    assert finding.verdict == "problem"
    assert finding.details["single"] == ["left", "right"]
    assert finding.details["table"] == [[30, 0], [0, 30]]
    assert finding.says["else"].startswith(
        "left only in donor-0, right only in donor-1: there, no test can separate class and group"
    )
    assert finding.size > 0.9
    assert found.rows == ["left", "right"]


def test_groups_of_one_class_each_are_named_and_no_problem(planted):
    names = [["left", "right"][number // 3 % 2] for number in range(60)]
    finding, _ = table(planted(60, groups=4, names=names))
    assert finding.verdict == "ok"
    assert finding.says["else"].startswith("Every group has one class, and every class occurs in several:")


def test_classes_alike_in_all_groups_raise_nothing(planted):
    finding, _ = table(planted(120, groups=4))
    assert finding.verdict == "ok"
    assert finding.details["guess"] == pytest.approx(1 / 3, abs=0.05)
    assert finding.size < 0.1


def test_mixed_but_uneven_classes_are_an_alarm(planted):
    names = [["left", "right"][(number // 3 % 2) ^ (number % 10 == 0)] for number in range(240)]
    finding, _ = table(planted(240, groups=2, names=names))
    assert finding.verdict == "problem"
    assert 0.7 < finding.size < 0.9
    assert finding.details["guess"] == pytest.approx(0.9, abs=0.01)


def test_groups_on_two_sides_of_a_split(planted):
    manifest = planted(60)
    write_split(manifest.path, "whole", np.where(manifest.groups[:] == "donor-1", "test", "train"))
    torn = np.where(manifest.groups[:] == "donor-1", "test", "train").astype(object)
    torn[:2] = ["test", ""]  # donor-0
    write_split(manifest.path, "torn", torn)
    found = {finding.key: finding for finding in split_findings(manifest)}
    assert sorted(found) == ["split_default", "split_torn"]
    assert found["split_torn"].details["groups"] == ["donor-0"]
    assert found["split_torn"].verdict == "problem"
    assert found["split_torn"].says["else"] == "1 groups are in two subsets: donor-0."
    assert split_findings(planted(12, groups=0, folder="other")) == []


def copies_of(*sets, blank=()):
    ids = np.array([cell for members in sets for cell in members])
    numbers = np.repeat(np.arange(len(sets)), [len(members) for members in sets])
    kinds, best = np.full(len(ids), "exact"), np.ones(len(ids), np.float32)
    return Duplicates(ids, numbers, kinds, best, np.isin(numbers, blank), 60)


def test_copies_of_two_classes_and_of_empty_frames(planted):
    manifest = planted(60)  # classes in turn; cells 0 to 8 train
    found = duplicate_finding(manifest, copies_of((0, 3), (1, 4), (30, 59), blank=[2]))
    assert found.verdict == "ok"
    assert found.says["else"] == (
        "4 cells in 2 sets of copies. The search covered exact copies only (pixels, flips, quarter turns). 1 sets of "
        "images of one grey level are not counted: empty frames."
    )
    found = duplicate_finding(manifest, copies_of((0, 3), (1, 2)))
    assert found.verdict == "warning"
    assert "1 of the sets hold different classes, e.g. cell-0001.npy and cell-0002.npy." in found.says["else"]
    named = duplicate_finding(manifest, copies_of((0, 3, 7), (30, 33)))  # 0 and 3 are of one class
    assert "1 of the sets hold different classes, e.g. cell-0000.npy and cell-0007.npy." in named.says["else"]
    found = duplicate_finding(manifest, copies_of((0, 12)))  # 12 is a test cell
    assert (found.verdict, found.details["across"]) == ("problem", {"default": 1})
    assert found.advice["problem"].startswith("split again with `fastcell split`")
