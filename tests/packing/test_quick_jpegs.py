"""What the compiled loops accept, `fastcell.dataset.decode` accepts with the same pixels and measures."""

import cv2
import numpy as np
import pytest

from fastcell.dataset.decoder_messages import DecoderMessages
from fastcell.ops.border import border_median
from fastcell.packing.quick_jpegs import decode_quickly
from fastcell.packing.records import CellTable, Record
from fastcell.packing.shard_writer import write_cell_shard


def jpeg(height, width, seed, quality=90):
    noise = np.random.default_rng(seed).normal(120, 12, (height, width))
    image = np.clip(cv2.GaussianBlur(noise, (0, 0), 1.5), 0, 255).astype(np.uint8)
    return bytes(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1])


def check(files):
    """Compare all cells that are decoded quickly; return their number."""
    records = [Record(f"{number}.jpg", data, "jpg") for number, data in enumerate(files)]
    table, num = CellTable("s.tar", None), 0
    found = decode_quickly(records)
    with DecoderMessages() as messages:
        for record, quick in zip(records, found, strict=True):
            if quick is None:
                continue
            num += 1
            cell = table.decode(record, messages)
            assert cell is not None, record.key
            assert (cell.depth, cell.channels, cell.encoding) == (8, 1, "jpg")
            np.testing.assert_array_equal(quick.pixels, cell.pixels)
            assert quick.border == border_median(cell.pixels)
            assert quick.mean == cv2.sumElems(cell.pixels)[0] / cell.pixels.size
    return num


def test_plain_cells_of_all_sizes_are_decoded():
    files = [jpeg(height, width, height) for height in (1, 2, 7, 8, 9, 33) for width in (1, 2, 8, 15, 16, 40)]
    assert check(files) == len(files)


def test_a_damaged_cell_is_never_accepted_here_alone():
    """2,000 files with a few wrong bytes, bytes added or removed anywhere."""
    rng = np.random.default_rng(1)
    whole = [jpeg(24, 31, seed, 80) for seed in range(20)]
    files = []
    for number in range(2000):
        data = bytearray(whole[number % len(whole)])
        at = int(rng.integers(2, len(data) - 2))
        if number % 4 == 0:
            data[at] = rng.integers(256)
        elif number % 4 == 1:
            del data[at : at + int(rng.integers(1, 9))]
        elif number % 4 == 2:
            data[at:at] = rng.integers(0, 256, int(rng.integers(1, 9)), np.uint8).tobytes()
        else:
            data[-2:-2] = rng.integers(0, 256, 1 + number % 3, np.uint8).tobytes()
        files.append(bytes(data))
    num = check(files)
    assert 20 < num < 1000  # wrong bytes of a scan give other pixels, as for every decoder


def test_other_files_are_left():
    plain = jpeg(20, 20, 0)
    colour = bytes(cv2.imencode(".jpg", np.zeros((9, 9, 3), np.uint8))[1])
    png = bytes(cv2.imencode(".png", np.zeros((9, 9), np.uint8))[1])
    records = [
        Record("a", data, "jpg")
        for data in (colour, png, b"", b"\xff\xd8\xff", plain[:-2], plain + b"\0", plain + plain, plain[:300])
    ]
    records.append(Record("b", np.zeros((5, 5), np.uint8), "raw"))
    assert decode_quickly(records) == [None] * len(records)


@pytest.mark.parametrize("num", [1, 63, 150])
def test_shards_are_the_same_bytes_and_rows(tmp_path, num):
    files = [jpeg(20 + number % 9, 30, number) for number in range(num)]
    files[0] = bytes(cv2.imencode(".png", np.arange(60, dtype=np.uint8).reshape(6, 10))[1])
    files[num // 2] = files[num // 2][:-20]
    named = {"class_name": "A", "um_per_px": 0.5}
    records = [Record(f"A/{number}.jpg", data, "jpg", **named) for number, data in enumerate(files)]
    slow, quick = (
        write_cell_shard(tmp_path / f"{way}" / "s.tar", iter(records), None, ["A"], quick=way)
        for way in (False, True)
        if (tmp_path / f"{way}").mkdir() is None
    )
    assert (tmp_path / "False/s.tar").read_bytes() == (tmp_path / "True/s.tar").read_bytes()
    assert slow == quick
