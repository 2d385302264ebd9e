"""One image laid upon another: any turn is found, and bounds are learnt from copies."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from fastcell.splits.copies.near import Bounds, learn_bounds
from fastcell.splits.copies.registration import Fit, register
from fastcell.splits.copies.signature import find_scale, look_at


def cell(number: int, side: int = 36) -> np.ndarray:
    """A disc with a texture of its own on a grey background."""
    rng = np.random.default_rng(number)
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    inside = 1 / (1 + np.exp(np.hypot(y * rng.uniform(0.85, 1.2), x) - rng.uniform(9, 12)))
    texture = cv2.GaussianBlur(rng.normal(0, 1, (side, side)).astype(np.float32), (0, 0), 1.8)
    image = 100 + inside * (20 + 220 * texture) + rng.normal(0, 1, (side, side))
    return np.clip(image, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("angle", [0.0, 37.0, 180.0, 291.0])
@pytest.mark.parametrize("mirror", [False, True])
def test_registration_finds_any_turn(angle: float, mirror: bool) -> None:
    image, stranger = cell(3), cell(4)
    motion = cv2.getRotationMatrix2D((17.5, 17.5), angle, 1.0)
    motion[:, 2] += (1.5, -2.0)
    source = np.ascontiguousarray(image[:, ::-1]) if mirror else image
    moved = cv2.warpAffine(source, motion, (36, 36), borderMode=cv2.BORDER_CONSTANT, borderValue=100)
    scale = find_scale([image])
    first, second = look_at([image, stranger], scale), look_at([np.asarray(moved)], scale)
    same, other = register(first, second, np.array([[0, 0], [1, 0]]), 1)
    assert Bounds().met_by(same)
    assert not Bounds().met_by(other)


def test_bounds_never_fall_below_the_fixed_ones() -> None:
    assert learn_bounds([]) == Bounds()
    assert learn_bounds([Fit(0.975, 0.5, 1.0, 1.0)] * 100) == Bounds()
    learnt = learn_bounds([Fit(0.999, 0.998, 1.0, 1.0)] * 100)
    assert learnt.correlation == pytest.approx(0.9985)
    assert learnt.detail == pytest.approx(0.997)


def test_brightness_and_blur_do_not_count() -> None:
    image = cell(3)
    changed = np.clip(image.astype(float) * 0.8 + 15, 0, 255).round().astype(np.uint8)
    blurred = cv2.GaussianBlur(image, (0, 0), 1.0)
    scale = find_scale([image])
    first, second = look_at([image], scale), look_at([changed, blurred], scale)
    brighter, softer = register(first, second, np.array([[0, 0], [0, 1]]), 1)
    assert brighter.correlation > 0.999
    assert softer.correlation > 0.995
    assert (brighter.overlap, brighter.cell) == pytest.approx((1.0, 1.0), abs=1e-3)
    assert register(first, first, np.array([[0, 0]]), 1)[0] == pytest.approx((1.0, 1.0, 1.0, 1.0), abs=1e-3)


def test_pairs_are_answered_in_their_order_by_any_number_of_threads() -> None:
    scale = find_scale([cell(3)])
    looks = look_at([cell(number) for number in range(3, 7)], scale)
    pairs = np.array([[0, 1], [1, 1], [2, 3], [3, 3], [0, 0]] * 60)  # more than one part
    fits = register(looks, looks, pairs, 2)
    assert [fit.correlation > 0.999 for fit in fits] == [bool(a == b) for a, b in pairs.tolist()]
    assert fits == register(looks, looks, pairs, 1)


def test_a_bound_is_met_in_all_of_its_parts() -> None:
    good = Fit(0.995, 0.98, 1.0, 0.9)
    assert Bounds().met_by(good)
    for change in ({"correlation": 0.98}, {"detail": 0.96}, {"cell": 0.4}):
        assert not Bounds().met_by(good._replace(**change))
    assert not Bounds(0.999).met_by(good)
