"""Decoding gives the right grey levels, and refuses every kind of bad cell with its reason."""

import io
import pickle
import re
import struct
import zlib

import cv2
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from fastcell.dataset.decode import NeedsWindow, decode
from fastcell.dataset.decoder_messages import DecoderMessages
from fastcell.dataset.grey_window import window_table
from fastcell.errors import BadCell


def grey(height=21, width=34, seed=0):
    noise = np.random.default_rng(seed).integers(0, 256, (height, width)).astype(np.uint8)
    return cv2.GaussianBlur(noise, (0, 0), 2)


def encode(pixels, extension, *options):
    return cv2.imencode(extension, pixels, list(options))[1].tobytes()


def pillow(pixels, form, mode=None, **options):
    file = io.BytesIO()
    image = Image.fromarray(pixels)
    (image.convert(mode) if mode else image).save(file, form, **options)
    return file.getvalue()


def npy(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width, height, depth=8, color=0, rows=b""):
    head = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


COLOUR = np.dstack([grey(seed=1), grey(seed=2), grey(seed=3)])
CHUNKS = {
    b"gAMA": struct.pack(">I", 45455),
    b"sRGB": b"\0",
    b"cHRM": struct.pack(">8I", 31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000),
    b"sBIT": b"\5",
    b"tRNS": b"\0\7",
}


def with_chunks(data, *names):
    """The PNG with chunks behind its header."""
    return data[:33] + b"".join(chunk(name, CHUNKS[name]) for name in names) + data[33:]


@pytest.mark.parametrize(
    ("data", "encoding"),
    [
        (encode(grey(), ".png"), "png"),
        (encode(grey(), ".tif"), "tif"),
        (npy(grey()), "npy"),
        (npy(grey()[None]), "npy"),
        (npy(grey()[:, :, None]), "npy"),
        (npy(np.asfortranarray(grey())), "npy"),
        (grey(), "raw"),
    ],
)
def test_lossless_encodings_give_the_pixels(data, encoding):
    cell = decode(data, encoding)
    np.testing.assert_array_equal(cell.pixels, grey())
    assert cell.pixels.dtype == np.uint8
    assert cell.pixels.flags.c_contiguous
    assert (cell.depth, cell.channels, cell.encoding) == (8, 1, encoding)


def test_jpg_equals_an_independent_decoder():
    data = encode(grey(60, 200), ".jpg", cv2.IMWRITE_JPEG_QUALITY, 90)
    np.testing.assert_array_equal(decode(data, "jpg").pixels, np.asarray(Image.open(io.BytesIO(data))))


def test_real_cells_equal_an_independent_decoder(real_data):
    paths = sorted((real_data / "atom-samples").glob("*.jpg"))
    assert len(paths) == 30
    for path in paths:
        cell = decode(path.read_bytes(), "jpg")
        np.testing.assert_array_equal(cell.pixels, np.asarray(Image.open(path).convert("L")))


def test_the_first_bytes_decide_not_the_name():
    cell = decode(encode(grey(), ".png"), "jpg")
    assert cell.encoding == "png"
    np.testing.assert_array_equal(cell.pixels, grey())


def test_colour_jpg_says_three_channels():
    cell = decode(encode(np.dstack([grey()] * 3), ".jpg"), "jpg")
    assert cell.channels == 3
    assert np.abs(cell.pixels.astype(int) - grey()).max() <= 12


STATED = [(), (b"gAMA",), (b"sRGB",), (b"gAMA", b"cHRM"), (b"sRGB", b"gAMA", b"cHRM")]


@pytest.mark.parametrize("stated", STATED)
@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("alpha", [False, True])
def test_colours_of_png_are_the_stored_ones(stated, depth, alpha):
    """Whatever gamma and colour space the file states; OpenCV's own grey is up to 71 levels off."""
    factor = 1 if depth == 8 else 251
    colours = (
        np.dstack([COLOUR, grey(seed=4)] if alpha else [COLOUR]).astype(np.uint8 if depth == 8 else ">u2") * factor
    )
    rows = b"".join(b"\0" + row.astype(">u2" if depth == 16 else "u1").tobytes() for row in colours)
    data = with_chunks(png(34, 21, depth, 6 if alpha else 2, rows), *stated)
    cell = decode(data, "png", (0, 65535), 8 if depth == 8 else 16)
    expected = colours[:, :, :3].astype(float) @ (0.299, 0.587, 0.114)
    assert cell.channels == (4 if alpha else 3)
    assert np.abs(cell.pixels - expected).max() <= 0.5 + 1e-9
    if depth == 8:
        stored = np.asarray(Image.open(io.BytesIO(data)))
        np.testing.assert_array_equal(stored, colours)


@pytest.mark.parametrize("stated", STATED)
@pytest.mark.parametrize("transparent", [False, True])
@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_palettes_of_png_are_the_stored_ones(stated, transparent, bits):
    rng = np.random.default_rng(bits)
    table = rng.integers(0, 256, (1 << bits, 3)).astype(np.uint8)
    numbers = rng.integers(0, 1 << bits, (21, 32)).astype(np.uint8)
    packed = np.packbits(np.unpackbits(numbers[:, :, None], axis=2)[:, :, 8 - bits :].reshape(21, -1), axis=1)
    data = with_chunks(png(32, 21, bits, 3, b"".join(b"\0" + row.tobytes() for row in packed)), *stated)
    extra = chunk(b"PLTE", table.tobytes()) + (chunk(b"tRNS", bytes(1 << bits)) if transparent else b"")
    place = data.index(b"IDAT") - 4
    cell = decode(data[:place] + extra + data[place:], "png")
    assert cell.channels == 3
    assert np.abs(cell.pixels - table[numbers].astype(float) @ (0.299, 0.587, 0.114)).max() <= 0.5 + 1e-9


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_grey_png_of_few_bits_spans_all_levels(bits):
    numbers = np.random.default_rng(bits).integers(0, 1 << bits, (21, 32)).astype(np.uint8)
    packed = np.packbits(np.unpackbits(numbers[:, :, None], axis=2)[:, :, 8 - bits :].reshape(21, -1), axis=1)
    data = png(32, 21, bits, 0, b"".join(b"\0" + row.tobytes() for row in packed))
    for file in (data, with_chunks(data, b"gAMA", b"sRGB")):
        np.testing.assert_array_equal(decode(file, "png").pixels, numbers * (255 // ((1 << bits) - 1)))


@pytest.mark.parametrize(
    "make",
    [lambda deep: encode(deep, ".png"), lambda deep: encode(deep, ".tif"), npy, lambda deep: npy(deep.astype(">u2"))],
)
def test_sixteen_bit_through_its_window(make):
    deep = np.random.default_rng(0).integers(300, 1600, (20, 30)).astype(np.uint16)
    cell = decode(make(deep), "any", (400, 1400))
    assert cell.depth == 16
    expected = np.clip(np.floor((deep.astype(float) - 400) / 1000 * 255 + 0.5), 0, 255)
    np.testing.assert_array_equal(cell.pixels, expected)


def test_big_endian_and_deflated_tif():
    deep = np.random.default_rng(0).integers(0, 4096, (20, 30)).astype(np.uint16)
    file = io.BytesIO()
    tifffile.imwrite(file, deep, byteorder=">")
    np.testing.assert_array_equal(decode(file.getvalue(), "tif", (0, 65535)).pixels, window_table(0, 65535)[deep])
    np.testing.assert_array_equal(decode(pillow(grey(), "tiff", compression="tiff_deflate"), "tif").pixels, grey())


def test_sixteen_bit_without_window_tells_its_range():
    deep = np.array([[300, 5000], [700, 65535]], np.uint16)
    with pytest.raises(NeedsWindow) as caught:
        decode(npy(deep), "npy")
    assert (caught.value.low, caught.value.high, caught.value.reason) == (300, 65535, "16 bit without window")
    again = pickle.loads(pickle.dumps(caught.value))
    assert (again.low, again.high) == (300, 65535)


def test_eight_bit_ignores_the_window():
    np.testing.assert_array_equal(decode(encode(grey(), ".png"), "png", (400, 1400)).pixels, grey())


JPG = encode(grey(60, 200), ".jpg")
PNG = encode(grey(60, 200), ".png")
TIF = encode(grey(60, 200), ".tif", cv2.IMWRITE_TIFF_COMPRESSION, 1)


def flipped(data, place):
    copy = bytearray(data)
    copy[place] ^= 0xFF
    return bytes(copy)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty file"),
        (bytes(2000), "all bytes zero"),
        (b"no image at all, just text", "not an image"),
        (b"GIF89a" + bytes(50), "not an image"),
        (JPG[:-2], "truncated"),
        (JPG[: len(JPG) // 2], "truncated"),
        (JPG[:100], "truncated"),
        (JPG[:3], "truncated"),
        (b"\xff\xd8\xff\xd9\0\0", "jpg without image data"),
        (b"\xff\xd8\xff\xc1\x00\x11\x0c\x00\x10\x00\x10\x01" + bytes(20), "12-bit jpg"),
        (PNG[: len(PNG) // 2], "truncated"),
        (PNG[:-12], "truncated"),
        (PNG[:20], "truncated"),
        (flipped(PNG, len(PNG) // 2), "damaged: checksum of png chunk IDAT"),
        (png(200, 60, rows=bytes(201 * 30)), "png that cannot be decoded"),
        (png(0, 5), "no pixels"),
        (png(100_000, 100_000), "too large: 100000 x 100000 pixels"),
        (TIF[: len(TIF) // 2], "truncated"),
        (encode(grey().astype(np.float32), ".tif"), "32-bit tif of floating point numbers, not 8 or 16 bit unsigned"),
        (encode(grey().astype(np.int16), ".tif"), "16-bit tif of signed numbers, not 8 or 16 bit unsigned"),
        (pillow(grey() > 127, "tiff"), "1-bit tif, not 8 or 16"),
        (npy(grey())[:-1], "truncated"),
        (npy(grey())[:30], "truncated"),
        (npy(grey()).replace(b"'shape'", b"'shope'"), "damaged npy header"),
        (npy(grey().astype(np.float32)), "pixels of type float32, not uint8 or uint16"),
        (npy(np.zeros((0, 5), np.uint8)), "no pixels"),
        (npy(np.zeros((2, 5, 3), np.uint8)), "array of 3 axes, not (H, W), (1, H, W) or (H, W, 1)"),
        (npy(np.array([[{}]], dtype=object)), "pixels of type object, not uint8 or uint16"),
    ],
)
def test_bad_cells_and_their_reasons(data, reason, capfd):
    with DecoderMessages(), pytest.raises(BadCell) as caught:
        decode(data, "jpg")
    assert caught.value.reason == reason
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    "data",
    [
        npy(np.zeros((1, 1), np.uint8)).replace(b"(1, 1), }" + b" " * 9, b"(999999999, 9), } "),
        png(2**31 - 1, 2**31 - 1),
    ],
)
def test_a_header_of_huge_size_takes_no_memory(data):
    with pytest.raises(BadCell, match="too large"):
        decode(data, "npy")


def test_padding_behind_the_end_is_allowed():
    np.testing.assert_array_equal(decode(JPG + bytes(7), "jpg").pixels, decode(JPG, "jpg").pixels)
    np.testing.assert_array_equal(decode(PNG + b"more", "png").pixels, decode(PNG, "png").pixels)


@given(st.binary(max_size=200), st.sampled_from([JPG, PNG, TIF, npy(grey())]), st.integers(0, 3000))
@settings(max_examples=150)
def test_no_damage_raises_anything_else(noise, data, place):
    place %= len(data)
    damaged = data[:place] + noise + data[place + len(noise) :]
    with DecoderMessages() as messages:
        try:
            cell = decode(damaged, "jpg", (0, 1000))
            messages.check()
        except BadCell:
            return
    assert cell.pixels.ndim == 2
    assert cell.pixels.size > 0


def turned():
    exif = Image.Exif()
    exif[0x112] = 6
    return exif


DEEP = grey().astype(np.uint16) * 257


@pytest.mark.parametrize(
    ("data", "tolerance"),
    [
        (pillow(grey(), "jpeg"), 0),
        (pillow(COLOUR, "jpeg"), 0),
        (pillow(grey(), "jpeg", progressive=True), 0),
        (pillow(grey(), "jpeg", exif=turned()), 0),
        (pillow(grey(), "jpeg") + bytes(9), 0),
        (pillow(COLOUR, "jpeg", "CMYK"), 2),
        (pillow(grey(), "png", "LA"), 0),
        (pillow(grey(), "png", exif=turned()), 0),
        (pillow(grey() > 127, "png"), 0),
        (png(34, 21, 2, rows=bytes(21 * 10)), 0),
        (png(34, 21, 4, rows=bytes(range(18)) * 21), 0),
        (with_chunks(pillow(grey(), "png"), b"gAMA", b"sRGB", b"cHRM", b"sBIT", b"tRNS"), 0),
        (with_chunks(pillow(grey(), "png", "LA"), b"gAMA", b"sRGB", b"cHRM"), 0),
    ],
)
def test_dali_decodes_to_the_same_pixels(data, tolerance):
    """Of those files that go to DALI; see `test_decode_choice`."""
    pytest.importorskip("nvidia.dali")
    from nvidia.dali import fn, types
    from nvidia.dali.pipeline import Pipeline

    cell = decode(data, "any", (0, 65535))
    depth = types.UINT16 if cell.depth == 16 else types.UINT8
    pipeline = Pipeline(batch_size=1, num_threads=1, device_id=None)
    with pipeline:
        encoded = fn.external_source(source=lambda: [np.frombuffer(data, np.uint8)])
        pipeline.set_outputs(fn.decoders.image(encoded, device="cpu", output_type=types.GRAY, dtype=depth))
    pipeline.build()
    pixels = np.asarray(pipeline.run()[0][0])[:, :, 0]
    if cell.depth == 16:
        pixels = window_table(0, 65535)[pixels]
    assert pixels.shape == cell.pixels.shape
    assert np.abs(pixels.astype(int) - cell.pixels).max() <= tolerance


def npy_of(shape):
    head = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}".encode()
    head += b" " * (-(len(head) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\0" + struct.pack("<H", len(head)) + head


def tif_with(*entries, order="<", start=8):
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", start)
    body = b"".join(struct.pack(order + "HHII", *entry) for entry in entries)
    return head + struct.pack(order + "H", len(entries)) + body + bytes(4)


def jpg_with(position, piece):
    data = encode(grey(), ".jpg")
    return data[:position] + piece + data[position:]


EXIF = b"\xff\xe1" + struct.pack(">H", 34) + b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06" + bytes(7)
BIG_TIFF = b"II+\0\x08\0\0\0" + struct.pack("<Q", 1 << 63)
SIZE = ((256, 4, 1, 34), (257, 4, 1, 21), (258, 3, 1, 8))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (npy_of("(0, 99999999999999999999)"), "too large: npy of shape"),  # no pixels, and no array either
        (npy_of("(" + "1," * 40 + ")"), "array of 40 axes"),
        (png(8192, 8192), "truncated: 8192 x 8192 pixels in 65 bytes"),
        (jpg_with(2, EXIF + EXIF), "jpg with two EXIF blocks"),  # OpenCV obeys one, DALI the other
        (jpg_with(2, b"\xff\0\0\x04\0\0"), "damaged jpg header"),  # libjpeg skips two bytes, not a segment
        (encode(grey(), ".jpg")[:-2] + b"\xff\xda\0\x08\x01\x01\0\0\x3f\0" * 70 + b"\xff\xd9", "jpg of 71 scans"),
        (BIG_TIFF, "truncated"),  # a place of 64 bits
        (tif_with(*SIZE, (256, 4, 1, 9)), "damaged tif header"),  # no strips
        (tif_with((256, 9, 1, 1 << 30), *SIZE), "too large"),
        (tif_with(*SIZE, (322, 4, 1, 16384), (323, 4, 1, 16384)), "too large: tif in pieces of 16384 x 16384 pixels"),
        (tif_with(*SIZE, *[(700, 1, 1, 0)] * 600), "damaged tif header"),
    ],
)
def test_what_claims_too_much_is_refused_before_memory_is_taken(data, reason):
    with pytest.raises(BadCell, match=re.escape(reason)), DecoderMessages():
        decode(data, "any")


def test_one_strip_of_all_rows_is_no_claim():
    file = io.BytesIO()
    tifffile.imwrite(file, grey())
    data = bytearray(file.getvalue())
    place = data.index(struct.pack("<HH", 278, 3) if struct.pack("<HH", 278, 3) in data else struct.pack("<HH", 278, 4))
    data[place : place + 12] = struct.pack("<HHII", 278, 4, 1, 0xFFFFFFFF)
    np.testing.assert_array_equal(decode(bytes(data), "tif").pixels, grey())
