"""Files appear whole or not at all."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from fastcell.storage.whole_files import replace_file, write_json, write_text


def test_a_failed_write_leaves_the_old_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "dataset.json"
    path.write_text("old")

    def fail(file: Path) -> None:
        file.write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        replace_file(path, fail)
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["dataset.json"]


def test_the_old_file_stands_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")

    def write(file: Path) -> None:
        assert file.parent == path.parent  # the same file system: the last step is one rename
        file.write_text("new")
        assert path.read_text() == "old"

    replace_file(path, write)
    assert path.read_text() == "new"


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_rights_are_those_of_a_file_that_is_made_in_place(tmp_path: Path, mask: int, mode: int) -> None:
    before = os.umask(mask)
    try:
        write_text(tmp_path / "a.txt", "x")
    finally:
        os.umask(before)
    assert (tmp_path / "a.txt").stat().st_mode & 0o777 == mode


def test_text_is_utf8_and_json_is_readable(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "5 µm\n")
    assert (tmp_path / "a.txt").read_bytes() == b"5 \xc2\xb5m\n"
    write_json(tmp_path / "a.json", {"um": "5 µm", "shape": [1, 2]})
    text = (tmp_path / "a.json").read_text(encoding="utf-8")
    assert "µm" in text
    assert text.endswith("}\n")
    assert json.loads(text) == {"um": "5 µm", "shape": [1, 2]}
