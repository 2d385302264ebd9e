"""The compiled JPEG decoder against OpenCV's libjpeg, bit by bit, and against bytes that are no JPEG it knows."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from fastcell.errors import ArgumentError
from fastcell.ops.jpeg import decode_jpegs

GUARD = 64


def decode_all(images: Sequence[bytes], sides: Sequence[tuple[int, int]]) -> list[np.ndarray | None]:
    """Pixels of each image, None for those that are left; between them is memory that must stay as it is."""
    data = np.frombuffer(b"".join(images), np.uint8)
    sizes = np.array([len(image) for image in images], np.int64)
    heights, widths = (np.array(column, np.int32) for column in zip(*sides, strict=True))
    pixels = heights.astype(np.int64) * widths
    offsets = GUARD + np.cumsum(pixels + GUARD) - pixels - GUARD
    out = np.full(int(pixels.sum()) + GUARD * (len(images) + 1), 77, np.uint8)
    done = decode_jpegs(data, np.cumsum(sizes) - sizes, sizes, heights, widths, out, offsets)
    parts = [slice(start, start + size) for start, size in zip(offsets.tolist(), pixels.tolist(), strict=True)]
    found = [out[part].reshape(side).copy() for part, side in zip(parts, sides, strict=True)]
    for part in parts:
        out[part] = 77
    assert (out == 77).all()
    return [image if good else None for image, good in zip(found, done.tolist(), strict=True)]


def reference(data: bytes) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE)


def encode(pixels: np.ndarray, quality: int = 90, *more: int) -> bytes:
    return bytes(cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality, *more])[1])


def by_pillow(pixels: np.ndarray, **options: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", **options)
    return file.getvalue()


def pictures(height: int, width: int, seed: int) -> dict[str, np.ndarray]:
    """From empty to the worst that a transform can meet."""
    rng = np.random.default_rng(seed)
    noise = rng.integers(0, 256, (height, width)).astype(np.uint8)
    rows, columns = np.mgrid[:height, :width]
    return {
        "flat": np.full((height, width), rng.integers(0, 256), np.uint8),
        "noise": noise,
        "smooth": cv2.GaussianBlur(noise, (0, 0), 3),
        "black and white": np.where(noise < 128, 0, 255).astype(np.uint8),
        "chequers": ((rows + columns) % 2 * 255).astype(np.uint8),
        "ramp": ((rows * 7 + columns * 3) % 256).astype(np.uint8),
        "cell": (128 + 60 * np.exp(-((rows - height / 2) ** 2 + (columns - width / 2) ** 2) / 50)).astype(np.uint8),
    }


@pytest.mark.parametrize("quality", [1, 20, 50, 75, 90, 95, 100])
def test_pixels_are_those_of_libjpeg(quality: int) -> None:
    """All kinds of content in sizes below, at and above the 8 x 8 of a block."""
    sides = [(1, 1), (1, 9), (7, 8), (8, 8), (9, 7), (8, 16), (16, 8), (15, 17), (31, 64), (51, 293), (128, 128)]
    images = [
        picture for seed, side in enumerate(sides) for picture in pictures(side[0], side[1], seed + quality).values()
    ]
    encoded = [encode(image, quality) for image in images]
    for got, data in zip(decode_all(encoded, [image.shape for image in images]), encoded, strict=True):
        assert got is not None
        np.testing.assert_array_equal(got, reference(data))


def test_tables_of_other_encoders() -> None:
    """Codes made for the image, and quantisers of other scales, change from cell to cell."""
    images = [picture for seed in range(6) for picture in pictures(33 + seed, 50, seed).values()]
    variants = [{"optimize": True}, {"quality": 30}, {"quality": 97, "optimize": True}, {"qtables": [[16] * 64]}]
    encoded = [by_pillow(image, **variants[n % 4]) for n, image in enumerate(images)]
    for got, data in zip(decode_all(encoded, [image.shape for image in images]), encoded, strict=True):
        assert got is not None
        np.testing.assert_array_equal(got, reference(data))


def test_real_cells(real_data: Path) -> None:
    files = sorted((real_data / "atom-samples").glob("*.jp*g"))
    assert files
    encoded = [file.read_bytes() for file in files]
    wanted = [reference(data) for data in encoded]
    found = decode_all(encoded, [pixels.shape for pixels in wanted])
    grey = [Image.open(file).mode == "L" for file in files]
    assert [got is not None for got in found] == grey
    assert any(grey)
    for got, pixels in zip(found, wanted, strict=True):
        if got is not None:
            np.testing.assert_array_equal(got, pixels)


CELL = pictures(40, 60, 0)["smooth"]
EXIF = Image.Exif()
EXIF[0x0112] = 6  # turned by a quarter
LEFT = {
    "colour": encode(np.dstack([CELL] * 3)),
    "progressive": encode(CELL, 90, cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
    "restarts": encode(CELL, 90, cv2.IMWRITE_JPEG_RST_INTERVAL, 1),
    "EXIF": by_pillow(CELL, exif=EXIF),
    "PNG": bytes(cv2.imencode(".png", CELL)[1]),
    "nothing": b"",
    "two bytes": b"\xff\xd8",
    "zeros": bytes(100),
    "no end": encode(CELL)[:-2],
    "no scan": encode(CELL)[:300],
}


@pytest.mark.parametrize("kind", LEFT)
def test_what_is_left_to_other_decoders(kind: str) -> None:
    """Beside cells that are decoded, which it does not touch."""
    good = encode(CELL)
    found = decode_all([good, LEFT[kind], good], [CELL.shape] * 3)
    assert found[1] is None
    for got in (found[0], found[2]):
        np.testing.assert_array_equal(got, reference(good))


def test_a_table_that_is_no_code_does_not_spoil_the_next_cell() -> None:
    good = encode(CELL)
    table = good.index(b"\xff\xc4") + 5
    bad = good[:table] + b"\xff" * 16 + good[table + 16 :]
    too_many = good[:table] + b"\x03" + good[table + 1 :]
    found = decode_all([good, bad, good, too_many, good], [CELL.shape] * 5)
    assert [got is not None for got in found] == [True, False, True, False, True]
    np.testing.assert_array_equal(found[4], reference(good))


def test_other_sides_than_asked_for() -> None:
    good = encode(CELL)
    found = decode_all([good] * 4, [(40, 60), (41, 60), (40, 59), (60, 40)])
    assert [got is not None for got in found] == [True, False, False, False]


def test_a_scan_that_ends_early_is_left() -> None:
    """Every cut, with the marker of the end put behind it: libjpeg fills with grey there."""
    good = encode(CELL)
    begin = good.index(b"\xff\xda") + 10
    cuts = range(begin, len(good) - 4)
    found = decode_all([good[:cut] + b"\xff\xd9" for cut in cuts], [CELL.shape] * len(cuts))
    assert all(got is None for got in found)


# Each image ends where readable memory ends, and its pixels where writable memory ends: a step too far is a signal.
_AT_THE_EDGE = """
import ctypes, mmap, sys
import cv2, numpy as np
from fastcell.ops.jpeg import decode_jpegs
PAGE = mmap.PAGESIZE
def fenced(size):
    pages = -(-size // PAGE) + 1
    memory = mmap.mmap(-1, pages * PAGE)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.mprotect(ctypes.c_void_p(address + (pages - 1) * PAGE), PAGE, 0) == 0
    return np.frombuffer(memory, np.uint8)[(pages - 1) * PAGE - size : (pages - 1) * PAGE]
rng = np.random.default_rng(int(sys.argv[1]))
base = cv2.GaussianBlur(rng.integers(0, 256, (37, 61)).astype(np.uint8), (0, 0), 1.5)
good = np.frombuffer(bytes(cv2.imencode(".jpg", base)[1]), np.uint8)
begin, done = bytes(good).index(b"\\xff\\xda"), 0
out, one = fenced(base.size), np.ones(1, np.int64)
for number in range(4000):
    data = good.copy()
    where = rng.integers(begin if number % 2 else 2, len(data), rng.integers(1, 6))
    data[where] = rng.integers(0, 256, len(where)) if number % 3 else 255
    data = data[: len(data) if number % 5 else rng.integers(1, len(data))]
    held = fenced(len(data))
    held[:] = data
    sides = (one * 37).astype(np.int32), (one * 61).astype(np.int32)
    done += int(decode_jpegs(held, one * 0, one * len(data), *sides, out, one * 0)[0])
print(done)
"""


@pytest.mark.parametrize("seed", [1, 2])
def test_no_step_outside_whatever_the_bytes_are(seed: int) -> None:
    result = subprocess.run(
        [sys.executable, "-c", _AT_THE_EDGE, str(seed)], capture_output=True, text=True, timeout=240, check=False
    )
    assert result.returncode == 0, result.stderr
    assert 100 < int(result.stdout) < 3900  # some damage makes other pixels, some is seen


def test_wrong_arguments() -> None:
    data, out, one, side = np.zeros(10, np.uint8), np.zeros(20, np.uint8), np.ones(1, np.int64), np.full(1, 4, np.int32)
    with pytest.raises(ArgumentError, match=r"starts\[0\] must be inside of the 10 bytes"):
        decode_jpegs(data, one, one * 10, side, side, out, one)
    with pytest.raises(ArgumentError, match=r"offsets\[0\] must be inside of the 20 bytes"):
        decode_jpegs(data, one, one, side, side, out, one * 5)
    with pytest.raises(ArgumentError, match="heights must be a int32 array"):
        decode_jpegs(data, one, one, one, side, out, one)
    with pytest.raises(ArgumentError, match="out must be contiguous uint8"):
        decode_jpegs(data, one, one, side, side, out.astype(np.uint16), one)
    assert len(decode_jpegs(data, one[:0], one[:0], side[:0], side[:0], out, one[:0])) == 0
