"""What a search for copies sees of cells: centres, levels, and signatures that turns keep."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from fastcell.splits.copies.signature import (
    LEVELS,
    NUM_HARMONICS,
    NUM_RINGS,
    WORKING_AREA_PX,
    Scale,
    border_level,
    find_scale,
    join_looks,
    look_at,
)

SCALE = Scale(1.0, 20.0)


def cell(number: int, side: int = 41, at: tuple[int, int] = (0, 0)) -> np.ndarray:
    """(side, side): a disc with a texture of its own on grey 100, off the middle by `at`."""
    rng = np.random.default_rng(number)
    y, x = np.mgrid[:side, :side] - side // 2
    texture = cv2.GaussianBlur(rng.normal(0, 1, (side, side)).astype(np.float32), (0, 0), 2.5)
    disc = np.hypot(y, x) < 9
    image = np.where(disc, 160 + 250 * texture, 100.0)
    image = np.roll(image, at, (0, 1))
    return np.clip(image, 0, 255).astype(np.uint8)


def distance(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.linalg.norm(one - other))


def test_turns_and_mirrors_keep_the_signature():
    image = cell(0)
    turned = [np.ascontiguousarray(np.rot90(image, turn)) for turn in range(4)]
    mirrored = [np.ascontiguousarray(way[:, ::-1]) for way in turned]
    same = look_at([*turned, *mirrored], SCALE).signatures
    strangers = look_at([cell(number) for number in range(1, 9)], SCALE).signatures
    far = min(distance(same[0], stranger) for stranger in strangers)
    assert max(distance(same[0], way) for way in same) < 0.05 * far


def test_other_angles_and_shifts_come_near():
    image = cell(0)
    middle = (20.0, 20.0)
    turned = cv2.warpAffine(image, cv2.getRotationMatrix2D(middle, 33, 1), (41, 41), borderValue=100)
    looks = look_at([image, np.asarray(turned), cell(0, at=(3, -4)), cell(5)], SCALE)
    one, angle, shift, stranger = looks.signatures
    assert distance(one, angle) < 0.3 * distance(one, stranger)
    assert distance(one, shift) < 0.1 * distance(one, stranger)


@pytest.mark.parametrize("factor", [0.8, 1.25])
def test_half_of_the_signature_keeps_under_rescaling(factor):
    resized = cv2.resize(cell(0, 45), None, fx=factor, fy=factor, interpolation=cv2.INTER_LINEAR)
    one, other, stranger = look_at([cell(0, 45), np.asarray(resized), cell(5, 45)], SCALE).signatures
    own, fixed = slice(0, len(one) // 2), slice(len(one) // 2, len(one) - 1)
    assert distance(one[own], other[own]) < 0.3 * distance(one[own], stranger[own])
    assert distance(one[fixed], other[fixed]) > 2 * distance(one[own], other[own])
    assert other[-1] - one[-1] == pytest.approx(np.log(factor) / 2, abs=0.03)


def test_centres_are_those_of_what_stands_out():
    looks = look_at([cell(0), cell(0, at=(3, -4))], SCALE)
    np.testing.assert_allclose(looks.centers[1] - looks.centers[0], [-4, 3], atol=0.05)  # x, then y
    flat = look_at([np.full((9, 15), 80, np.uint8)], SCALE)
    assert flat.centers.tolist() == [[7.0, 4.0]]


def test_levels_are_smoothed_and_above_the_border():
    image = cell(0)
    looks = look_at([cell(1), image], SCALE)
    expected = cv2.GaussianBlur(image.astype(np.float32) - 100, (0, 0), 1.0, borderType=cv2.BORDER_REPLICATE)
    np.testing.assert_allclose(looks.image(1), expected, atol=0.51 / LEVELS)
    assert np.linalg.norm(looks.spectra[0, :, 0]) > 0
    assert looks.spectra.shape == (2, NUM_RINGS, NUM_HARMONICS)


def test_brightness_does_not_change_the_spectra():
    dim = (100 + 0.5 * (cell(0).astype(float) - 100)).round().astype(np.uint8)
    spectra = look_at([cell(0), dim], SCALE).spectra
    assert np.abs(spectra[0] - spectra[1]).max() < 0.02 * np.abs(spectra[0]).max()


@pytest.mark.parametrize(
    ("image", "is_plain"),
    [
        (cell(0), False),
        (np.full((30, 30), 80, np.uint8), True),
        (cell(0)[:, 17:24], True),  # 7 pixels wide
        (cell(0)[15:24, 15:25], True),  # 90 pixels
        (cell(0)[15:25, 15:25], False),  # 100 pixels
    ],
)
def test_cells_that_show_too_little_are_plain(image, is_plain):
    assert look_at([np.ascontiguousarray(image)], SCALE).plain.tolist() == [is_plain]


def test_the_scale_brings_large_cells_down():
    small = find_scale([cell(number) for number in range(3)])
    assert small.factor == 1.0
    large = find_scale([cv2.resize(cell(number), (256, 256)) for number in range(3)])
    assert large.factor == pytest.approx((WORKING_AREA_PX / 256**2) ** 0.5)
    assert look_at([cv2.resize(cell(0), (256, 128))], large).image(0).shape == (32, 64)
    # twice the radius of gyration of a disc of radius 9, which is 9 / sqrt(2)
    assert small.reach_px == pytest.approx(2 * 9 / 2**0.5, rel=0.2)


def test_looks_are_joined_and_taken_in_order():
    cells = [cell(0), cell(1, 31), cell(2), cell(3, 35)]
    whole = look_at(cells, SCALE)
    joined = join_looks([look_at(cells[:1], SCALE), look_at(cells[1:], SCALE)])
    taken = whole.take(np.array([3, 1]))
    assert (len(joined), len(taken)) == (4, 2)
    for number in range(4):
        np.testing.assert_array_equal(joined.image(number), whole.image(number))
    np.testing.assert_array_equal(joined.signatures, whole.signatures)
    np.testing.assert_array_equal(taken.image(0), whole.image(3))
    np.testing.assert_array_equal(taken.image(1), whole.image(1))
    np.testing.assert_array_equal(taken.centers, whole.centers[[3, 1]])
    assert len(whole.take(np.empty(0, np.int64))) == len(look_at([], SCALE)) == 0


@pytest.mark.parametrize(
    ("image", "level"), [([[1, 2], [3, 4]], 2.5), ([[5, 5, 5], [5, 99, 5], [5, 5, 6]], 5), ([[1, 2, 9]], 2)]
)
def test_level_of_the_border(image, level):
    assert border_level(np.array(image, np.uint8)) == level
