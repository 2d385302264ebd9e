"""The compiled JPEG decoder against OpenCV's libjpeg, bit by bit, and against bytes that are no JPEG it knows."""

import io
import os
import struct
import subprocess
import sys
from collections.abc import Sequence

import cv2
import numpy as np
import pytest
from PIL import Image

from fastcell.errors import ArgumentError
from fastcell.ops.jpeg import decode_jpegs

GUARD = 64


def decode_all(images, sides):
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


def reference(data):
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE)


def encode(pixels, quality=90, *more):
    return bytes(cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality, *more])[1])


def by_pillow(pixels, **options):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", **options)
    return file.getvalue()


def pictures(height, width, seed):
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
def test_pixels_are_those_of_libjpeg(quality):
    """All kinds of content in sizes below, at and above the 8 x 8 of a block."""
    sides = [(1, 1), (1, 9), (7, 8), (8, 8), (9, 7), (8, 16), (16, 8), (15, 17), (31, 64), (51, 293), (128, 128)]
    images = [
        picture for seed, side in enumerate(sides) for picture in pictures(side[0], side[1], seed + quality).values()
    ]
    encoded = [encode(image, quality) for image in images]
    for got, data in zip(decode_all(encoded, [image.shape for image in images]), encoded, strict=True):
        assert got is not None
        np.testing.assert_array_equal(got, reference(data))


def test_tables_of_other_encoders():
    """Codes made for the image, and quantisers of other scales, change from cell to cell."""
    images = [picture for seed in range(6) for picture in pictures(33 + seed, 50, seed).values()]
    variants = [{"optimize": True}, {"quality": 30}, {"quality": 97, "optimize": True}, {"qtables": [[16] * 64]}]
    encoded = [by_pillow(image, **variants[n % 4]) for n, image in enumerate(images)]
    for got, data in zip(decode_all(encoded, [image.shape for image in images]), encoded, strict=True):
        assert got is not None
        np.testing.assert_array_equal(got, reference(data))


def test_real_cells(real_data):
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
def test_what_is_left_to_other_decoders(kind):
    """Beside cells that are decoded, which it does not touch."""
    good = encode(CELL)
    found = decode_all([good, LEFT[kind], good], [CELL.shape] * 3)
    assert found[1] is None
    for got in (found[0], found[2]):
        np.testing.assert_array_equal(got, reference(good))


def test_a_table_that_is_no_code_does_not_spoil_the_next_cell():
    good = encode(CELL)
    table = good.index(b"\xff\xc4") + 5
    bad = good[:table] + b"\xff" * 16 + good[table + 16 :]
    too_many = good[:table] + b"\x03" + good[table + 1 :]
    found = decode_all([good, bad, good, too_many, good], [CELL.shape] * 5)
    assert [got is not None for got in found] == [True, False, True, False, True]
    np.testing.assert_array_equal(found[4], reference(good))


def test_other_sides_than_asked_for():
    good = encode(CELL)
    found = decode_all([good] * 4, [(40, 60), (41, 60), (40, 59), (60, 40)])
    assert [got is not None for got in found] == [True, False, False, False]


def test_a_scan_that_ends_early_is_left():
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
    if decode_jpegs(held, one * 0, one * len(data), *sides, out, one * 0)[0]:
        done += 1
        assert (out.reshape(37, 61) == cv2.imdecode(data, cv2.IMREAD_GRAYSCALE)).all(), number
print(done)
"""


@pytest.mark.parametrize("seed", [1, 2])
def test_no_step_outside_whatever_the_bytes_are(seed):
    result = subprocess.run(
        [sys.executable, "-c", _AT_THE_EDGE, str(seed)], capture_output=True, text=True, timeout=240, check=False
    )
    assert result.returncode == 0, result.stderr
    assert 100 < int(result.stdout) < 3900  # some damage makes other pixels, some is seen


def segment(marker, body):
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body


Table = tuple[Sequence[int], Sequence[int]]  # codes of each length 1..16, and the symbols
_DC = ([0, 0, 0, 12] + [0] * 12, range(12))
_AC_SYMBOLS = [run << 4 | size for run in range(16) for size in range(1, 11)] + [0x00, 0xF0]
_AC = ([0] * 7 + [162] + [0] * 8, _AC_SYMBOLS)


def codes(table):
    """Code and length of each symbol: T.81, annex C."""
    found, code, symbols = {}, 0, iter(table[1])
    for length, count in enumerate(table[0], start=1):
        for _ in range(count):
            found[next(symbols)] = code, length
            code += 1
        code <<= 1
    return found


def random_table(rng, symbols):
    """Any prefix code of up to 16 bits for the symbols, in any order, without the code of ones alone."""
    while True:
        counts, left, free, share = [0] * 16, len(symbols), 1, rng.uniform(0.05, 0.8)
        for length in range(1, 16):
            free *= 2
            while (
                left > 1 and free > 2 and rng.random() < share and ((free - 1) << (16 - length)) > left
            ):  # what is left fits into 16 bits
                counts[length - 1] += 1
                left, free = left - 1, free - 1
        counts[15] = left
        if left < 2 * free and left < 256:
            return counts, [int(symbol) for symbol in rng.permutation(symbols)]


def scan_of(blocks, dc, ac):
    """The scan of (n, 64) coefficients in the order of the zigzag, not yet multiplied."""
    bits = []

    def put(code, value, size):
        bits.append(f"{code[0]:0{code[1]}b}")
        if size:
            bits.append(f"{value if value > 0 else value + (1 << size) - 1:0{size}b}")

    of_dc, of_ac, before = codes(dc), codes(ac), 0
    for block in blocks.tolist():
        difference, before = block[0] - before, block[0]
        size = abs(difference).bit_length()
        put(of_dc[size], difference, size)
        last = 0
        for place in np.flatnonzero(block[1:]) + 1:
            run = int(place) - last - 1
            for _ in range(run // 16):
                put(of_ac[0xF0], 0, 0)
            size = abs(block[place]).bit_length()
            put(of_ac[run % 16 << 4 | size], block[place], size)
            last = int(place)
        if last < 63:
            put(of_ac[0x00], 0, 0)
    text = "".join(bits)
    text += "1" * (-len(text) % 8)
    return int(text, 2).to_bytes(len(text) // 8, "big").replace(b"\xff", b"\xff\0")


def jpeg(side, quantiser, blocks, dc=_DC, ac=_AC, ids=(0, 0, 0), sampling=0x11, more=b"", tail=b"\xff\xd9"):
    """A file put together by hand; `ids` of quantiser and tables, `more` segments in front of the scan."""
    return b"".join(
        [
            b"\xff\xd8",
            segment(0xDB, bytes([ids[0], *quantiser])),
            segment(0xC0, struct.pack(">BHHB", 8, *side, 1) + bytes([1, sampling, ids[0]])),
            segment(0xC4, bytes([ids[1], *dc[0], *dc[1]])),
            segment(0xC4, bytes([0x10 | ids[2], *ac[0], *ac[1]])),
            more,
            segment(0xDA, bytes([1, 1, ids[1] << 4 | ids[2], 0, 63, 0])),
            scan_of(blocks, dc, ac),
            tail,
        ]
    )


def random_blocks(rng, side):
    """Coefficients with runs and ends of every length, full blocks, and blocks that end at their last place."""
    blocks = np.zeros((-(-side[0] // 8) * -(-side[1] // 8), 64), int)
    share = rng.uniform(0, 1) ** 2
    for block in blocks:
        most = 2 ** rng.integers(1, 8)
        filled = rng.random(64) < share
        block[filled] = rng.integers(-most, most + 1, filled.sum())
        kind = rng.random()
        if kind < 0.3:
            block[rng.integers(1, 64) :] = 0
        elif kind < 0.4:
            block[48:], block[47] = 0, 1
        elif kind < 0.6:
            block[63] = 1
        block[0] = rng.integers(-700, 700)
    return blocks


def test_files_that_no_encoder_writes():
    """Codes of 16 bits, symbols that nobody uses, all ids, quantisers of 0, another table for each cell."""
    sides, encoded = [], []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        side = (int(rng.integers(1, 70)), int(rng.integers(1, 90)))
        sizes = range(1, 16) if seed % 3 == 0 else range(1, 11)
        symbols = [run << 4 | size for run in range(16) for size in sizes] + [0x00, 0xF0]
        # The tables take turns in changing, so that one is new where the other is not.
        if seed % 2 == 0:
            dc = random_table(rng, range(12))
        if seed % 3 == 0:
            ac = random_table(rng, symbols)
        quantiser = [1] * 64 if seed % 2 else rng.integers(0, 4, 64).tolist()
        ids = tuple(rng.integers(0, 4, 3).tolist())
        encoded.append(jpeg(side, quantiser, random_blocks(rng, side), dc, ac, ids))
        sides.append(side)
    for number, (got, data) in enumerate(zip(decode_all(encoded, sides), encoded, strict=True)):
        assert got is not None, number
        np.testing.assert_array_equal(got, reference(data), str(number))


@pytest.mark.parametrize(("quantiser", "first", "others"), [(9, 1000, 0), (32, 1023, 0), (8, 500, 1000), (255, 1, 200)])
def test_coefficients_that_overflow_in_16_bits_are_left(quantiser, first, others):
    rng = np.random.default_rng(quantiser)
    blocks = np.zeros((4, 64), int)
    blocks[:, 0] = [first, -first, first, -first]
    if others:
        blocks[:, 1:] = np.where(rng.random((4, 63)) < 0.3, rng.integers(-others, others + 1, (4, 63)), 0)
    assert decode_all([jpeg((16, 16), [quantiser] * 64, blocks)], [(16, 16)]) == [None]


_FRAME = segment(0xC0, struct.pack(">BHHB", 8, 16, 16, 1) + bytes([1, 0x11, 0]))
_BLOCKS = random_blocks(np.random.default_rng(1), (16, 16))
ODD = {
    "a second frame": {"more": _FRAME},
    "restarts": {"more": segment(0xDD, b"\0\1")},
    "a quantiser of 16 bits": {"more": segment(0xDB, bytes([0x11]) + b"\0\1" * 64)},
    "no sampling": {"sampling": 0x10},
    "sampling of 5": {"sampling": 0x51},
    "a number of lines behind the scan": {"tail": segment(0xDC, b"\0\x10") + b"\xff\xd9"},
    "a second scan": {"tail": segment(0xDA, bytes([1, 1, 0, 0, 63, 0])) + b"\xff\xd9"},
    "bytes that fill": {"tail": b"\xff\xff\xd9"},
    "a code of ones": {"dc": ([0, 0, 0, 16] + [0] * 12, [*range(12), 0, 1, 2, 3])},
}


@pytest.mark.parametrize("kind", ODD)
def test_headers_that_are_left(kind):
    plain, odd = jpeg((16, 16), [1] * 64, _BLOCKS), jpeg((16, 16), [1] * 64, _BLOCKS, **ODD[kind])
    found = decode_all([plain, odd, plain], [(16, 16)] * 3)
    assert [got is not None for got in found] == [True, False, True]


# Without its lists of freed pieces the C library gives a piece to the next thread at once: who uses one that it has
# freed, as compiled code does with an array of which it has taken but the address, is found out.
_BESIDE_A_THREAD = """
import threading
import cv2, numpy as np
from fastcell.ops.jpeg import decode_jpegs
rng = np.random.default_rng(0)
cell = cv2.GaussianBlur(rng.integers(0, 256, (48, 48)).astype(np.uint8), (0, 0), 1.5)
one = np.frombuffer(bytes(cv2.imencode(".jpg", cell)[1]), np.uint8)
data, count = np.tile(one, 2000), np.arange(2000)
sides, want = np.full(2000, 48, np.int32), cv2.imdecode(one, cv2.IMREAD_GRAYSCALE)
running, wrong = True, 0
def decode():
    global wrong
    for _ in range(40):
        out = np.empty((2000, 48, 48), np.uint8)
        done = decode_jpegs(data, count * len(one), np.full(2000, len(one)), sides, sides, out.ravel(), count * 48 * 48)
        wrong += int((~done).sum()) + int((out != want).any((1, 2)).sum())
thread = threading.Thread(target=decode)
thread.start()
while thread.is_alive():
    held = [bytearray(bytes([0xEE]) * size) for size in range(64, 2400, 16) for _ in range(4)]
    thread.join(0.001)
    wrong += sum(piece.count(0xEE) != len(piece) for piece in held)
    del held
print(wrong)
"""


def test_no_memory_that_was_freed_is_used():
    tunables = {"GLIBC_TUNABLES": "glibc.malloc.tcache_count=0:glibc.malloc.arena_max=1"}
    result = subprocess.run(
        [sys.executable, "-c", _BESIDE_A_THREAD],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        env=os.environ | tunables,
    )
    assert (result.returncode, result.stdout.strip()) == (0, "0"), result.stderr


def test_sides_that_no_image_has():
    """Their scratch would take gigabytes."""
    data, one = np.frombuffer(encode(CELL), np.uint8), np.zeros(1, np.int64)
    for height, width in ((0, 2**31 - 1), (0, 0), (1, 70_000)):
        sides = np.array([height], np.int32), np.array([width], np.int32)
        assert not decode_jpegs(data, one, one + len(data), *sides, np.zeros(70_000, np.uint8), one)[0]


def test_wrong_arguments():
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
