"""Splits of a listing: recordings without labels that are too few for the subsets."""

import pytest

from fastcell.packing.split_check import possible_options
from fastcell.sources.base import Listing, SourceItem
from fastcell.splits.make_splits import SplitOptions


def listing(*groups, classes=()):
    items = [SourceItem(f"{number}.png", "png", group=group) for number, group in enumerate(groups)]
    return Listing(items, list(classes))


@pytest.mark.parametrize(
    ("cells", "is_split"),
    [
        (listing("a", "a", "b"), False),
        (listing("a", "b", "c"), True),
        (listing("a", "a", "b", classes=["x"]), True),
        (listing(None, None), True),
    ],
)
def test_unlabelled_cells_of_too_few_groups_have_no_split(cells, is_split):
    said = []
    options = possible_options(cells, SplitOptions((0.6, 0.2, 0.2)), said.append)
    assert options.shares == ((0.6, 0.2, 0.2) if is_split else None)
    text = "note: no split: no cell is labelled, and 2 groups cannot fill 3 subsets."
    assert said == ([] if is_split else [text])
