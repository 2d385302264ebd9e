"""Who decodes: DALI where it can and is wanted, threads else, nobody where the bytes are the pixels."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from fastcell.dataset.corrupt_cells import CorruptCells
from fastcell.dataset.manifest import Manifest
from fastcell.errors import ArgumentError
from fastcell.loading.decode_choice import choose_decoding, make_decoding, preferred_decoder
from fastcell.loading.decode_cpu import CellDecoder, ThreadDecoding
from fastcell.loading.decode_dali import DaliDecoding
from fastcell.loading.stores.reading import PieceReader

Make = Callable[..., Manifest]


def test_dali_decodes_for_its_own_transform() -> None:
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
def test_the_choice(
    make_dataset: Make, encoding: str, layout: str, depth: int, on_cpu: str, dali: str, on_gpu: str
) -> None:
    manifest = make_dataset(12, encoding=encoding, layout=layout)
    rows, cells = np.arange(12), CellDecoder(manifest, depth)
    assert choose_decoding("auto", manifest, rows, cells, None) == on_cpu
    assert choose_decoding("dali", manifest, rows, cells, None) == dali
    assert choose_decoding("auto", manifest, rows, cells, 0) == on_gpu
    assert choose_decoding("threads", manifest, rows, cells, 0) == ("stored" if layout == "block" else "threads")


def test_an_unknown_decoder_is_refused(make_dataset: Make) -> None:
    manifest = make_dataset(12)
    with pytest.raises(ArgumentError, match="decoder must be one of auto, dali, threads, got 'pillow'"):
        choose_decoding("pillow", manifest, np.arange(12), CellDecoder(manifest, 8), None)


def test_what_is_made(make_dataset: Make) -> None:
    manifest = make_dataset(12)
    reader, cells = PieceReader(manifest, CorruptCells(manifest), raw=False), CellDecoder(manifest, 8)
    assert isinstance(make_decoding("dali", reader, cells, 4, 1, None), DaliDecoding)
    assert isinstance(make_decoding("threads", reader, cells, 4, 1, None), ThreadDecoding)
    assert list(make_decoding("stored", reader, cells, 4, 1, None)(iter(()))) == []
