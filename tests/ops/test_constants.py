"""Numbers that kernels know modes by."""

import pytest

from fastcell.errors import ArgumentError
from fastcell.ops.constants import FITS, MODES, mode_number


def test_modes_are_numbered_as_the_kernels_know_them():
    assert [mode_number(mode) for mode in ("divide", "subtract", "standardize")] == [0, 1, 2]
    assert MODES == ("divide", "subtract", "standardize")
    assert FITS == ("stretch", "contain", "scale")
    with pytest.raises(ArgumentError, match="mode must be one of divide, subtract, standardize, got 'mean'"):
        mode_number("mean")
