"""One image laid upon another: any turn and scale is found."""

import cv2
import numpy as np
import pytest
from fixtures.textured_discs import textured_disc

from fastcell.splits.copies.bounds import Bounds
from fastcell.splits.copies.registration import register
from fastcell.splits.copies.signature import find_scale, look_at


@pytest.mark.parametrize("angle", [0.0, 37.0, 180.0, 291.0])
@pytest.mark.parametrize("mirror", [False, True])
def test_registration_finds_any_turn(angle, mirror):
    image, stranger = textured_disc(3), textured_disc(4)
    motion = cv2.getRotationMatrix2D((17.5, 17.5), angle, 1.0)
    motion[:, 2] += (1.5, -2.0)
    source = np.ascontiguousarray(image[:, ::-1]) if mirror else image
    moved = cv2.warpAffine(source, motion, (36, 36), borderMode=cv2.BORDER_CONSTANT, borderValue=100)
    scale = find_scale([image])
    first, second = look_at([image, stranger], scale), look_at([np.asarray(moved)], scale)
    same, other = register(first, second, np.array([[0, 0], [1, 0]]), 1)
    assert Bounds().met_by(same)
    assert not Bounds().met_by(other)


@pytest.mark.parametrize("factor", [0.8, 0.9, 1.1, 1.25])
def test_registration_finds_the_scale(factor):
    image = textured_disc(3)
    resized = cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA if factor < 1 else 1)
    enlarged = cv2.warpAffine(
        image, cv2.getRotationMatrix2D((17.5, 17.5), 25, factor), (36, 36), borderMode=cv2.BORDER_REPLICATE
    )
    scale = find_scale([image])
    first, second = look_at([image], scale), look_at([resized, np.asarray(enlarged), textured_disc(4)], scale)
    *copies, stranger = register(first, second, np.array([[0, 0], [0, 1], [0, 2]]), 1)
    assert all(Bounds().met_by(fit) for fit in copies)
    assert not Bounds().met_by(stranger)


def test_brightness_and_blur_do_not_count():
    image = textured_disc(3)
    changed = np.clip(image.astype(float) * 0.8 + 15, 0, 255).round().astype(np.uint8)
    blurred = cv2.GaussianBlur(image, (0, 0), 1.0)
    scale = find_scale([image])
    first, second = look_at([image], scale), look_at([changed, blurred], scale)
    brighter, softer = register(first, second, np.array([[0, 0], [0, 1]]), 1)
    assert brighter.correlation > 0.999
    assert softer.correlation > 0.995
    assert (brighter.overlap, brighter.cell) == pytest.approx((1.0, 1.0), abs=1e-3)
    assert register(first, first, np.array([[0, 0]]), 1)[0] == pytest.approx((1.0, 1.0, 1.0, 1.0), abs=1e-3)


def test_pairs_are_answered_in_their_order_by_any_number_of_threads():
    scale = find_scale([textured_disc(3)])
    looks = look_at([textured_disc(number) for number in range(3, 7)], scale)
    pairs = np.array([[0, 1], [1, 1], [2, 3], [3, 3], [0, 0]] * 60)  # more than one part
    fits = register(looks, looks, pairs, 2)
    assert [fit.correlation > 0.999 for fit in fits] == [bool(a == b) for a, b in pairs.tolist()]
    assert fits == register(looks, looks, pairs, 1)
