"""Keys and counters of the random numbers of an augmentation."""

import numpy as np
import pytest

from fastcell.errors import ArgumentError
from fastcell.ops.philox import philox
from fastcell.ops.random_draws import change_words, noise_keys


def test_compiled_words_are_those_of_the_reference():
    positions = np.array([0, 1, 77, 2**32 + 5, 2**45], np.uint64)
    words = change_words(2**64 - 3, 2**32 - 1, positions)
    for n in range(3):
        want = philox((positions, positions >> np.uint64(32), 2**32 - 1, n), np.uint64(2**64 - 3))
        np.testing.assert_array_equal(words[n], np.stack(want))


def test_words_of_no_cell():
    assert change_words(1, 2, np.empty(0, np.int64)).shape == (3, 4, 0)


def test_a_key_of_noise_has_the_low_word_first():
    keys = noise_keys(np.array([1, 0xFFFFFFFF], np.uint64), np.array([2, 3], np.uint64))
    assert keys.tolist() == [(2 << 32) + 1, (3 << 32) + 0xFFFFFFFF]


@pytest.mark.parametrize(
    ("seed", "epoch", "positions", "name"),
    [(-1, 0, [0], "seed"), (1 << 64, 0, [0], "seed"), (0, 1 << 32, [0], "epoch"), (0, 0, [-1], "positions"),
     (0, 0, [[1]], "positions"), (0, 0, [0.5], "positions")],
)  # fmt: skip
def test_bad_arguments_are_named(seed, epoch, positions, name):
    with pytest.raises(ArgumentError, match=rf"^{name} must be "):
        change_words(seed, epoch, np.array(positions))
