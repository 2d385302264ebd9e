"""Where an output may be written is known before the work; an address is no path."""

import os
import subprocess
from pathlib import Path

import pytest

from fastcell.errors import ArgumentError
from fastcell.storage.places import check_output_file, check_output_folder, is_address, local_path, local_words
from fastcell.storage.whole_files import write_text

ADDRESSES = ["s3://bucket/a", "gs://b", "http://x.org/a.tar", "HTTPS://x.org", "abc+d://x", "hf://d", "file://host/x"]
ADDRESSES += ["s3:///a", "s3://", "simplecache::s3://bucket/a"]


@pytest.mark.parametrize("text", [*ADDRESSES, "s3:/bucket/a", Path("gs://bucket/a")])
def test_addresses_are_refused(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for check in (local_path, check_output_file, check_output_folder):
        with pytest.raises(ArgumentError, match="--out must be a path on this machine, got '"):
            check("--out", text)
    assert os.listdir(tmp_path) == []


def test_an_empty_word_is_not_the_present_folder():
    for words, name in ((["cells", ""], "argument"), (["cells", "--out="], "--out"), (["cells", "--out", ""], "--out")):
        with pytest.raises(ArgumentError, match=f"{name} must be a value, got ''. It is empty"):
            local_words(words)
    assert local_words(["cells", "--name=", "--apply", "--pattern", ""]) == [
        "cells",
        "--name=",
        "--apply",
        "--pattern",
        "",
    ]


@pytest.mark.parametrize("kind", ["pipe", "link to a pipe", "link to a device"])
def test_a_device_is_not_replaced_by_a_file(tmp_path, kind):
    path = tmp_path / "out.csv"
    if kind == "pipe":
        os.mkfifo(path)
    else:
        os.mkfifo(tmp_path / "pipe")
        path.symlink_to(tmp_path / "pipe" if kind == "link to a pipe" else "/dev/null")
    before = path.lstat()
    with pytest.raises(ArgumentError, match="--out must be a file, got .*It is a device or a pipe"):
        check_output_file("--out", path)
    with pytest.raises(ArgumentError, match="output must be a file, got .*It is a device or a pipe"):
        write_text(path, "text")
    assert path.lstat() == before


def test_what_looks_like_an_address_and_is_a_path():
    for text in ("a:b", "C:/x", "x:/y", "./s3://b", "/data/s3://b", "a b://c", "day 1: a/b", ""):
        assert not is_address(text), text
        assert local_path("DATA", text) == Path(text)
    assert local_path("DATA", "file:///data/my%20cells") == Path("/data/my cells")
    assert local_path("DATA", "file://localhost/data") == Path("/data")


def test_bytes_that_are_no_utf_8_are_refused(tmp_path):
    for check in (check_output_file, check_output_folder):
        with pytest.raises(ArgumentError, match="--out must be a path in UTF-8, got "):
            check("--out", tmp_path / "a\udcff")
    assert os.listdir(tmp_path) == []


def test_a_folder_that_has_the_name_of_a_scheme_is_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("s3:/cells").mkdir(parents=True)
    assert local_path("DATA", "s3:/cells") == Path("s3:/cells")


def test_good_places_are_left_as_they_were(tmp_path):
    (tmp_path / "old.csv").write_text("old")
    assert check_output_file("--out", tmp_path / "old.csv", tmp_path / "none") == tmp_path / "old.csv"
    assert check_output_file("--out", str(tmp_path / "new.csv")) == tmp_path / "new.csv"
    assert check_output_folder("--out", tmp_path) == tmp_path
    assert check_output_folder("--out", tmp_path / "new") == tmp_path / "new"
    assert os.listdir(tmp_path) == ["old.csv"]
    assert (tmp_path / "old.csv").read_text() == "old"


def test_bad_places_are_named(tmp_path):
    (tmp_path / "file").write_text("x")
    (tmp_path / "link").symlink_to(tmp_path / "gone")
    long = "x" * 256
    for check, path, words in (
        (check_output_file, tmp_path, "a file, got"),
        (check_output_file, tmp_path / "none" / "a.csv", "in an existing folder, got"),
        (check_output_file, tmp_path / "file" / "a.csv", "is not a folder: create it first|not a directory"),
        (check_output_file, tmp_path / long, "file name too long"),
        (check_output_file, "/proc/a.csv", "can be written, got '/proc/a.csv'"),
        (check_output_file, "a\0b", "a path, got"),
        (check_output_folder, tmp_path / "file", "a folder, got"),
        (check_output_folder, tmp_path / "link", "a folder, got"),
        (check_output_folder, tmp_path / "none" / "a", "in an existing folder, got"),
        (check_output_folder, tmp_path / "file" / "a", "is not a folder: create it first|not a directory"),
        (check_output_folder, tmp_path / long, "file name too long"),
        (check_output_folder, "/proc/a", "can be written, got '/proc/a'"),
    ):
        with pytest.raises(ArgumentError, match=words) as caught:
            check("--out", path)
        assert str(caught.value).startswith("--out must be ")
    with pytest.raises(ArgumentError, match="a different file from the input"):
        check_output_file("--out", tmp_path / "file", tmp_path / "file")
    assert sorted(os.listdir(tmp_path)) == ["file", "link"]


@pytest.fixture
def full_disk(tmp_path):
    """A disk of 64 KiB that is full."""
    place = tmp_path / "disk"
    place.mkdir()
    if (
        os.geteuid()
        or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", place], check=False).returncode
    ):
        pytest.skip("no right to mount a file system")
    try:
        (place / "filled").write_bytes(bytes(1 << 16))
        yield place
    finally:
        subprocess.run(["umount", place], check=True)


def test_a_full_disk_is_known_before_the_work(full_disk):
    for check in (check_output_file, check_output_folder):
        with pytest.raises(ArgumentError, match="no space left on device"):
            check("--out", full_disk / "new")
    assert os.listdir(full_disk) == ["filled"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_folder_without_the_right_to_write(tmp_path):
    os.seteuid(65534)
    try:
        for check in (check_output_file, check_output_folder):
            with pytest.raises(ArgumentError, match="--out must be a path that can be written, .*permission denied"):
                check("--out", tmp_path / "new")
    finally:
        os.seteuid(0)


@pytest.mark.parametrize(
    ("marks", "name", "owner"),
    [
        (["dataset.json"], "manifest.parquet", "data set"),
        (["dataset.json"], "shard-000000.tar", "data set"),
        (["dataset.json"], "splits/default.parquet", "data set"),
        (["config.yaml", "environment.json"], "predictions.parquet", "run"),
        (["config.yaml", "environment.json"], "best.ckpt", "run"),
    ],
)
def test_a_file_of_a_data_set_or_a_run_is_no_output(tmp_path, marks, name, owner):
    out = tmp_path / name
    out.parent.mkdir(exist_ok=True)
    out.write_text("kept")
    assert check_output_file("--out", out) == out  # a folder of neither
    for mark in marks:
        (tmp_path / mark).touch()
    with pytest.raises(ArgumentError, match=f"--out must be a file of its own, got .*It belongs to the {owner}"):
        check_output_file("--out", out)
    assert out.read_text() == "kept"
    assert check_output_file("--out", out.with_name("new.csv"))


def test_text_of_an_option_is_utf_8_and_may_be_an_address():
    with pytest.raises(ArgumentError, match=r"--name must be a text in UTF-8, got '\\udcff'"):
        local_words(["cells", "--name", "\udcff"])
    words = ["--source", "https://doi.org/10.1/x", "--split-name=s3://x", "--licence", "https://x/y"]
    assert local_words(words) == words


def test_arguments_of_a_command():
    words = ["file:///data/a%20b", "--out=file:///x", "--trainer.logger.uri", "http://x", "--name=a://b", "--a", "b"]
    assert local_words(words) == ["/data/a b", "--out=/x", *words[2:]]
    for wrong in (["s3://b"], ["--out", "s3://b"], ["--out=s3://b"], ["-o", "s3://b"], ["--name", "x", "s3://b"]):
        with pytest.raises(ArgumentError, match="(--out|-o|argument) must be a path on this machine, got 's3://b'"):
            local_words(wrong)
