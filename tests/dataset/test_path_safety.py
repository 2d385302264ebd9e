"""Whatever names, members and links a source has: pack and index write inside of their folder and nowhere else."""

import io
import os
import tarfile

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fastcell.dataset.manifest import Manifest
from fastcell.errors import FastcellError
from fastcell.packing.index import index
from fastcell.packing.pack import pack
from fastcell.packing.records import Record
from fastcell.packing.shard_writer import write_cell_shard

IMAGE = cv2.imencode(".png", np.arange(30, dtype=np.uint8).reshape(5, 6))[1].tobytes()
PARTS = st.sampled_from(
    ["..", ".", "", "a", "...", "~", "-rf", "con", "a b", "\x1b[2J", "\udcff", "é", "x" * 150, "a.b"]
)
KEYS = st.lists(PARTS, min_size=1, max_size=6).map(lambda parts: "/".join(parts) + ".png")
KINDS = (tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.DIRTYPE)
MEMBERS = st.lists(st.tuples(KEYS, st.sampled_from(KINDS), KEYS), min_size=1, max_size=6)


def snapshot(folder, without):
    """Path, kind, size and time of change of all below `folder` that is not below `without`."""
    found = {}
    for path in folder.rglob("*"):  # links are not followed
        if path.is_relative_to(without):
            continue
        status = path.lstat()
        found[path] = (status.st_mode,) if path.is_dir() else (status.st_mode, status.st_size, status.st_mtime_ns)
    return found


def parts_of(archive):
    return [part for member in archive.getmembers() for part in member.name.split("/")]


@given(st.lists(KEYS, min_size=1, max_size=8))
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_names_in_a_shard_are_safe_to_unpack(tmp_path, keys):
    path = tmp_path / "s.tar"
    path.unlink(missing_ok=True)
    write_cell_shard(path, [Record(key, IMAGE, "png") for key in keys])
    with tarfile.open(path) as archive:
        assert len(archive.getnames()) == len(set(archive.getnames())) == len(keys)
        assert all(member.isreg() and not member.name.startswith("/") for member in archive.getmembers())
        assert not {"", ".", ".."} & set(parts_of(archive))
        assert all(name.isprintable() and len(name) <= 100 for name in archive.getnames())


@given(MEMBERS, st.booleans())
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_index_writes_into_its_folder_alone(tmp_path_factory, members, beside):
    root = tmp_path_factory.mktemp("index")
    source, out = root / "source", root / "out"
    source.mkdir()
    (root / "victim.png").write_bytes(b"untouched")
    with tarfile.open(source / "a.tar", "w", format=tarfile.PAX_FORMAT) as archive:
        for name, kind, target in [*members, ("good.png", tarfile.REGTYPE, "")]:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, target
            info.size = len(IMAGE) if kind == tarfile.REGTYPE else 0
            archive.addfile(info, io.BytesIO(IMAGE))
    place = source if beside else out
    before = snapshot(root, place)
    tar = (source / "a.tar").read_bytes()
    manifest = index(source, out=None if beside else out, jobs=1)
    assert len(manifest) >= 1
    assert snapshot(root, place) == before
    assert (source / "a.tar").read_bytes() == tar
    made = {path.relative_to(place).as_posix() for path in place.rglob("*")} - {"a.tar"}
    known = {"dataset.json", "manifest.parquet", "quarantine.parquet", "splits", "splits/default.parquet"}
    assert made <= known


@pytest.mark.parametrize("layout", ["cell", "block"])
def test_pack_writes_into_its_folder_alone(tmp_path, layout):
    source, out = tmp_path / "source", tmp_path / "out"
    for name in ("a/1.png", "a/..png", "a/...b.png", "a/-rf.png", "a/\x1b[2J\n.png", "b c/\udcff.png", "b c/~.png"):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes(IMAGE)
    (tmp_path / "victim.png").write_bytes(IMAGE)
    (source / "a" / "link.png").symlink_to("../../victim.png")
    (source / "a" / "hard.png").hardlink_to(tmp_path / "victim.png")
    (source / "a" / "up").symlink_to("../..")
    (source / "a" / "broken.png").symlink_to("/nowhere")
    os.mkfifo(source / "a" / "pipe.png")
    before = snapshot(tmp_path, out)
    manifest = pack(source, out, pattern="{class}/**/{name}", layout=layout, allow_absent=True, jobs=1)
    assert snapshot(tmp_path, out) == before
    assert len(manifest) >= 8
    assert Manifest.open(out).quarantine().column("key").to_pylist() == ["a/broken.png"]
    for path in out.glob("*.tar"):
        with tarfile.open(path) as archive:
            assert not {"", ".", ".."} & set(parts_of(archive))
    assert all(path.is_relative_to(out) and not path.is_symlink() for path in out.rglob("*"))


@pytest.mark.parametrize("name", ["splits", "manifest.parquet", "quarantine.parquet", "dataset.json"])
def test_links_in_a_folder_of_tars_are_replaced_not_followed(tmp_path, name):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "default.parquet").write_bytes(b"untouched")
    source = tmp_path / "source"
    source.mkdir()
    with tarfile.open(source / "a.tar", "w") as archive:
        for number, data in enumerate((IMAGE, b"bad")):
            info = tarfile.TarInfo(f"{number}.png")
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    target = elsewhere if name == "splits" else elsewhere / "missing"
    (source / name).symlink_to(target)
    before = snapshot(tmp_path, source)
    manifest = index(source, jobs=1)
    assert snapshot(tmp_path, source) == before
    assert (elsewhere / "default.parquet").read_bytes() == b"untouched"
    assert not (source / name).is_symlink()
    assert manifest.split().tolist() == ["train"]


@pytest.mark.parametrize("name", ["dataset.json", "manifest.parquet", "splits/default.parquet", "verdicts.csv"])
def test_a_pipe_in_a_data_set_is_refused_not_waited_for(make_dataset, name):
    path = make_dataset(30).path / name
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    with pytest.raises(FastcellError, match=r"is not a file|must be a file|split_name must be one of"):
        _read_all(path.parents[name.count("/")])


def _read_all(folder):
    manifest = Manifest.open(folder)
    manifest.split()
    manifest.verdicts()
