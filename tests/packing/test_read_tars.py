"""Parts of tars: read once, saved, taken over, and put together with keys that are unique."""

import io
import tarfile

import cv2
import numpy as np
import pytest

from fastcell.packing import read_tars as module
from fastcell.packing.read_tars import read_tars, replace_column
from fastcell.packing.tar_sources import TarSource


def write(path, seeds):
    with tarfile.open(path, "w") as file:
        for seed in seeds:
            image = np.random.default_rng(seed).integers(0, 256, (8, 9), dtype=np.uint8)
            for name, data in (("png", cv2.imencode(".png", image)[1].tobytes()), ("cls", b"%d" % (seed % 2))):
                member = tarfile.TarInfo(f"{seed}.{name}")
                member.size = len(data)
                file.addfile(member, io.BytesIO(data))
    return path


def test_parts_are_saved_and_taken_over(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_PART_CELLS", 4)
    paths = [write(tmp_path / "a.tar", range(10)), write(tmp_path / "b.tar", range(10, 13))]
    (tmp_path / "saved").mkdir()
    sources = [TarSource(path.name, str(path)) for path in paths]
    arguments = (sources, tmp_path / "saved", (None, 0.5, None), 1, False)
    parts, tars = read_tars(*arguments)
    assert [part.rows.num_rows for part in parts] == [4, 4, 2, 3]
    assert [(result.name, result.rows.num_rows) for result in tars] == [("a.tar", 10), ("b.tar", 3)]
    assert tars[0].rows.column("class").to_pylist() == ["0", "1"] * 5
    assert len(list((tmp_path / "saved").iterdir())) == 4
    for name in ("list_samples", "_read_part"):
        monkeypatch.setattr(module, name, lambda *_: pytest.fail("read again"))
    again = read_tars(*arguments)[1]
    assert [result.rows for result in again] == [result.rows for result in tars]


def test_keys_of_two_tars_get_the_names_of_their_tars(tmp_path):
    paths = [write(tmp_path / "a.tar", range(2)), write(tmp_path / "b.tar", range(1, 3))]
    (tmp_path / "saved").mkdir()
    sources = [TarSource(path.name, str(path)) for path in paths]
    _, tars = read_tars(sources, tmp_path / "saved", (None, 0.5, None), 1, False)
    keys = [key for result in tars for key in result.rows.column("key").to_pylist()]
    assert keys == ["a.tar/0.png", "a.tar/1.png", "b.tar/1.png", "b.tar/2.png"]
    assert replace_column(tars[0].rows, "key", ["x", None]).column("key").to_pylist() == ["x", None]
