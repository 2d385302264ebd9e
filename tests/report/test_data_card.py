"""The data card: cells, sizes, quarantine, splits and groups."""

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from fastcell import errors
from fastcell.dataset.cell_hashes import version_id
from fastcell.dataset.manifest import Manifest
from fastcell.dataset.rows.cell_groups import CellGroups
from fastcell.dataset.rows.split_table import write_split
from fastcell.report import data_card as module
from fastcell.report.data_card import _about_groups, data_section, splits_section


def test_cells_without_a_group_are_told():
    assert "every test cell belongs to a group" in _about_groups(0, 0)
    assert "3 cells have no group" in _about_groups(0, 3)
    assert "2 of them in more than one subset" in _about_groups(2, 3)


def test_cells_by_class_and_side(make_dataset, monkeypatch):
    def draw(manifest, folder, split_name, seed, look):  # the drawing itself is that of data_summary
        assert (split_name, seed) == ("default", 3)
        paths = [folder / "contact_sheet.png", folder / "class_counts.png"]
        for path in paths:
            Image.new("L", (300, 30)).save(path)
        return paths

    monkeypatch.setattr(module, "draw_figures", draw)
    manifest = make_dataset(30)
    section = data_section(manifest, "default", seed=3)
    assert section.paragraphs[0].startswith("Recorded cells: set. 30 cells in 3 shards, one record per cell. Packed by")
    assert section.paragraphs[1] == "Height 3..7 px, width 4..10 px, 0.25..0.25 um/px."
    assert "Quarantine: empty; every image was packed." in section.paragraphs
    table, provenance = section.tables
    assert list(table.header) == ["class", "collection", "train", "valid", "test", "total"]
    assert [row[0] for row in provenance.rows] == ["source", "licence", "packed by", "version of the data set"]
    assert provenance.rows[1][1] == "not given (fastcell pack --licence TEXT)"
    assert provenance.rows[3][1] == version_id(manifest)
    # classes in turn, the first 18 cells train, 6 valid, 6 test
    assert list(table.rows) == [[name, "-", "6", "2", "2", "10"] for name in "ABC"]
    assert list(table.foot) == [["total", "", "18", "6", "6", "30"]]
    assert [picture.title for picture in section.pictures] == ["Cells as recorded", "Training cells by class"]
    assert section.pictures[0].inches == 2.0


def test_quarantine_and_cells_that_cannot_be_drawn(make_dataset, monkeypatch):
    def fail(*_):
        raise errors.DataError("shard 'x': damaged")

    manifest = make_dataset(6)
    rows = pa.table({"class": ["B", None, "B"], "reason": ["not an image"] * 3})
    monkeypatch.setattr(Manifest, "quarantine", lambda self: rows)
    monkeypatch.setattr(module, "draw_figures", fail)
    section = data_section(manifest, "none", seed=0)
    table = section.tables[1]
    assert table.rows == [["(unlabelled)", "not an image", "1"], ["B", "not an image", "2"]]
    assert table.foot == [["total", "", "3"]]
    assert section.pictures == []
    assert section.paragraphs[-1] == "The cells could not be drawn: shard 'x': damaged"
    assert list(section.tables[0].header) == ["class", "collection", "total"]


def test_groups_by_side(planted):
    manifest = planted(60)
    sides = np.where(manifest.groups[:] == "donor-1", "test", "train")
    write_split(manifest.path, "whole", sides)
    section = splits_section(manifest, "whole")
    assert section.paragraphs == [
        "Split whole: train 75.0\u00a0%, valid 0.0\u00a0%, test 25.0\u00a0% of 60 cells.",
        "4 groups, each in one subset only: every test cell belongs to a group without training cells.",
    ]
    (table,) = section.tables
    assert table.caption == "Cells of each group by subset"
    assert sorted(table.rows) == [
        ["donor-0", "15", "0", "0"], ["donor-1", "0", "0", "15"], ["donor-2", "15", "0", "0"],
        ["donor-3", "15", "0", "0"],
    ]  # fmt: skip
    sides[np.flatnonzero(manifest.groups[:] == "donor-1")[0]] = "train"
    write_split(manifest.path, "torn", sides)
    assert splits_section(manifest, "torn").paragraphs[1].startswith("4 groups, 1 of them in more than one subset")


def test_many_groups_are_cut_to_the_largest(planted):
    manifest = planted(153, groups=51)  # 3 cells each
    groups = manifest.groups[:]
    groups[:6] = groups[150]  # one of nine, two gone
    object.__setattr__(manifest, "groups", CellGroups.of_names(groups, 153))
    (table,) = splits_section(manifest, "default").tables
    assert table.caption == "Cells of each group by subset, the 40 largest of 49 groups"
    assert len(table.rows) == 40
    assert sum(map(int, table.rows[0][1:])) == 9


@pytest.mark.parametrize("name", ["default", "gone"])
def test_no_groups_or_no_split(make_dataset, name):
    section = splits_section(make_dataset(30), name)
    assert section.tables == []
    expected = {
        "default": "The cells have no groups (donors, recordings, files)",
        "gone": "The data set has no split gone.",
    }
    assert section.paragraphs[-1].startswith(expected[name])
