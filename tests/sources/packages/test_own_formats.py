"""Formats of other packages, found through entry points of a package that is really installed."""

import importlib
import os
import subprocess
import sys

import numpy as np
import pytest

from fastcell.cli.main import main
from fastcell.dataset.manifest import Manifest
from fastcell.dataset.single_cells import read_cells
from fastcell.errors import ArgumentError, DataError
from fastcell.packing.pack import pack
from fastcell.sources.packages.own_formats import own_readers
from fastcell.sources.registry import ReadOptions, open_source

CODE = '''
import numpy as np
from fastcell.sources.base import Listing, SourceItem, file_stamp

SIDE = 6

class Cells:
    """Files of the ending .cellz: raw bytes, 36 a cell."""
    def __init__(self, path):
        self.path = str(path)
    @property
    def name(self):
        return "cellz"
    def describe(self):
        return f"cellz {self.path}"
    def scan(self):
        data = np.fromfile(self.path, np.uint8)
        names = [f"a.cellz/{n:06d}" for n in range(len(data) // 36)]
        items = [SourceItem(name, "raw", "AB"[n % 2], place=(self.path, n)) for n, name in enumerate(names)]
        return Listing(items, ["A", "B"])
    def load(self, item):
        return np.fromfile(self.path, np.uint8)[36 * item.place[1]:][:36].reshape(SIDE, SIDE)
    def stamp(self, item):
        return file_stamp(self.path)

def open_cells(path):
    return Cells(path if path.is_file() else next(path.glob("*.cellz")))

def open_nothing(path):
    return 3
'''
PROJECT = """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"
[project]
name = "cellz-reader"
version = "1"
[project.entry-points."fastcell.sources"]
cellz = "cellz_reader:open_cells"
cellbad = "cellz_reader:open_nothing"
cellgone = "cellz_gone:open"
[tool.hatch.build.targets.wheel]
include = ["cellz_reader.py"]
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """Folder into which pip has installed a package that reads .cellz files; on Python's path."""
    root = tmp_path_factory.mktemp("package")
    (root / "pyproject.toml").write_text(PROJECT)
    (root / "cellz_reader.py").write_text(CODE)
    target = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    environment = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    done = subprocess.run(
        [*command, "--target", str(target), str(root)], capture_output=True, text=True, env=environment
    )
    if done.returncode:
        pytest.skip(f"pip cannot install a package here: {done.stderr[-200:]}")
    sys.path.append(str(target))
    importlib.invalidate_caches()
    yield target
    sys.path.remove(str(target))
    sys.modules.pop("cellz_reader", None)
    importlib.invalidate_caches()


@pytest.fixture
def cells(tmp_path):
    """(20, 6, 6) uint8, written to tmp_path/src/a.cellz."""
    pixels = np.random.default_rng(0).integers(0, 255, (20, 6, 6)).astype(np.uint8)
    (tmp_path / "src").mkdir()
    pixels.tofile(tmp_path / "src" / "a.cellz")
    return pixels


@pytest.mark.parametrize("name", ["src", "src/a.cellz"])
def test_a_file_and_a_folder_are_packed(name, installed, cells, tmp_path):
    pack(tmp_path / name, tmp_path / "set", jobs=1)
    manifest = Manifest.open(tmp_path / "set")
    assert manifest.info.classes == ["A", "B"]
    rows = np.argsort(manifest.column("key"))
    found = [image for _, image in sorted(zip(manifest.column("key"), read_cells(manifest, np.arange(20)), strict=True),
                                          key=lambda pair: pair[0])]  # fmt: skip
    assert np.array_equal(np.stack(found), cells)
    assert manifest.column("class")[rows].tolist() == ["A", "B"] * 10


def test_no_package_is_imported_for_other_files(installed, tmp_path):
    sys.modules.pop("cellz_reader", None)
    assert {".cellz", ".cellbad", ".cellgone"} <= own_readers().keys()
    np.save(tmp_path / "a.npy", np.zeros((4, 5, 5), np.uint8))
    open_source(tmp_path / "a.npy")
    assert "cellz_reader" not in sys.modules


def test_options_that_the_reader_does_not_get_are_refused(installed, cells, tmp_path):
    with pytest.raises(ArgumentError, match="--channel must be left out, got 1"):
        open_source(tmp_path / "src", options=ReadOptions(channel=1))


@pytest.mark.parametrize(
    ("ending", "message"),
    [("cellbad", "must return a source with name, describe, scan, load, stamp, got int"),
     ("cellgone", "which cannot be imported")],
)  # fmt: skip
def test_a_reader_that_does_not_work_is_named(ending, message, installed, tmp_path):
    path = tmp_path / f"a.{ending}"
    path.write_bytes(b"x")
    with pytest.raises(DataError, match=message):
        open_source(path)


def test_the_format_is_chosen_by_its_name(installed, cells, tmp_path):
    (tmp_path / "src" / "a.cellz").rename(tmp_path / "src" / "a.dat")  # an ending that says nothing
    (tmp_path / "src" / "b.png").write_bytes(b"x")
    source = open_source(tmp_path / "src" / "a.dat", options=ReadOptions(format="cellz"))
    assert np.array_equal(source.load(source.scan().items[3]), cells[3])
    with pytest.raises(ArgumentError, match="--format must be one of rtdc, .*cellz.*, got 'celz'. Did you mean cellz?"):
        open_source(tmp_path / "src" / "a.dat", options=ReadOptions(format="celz"))
    with pytest.raises(ArgumentError, match="--channel must be left out, got 1"):
        open_source(tmp_path / "src" / "a.dat", options=ReadOptions(format="cellz", channel=1))


def test_the_commands_take_the_name(installed, cells, tmp_path):
    assert main(["pack", str(tmp_path / "src"), str(tmp_path / "set"), "--format", "cellz", "--jobs=1"]) == 0
    assert len(Manifest.open(tmp_path / "set")) == 20
