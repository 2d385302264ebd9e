"""Every known line of the image libraries, each by a file that makes a library print it."""

import io
import os
import re
import struct
import threading
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from fastcell.dataset.decode import decode
from fastcell.dataset.decoder_messages import MESSAGES, DecoderMessages, failure_in
from fastcell.errors import BadCell

GREY = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, (60, 200)).astype(np.uint8), (0, 0), 2)


def jpg(**options):
    file = io.BytesIO()
    Image.fromarray(GREY).save(file, "JPEG", **options)
    return file.getvalue()


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(*extra, rows=None, color=0):
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 200, 60, 8, color, 0, 0, 0))
    rows = zlib.compress(b"".join(b"\0" + row.tobytes() for row in GREY)) if rows is None else rows
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(extra) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def replaced(data, old, new):
    assert data.count(old) == 1
    return data.replace(old, new)


JPG = jpg()
RESTARTS = cv2.imencode(".jpg", GREY, [cv2.IMWRITE_JPEG_RST_INTERVAL, 5])[1].tobytes()
PROGRESSIVE = jpg(progressive=True)
ROWS = b"".join(b"\0" + row.tobytes() for row in GREY)
SRGB_OF_COLOUR = b"x\0\0" + zlib.compress(bytes(200))


#: A file for each line, and a part of the line that it makes OpenCV's libraries print.
FILES = {
    "premature end of data": (JPG[: len(JPG) // 2] + b"\xff\xd9", "Corrupt JPEG data: premature end of data segment"),
    "padding of the scan": (PROGRESSIVE[:-2] + bytes(50) + b"\xff\xd9", "extraneous bytes before marker 0xd9"),
    "rest of the scan": (PROGRESSIVE[:-2] + b"\1\2\3\4\5" * 10 + b"\xff\xd9", "extraneous bytes before marker 0xd9"),
    "version": (replaced(JPG, b"JFIF\0\x01", b"JFIF\0\x07"), "unknown JFIF revision number 7"),
    "restart": (RESTARTS.replace(b"\xff\xd1", b"\xff\xd5", 1), "found marker 0xd5 instead of RST1"),
    "IDAT checksum": (png(rows=zlib.compress(ROWS)[:-1] + b"\0"), "IDAT: "),
    "too many rows": (png(rows=zlib.compress(ROWS + bytes(999))), "Too much image data|Extra compressed data"),
    "profile": (png(chunk(b"iCCP", SRGB_OF_COLOUR)), "libpng warning: iCCP: "),
    "gamma": (png(chunk(b"gAMA", bytes(5))), "libpng warning: gAMA: "),
    "chromaticities": (png(chunk(b"cHRM", bytes(5))), "libpng warning: cHRM: "),
    "transparency": (png(chunk(b"tRNS", bytes(5))), "libpng warning: tRNS: "),
    "palette of a grey PNG": (png(chunk(b"PLTE", bytes(6))), "libpng warning: PLTE: ignored in grayscale PNG"),
    "checksum": (png(rows=zlib.compress(ROWS)[:-4] + bytes(4)), "IDAT: "),
    "text": (png(chunk(b"zTXt", b"a\0\0bad")), ""),
}
FAILURES = {"premature end of data", "rest of the scan", "restart", "IDAT checksum", "checksum"}


def is_accepted(data, messages):
    try:
        cell = decode(data, "jpg")
        messages.check(data)
    except BadCell:
        return False
    return cell.pixels.shape == GREY.shape


@pytest.mark.parametrize("name", FILES)
def test_files_that_make_a_library_speak(name, capfd):
    data, line = FILES[name]
    cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE)
    printed = capfd.readouterr().err
    assert re.search(line, printed), printed
    with DecoderMessages() as messages:
        assert is_accepted(data, messages) == (name not in FAILURES)
    assert capfd.readouterr().err == ""


LINES = {
    r"Corrupt JPEG data: bad (Huffman|arithmetic) code": "Corrupt JPEG data: bad Huffman code",
    r"Corrupt JPEG data: \d+ extraneous bytes before marker 0xd[0-8]": (
        "Corrupt JPEG data: 9 extraneous bytes before marker 0xd1"
    ),
    r"Inconsistent progression sequence .*": "Inconsistent progression sequence for component 0 coefficient 1",
    r"Invalid SOS parameters for sequential JPEG": "Invalid SOS parameters for sequential JPEG",
    r"Premature end of (JPEG|input) file": "Premature end of JPEG file",
    r"Corrupt JPEG data: bad ICC marker": "Corrupt JPEG data: bad ICC marker",
    r"libpng error: .*": "libpng error: IDAT: CRC error",
}


def test_lines_that_need_a_rare_file():
    """The words are those of the libraries' sources; a file for the other lines is in `FILES`."""
    known = {message.pattern: message for message in MESSAGES}
    for pattern, line in LINES.items():
        failure = failure_in(line + "\n")
        assert failure == (None if known[pattern].is_harmless else line)


@pytest.mark.parametrize("line", ["something new", "libpng warning: IDAT: something new", "TIFFReadDirectory: Warning"])
def test_an_unknown_line_is_a_failure(line):
    assert failure_in(f"libpng warning: iCCP: known\n{line}\n") == line


def test_what_was_printed_about_a_refused_file_says_nothing_about_the_next():
    with DecoderMessages() as messages:
        os.write(2, b"Corrupt JPEG data: bad Huffman code\n")
        messages.forget()
        messages.check()
        os.write(2, b"Corrupt JPEG data: bad Huffman code\n")
        with pytest.raises(BadCell, match="damaged: Corrupt JPEG data: bad Huffman code"):
            messages.check()
        messages.check()


def test_threads_take_turns(capfd):
    def work():
        with DecoderMessages() as messages:
            for _ in range(20):
                decode(JPG, "jpg")
                messages.check()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    os.write(2, b"heard again")
    assert capfd.readouterr().err == "heard again"
