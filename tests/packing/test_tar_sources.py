"""Tars at addresses, in webdataset's notation and from commands: the manifest is that of the same tars in a folder."""

import json
import shutil
import tarfile

import cv2
import numpy as np
import pytest

from fastcell.cli.main import main
from fastcell.dataset.manifest import Manifest
from fastcell.errors import ArgumentError, DataError
from fastcell.packing.index import index
from fastcell.packing.tar_sources import find_tar_sources


def write_tar(path, first, num=6):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as file:
        for number in range(first, first + num):
            pixels = np.random.default_rng(number).integers(0, 256, (20, 30)).astype(np.uint8)
            for ending, data in (("png", cv2.imencode(".png", pixels)[1].tobytes()), ("cls", str(number % 2).encode())):
                member = path.with_suffix(f".{ending}")
                member.write_bytes(data)
                file.add(member, f"{number:04d}.{ending}")
                member.unlink()


@pytest.fixture
def tars(tmp_path, tmp_cache):
    """Folder of three tars of six cells, one in a subfolder, and of the names of two classes."""
    folder = tmp_path / "tars"
    for number, name in enumerate(["s-0.tar", "s-1.tar", "more/s-2.tar"]):
        write_tar(folder / name, 6 * number)
    (folder / "classes.txt").write_text("apo\nvital\n")
    return folder


@pytest.fixture
def expected(tars, tmp_path):
    return index(tars, out=tmp_path / "expected")


def check_same(manifest, expected):
    """Rows, classes and default split are equal; the names of the tars are relative to them."""
    rows, others = (one.table.drop_columns("um_per_px").to_pylist() for one in (manifest, expected))
    for row in rows + others:
        row["shard"] = row["shard"].removeprefix("../tars/")
    assert rows == others
    assert manifest.info.classes == expected.info.classes == ["apo", "vital"]
    assert manifest.split().tolist() == expected.split().tolist()


def test_names_in_the_notation_of_webdataset(tars, expected, tmp_path, monkeypatch):
    monkeypatch.setenv("WDS_TARS", str(tars))
    manifest = index(f"{tars}/more/s-2.tar::${{TARS}}/s-{{0..1}}.tar", out=tmp_path / "cells")
    check_same(manifest, expected)
    assert len(index(f"{tars}/s-1.tar", out=tmp_path / "one")) == 6
    assert len(index(f"file:{tars}/s-1.tar", out=tmp_path / "other")) == 6
    assert [path.name for path in find_tar_sources(f"file://{tars}").files] == ["s-2.tar", "s-0.tar", "s-1.tar"]


def test_the_output_of_commands_is_saved(tars, expected, tmp_path):
    command = f"pipe:cat {tars}/more/s-2.tar::pipe:cat {tars}/s-{{0..1}}.tar"
    with pytest.raises(ArgumentError, match="--out must be given for the output of commands"):
        index(command)
    manifest = index(command, out=tmp_path / "cells")
    names = {"more/s-2.tar": "000000.tar", "s-0.tar": "000001.tar", "s-1.tar": "000002.tar"}
    assert manifest.info.classes == ["0", "1"]  # no file of class names comes out of a command
    found = [(row["shard"], row["key"], row["byte_hash"]) for row in manifest.table.to_pylist()]
    rows = expected.table.to_pylist()
    assert found == [(names[row["shard"].removeprefix("../tars/")], row["key"], row["byte_hash"]) for row in rows]
    assert main(["verify", manifest.place]) == 0
    shutil.rmtree(tars)
    assert main(["verify", str(tmp_path / "cells")]) == 0


def test_a_command_that_fails(tars, tmp_path):
    with pytest.raises(DataError, match="the command 'exit 3' fails"):
        index("pipe:exit 3", out=tmp_path / "cells")
    with pytest.raises(DataError, match=r"head -c 3000.*fails|truncated|no usable cell"):
        index(f"pipe:head -c 3000 {tars}/s-0.tar", out=tmp_path / "cells")
    assert not (tmp_path / "cells").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{tars}/s-{0..3}.tar", "TARS must be names of tars that exist, got '.*s-2.tar'"),
        ("{tars}/s-0.tar::pipe:cat x", "TARS must be tars of one kind"),
        ("s3://a/x.tar::s3://b/x.tar", "TARS must be addresses of one store"),
        ("s3://a:b@c/x.tar::s3://b/x.tar", "TARS must be an address without a password"),
        ("${NONE}/s-0.tar", "TARS must be in webdataset's notation.*missing environment variable"),
        ("{tars}/s-{0..1.tar", "TARS must be in webdataset's notation|names of tars that exist"),
        ("{tars}/none", "TARS must be a folder with WebDataset tars"),
    ],
)
def test_names_that_cannot_be_indexed(tars, tmp_path, text, message):
    with pytest.raises(ArgumentError, match=message):
        index(text.replace("{tars}", str(tars)), out=tmp_path / "cells")


def test_tars_of_a_web_server_with_a_manifest_here(tars, expected, web_store, tmp_path, capsys):
    shutil.copytree(tars, web_store.folder / "tars")
    web_store.faults.every = 7
    address = f"{web_store.url}/tars"
    with pytest.raises(ArgumentError, match="OUT must be a place that can be written"):
        index(address)
    names = f"{address}/{{more/s-2,s-0,s-1}}.tar"
    assert main(["index", names, "--out", str(tmp_path / "cells")]) == 0
    capsys.readouterr()
    manifest = Manifest.open(tmp_path / "cells")
    check_same(manifest, expected)
    assert json.loads((tmp_path / "cells" / "dataset.json").read_text())["shards_at"] == address
    assert main(["verify", manifest.place]) == 0
    assert str(manifest.place) == str(tmp_path / "cells")
    assert manifest.place_of("s-0.tar") == f"{address}/s-0.tar"
    assert manifest.place_of("verdicts.csv") == str(tmp_path / "cells" / "verdicts.csv")
    for words in (["qc", "--apply"], ["info"], ["verify"]):
        assert main([words[0], str(tmp_path / "cells"), *words[1:]]) == 0
    assert (tmp_path / "cells" / "quality.parquet").exists()


def test_one_level_of_a_page_is_found(tars, web_store, tmp_path):
    shutil.copytree(tars, web_store.folder / "tars")
    found = find_tar_sources(f"{web_store.url}/tars")
    assert list(found.objects) == [f"{web_store.url}/tars/s-{number}.tar" for number in range(2)]
    web_store.lists = False
    with pytest.raises(DataError, match="does not list the folder. Name the tars, for example .*000123"):
        find_tar_sources(f"{web_store.url}/tars")


@pytest.mark.slow
def test_tars_of_a_store_and_their_manifest_beside_them(tars, expected, s3_store, tmp_path, capsys):
    s3_store.put(tars, "lab/tars")
    address = s3_store.put(tars, "lab/tars")
    assert main(["index", address]) == 0
    assert "fastcell fit" in capsys.readouterr().out
    manifest = Manifest.open(address)
    check_same(manifest, expected)
    assert manifest.info.shards_at is None
    assert main(["verify", manifest.place]) == 0
    assert {"s-0.tar", "manifest.parquet", "dataset.json"} <= set(s3_store.names("lab/tars"))
    assert main(["index", address]) == 2
    assert "OUT must be a place without a data set" in capsys.readouterr().err
    elsewhere = address.replace("lab/tars", "lab/cells")
    manifest = index(address, out=elsewhere)
    assert manifest.info.shards_at == address
    check_same(manifest, expected)
    assert main(["verify", str(elsewhere)]) == 0


def test_a_tar_that_vanishes_is_named(tars, web_store, tmp_path):
    shutil.copytree(tars, web_store.folder / "tars")
    names = f"{web_store.url}/tars/s-{{0..1}}.tar"
    (web_store.folder / "tars" / "s-1.tar").write_bytes(b"no tar")
    manifest = index(names, out=tmp_path / "cells")
    assert len(manifest) == 6
    (reason,) = manifest.quarantine().column("reason").to_pylist()
    assert "is not a tar file: it has 6 bytes" in reason
    assert "proc" not in reason
    (web_store.folder / "tars" / "s-1.tar").unlink()
    with pytest.raises(DataError, match=r"tars/s-1.tar does not exist. Check the name"):
        index(names, out=tmp_path / "again")
