"""The window of grey levels, on every level of 16 bits."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastcell.dataset.grey_window import colours_to_grey, window_table


@given(st.integers(0, 65534), st.integers(1, 65535))
@settings(max_examples=50)
def test_window_table_on_every_level(low, span):
    high = min(low + span, 65535)
    table = window_table(low, high)
    levels = np.arange(65536)
    assert (table[levels <= low] == 0).all()
    assert (table[levels >= high] == 255).all()
    inside = levels[(levels > low) & (levels < high)]
    assert np.abs(table[inside] - (inside - low) * 255 / (high - low)).max(initial=0) <= 0.5 + 1e-9


def test_sixteen_bit_tables_round_nothing_away():
    table = window_table(100, 200, depth=16)
    assert table.dtype == np.uint16
    assert (table[:101] == 0).all()
    assert (table[200:] == 65535).all()
    expected = np.floor(np.arange(101) * 655.35 + 0.5)
    assert (table[100:201] == expected).all()


def test_the_table_cannot_be_changed_by_its_users():
    assert window_table(1, 300) is window_table(1, 300)
    with pytest.raises(ValueError, match="read-only"):
        window_table(1, 300)[0] = 9


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_colours_become_grey_by_weights_of_their_values(dtype):
    most = np.iinfo(dtype).max
    colours = np.random.default_rng(0).integers(0, most, (40, 50, 3), endpoint=True).astype(dtype)
    colours[0, :3] = [[most] * 3, [0] * 3, [most, 0, 0]]
    grey = colours_to_grey(colours)
    assert grey.dtype == dtype
    assert grey[0, :2].tolist() == [most, 0]
    assert np.abs(grey - colours.astype(float) @ (0.299, 0.587, 0.114)).max() <= 0.5 + 1e-9
