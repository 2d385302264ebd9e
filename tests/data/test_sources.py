"""Which reader a path gets."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from fastcell.data.image_folder import ImageFolder
from fastcell.data.released_lists import ReleasedLists
from fastcell.data.sources import open_source
from fastcell.errors import ArgumentError


def fill(root: Path, *keys: str) -> Path:
    for key in keys:
        path = root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"bytes of " + key.encode())
    return root


@pytest.mark.parametrize(
    ("files", "pattern", "kind"),
    [
        (["A/a.png"], None, ImageFolder),
        (["TRAIN.TXT", "A/a.png"], None, ReleasedLists),
        (["test.txt", "Labels.txt", "A/a.png"], None, ReleasedLists),
        (["test.txt", "A/a.png"], None, ImageFolder),
        (["TRAIN.TXT", "A/a.png"], "{class}/{name}", ImageFolder),
    ],
)
def test_reader_follows_from_the_files(tmp_path: Path, files: list[str], pattern: str | None, kind: type) -> None:
    assert isinstance(open_source(fill(tmp_path, *files), pattern), kind)


def test_paths_that_are_no_folder_are_refused(tmp_path: Path) -> None:
    fill(tmp_path, "notes.md")
    with pytest.raises(ArgumentError, match="nothing there"):
        open_source(tmp_path / "absent")
    with pytest.raises(ArgumentError, match="a file"):
        open_source(tmp_path / "notes.md")


def test_sources_travel_to_workers(tmp_path: Path) -> None:
    source = pickle.loads(pickle.dumps(open_source(fill(tmp_path, "A/a.png"))))
    assert source.load(source.scan().items[0]) == b"bytes of A/a.png"
