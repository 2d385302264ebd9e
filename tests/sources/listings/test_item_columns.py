"""Cells as columns are the cells of a list."""

import hashlib
import math
import pickle
import sys

import numpy as np
import pytest

from fastcell.sources.base import SourceItem
from fastcell.sources.listings.item_columns import ItemColumns, SomeItems

ITEMS = [
    SourceItem("A/é.png", "png", "A", "donor", None, 0.5),
    SourceItem("B/\udcff.png", "png", "B", None, "day 1", math.nan, ("file", 3)),
    SourceItem("", "raw", None, None, None, 2.5),
]


def test_items_come_back():
    found = ItemColumns.of(iter(ITEMS))
    assert found == ITEMS
    assert found[-1] == ITEMS[2]
    assert found[1:] == ITEMS[1:]
    assert len(found) == 3
    assert ItemColumns.of(found) is found
    with pytest.raises(IndexError):
        found[3]


def test_columns():
    found = ItemColumns.of(ITEMS)
    assert found.different("class_name") == ["A", "B", None]
    assert found.column("group") == ["donor", None, None]
    assert found.numbers("encoding").tolist() == [0, 0, 1]
    np.testing.assert_array_equal(found.um_per_px, [0.5, math.nan, 2.5])
    assert not found.is_ascii
    assert ItemColumns.of([SourceItem("a", "png", "x")]).is_ascii
    assert not ItemColumns.of([SourceItem("a", "png", "é")]).is_ascii


def test_no_items():
    found = ItemColumns.of([])
    assert not found
    assert list(found) == []
    assert found.take(np.empty(0, np.int64)) == []
    assert found.um_per_px.shape == (0,)


def test_some_items_travel_alone():
    many = ItemColumns.of(SourceItem(f"A/{number:05d}.jpg", "jpg", "A") for number in range(5000))
    some = SomeItems(many, np.array([4999, 0, 17], np.uint16))
    assert [item.key for item in some] == ["A/04999.jpg", "A/00000.jpg", "A/00017.jpg"]
    assert some[1:][0].key == "A/00000.jpg"
    sent = pickle.dumps(some)
    assert len(sent) < 1500
    assert pickle.loads(sent) == some


def test_a_hash_knows_every_column_but_places():
    def digest(items):
        value = hashlib.sha256()
        ItemColumns.of(items).update(value)
        return value.hexdigest()

    other = [*ITEMS[:2], ITEMS[2]._replace(place=("x",))]
    assert digest(other) == digest(ITEMS)
    changes = [{"key": "x"}, {"class_name": "B"}, {"group": "g"}, {"collection": "c"}, {"um_per_px": 1.0}]
    assert len({digest([ITEMS[0]._replace(**change), *ITEMS[1:]]) for change in [{}, *changes]}) == 6


def test_memory_of_a_cell():
    many = ItemColumns.of(
        SourceItem(f"class {number % 4}/{number:06d}.jpg", "jpg", f"{number % 4}") for number in range(9999)
    )
    kept = len(many._keys) + many._ends.nbytes + sum(codes.nbytes for codes in many._codes.values())
    assert kept + sys.getsizeof(many._um_per_px) < 40 * len(many)
