"""Damaged .adc, .roi and .hdr of IFCB bins: packed without what is damaged, or refused in one line."""

import random

import numpy as np
import pytest

from fastcell.cli.main import main

BIN = "D20200101T000000_IFCB001"
WIDTH, HEIGHT, OFFSET = 15, 16, 17  # columns of an .adc
ODD_NUMBERS = ["-1", "9" * 20, "1e9", "nan", "", "x", "0", "65536", "2147483648", "-9223372036854775808"]
Lines = list[list[str]]


def good_bin(num=20):
    rng = np.random.default_rng(0)
    lines, pixels = [], b""
    for number in range(num):
        height, width = rng.integers(5, 30, 2).tolist()
        line = [str(number + 1), *["0"] * 23]
        line[WIDTH], line[HEIGHT], line[OFFSET] = str(width), str(height), str(len(pixels))
        lines.append(line)
        pixels += rng.integers(0, 255, width * height).astype(np.uint8).tobytes()
    return lines, pixels


def text_of(lines):
    return ("\n".join(map(",".join, lines)) + "\n").encode("latin-1")


def odd_number(rng, lines, roi):
    rng.choice(lines)[rng.choice([WIDTH, HEIGHT, OFFSET])] = rng.choice(ODD_NUMBERS)
    return text_of(lines), roi


def huge(rng, lines, roi):
    line = rng.choice(lines)
    line[WIDTH] = line[HEIGHT] = "60000"
    return text_of(lines), roi


def overlapping(rng, lines, roi):
    for line in lines:
        line[OFFSET] = "1"
    return text_of(lines), roi


def short_lines(rng, lines, roi):
    return text_of([line[: rng.randrange(20)] for line in lines]), roi


def other_bytes(rng, lines, roi):
    adc = bytearray(text_of(lines))
    for _ in range(5):
        adc[rng.randrange(len(adc))] = rng.randrange(256)
    return bytes(adc), roi


DAMAGES = [
    odd_number,
    huge,
    overlapping,
    short_lines,
    other_bytes,
    lambda rng, lines, roi: (text_of(lines), roi[: rng.randrange(len(roi))]),
    lambda rng, lines, roi: (text_of(lines)[: rng.randrange(500)], roi),
    lambda rng, lines, roi: (text_of(lines).replace(b",", b"\0"), roi),
    lambda rng, lines, roi: (b"\xff\xfe" + text_of(lines), roi),
    lambda rng, lines, roi: (text_of(lines * 50), roi),
    lambda rng, lines, roi: (text_of(lines), b""),
    lambda rng, lines, roi: (b"", roi),
]


@pytest.mark.parametrize("number", [*range(12), *(pytest.param(n, marks=pytest.mark.slow) for n in range(12, 240))])
def test_damaged_bins(number, tmp_path, capsys):
    rng = random.Random(number)
    adc, roi = DAMAGES[number % len(DAMAGES)](rng, *good_bin())
    source = tmp_path / "bins"
    source.mkdir()
    (source / f"{BIN}.adc").write_bytes(adc)
    (source / f"{BIN}.roi").write_bytes(roi)
    (source / f"{BIN}.hdr").write_bytes(rng.randbytes(50) if number % 3 == 0 else b"softwareVersion: x\n")
    status = main(["pack", str(source), str(tmp_path / "out"), "--jobs", "1", "--split", "none"])
    err = capsys.readouterr().err
    assert status in (0, 2), err
    assert status == 0 or err.splitlines()[-1].startswith("fastcell: error: ")
    if status == 0:
        assert main(["verify", str(tmp_path / "out")]) == 0
