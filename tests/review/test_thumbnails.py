"""Thumbnails by pixel: raw and stretched, fitted and at one scale, of every layout, of cells that cannot be read."""

import cv2
import numpy as np
import pytest

from fastcell.review.thumbnails import ByteCache, Look, Thumbnails, draw_thumbnail, stretched


@pytest.mark.parametrize(
    ("layout", "encoding"), [("cell", "png"), ("cell", "npy"), ("block", "npy"), ("cell", "png16")]
)
def test_cells_come_in_the_order_that_is_asked(layout, encoding, make_dataset, tagged):
    thumbnails = Thumbnails(make_dataset(40, layout=layout, encoding=encoding))
    ids = np.array([31, 0, 39, 31])
    key = thumbnails._manifest.column("key")
    for _ in range(2):  # from the shard, then from memory
        for cell, pixels in zip(ids, thumbnails.cells(ids), strict=True):
            assert pixels is not None
            assert np.array_equal(pixels, tagged(int(key[cell][5:10])))


def test_sheet(planted):
    thumbnails = Thumbnails(planted(60))
    data = thumbnails.sheet("a", np.arange(10), Look(64, False, 0))
    sheet = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    assert sheet.shape == (128, 512)
    right = sheet[20:44, 64:128].mean(0)  # the second cell is bright on the right
    assert right[-10:].mean() > right[:40].mean() + 80
    assert sheet[64:, 128:].max() < 8  # no cell there
    assert thumbnails.sheet("a", np.arange(20, 30), Look(64, False, 0)) is data  # by its name from memory


def test_a_cell_that_cannot_be_read_is_a_cross(make_dataset):
    data = make_dataset(10, num_shards=1)
    path = data.shard_path(0)
    raw = bytearray(path.read_bytes())
    offset = int(data.column("offset")[3])
    raw[offset + 30] ^= 255
    path.write_bytes(bytes(raw))
    thumbnails = Thumbnails(data)
    assert thumbnails.cells(np.array([3]))[0] is None
    assert thumbnails.picture(3, False) is None
    assert thumbnails.picture(4, False) is not None
    square = np.zeros((32, 32), np.uint8)
    draw_thumbnail(None, Look(32, False, 0), square)
    assert (square[0, 0], square[31, 0], square[10, 10], square[10, 15]) == (128, 128, 128, 0)


def test_fit_and_one_scale():
    cell = np.full((10, 20), 200, np.uint8)
    square = np.zeros((40, 40), np.uint8)
    draw_thumbnail(cell, Look(40, False, 0), square)
    assert (square > 0).sum() == 40 * 20
    square[:] = 0
    draw_thumbnail(cell, Look(40, False, 40), square)  # 40 raw pixels a side
    assert (square > 0).sum() == 20 * 10
    square[:] = 0
    draw_thumbnail(cell, Look(40, False, 10), square)  # larger than what all share: its middle
    assert (square == 200).all()
    draw_thumbnail(np.full((1, 5000), 9, np.uint8), Look(40, False, 0), square)
    draw_thumbnail(np.full((1, 1), 9, np.uint8), Look(40, True, 5000), square)


def test_stretch():
    ramp = np.linspace(100, 150, 1000).astype(np.uint8).reshape(20, 50)
    out = stretched(ramp)
    assert (out.min(), out.max()) == (0, 255)
    assert (np.diff(out.ravel().astype(int)) >= 0).all()
    flat = stretched(np.full((5, 5), 77, np.uint8))
    assert flat.max() == flat.min()


def test_cache_forgets_what_was_not_used_for_longest():
    cache = ByteCache(10)
    for name in "abc":
        cache.put(name, name, 4)
        cache.get("a")
    assert [cache.get(name) for name in "abc"] == ["a", None, "c"]
    cache.put("c", "other", 1)
    cache.put("large", "large", 50)
    assert cache.get("large") == "large"
    assert cache.get("c") is None
