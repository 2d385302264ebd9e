"""Settings of files follow the writer and not the picture; sizes of the pixels alone."""

import cv2
import numpy as np
import pytest

from fastcell.audit.file_properties import file_settings, plain_sizes


def test_settings_of_files_follow_the_writer_not_the_picture():
    rng = np.random.default_rng(0)
    cells = [rng.integers(0, 255, (size, 30)).astype(np.uint8) for size in (20, 70)]

    def write(ending, cell, *options):
        return cv2.imencode(ending, cell, list(options))[1].tobytes()

    quality = cv2.IMWRITE_JPEG_QUALITY
    jpg = [file_settings(write(".jpg", cell, quality, 75), "jpg") for cell in cells]
    assert jpg[0] == jpg[1]
    assert file_settings(write(".jpg", cells[0], quality, 76), "jpg")[0] != jpg[0][0]
    fitted = [file_settings(write(".jpg", cell, quality, 75, cv2.IMWRITE_JPEG_OPTIMIZE, 1), "jpg") for cell in cells]
    assert fitted[0] == fitted[1] != jpg[0]
    assert fitted[0][0] != jpg[0][0]
    png = [file_settings(write(".png", cell), "png") for cell in cells]
    assert png[0] == png[1]
    tagged = write(".png", cells[0])
    tagged = tagged[:33] + b"\0\0\0\5tEXthello" + b"\0" * 4 + tagged[33:]
    assert file_settings(tagged, "png") == (png[0][0], png[0][1] + 17)


@pytest.mark.parametrize("data", [b"", b"\xff\xd8\xff", b"\xff\xd8\xff\xdb\0\0" * 9, b"\xff\xd8" + b"\xff" * 99])
def test_settings_of_headers_that_lie_end(data):
    for encoding in ("jpg", "png", "tif", "npy"):
        assert file_settings(data, encoding)[1] <= max(len(data), 0)


def test_plain_sizes():
    cell = np.zeros((64, 64), np.uint8)
    quick, whole = plain_sizes(cell, "png", 999)
    assert 0 < whole <= quick < 400
    assert plain_sizes(cell, "jpg", 999) == (999, 999)


def test_settings_of_other_encodings():
    assert file_settings(b"II*\0rest", "tif") == ("tif b'II*\\x00'", 0)
    assert file_settings(b"anything", "npy") == ("npy", 0)
    assert file_settings(b"anything", "raw") == ("raw", 0)


def test_colour_and_frame_type_are_settings():
    rng = np.random.default_rng(0)
    grey = rng.integers(0, 255, (20, 30)).astype(np.uint8)
    colour = rng.integers(0, 255, (20, 30, 3)).astype(np.uint8)

    def settings_of(ending, cell, *options):
        return file_settings(cv2.imencode(f".{ending}", cell, list(options))[1].tobytes(), ending)[0]

    plain = settings_of("jpg", grey)
    assert " frame c0 " in plain
    assert " standard codes" in plain
    assert " frame c2 " in settings_of("jpg", grey, cv2.IMWRITE_JPEG_PROGRESSIVE, 1)
    assert settings_of("jpg", colour) != plain
    assert settings_of("png", grey).startswith("png 08000000")  # 8 bit, grey, deflate, filters
    assert settings_of("png", colour).startswith("png 0802")
    levels = {settings_of("png", grey, cv2.IMWRITE_PNG_COMPRESSION, level) for level in (1, 9)}
    assert len(levels) == 2


def test_bytes_of_a_comment_hold_no_pixels():
    data = cv2.imencode(".jpg", np.zeros((20, 30), np.uint8))[1].tobytes()
    settings, extra = file_settings(data, "jpg")
    comment = data[:2] + b"\xff\xfe\x00\x07hello" + data[2:]
    assert file_settings(comment, "jpg") == (settings, extra + 9)


def test_a_tiff_is_weighed_against_its_pixels():
    cell = np.random.default_rng(0).integers(0, 255, (30, 40)).astype(np.uint8)
    quick, whole = plain_sizes(cell, "tif", 999)
    assert whole == 1200
    assert 1200 <= quick < 1250  # noise does not shrink
    assert plain_sizes(cell * 0, "tif", 999)[0] < 50
