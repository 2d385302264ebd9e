"""IFCB bins: regions by the rules of pyifcb, stitched pairs, features, and rows that point nowhere."""

import numpy as np
import pytest

from fastcell.dataset.single_cells import read_cells
from fastcell.errors import DataError
from fastcell.packing.pack import pack
from fastcell.sources.ifcb import Ifcb, stitch
from fastcell.sources.registry import open_source

NEW, OLD = "D20130526T095207_IFCB013", "IFCB5_2012_028_081515"


def raw_regions(folder, name):
    """Regions by number, read by the description of the format in a few lines of their own."""
    first = 13 if name.startswith("D") else 9
    data = (folder / f"{name}.roi").read_bytes()
    found = {}
    for number, line in enumerate((folder / f"{name}.adc").read_text().splitlines(), start=1):
        _, _, width, height, offset = (int(word) for word in line.split(",")[first : first + 5])
        if width * height:
            found[number] = np.frombuffer(data[offset : offset + width * height], np.uint8).reshape(height, width)
    return found


def test_real_bins(real_data, tmp_path):
    folder = real_data / "ifcb"
    manifest = pack(folder, tmp_path / "out")
    new, old = raw_regions(folder, NEW), raw_regions(folder, OLD)
    assert (len(new), len(old)) == (19, 6)
    expected = {f"{NEW}/{number:06d}": pixels for number, pixels in new.items()}
    expected |= {f"{OLD}/{number:06d}": pixels for number, pixels in old.items() if number not in (3, 4)}
    rows = dict(zip(manifest.column("key").tolist(), range(len(manifest)), strict=True))
    assert set(rows) == {*expected, f"{OLD}/000003"}
    cells = {key: next(iter(read_cells(manifest, [row]))) for key, row in rows.items()}
    for key, pixels in expected.items():
        assert (cells[key] == pixels).all()
    stitched = cells[f"{OLD}/000003"]  # 180 x 86 at (210, 432) and 113 x 45 at (360, 457)
    assert stitched.shape == (86, 263)
    assert (stitched[:, :150] == old[3][:, :150]).all()
    assert (stitched[25:70, 150:] == old[4]).all()
    assert len({*stitched[:25, 180:].ravel().tolist(), *stitched[70:, 180:].ravel().tolist()}) == 1
    assert set(manifest.column("group").tolist()) == {NEW, OLD}
    features = manifest.features()
    assert features is not None
    row = rows[f"{NEW}/000007"]
    assert (features.column("roi_width")[row].as_py(), features.column("run_time")[row].as_py()) == (88.0, 54.730898)
    assert features.column("valve_status")[row].as_py() is None
    assert features.column("valve_status")[rows[f"{OLD}/000006"]].as_py() == -0.34698486328125


def test_empty_bin_alone_is_an_error(real_data):
    for ending in (".adc", ".hdr", ".roi"):
        with pytest.raises(DataError, match="no usable cell: no image in D20150411T205456_IFCB012"):
            open_source(real_data / "ifcb" / f"D20150411T205456_IFCB012{ending}").scan()


def write(folder, name, rows, num_bytes):
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.adc").write_text("".join(f"{row}\n" for row in rows))
    (folder / f"{name}.roi").write_bytes(bytes(range(256)) * (num_bytes // 256 + 1))
    return folder


def old_row(trigger, x, y, width, height, offset):
    return f"{trigger},0,0,0,0,0,0,0,0,{x},{y},{width},{height},{offset},0"


def test_rows_that_point_nowhere_are_quarantined(tmp_path):
    rows = [
        old_row(1, 0, 0, 4, 5, 0),
        old_row(2, 0, 0, 0, 0, 20),  # no image
        old_row(3, 0, 0, 100, 100, 600),  # beyond the end
        old_row(4, 0, 0, -4, 5, 0),
        old_row(5, 0, 0, 4, 5, -1),
        "6,0,0",
        "7,0,0,0,0,0,0,0,0,0,0,four,5,0,0",
        old_row(8, 0, 0, 1 << 40, 1 << 40, 0),
        old_row(9, 0, 0, 3, 2, 100),
        "10,0,0,0,0,0,0,0,0,0,0,nan,inf,0,0",
    ]
    folder = write(tmp_path / "bins", OLD, rows, 512)
    manifest = pack(folder, tmp_path / "out")
    assert sorted(manifest.column("key")) == [f"{OLD}/000001", f"{OLD}/000009"]
    bad = manifest.quarantine()
    assert dict(zip(bad.column("key").to_pylist(), bad.column("reason").to_pylist(), strict=True)) == {
        f"{OLD}/000003": "lies outside of its .roi",
        f"{OLD}/000004": "lies outside of its .roi",
        f"{OLD}/000005": "lies outside of its .roi",
        f"{OLD}/000006": "row of the .adc that cannot be read",
        f"{OLD}/000007": "row of the .adc that cannot be read",
        f"{OLD}/000008": "lies outside of its .roi",
        f"{OLD}/000010": "row of the .adc that cannot be read",
    }
    (folder / f"{OLD}.roi").unlink()
    listing = Ifcb(folder).scan()
    assert not listing.items
    assert {bad.reason for bad in listing.rejected} >= {"its .roi is missing"}


def test_only_neighbours_of_one_trigger_that_overlap_are_stitched(tmp_path):
    rows = [
        old_row(1, 0, 0, 10, 10, 0),
        old_row(1, 8, 0, 10, 10, 100),  # shares two columns: too few
        old_row(1, 15, 5, 10, 10, 200),  # with the one before: three columns, five rows
        old_row(2, 15, 5, 10, 10, 300),  # another trigger
    ]
    listing = Ifcb(write(tmp_path / "old", OLD, rows, 512)).scan()
    assert [item.key for item in listing.items] == [f"{OLD}/000001", f"{OLD}/000002", f"{OLD}/000004"]
    pixels = Ifcb(tmp_path / "old").load(listing.items[1])
    assert pixels.shape == (15, 17)
    assert (pixels[5:, 7:].ravel() == np.arange(200, 300) % 256).all()
    assert "under the number of the first: 1." in listing.notes[-1]


def test_corners_that_neither_shows_get_the_level_beside_them():
    one, two = np.full((6, 8), 10, np.uint8), np.full((4, 8), 30, np.uint8)
    image = stitch([one, two], [(100, 50), (104, 54)])
    assert image.shape == (8, 12)
    assert (image[:4, :8] == 10).all()
    assert (image[4:, 4:] == 30).all()
    filled = {*image[:4, 8:].ravel().tolist(), *image[6:, :4].ravel().tolist()}
    assert len(filled) == 1
    assert 10 < filled.pop() < 30


def level_beside(image, missing):
    """The level for missing pixels as pyifcb's infill_image finds it: dilation and edge by correlation with kernels."""
    ndimage = pytest.importorskip("scipy.ndimage")
    cross, edge = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]]), np.array([[0, -1, 0], [-1, 4, -1], [0, -1, 0]])
    grown = (ndimage.correlate(missing.astype(int), cross, mode="constant") > 0).astype(int)
    along = ndimage.correlate(grown, edge, mode="constant") > 0
    along[:, 0], along[:, -1] = along[:, 1], along[:, -2]
    along[0], along[-1] = along[1], along[-2]
    return round(float(np.ma.array(image, mask=missing)[along].mean()))


def test_corners_are_filled_as_by_pyifcb(real_data):
    rng = np.random.default_rng(0)
    regions = raw_regions(real_data / "ifcb", OLD)
    cases = [([regions[3], regions[4]], [(210, 432), (360, 457)])]
    for _ in range(20):
        sides = rng.integers(5, 30, (2, 2))
        parts = [rng.integers(0, 256, side).astype(np.uint8) for side in sides]
        cases.append((parts, [(0, 0), (int(rng.integers(0, sides[0, 1] - 3)), int(rng.integers(0, sides[0, 0] - 3)))]))
    for parts, corners in cases:
        image = stitch(parts, corners)
        missing = np.ones(image.shape, bool)
        left, top = min(x for x, _ in corners), min(y for _, y in corners)
        for part, (x, y) in zip(parts, corners, strict=True):
            missing[y - top : y - top + part.shape[0], x - left : x - left + part.shape[1]] = False
        if missing.any():
            assert set(image[missing].tolist()) == {level_beside(image, missing)}


def test_a_bin_without_the_name_of_its_instrument_is_refused(tmp_path):
    with pytest.raises(DataError, match="must have the name that the instrument gave it"):
        Ifcb(write(tmp_path / "bins", "mine", [old_row(1, 0, 0, 4, 5, 0)], 100)).scan()


def test_bins_without_adc_are_quarantined(tmp_path):
    folder = write(tmp_path / "bins", OLD, [old_row(1, 0, 0, 4, 5, 0)], 100)
    (folder / "D20200101T000000_IFCB001.roi").write_bytes(b"x")
    listing = Ifcb(folder).scan()
    assert len(listing.items) == 1
    (bad,) = listing.rejected
    assert bad.item.key == "D20200101T000000_IFCB001"
    assert "must have an .adc, got none" in bad.reason
