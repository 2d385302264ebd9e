import numpy as np
import pytest

from fastcell.dataset.marks.cell_ranges import read_ranges, write_ranges


@pytest.mark.parametrize(
    ("ids", "text"), [([3], "3"), ([0, 1, 2], "0-2"), ([9, 1, 2, 2, 0, 7], "0-2,7,9"), ([4, 6, 8], "4,6,8")]
)
def test_there_and_back(ids, text):
    assert write_ranges(np.array(ids)) == text
    assert read_ranges(text, 10).tolist() == sorted(set(ids))


def test_random_sets_come_back():
    rng = np.random.default_rng(0)
    for size in (1, 10, 500, 999):
        ids = np.sort(rng.choice(1_000, size, replace=False))
        np.testing.assert_array_equal(read_ranges(write_ranges(ids), 1_000), ids)


@pytest.mark.parametrize("text", ["", "a", "1,", "-1", "3-1", "10", "0-10", "1 2", "0-9,0-9", "1\n", "٣", "0x1"])
def test_other_text_is_refused(text):
    with pytest.raises(ValueError, match=r"cells must be|a cell must"):
        read_ranges(text, 10)


def test_no_cell_is_no_text():
    assert write_ranges(np.empty(0, np.int64)) == ""
