"""DALI's decoder: batches in the order in which they were fed, and a failure that ends none but its own."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from fastcell.loading.decode_dali import Decoder

RNG = np.random.default_rng(0)
CELLS = [cv2.blur(RNG.integers(0, 256, (20 + i, 30)).astype(np.uint8), (5, 5)) for i in range(6)]


def encoded(cell: np.ndarray, ending: str = ".png") -> np.ndarray:
    return np.ascontiguousarray(cv2.imencode(ending, cell)[1].ravel())


def pixels(taken) -> list[np.ndarray]:
    return [np.array(taken.at(i))[:, :, 0] for i in range(len(taken))]


def test_batches_come_back_in_their_order() -> None:
    decoder = Decoder(3, 1, None)
    decoder.feed([encoded(cell) for cell in CELLS[:3]])
    decoder.feed([encoded(cell) for cell in CELLS[3:5]])
    for expected in (CELLS[:3], CELLS[3:5]):
        found = pixels(decoder.take())
        assert len(found) == len(expected)
        assert all(np.array_equal(one, other) for one, other in zip(found, expected, strict=True))


def test_jpeg_and_colour_become_grey() -> None:
    decoder = Decoder(2, 1, None)
    colour = cv2.merge([CELLS[0]] * 3)
    decoder.feed([encoded(CELLS[0], ".jpg"), encoded(colour)])
    jpeg, grey = pixels(decoder.take())
    expected = cv2.imdecode(encoded(CELLS[0], ".jpg"), cv2.IMREAD_GRAYSCALE)
    assert np.abs(jpeg.astype(int) - expected).max() <= 2
    assert np.abs(grey.astype(int) - CELLS[0]).max() <= 1


def test_a_failure_forgets_what_was_fed_and_the_next_batch_is_decoded() -> None:
    decoder = Decoder(2, 1, None)
    decoder.feed([encoded(CELLS[0]), np.frombuffer(b"no picture at all", np.uint8)])
    decoder.feed([encoded(CELLS[1])])
    with pytest.raises(RuntimeError):
        decoder.take()
    decoder.feed([encoded(CELLS[2])])
    (found,) = pixels(decoder.take())
    assert np.array_equal(found, CELLS[2])
