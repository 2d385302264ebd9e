"""Frozen values: what users see of the program, compared with files that were written once and are not edited.

``FASTCELL_FREEZE=1 python -m pytest tests/frozen -m ''`` writes them anew, section by section.
"""

import contextlib
import io
import json
import lzma
import math
import os
from pathlib import Path

import pytest
import torch

from fastcell.cli.main import main

HERE = Path(__file__).parent
FREEZES = os.environ.get("FASTCELL_FREEZE") == "1"
_MOST_SHOWN = 20


def differences(frozen, found, tolerance, relative=0.0, where=""):
    """Lines that say where two JSON values differ; floats may by `tolerance`, or the share `relative`."""
    if isinstance(frozen, dict) and isinstance(found, dict):
        for name in [*frozen, *(name for name in found if name not in frozen)]:
            place = f"{where} > {name}" if where else name
            if name not in found:
                yield f"{place}: is gone; frozen {json.dumps(frozen[name])[:200]}"
            elif name not in frozen:
                yield f"{place}: is new; found {json.dumps(found[name])[:200]}"
            else:
                yield from differences(frozen[name], found[name], tolerance, relative, place)
    elif isinstance(frozen, list) and isinstance(found, list) and len(frozen) == len(found):
        for number, (one, other) in enumerate(zip(frozen, found, strict=True)):
            yield from differences(one, other, tolerance, relative, f"{where}[{number}]")
    elif isinstance(frozen, float) and isinstance(found, float):
        if not (
            math.isclose(frozen, found, rel_tol=relative, abs_tol=tolerance) or (frozen != frozen and found != found)
        ):
            yield f"{where}: frozen {frozen!r}, found {found!r}, more than {tolerance or relative:g} apart"
    elif type(frozen) is not type(found) or frozen != found:
        yield f"{where}: frozen {json.dumps(frozen)[:300]}, found {json.dumps(found)[:300]}"


def shortened(value):
    """Floats with seven digits."""
    if isinstance(value, dict):
        return {name: shortened(item) for name, item in value.items()}
    if isinstance(value, list):
        return [shortened(item) for item in value]
    return float(f"{value:.7g}") if isinstance(value, float) else value


def as_text(content):
    """JSON with one line for each entry of a section."""
    lines = []
    for section, value in sorted(content.items()):
        text = json.dumps(value, ensure_ascii=False)
        if isinstance(value, dict) and value:
            pairs = (json.dumps({name: item}, ensure_ascii=False)[1:-1] for name, item in value.items())
            text = "{\n  " + ",\n  ".join(pairs) + "\n }"
        lines.append(f" {json.dumps(section)}: {text}")
    return "{\n" + ",\n".join(lines) + "\n}\n"


def read_frozen(path):
    """Read a frozen file; numbers that no eye compares are kept as ``.json.xz``."""
    content = path.read_bytes()
    return json.loads(lzma.decompress(content) if path.suffix == ".xz" else content)


def write_frozen(path, content):
    """Write a frozen file, see `read_frozen`."""
    encoded = as_text(content).encode()
    path.write_bytes(lzma.compress(encoded, preset=9) if path.suffix == ".xz" else encoded)


@pytest.fixture(scope="package")
def frozen():
    """Function that compares a JSON value with a section of a frozen file, or writes it there.

    Versions that decide the value stand beside it; under others there is nothing to compare with, and the test is
    skipped.
    """

    def check(file, section, value, *, tolerance=0.0, relative=0.0, versions=None):
        path = HERE / file
        content = read_frozen(path) if path.exists() else {}
        found = json.loads(json.dumps({"versions": versions, "value": value} if versions else value))
        if FREEZES:
            content[section] = shortened(found) if tolerance or relative else found
            path.parent.mkdir(exist_ok=True)
            write_frozen(path, content)
            return
        assert section in content, f"{file} has no section {section!r}: this is new, or was renamed"
        before = content[section]
        if versions and before["versions"] != found["versions"]:
            pytest.skip(f"{section} was frozen under {before['versions']}; here are {found['versions']}")
        lines = list(differences(before, found, tolerance, relative))
        shown = "\n".join(lines[:_MOST_SHOWN] + (["..."] if len(lines) > _MOST_SHOWN else []))
        assert not lines, f"{len(lines)} differences from {file}, section {section!r}:\n{shown}"

    return check


@pytest.fixture(scope="package")
def call():
    """Function that runs one command in this process; returns its exit status, and fails where it is not `status`."""

    def run(*arguments, status=0):
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                code = main([str(argument) for argument in arguments])
            except SystemExit as end:
                code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
        assert status in (None, code), f"{arguments} ended with {code}:\n{out.getvalue()}\n{err.getvalue()}"
        return code

    return run


@pytest.fixture(scope="package", autouse=True)
def _one_thread(tmp_path_factory):
    """Sums in one order, and a cache folder of these tests' own."""
    before = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv("FASTCELL_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        torch.set_num_threads(1)
        yield
        torch.set_num_threads(before)


@pytest.fixture(scope="package")
def draw_cell():
    """Function that draws cell `number` of a class: (H, W) uint8, H and W from 18 to 27."""
    import numpy as np

    def draw(number, label):
        rng = np.random.default_rng([number, label])
        height, width = (int(side) for side in rng.integers(18, 28, 2))
        y, x = np.mgrid[:height, :width]
        far = (y - height / 2) ** 2 + (x - width / 2) ** 2
        cell = rng.integers(90, 110, (height, width)) + 60 * (far < 49) + 40 * (far < 9 * label)
        return cell.astype(np.uint8)

    return draw


@pytest.fixture(scope="package")
def png():
    """Function that writes (H, W) uint8 as PNG without compression: the same bytes under every library."""
    import struct
    import zlib

    def encode(pixels):
        height, width = pixels.shape
        rows = b"".join(b"\0" + row.tobytes() for row in pixels)
        stored = b"".join(
            struct.pack("<BHH", start + 65_535 >= len(rows), len(part), len(part) ^ 0xFFFF) + part
            for start in range(0, len(rows), 65_535)
            for part in [rows[start : start + 65_535]]
        )
        data = b"\x78\x01" + stored + struct.pack(">I", zlib.adler32(rows))
        parts = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)), (b"IDAT", data), (b"IEND", b"")]
        return b"\x89PNG\r\n\x1a\n" + b"".join(
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
            for kind, body in parts
        )

    return encode


@pytest.fixture(scope="package")
def images(tmp_path_factory, draw_cell, png):
    """Folder of 120 PNG images, donor/class/name: 4 donors, 3 classes."""
    root = tmp_path_factory.mktemp("frozen") / "images"
    for number in range(120):
        label, donor = number % 3, number // 3 % 4
        path = root / f"donor-{donor}" / "ABC"[label] / f"{number:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(draw_cell(number, label)))
    return root


@pytest.fixture(scope="package")
def packed(images, call):
    """The images as a data set of single cells."""
    out = images.parent / "packed"
    call("pack", images, out, "--pattern", "{group}/{class}/{name}", "--shard-cells", 50, "--jobs", 1,
         "--um-per-px", 0.5)  # fmt: skip
    return out
