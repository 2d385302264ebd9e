"""Which reader a path gets."""

import pickle
import re
import sys

import numpy as np
import pytest
import tifffile
from fixtures.written_bytes import fill
from PIL import Image

from fastcell.dataset.single_cells import read_cells
from fastcell.errors import ArgumentError, DataError, StrictError
from fastcell.packing.pack import pack
from fastcell.sources.arrays import Arrays
from fastcell.sources.ifcb import Ifcb
from fastcell.sources.image_folder import ImageFolder
from fastcell.sources.paper_lists import ReleasedLists
from fastcell.sources.path_table import PathTable
from fastcell.sources.registry import ReadOptions, open_source
from fastcell.sources.rtdc import Rtdc
from fastcell.sources.tiff_stacks import TiffStacks
from fastcell.sources.webdataset import Tars
from fastcell.system.optional_packages import install_hint


@pytest.mark.parametrize(
    ("files", "pattern", "kind"),
    [
        (["A/a.png"], None, ImageFolder),
        (["TRAIN.TXT", "A/a.png"], None, ReleasedLists),
        (["test.txt", "Labels.txt", "A/a.png"], None, ReleasedLists),
        (["test.txt", "A/a.png"], None, ImageFolder),
        (["TRAIN.TXT", "A/a.png"], "{class}/{name}", ImageFolder),
        (["A/a.tif", "A/b.npy"], None, ImageFolder),
        (["A/a.png", "A/Thumbs.db", "A/.DS_Store", "A/._a.png", "__MACOSX/A/._a.tar", "._x.rtdc"], None, ImageFolder),
        (["A/a.RTDC", "A/notes.csv", "labels.npy"], None, Rtdc),
        (["D20130526T095207_IFCB013.adc", "D20130526T095207_IFCB013.roi", "a.csv"], None, Ifcb),
        (["x.npz", "y.h5", "z.MAT"], None, Arrays),
        (["a/x.tar", "classes.txt"], None, Tars),
        (["A/x.mat", "B/x.mat"], None, Arrays),
        (["x.npz"], None, Arrays),
        (["x.h5"], None, Arrays),
        (["nothing.md"], None, ImageFolder),
    ],
)
def test_reader_follows_from_the_files(tmp_path, files, pattern, kind):
    assert isinstance(open_source(fill(tmp_path, *files), pattern), kind)


@pytest.mark.parametrize(
    ("files", "names"),
    [
        (["A/a.png", "x.mat", "y.h5"], ["images", "arrays"]),
        (["A/a.RTDC", "A/a.jpg", "b.tar"], ["rtdc", "tars", "images"]),
        (["D20130526T095207_IFCB013.adc", "D20130526T095207_IFCB013.roi", "a.PNG"], ["ifcb", "images"]),
    ],
)
def test_mixed_folders_are_refused_and_a_named_format_is_read(tmp_path, files, names):
    fill(tmp_path, *files)
    wanted = " or ".join(f"--format {name}" for name in names)
    with pytest.raises(DataError, match=f"must hold files of one format, got .*{wanted}"):
        open_source(tmp_path)
    for name in names:
        assert open_source(tmp_path, options=ReadOptions(format=name)).describe()


def test_one_stack_among_images(tmp_path):
    root = tmp_path / "images"
    for i in range(6):
        path = root / "AB"[i % 2] / f"p{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((4, 5), 20 * i, np.uint8)).save(path)
    tifffile.imwrite(root / "A" / "multi.tif", np.zeros((3, 4, 5), np.uint8), photometric="minisblack")
    with pytest.raises(DataError, match=r"tiff \(1 files, e.g. A/multi.tif\), images \(6 files, e.g. A/p0.png\)"):
        pack(root, tmp_path / "out")
    manifest = pack(root, tmp_path / "out", read=ReadOptions(format="images"))
    assert sorted(manifest.column("key")) == sorted(f"{'AB'[i % 2]}/p{i}.png" for i in range(6))
    (bad,) = manifest.quarantine().to_pylist()
    assert (bad["key"], bad["reason"]) == (
        "A/multi.tif",
        "tif with 3 channels in its pages, and no channel is chosen",
    )
    with pytest.raises(StrictError):
        pack(root, tmp_path / "strict", read=ReadOptions(format="images"), strict=True)
    np.save(root / "B" / "stack.npy", np.zeros((3, 4, 5), np.uint8))
    (root / "A" / "multi.tif").unlink()
    with pytest.raises(DataError, match="images .* arrays"):
        open_source(root)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.rtdc", Rtdc),
        ("D20130526T095207_IFCB013.hdr", Ifcb),
        ("a.tar", Tars),
        ("a.tif", TiffStacks),
        ("a.npy", Arrays),
        ("a.MAT", Arrays),
        ("a.csv", PathTable),
        ("a.parquet", PathTable),
    ],
)
def test_reader_follows_from_the_name_of_a_file(tmp_path, name, kind):
    source = open_source(fill(tmp_path, name) / name)
    assert isinstance(source, kind)
    assert source.describe()


def test_stacks_are_told_from_single_images(tmp_path):
    cells = np.zeros((5, 6, 7), np.uint8)
    np.save(tmp_path / "a.npy", cells[0])
    np.save(tmp_path / "b.npy", cells[:1])
    assert isinstance(open_source(tmp_path), ImageFolder)
    np.save(tmp_path / "c.npy", cells)
    assert isinstance(open_source(tmp_path), Arrays)
    assert isinstance(open_source(tmp_path, options=ReadOptions(format="images")), ImageFolder)
    (tmp_path / "tif").mkdir()
    tifffile.imwrite(tmp_path / "tif" / "a.tif", cells[0])
    assert isinstance(open_source(tmp_path / "tif"), ImageFolder)
    assert isinstance(open_source(tmp_path / "tif", options=ReadOptions(tile=(2, 7))), TiffStacks)
    tifffile.imwrite(tmp_path / "tif" / "b.tif", cells)
    assert isinstance(open_source(tmp_path / "tif"), TiffStacks)


@pytest.mark.parametrize("files", [["a.cif"], ["x/a.daf", "x/b.daf", "notes.md"]])
def test_imagestream_says_how_to_export(tmp_path, files):
    fill(tmp_path, *files)
    with pytest.raises(DataError, match=r"ImageStream\. Export the images from IDEAS: Tools, Export \.TIF Images"):
        open_source(tmp_path / files[0] if len(files) == 1 else tmp_path)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        (
            ReadOptions(tile=(4, 4), format="images"),
            r"--tile must be given for tiff, got \(4, 4\)\. SRC is read as images",
        ),
        (ReadOptions(labels="l.txt"), "--labels must be given for arrays"),
        (ReadOptions(channel=0, format="arrays"), "--channel must be given for tars, lists, tiff, images, got 0"),
        (ReadOptions(subtract_background=True), "--subtract-background must be given for rtdc"),
        (ReadOptions(pages="cells"), "--pages must be given for tiff, got 'cells'"),
        (
            ReadOptions(pattern="{class}/{name}", format="lists"),
            "--pattern must be given for rtdc, ifcb, tars, tiff, images",
        ),
        (ReadOptions(format="gif"), "--format must be one of rtdc, ifcb, tars, lists, tiff, images, arrays"),
    ],
)
def test_options_that_would_be_passed_over_are_refused(tmp_path, options, match):
    with pytest.raises(ArgumentError, match=match):
        open_source(fill(tmp_path, "A/a.png"), options=options)


def test_a_missing_package_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(DataError, match=re.escape(f"needs the package h5py. {install_hint('h5py')}")):
        open_source(fill(tmp_path, "a.rtdc") / "a.rtdc").scan()


def test_paths_that_are_no_folder_are_refused(tmp_path):
    fill(tmp_path, "notes.md")
    with pytest.raises(ArgumentError, match="nothing there"):
        open_source(tmp_path / "absent")
    with pytest.raises(ArgumentError, match=r"\(a file\)"):
        open_source(tmp_path / "notes.md")


def test_sources_travel_to_workers(tmp_path):
    source = pickle.loads(pickle.dumps(open_source(fill(tmp_path, "A/a.png"))))
    assert source.load(source.scan().items[0]) == b"bytes of A/a.png"


@pytest.mark.parametrize(
    ("name", "pattern", "num", "layout"),
    [
        ("jurkat", None, 2393, "block"),
        ("tcell", "{group}/{class}/{name}", 656, "cell"),
        ("atom-samples", "{class}_{name}", 30, "cell"),
    ],
)
def test_real_images_come_out_as_pillow_reads_them(real_data, tmp_path, name, pattern, num, layout):
    images = [path for path in (real_data / name).rglob("*") if path.suffix in (".png", ".jpg")]
    manifest = pack(real_data / name, tmp_path / "out", pattern=pattern, layout=layout)
    assert len(manifest) == len(images) == num
    assert manifest.info.num_quarantined == 0
    keys = manifest.column("key").tolist()
    assert sorted(keys) == sorted(path.relative_to(real_data / name).as_posix() for path in images)
    heights, widths = manifest.column("height"), manifest.column("width")
    for row, (key, cell) in enumerate(zip(keys, read_cells(manifest, range(num)), strict=True)):
        with Image.open(real_data / name / key) as image:
            wanted = np.asarray(image.convert("L")).astype(int)
        assert cell.shape == wanted.shape == (heights[row], widths[row])
        difference = np.abs(cell.astype(int) - wanted).max()
        assert difference <= (2 if key.endswith(".jpg") else 0)  # decoders of JPEG round each in their way
