"""Bytes of files that stay open: those of the file as it is, and no more than it has."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fastcell.dataset.open_files import damaged, look_again, read_at, read_up_to, stamp_of
from fastcell.errors import BadCell


def test_reading_sees_a_file_that_was_replaced(tmp_path: Path) -> None:
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


def test_the_end_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"0123456789")
    look_again()
    assert read_up_to(str(path), 7, 10) == b"789"
    assert read_up_to(str(path), 20, 10) == b""
    assert stamp_of(str(path)) == (10, path.stat().st_mtime_ns)


def test_stamps_are_asked_for_once(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"0123456789")
    look_again()
    before = stamp_of(str(path))
    path.write_bytes(b"01234")
    os.utime(path, ns=(0, 10**9))
    assert stamp_of(str(path)) == before
    look_again()
    assert stamp_of(str(path)) == (5, 10**9)
    with pytest.raises(FileNotFoundError):
        stamp_of(str(tmp_path / "b"))


def test_errors_name_the_file_and_the_first_line_of_the_cause() -> None:
    assert str(damaged("/in/a.h5", ValueError("bad header.\nand more"))) == (
        "/in/a.h5 cannot be read (bad header). Copy or make it again, or move it out of the folder."
    )
    assert "(OSError)" in str(damaged("/in/a.h5", OSError()))
