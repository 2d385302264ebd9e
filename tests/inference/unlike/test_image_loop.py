"""The compiled loop against the same measurements written in NumPy."""

import numpy as np
import pytest

from fastcell.inference.unlike import image_loop
from fastcell.inference.unlike.image_loop import FIRST_NOISE, FIRST_RING, MOST_SIDE, NUM_FEATURES, NUM_RINGS


def halved(image):
    half = len(image) // 2
    return image[: 2 * half, : 2 * half].reshape(half, 2, half, 2).mean(axis=(1, 3))


def noise(image):
    half = len(image) // 2
    squares = image[: 2 * half, : 2 * half].reshape(half, 2, half, 2)
    a, b, c, d = squares[:, 0, :, 0], squares[:, 0, :, 1], squares[:, 1, :, 0], squares[:, 1, :, 1]
    rim = max(half // 8, 1)
    inside = np.zeros((half, half), bool)
    inside[rim : half - rim, rim : half - rim] = True
    plain = (np.abs(a + c - b - d) + np.abs(a + b - c - d))[~inside].mean()
    return np.log([plain + 1e-4, np.abs(a + d - b - c)[~inside].mean() + 1e-4])


def expected(image):
    small = image
    while len(small) > MOST_SIDE:
        small = halved(small)
    side = len(small)
    edge = np.ones((side, side), bool)
    edge[1:-1, 1:-1] = False
    level, spread = small[edge].mean(), small[edge].std()
    away = small - small.mean()
    second = (away**2).mean()
    at = (np.arange(side) - (side - 1) / 2) / side
    y, x = np.meshgrid(at, at, indexing="ij")
    weight = np.maximum(np.abs(small - level) - spread, 0)
    share = weight / weight.sum()
    my, mx = (share * y).sum(), (share * x).sum()
    moments = np.array(
        [
            [(share * (y - my) ** 2).sum(), (share * (y - my) * (x - mx)).sum()],
            [(share * (y - my) * (x - mx)).sum(), (share * (x - mx) ** 2).sum()],
        ]
    )
    low, high = np.linalg.eigvalsh(moments)
    ring = np.minimum((np.hypot(y, x) * 2 * NUM_RINGS).astype(int), NUM_RINGS - 1)
    values = [
        level,
        spread,
        0.5 * np.log(second + 1e-7),
        (away**3).mean() / second**1.5,
        np.log(1 + (away**4).mean() / second**2),
        small.min() - level,
        small.max() - level,
        np.log(weight.mean() + 1e-4),
        0.5 * np.log(np.trace(moments) + 1e-4),
        np.hypot(my, mx),
        0.5 * np.log((high + 1e-4) / (low + 1e-4)),
    ]
    return [
        *values,
        *(small[ring == number].mean() - level for number in range(NUM_RINGS)),
        *noise(image),
        *noise(halved(image)),
    ]


@pytest.mark.parametrize("size", [17, 24, 32, 33, 50, 64, 128])
def test_features_are_those_of_numpy(size):
    rng = np.random.default_rng(size)
    y, x = np.mgrid[:size, :size] / size
    blob = 1.5 * np.exp(-((x - 0.55) ** 2 + 2 * (y - 0.45) ** 2) / 0.02)
    images = (1 + blob + rng.normal(0, 0.05, (3, size, size))).astype(np.float32)
    out = np.full((3, NUM_FEATURES), np.nan, np.float32)
    image_loop.measure_images(images, out)
    for image, row in zip(images.astype(np.float64), out, strict=True):
        np.testing.assert_allclose(row, expected(image), rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize("size", [8, 9, 13, 16])
def test_the_smallest_images_have_finite_features(size):
    images = np.random.default_rng(0).random((4, size, size)).astype(np.float32)
    images[1] = 1.0
    out = np.full((4, NUM_FEATURES), np.nan, np.float32)
    image_loop.measure_images(images, out)
    assert np.isfinite(out).all()
    assert out[1, FIRST_NOISE] == pytest.approx(np.log(1e-4), abs=1e-4)
    assert (np.abs(out[1, FIRST_RING : FIRST_RING + NUM_RINGS]) < 1e-6).all()
