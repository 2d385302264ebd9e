"""Who decodes: DALI where it can and is wanted, threads else, nobody where the bytes are the pixels."""

import zlib
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from fastcell.dataset.corrupt_cells import CorruptCells
from fastcell.dataset.manifest import Manifest
from fastcell.dataset.single_cells import read_cells
from fastcell.errors import ArgumentError
from fastcell.loading.decode_choice import choose_decoding, make_decoding, preferred_decoder
from fastcell.loading.decode_cpu import CellDecoder, ThreadDecoding
from fastcell.loading.decode_dali import DaliDecoding
from fastcell.loading.stores.reading import PieceReader
from fastcell.packing.pack import pack

Make = Callable[..., Manifest]


def test_dali_decodes_for_its_own_transform():
    assert preferred_decoder("auto", "dali") == "dali"
    assert preferred_decoder("auto", "fused") == preferred_decoder("auto", "auto") == "auto"
    assert preferred_decoder("threads", "dali") == "threads"


@pytest.mark.parametrize(("encoding", "layout", "depth", "on_cpu", "dali", "on_gpu"), [
    ("jpg", "cell", 8, "threads", "dali", "dali"),
    ("png", "cell", 8, "threads", "dali", "dali"),
    ("npy", "cell", 8, "threads", "threads", "threads"),
    ("tif", "cell", 8, "threads", "threads", "threads"),
    ("png16", "cell", 8, "threads", "threads", "threads"),
    ("png16", "cell", 16, "threads", "threads", "threads"),
    ("png", "cell", 16, "threads", "threads", "threads"),
    ("npy", "block", 8, "stored", "stored", "stored"),
])  # fmt: skip
def test_the_choice(make_dataset, encoding, layout, depth, on_cpu, dali, on_gpu):
    manifest = make_dataset(12, encoding=encoding, layout=layout)
    rows, cells = np.arange(12), CellDecoder(manifest, depth)
    assert choose_decoding("auto", manifest, rows, cells, None) == on_cpu
    assert choose_decoding("dali", manifest, rows, cells, None) == dali
    assert choose_decoding("auto", manifest, rows, cells, 0) == on_gpu
    assert choose_decoding("threads", manifest, rows, cells, 0) == ("stored" if layout == "block" else "threads")


@pytest.mark.parametrize("error", [False, True])
def test_without_dali_threads_decode_unless_it_is_asked_for(make_dataset, monkeypatch, error):
    def find(name):
        assert name == "nvidia.dali"
        if error:
            raise ModuleNotFoundError("No module named 'nvidia'")

    manifest = make_dataset(12, encoding="jpg")
    rows, cells = np.arange(12), CellDecoder(manifest, 8)
    assert choose_decoding("auto", manifest, rows, cells, 0) == "dali"
    monkeypatch.setattr("importlib.util.find_spec", find)
    assert choose_decoding("auto", manifest, rows, cells, 0) == "threads"
    assert choose_decoding("dali", manifest, rows, cells, 0) == "dali"


def test_an_unknown_decoder_is_refused(make_dataset):
    manifest = make_dataset(12)
    with pytest.raises(ArgumentError, match="decoder must be one of auto, dali, threads, got 'pillow'"):
        choose_decoding("pillow", manifest, np.arange(12), CellDecoder(manifest, 8), None)


def test_what_is_made(make_dataset):
    manifest = make_dataset(12)
    reader, cells = PieceReader(manifest, CorruptCells(manifest), raw=False), CellDecoder(manifest, 8)
    assert isinstance(make_decoding("dali", reader, cells, 4, 1, None), DaliDecoding)
    assert isinstance(make_decoding("threads", reader, cells, 4, 1, None), ThreadDecoding)
    assert list(make_decoding("stored", reader, cells, 4, 1, None)(iter(()))) == []


def test_jpeg_of_four_inks_goes_another_way_than_dali(tmp_path):
    colours = np.random.default_rng(0).integers(0, 256, (4, 20, 30, 3)).astype(np.uint8)
    for mode in ("RGB", "CMYK"):
        (tmp_path / mode / "A").mkdir(parents=True)
        for i, image in enumerate(colours):
            Image.fromarray(image).convert(mode).save(tmp_path / mode / "A" / f"{i}.jpg")
        manifest = pack(tmp_path / mode, tmp_path / f"out-{mode}", jobs=1)
        chosen = choose_decoding("dali", manifest, np.arange(4), CellDecoder(manifest, 8), 0)
        assert chosen == ("dali" if mode == "RGB" else "threads")


def test_png_with_colours_goes_another_way_than_dali(tmp_path):
    """By the header, also on a GPU: DALI would obey the gamma that a file states."""
    colours = np.random.default_rng(0).integers(0, 256, (8, 20, 30, 3)).astype(np.uint8)
    for kind in ("colour", "palette", "alpha", "grey"):
        for i, image in enumerate(colours):
            path = tmp_path / kind / "A" / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            mode = {"colour": "RGB", "palette": "P", "alpha": "RGBA", "grey": "LA"}[kind]
            Image.fromarray(image).convert(mode).save(path)
            data = path.read_bytes()
            gamma = b"gAMA" + (45455).to_bytes(4, "big")
            chunk = (4).to_bytes(4, "big") + gamma + zlib.crc32(gamma).to_bytes(4, "big")
            path.write_bytes(data[:33] + chunk + data[33:])
        manifest = pack(tmp_path / kind, tmp_path / f"out-{kind}", jobs=1)
        rows, cells = np.arange(8), CellDecoder(manifest, 8)
        expected = "dali" if kind == "grey" else "threads"
        assert choose_decoding("dali", manifest, rows, cells, None) == expected
        assert choose_decoding("auto", manifest, rows, cells, 0) == expected
        if kind in ("colour", "alpha"):
            for key, pixels in zip(manifest.column("key"), read_cells(manifest, rows), strict=True):
                wanted = colours[int(key[2])].astype(float) @ (0.299, 0.587, 0.114)
                assert np.abs(pixels - wanted).max() <= 0.5 + 1e-9
