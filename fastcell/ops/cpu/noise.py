"""Compiled loops that add normal noise to an image, from random words that depend on the key of the image alone."""

from __future__ import annotations

import numpy as np
from numba import njit

from fastcell.ops.cpu.compiled_loops import FAST, INLINE, INTERNAL
from fastcell.ops.cpu.llvm import bits_float, float_bits
from fastcell.ops.philox import philox_words

F32 = np.float32

# Philox counters that are processed at once, so that their words stay in the cache.
NOISE_RUN = 512


@njit(**INLINE, **FAST)
def _log(value):  # type: ignore[no-untyped-def]
    """Return the natural logarithm of a normal positive float32; branch-free Cephes polynomial (Moshier 1992)."""
    bits = float_bits(value)
    exponent = (bits >> np.int32(23)) - np.int32(126)
    mantissa = bits_float((bits & np.int32(0x007FFFFF)) | np.int32(0x3F000000))
    small = mantissa < F32(0.70710678)
    exponent = exponent - np.int32(1) if small else exponent
    x = mantissa + mantissa - F32(1.0) if small else mantissa - F32(1.0)
    z = x * x
    p = F32(7.0376836292e-2)
    p = p * x + F32(-1.1514610310e-1)
    p = p * x + F32(1.1676998740e-1)
    p = p * x + F32(-1.2420140846e-1)
    p = p * x + F32(1.4249322787e-1)
    p = p * x + F32(-1.6668057665e-1)
    p = p * x + F32(2.0000714765e-1)
    p = p * x + F32(-2.4999993993e-1)
    p = p * x + F32(3.3333331174e-1)
    e = F32(exponent)
    p = p * x * z + F32(-2.12194440e-4) * e - F32(0.5) * z
    return x + p + F32(0.693359375) * e


@njit(**INLINE, **FAST)
def _sincos_turns(turns):  # type: ignore[no-untyped-def]
    """Return sine and cosine of 2 pi turns in float32, turns in [0, 1); branch-free Cephes polynomials."""
    quarter = np.int32(turns * F32(4.0) + F32(0.5))
    angle = (turns - F32(quarter) * F32(0.25)) * F32(6.283185307179586)
    z = angle * angle
    s = ((F32(-1.9515295891e-4) * z + F32(8.3321608736e-3)) * z + F32(-1.6666654611e-1)) * z * angle + angle
    c = ((F32(2.443315711809948e-5) * z + F32(-1.388731625493765e-3)) * z + F32(4.166664568298827e-2)) * z * z
    c = c - F32(0.5) * z + F32(1.0)
    odd = (quarter & np.int32(1)) != 0
    sine = c if odd else s
    cosine = s if odd else c
    sine = -sine if (quarter & np.int32(2)) != 0 else sine
    cosine = -cosine if ((quarter + np.int32(1)) & np.int32(2)) != 0 else cosine
    return sine, cosine


@njit(**INLINE, **FAST)
def _uniform(word):  # type: ignore[no-untyped-def]
    """Return a 23-bit uniform in (0, 1). It is exact in float32, so all devices agree bit for bit."""
    return (F32(np.int32(word >> np.uint64(9))) + F32(0.5)) * F32(1.1920928955078125e-7)


@njit(**INTERNAL, **FAST)
def add_noise(image, std, seed, uniforms, normals):  # type: ignore[no-untyped-def]
    """Add normal noise to an image; scratch uniforms and normals are float32 (4, a multiple of ceil(S / 4)).

    Counter y * Q + i with Q = ceil(S / 4) gives the normals of row y at columns i, i + Q, i + 2 Q and i + 3 Q (Box and
    Muller 1958: words 0 and 1 give the first two, words 2 and 3 the others). The size of the scratch determines how
    many rows are processed at once.
    """
    size = image.shape[0]
    quarter = (size + 3) // 4
    rows = uniforms.shape[1] // quarter
    key_low, key_high, zero = seed & np.uint64(0xFFFFFFFF), seed >> np.uint64(32), np.uint64(0)
    u0, u1, u2, u3 = uniforms[0], uniforms[1], uniforms[2], uniforms[3]
    for begin in range(0, size, rows):
        end = min(begin + rows, size)
        count = (end - begin) * quarter
        for i in range(count):
            counter = np.uint64(begin * quarter + i) & np.uint64(0xFFFFFFFF)
            r0, r1, r2, r3 = philox_words(counter, zero, zero, zero, key_low, key_high)
            u0[i] = _uniform(r0)
            u1[i] = _uniform(r1)
            u2[i] = _uniform(r2)
            u3[i] = _uniform(r3)
        for pair in range(2):
            first, second = uniforms[2 * pair], uniforms[2 * pair + 1]
            cosines, sines = normals[2 * pair], normals[2 * pair + 1]
            for i in range(count):
                radius = std * np.sqrt(F32(-2.0) * _log(first[i]))
                sine, cosine = _sincos_turns(second[i])
                cosines[i] = radius * cosine
                sines[i] = radius * sine
        for y in range(begin, end):
            for k in range(4):
                line, out = normals[k, (y - begin) * quarter :], image[y, k * quarter : min((k + 1) * quarter, size)]
                for i in range(out.shape[0]):
                    out[i] += line[i]
