"""Logarithm, sine and cosine of the noise against float64, and its words against the reference."""

import numpy as np
from numba import njit

from fastcell.ops.cpu.noise import _log, _sincos_turns, _uniform
from fastcell.ops.philox import philox, philox_words


@njit
def _functions(uniforms, out):
    for i in range(uniforms.shape[0]):
        out[0, i] = _log(uniforms[i])
        out[1, i], out[2, i] = _sincos_turns(uniforms[i])


def test_functions_of_a_uniform_number():
    uniforms = (np.r_[np.arange(5), np.random.default_rng(0).integers(0, 2**23, 20_000), 2**23 - 1] + 0.5) / 2**23
    out = np.empty((3, len(uniforms)), np.float32)
    _functions(uniforms.astype(np.float32), out)
    np.testing.assert_allclose(out[0], np.log(uniforms), rtol=3e-7, atol=1e-12)
    np.testing.assert_allclose(out[1], np.sin(2 * np.pi * uniforms), atol=5e-7)
    np.testing.assert_allclose(out[2], np.cos(2 * np.pi * uniforms), atol=5e-7)


@njit
def _uniforms(words):
    return np.array([_uniform(word) for word in words])


def test_uniform_numbers_are_centres_of_equal_parts():
    words = np.array([0, 511, 512, 2**32 - 1], np.uint64)
    assert _uniforms(words).tolist() == [2.0**-24, 2.0**-24, 3 * 2.0**-24, 1 - 2.0**-24]


@njit
def _words(x0, x1, x2, x3, low, high):
    return philox_words(x0, x1, x2, x3, low, high)


def test_compiled_words_are_those_of_the_reference():
    counter, key = (5, 2**32 - 1, 77, 3), 2**63 + 12345
    got = _words(*(np.uint64(word) for word in (*counter, key & 0xFFFFFFFF, key >> 32)))
    assert got == tuple(int(word) for word in philox(counter, np.uint64(key)))
