"""Bytes of files that stay open: those of the file as it is, and no more than it has."""

import os
import tracemalloc

import pytest

from fastcell.dataset.open_files import damaged, look_again, read_at, read_up_to, stamp_of
from fastcell.errors import BadCell, DataError


def test_reading_sees_a_file_that_was_replaced(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"0123456789")
    assert read_at(str(path), 2, 3) == b"234"
    path.unlink()
    path.write_bytes(b"abcdefghijk")
    look_again()
    assert read_at(str(path), 2, 3) == b"cde"
    with pytest.raises(BadCell, match="truncated"):
        read_at(str(path), 8, 4)
    for offset in (2**63 - 10, 2**63, 2**64):  # a damaged file may name any place
        with pytest.raises(BadCell, match="truncated"):
            read_at(str(path), offset, 18)


def fill(root, *keys):
    for key in keys:
        path = root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"0123456789")
    return root


def test_fewer_bytes_where_the_file_ends(tmp_path):
    path = str(fill(tmp_path, "a") / "a")
    assert read_up_to(path, 7, 100) == b"789"
    assert read_up_to(path, 100, 5) == b""
    assert read_up_to(path, 2**63 - 1, 5) == b""
    assert read_at(path, 0, 0) == b""
    with pytest.raises(FileNotFoundError):
        read_at(str(tmp_path / "none"), 0, 1)


def test_the_stamp_is_asked_for_once(tmp_path):
    path = fill(tmp_path, "a") / "a"
    os.utime(path, ns=(0, 1_000_000_007))
    look_again()
    assert stamp_of(str(path)) == (10, 1_000_000_007)
    path.write_bytes(b"0123456789ab")
    assert stamp_of(str(path)) == (10, 1_000_000_007)
    look_again()
    assert stamp_of(str(path))[0] == 12
    look_again()
    path.unlink()
    with pytest.raises(FileNotFoundError):
        stamp_of(str(path))


def test_many_files_need_few_descriptors(tmp_path):
    names = [f"{number}" for number in range(200)]
    fill(tmp_path, *names)
    before = len(os.listdir("/proc/self/fd"))
    assert {read_at(str(tmp_path / name), 3, 2) for name in names} == {b"34"}
    assert len(os.listdir("/proc/self/fd")) - before <= 64


def test_words_of_a_damaged_file():
    error = damaged("a\udcff.tif", ValueError("first line.\nsecond line"))
    assert isinstance(error, DataError)
    assert str(error) == (
        r"a\udcff.tif cannot be read (first line). Copy or make it again, or move it out of the folder."
    )
    assert "(ValueError)" in str(damaged("a", ValueError()))


def test_no_more_memory_than_the_file_has(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"0123456789")
    look_again()
    tracemalloc.start()
    try:
        assert read_up_to(str(path), 4, 1 << 40) == b"456789"
        assert read_up_to(str(path), 1 << 63, 5) == b""
        with pytest.raises(BadCell, match="truncated"):
            read_at(str(path), 4, 1 << 40)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
