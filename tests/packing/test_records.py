"""What is measured of a cell, against values worked out another way."""

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra import numpy as hnp

from fastcell.dataset.cell_hashes import hash_pixels
from fastcell.dataset.decode import decode
from fastcell.dataset.decoder_messages import DecoderMessages
from fastcell.dataset.schema import SCHEMA
from fastcell.errors import ArgumentError, BadCell
from fastcell.packing.records import CellTable, Record


def test_rows_quarantine_and_range_of_sixteen_bit():
    table = CellTable("s.tar", None)
    good = Record("G1/a", np.full((3, 4), 7, np.uint8), "raw", "G1", "d1", "c1", 0.5, "a.png")
    with DecoderMessages() as messages:
        cell = table.decode(good, messages)
        table.admit(good, cell, 512, b"stored")
        assert table.decode(Record("b", b"", "jpg", "G2", source="b.jpg"), messages) is None
        assert table.decode(Record("c", BadCell("cannot be read: gone"), "jpg"), messages) is None
    assert table.rows().schema == SCHEMA
    (row,) = table.rows().to_pylist()
    byte_hash = hashlib.blake2b(b"stored", digest_size=16).digest()
    assert row == {
        "cell_id": 0,
        "key": "G1/a",
        "shard": "s.tar",
        "offset": 512,
        "bytes": 6,
        "encoding": "npy",
        "height": 3,
        "width": 4,
        "depth": 8,
        "channels": 1,
        "um_per_px": 0.5,
        "class": "G1",
        "group": "d1",
        "collection": "c1",
        "byte_hash": byte_hash,
        "pixel_hash": hash_pixels(decode(good.data, "raw").pixels),
        "mean_intensity": 7.0,
        "border_median": 7.0,
        "block": -1,
    }
    assert [tuple(bad.values()) for bad in table.quarantine().to_pylist()] == [
        (None, "b", "b.jpg", "G2", None, None, "empty file"),
        (None, "c", "", None, None, None, "cannot be read: gone"),
    ]
    with DecoderMessages() as messages:
        for low, high in ((300, 900), (120, 700)):
            table.decode(Record("deep", np.array([[low, high]], np.uint16), "raw"), messages)
    message = (
        r"--window must be given for 16-bit cells \(2 in s.tar, the first 'deep', with grey levels from 120 to 900\)"
    )
    with pytest.raises(ArgumentError, match=message + r".* --window 120 900\."):
        table.rows()


@given(hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=12)))
@settings(max_examples=50)
def test_a_row_has_mean_and_border_of_the_pixels(pixels):
    table = CellTable("s.tar", None)
    record = Record("a", pixels, "raw")
    with DecoderMessages() as messages:
        table.admit(record, table.decode(record, messages), 0, b"stored")
    (row,) = table.rows().to_pylist()
    inner = np.zeros(pixels.shape, bool)
    inner[1:-1, 1:-1] = True
    assert row["mean_intensity"] == pytest.approx(pixels.mean(dtype=np.float64), rel=1e-6)
    assert row["border_median"] == np.median(pixels[~inner])
