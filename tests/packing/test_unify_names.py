"""Names in two Unicode forms are one name: in class folders, keys, groups and tables; and names that are alike."""

import unicodedata

import cv2
import numpy as np
import pytest

from fastcell.dataset.single_cells import read_cells
from fastcell.errors import DataError
from fastcell.packing.pack import pack
from fastcell.packing.unify_names import similar_names, unify_names
from fastcell.sources.base import Listing, SourceItem
from fastcell.sources.registry import ReadOptions
from fastcell.splits.make_splits import SplitOptions
from fastcell.splits.read_groups import read_grouping

NFC, NFD = "Gr\u00f6\u00dfe", "Gro\u0308\u00dfe"


def write(path, level):
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((3, 4), level, np.uint8))


def test_class_folders_of_one_name_in_two_forms_are_one_class(tmp_path):
    root = tmp_path / "images"
    write(root / NFC / "a.png", 10)
    write(root / NFD / "b.png", 20)
    write(root / "x" / "c.png", 30)
    assert len(list(root.iterdir())) == 3
    manifest = pack(root, tmp_path / "out", split=SplitOptions(None))
    assert manifest.info.classes == [NFC, "x"]
    levels = [int(cell[0, 0]) for cell in read_cells(manifest, range(3))]
    told = dict(zip(manifest.column("key").tolist(), levels, strict=True))
    assert told == {f"{NFC}/a.png": 10, f"{NFC}/b.png": 20, "x/c.png": 30}
    assert all(unicodedata.is_normalized("NFC", key) for key in told)
    (tmp_path / "groups.csv").write_text(f"key,donor\n{NFD}/a.png,1\n{NFC}/b.png,2\n", encoding="utf-8")
    groups = read_grouping(manifest, f"{tmp_path / 'groups.csv'}:donor").groups
    assert groups is not None
    assert dict(zip(manifest.column("key").tolist(), groups[:].tolist(), strict=True)) == {
        f"{NFC}/a.png": "1",
        f"{NFC}/b.png": "2",
        "x/c.png": "",
    }


def test_two_cells_of_one_name_are_an_error(tmp_path):
    root = tmp_path / "images"
    write(root / NFC / "a.png", 10)
    write(root / NFD / "a.png", 20)
    with pytest.raises(DataError, match=r"is the name of two cells, which differ only in Unicode form \('Gro"):
        pack(root, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_pattern_and_lists_in_the_other_form(tmp_path):
    root = tmp_path / "images"
    write(root / f"{NFD}_a.png", 10)
    manifest = pack(root, tmp_path / "out", pattern="{class}_" + "{name}", split=SplitOptions(None))
    assert manifest.info.classes == [NFC]
    (root / "Train.txt").write_text(f"{NFC}_a.png 0\n", encoding="utf-8")
    (root / "labels.txt").write_text(f"{NFD} 0\n", encoding="utf-8")
    manifest = pack(root, tmp_path / "lists", read=ReadOptions(format="lists"), split=SplitOptions(None))
    assert manifest.info.classes == [NFC]
    assert manifest.column("key").tolist() == [f"{NFC}_a.png"]


def test_ascii_listings_stay_as_they_are():
    listing = Listing([SourceItem("a.png", "png", "A")], ["A"])
    unified = unify_names(listing)
    assert unified.items == listing.items
    assert unified.classes == ["A"]
    other = unify_names(Listing([SourceItem(f"{NFD}.png", "png", NFD, NFD)], [NFD, NFC]))
    assert other.items == [SourceItem(f"{NFD}.png", "png", NFC, NFC)]
    assert other.classes == [NFC]


def test_names_that_are_alike_are_noted():
    items = [SourceItem(f"{i}.png", "png", None, group) for i, group in enumerate(["d1", "D1", "d2", None])]
    assert similar_names(Listing(items, ["A b", "ab", "C"])) == [
        "classes whose names differ only in upper and lower case or blanks count as different: 'A b', 'ab'.",
        "groups whose names differ only in upper and lower case or blanks count as different: 'D1', 'd1'.",
    ]
    assert similar_names(Listing(items[2:], ["A", "B"])) == []
