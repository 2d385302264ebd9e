"""Philox4x32-10 against the known answers of its authors' library (Random123, kat_vectors)."""

import numpy as np
import pytest

from fastcell.ops.philox import philox, uniform


@pytest.mark.parametrize(
    ("counter", "key", "want"),
    [
        ((0, 0, 0, 0), 0, (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((0xFFFFFFFF,) * 4, 0xFFFFFFFFFFFFFFFF, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            0x299F31D0A4093822,
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
def test_known_answers(counter, key, want):
    assert tuple(int(word) for word in philox(counter, key)) == want


def test_counters_broadcast_and_words_are_32_bits():
    words = philox((np.arange(5), 1, np.uint64(2), 3), np.uint64(2**64 - 1))
    for i in range(5):
        assert [int(word[i]) for word in words] == [int(word) for word in philox((i, 1, 2, 3), np.uint64(2**64 - 1))]
    assert max(int(word.max()) for word in words) < 2**32


def test_uniform_stays_inside_the_unit_interval():
    ends = uniform(np.array([0, 2**32 - 1], np.uint64))
    assert ends[0] == 2.0**-33
    assert ends[1] == 1 - 2.0**-33
