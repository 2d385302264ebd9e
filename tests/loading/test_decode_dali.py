"""DALI's decoder gives the pixels of each batch in turn, and can be used again after a failure."""

import types
from collections.abc import Callable

import cv2
import numpy as np
import pytest
import torch
from fixtures.picture_matrix import jpegs, orientations, pngs

from fastcell.dataset.corrupt_cells import CorruptCells
from fastcell.dataset.decode import decode
from fastcell.dataset.manifest import Manifest
from fastcell.errors import DataError
from fastcell.loading import decode_dali
from fastcell.loading.decode_cpu import CellDecoder
from fastcell.loading.decode_dali import DaliDecoder, DaliDecoding, pixel_addresses, sides_of
from fastcell.loading.stores.reading import PieceReader

Make = Callable[..., Manifest]
Tagged = Callable[[int], np.ndarray]


def png(pixels):
    return np.ascontiguousarray(cv2.imencode(".png", pixels)[1]).reshape(-1)


def test_batches_come_in_the_order_they_were_fed(tagged):
    decoder = DaliDecoder(3, 1, None)
    batches = [[4, 9, 2], [5], [8, 1]]
    for batch in batches[:2]:
        decoder.feed([png(tagged(number)) for number in batch])
    for batch, later in zip(batches, [batches[2], None, None], strict=True):
        pixels = decoder.take()
        if later:
            decoder.feed([png(tagged(number)) for number in later])
        heights, widths = sides_of(pixels)
        addresses = pixel_addresses(pixels)
        for slot, number in enumerate(batch):
            cell = np.asarray(pixels[slot])
            np.testing.assert_array_equal(cell[:, :, 0], tagged(number))
            assert (heights[slot], widths[slot]) == tagged(number).shape
            assert addresses[slot] == cell.__array_interface__["data"][0]


def test_a_failure_is_over_with_the_next_batch(tagged):
    decoder = DaliDecoder(2, 1, None)
    decoder.feed([png(tagged(1)), np.zeros(40, np.uint8)])
    decoder.feed([png(tagged(2))])
    with pytest.raises(RuntimeError):
        decoder.take()
    decoder.feed([png(tagged(3))])
    np.testing.assert_array_equal(np.asarray(decoder.take()[0])[:, :, 0], tagged(3))


def test_one_decoder_is_kept_between_epochs(make_dataset, tagged):
    manifest = make_dataset(12)
    reader = PieceReader(manifest, CorruptCells(manifest), raw=False)
    decoding = DaliDecoding(reader, CellDecoder(manifest, 8), 3, 1, None)
    kept = []
    for _ in range(2):
        batches = list(decoding(reader.pieces(np.arange(8), np.array([0, 3, 6, 8]), 2)))
        assert [batch.cell_ids.tolist() for batch in batches] == [[0, 1, 2], [3, 4, 5], [6, 7]]
        np.testing.assert_array_equal(np.asarray(batches[2].pixels[1])[:, :, 0], tagged(7))
        kept.append(decoding._idle)
    assert kept[0] is kept[1] is not None


def test_a_failure_of_good_cells_is_told(make_dataset, monkeypatch):
    manifest = make_dataset(12)
    reader = PieceReader(manifest, CorruptCells(manifest), raw=False)
    decoding = DaliDecoding(reader, CellDecoder(manifest, 8), 3, 1, None)

    def fail(pixels):
        raise RuntimeError("Error in thread 0:\n  CUDA runtime error: out of luck.\nCurrent pipeline object is bad")

    monkeypatch.setattr(decode_dali, "sides_of", fail)
    with pytest.raises(DataError, match="every cell is as it was packed: CUDA runtime error: out of luck. Look at"):
        next(decoding(reader.pieces(np.arange(3), np.array([0, 3]), 1)))


def test_files_that_go_to_dali_have_the_pixels_of_threads():
    """Grey PNG of every depth, interlacing and colour space, and JPEG of every kind: `choose_decoding` sends these."""
    files = [
        picture
        for kind in (pngs, jpegs, orientations)
        for picture in kind()
        if picture.row[0] in ("PNG", "JPEG") and picture.row[2] != "16 bit" and picture.row[1] in ("", *GREY_KINDS)
    ]
    assert len(files) > 100
    decoder = DaliDecoder(len(files), 1, None)
    decoder.feed([np.frombuffer(picture.data, np.uint8) for picture in files])
    for picture, pixels in zip(files, decoder.take(), strict=True):
        np.testing.assert_array_equal(np.asarray(pixels)[:, :, 0], decode(picture.data, "png").pixels, picture.name)


GREY_KINDS = ("grey", "grey and alpha")


class FakePipeline:
    """A pipeline on a GPU as far as the decoder needs it; notes the stream that its outputs are bound to."""

    def __init__(self, calls):
        self.calls = calls

    def feed_input(self, name, data):
        self.calls.append("feed")

    def schedule_run(self): ...

    def outputs(self, cuda_stream=None):
        self.calls.append(cuda_stream)
        return ("pixels",)


class FakeEvent:
    is_past = False

    def query(self):
        return self.is_past

    def synchronize(self):
        raise AssertionError("the host waits")


def test_on_a_gpu_the_stream_waits_and_not_the_host(monkeypatch, tagged):
    calls = []
    events = []

    def record():
        events.append(FakeEvent())
        return events[-1]

    stream = types.SimpleNamespace(cuda_stream=77, record_event=record)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: stream)
    decoder = DaliDecoder(1, 1, 0)
    monkeypatch.setattr(decoder, "_build", lambda: FakePipeline(calls))
    for number in range(3):
        decoder.feed([png(tagged(number))])
        assert decoder.take() == "pixels"
    assert calls == ["feed", 77] * 3
    assert len(decoder._lent) == 3  # the encoded bytes live until the stream has passed
    for event in events:
        event.is_past = True
    decoder.feed([png(tagged(3))])
    decoder.take()
    assert len(decoder._lent) == 1
