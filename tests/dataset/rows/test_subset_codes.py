"""Two bits a cell hold what a byte held."""

import numpy as np
import pytest

from fastcell.dataset.rows import subset_codes
from fastcell.dataset.rows.subset_codes import SubsetCodes


@pytest.mark.parametrize("num", [0, 1, 3, 4, 5, 23])
def test_codes_come_back(num, monkeypatch):
    monkeypatch.setattr(subset_codes, "_PART", 8)
    codes = np.random.default_rng(num).integers(-1, 3, num).astype(np.int8)
    packed = SubsetCodes(codes)
    assert len(packed) == num
    assert packed.whole().dtype == np.int8
    np.testing.assert_array_equal(packed.whole(), codes)
    for begin in range(num + 1):
        for end in range(begin, num + 3):
            np.testing.assert_array_equal(packed.part(begin, end), codes[begin:end])
