"""Tables of paths and labels, over images and over the cells of containers."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fastcell.cli.pack import main
from fastcell.dataset.manifest import Manifest
from fastcell.errors import ArgumentError, DataError
from fastcell.packing.pack import pack
from fastcell.sources.registry import ReadOptions, open_source
from fastcell.splits.make_splits import SplitOptions


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """12 images, 3 x (number + 3) pixels."""
    root = tmp_path / "images"
    for i in range(12):
        path = root / f"f{i % 2}" / f"{i:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), np.full((3, i + 3), 9 * i, np.uint8))
    return root


def write(path: Path, *lines: str) -> Path:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def rows_of(manifest: Manifest) -> dict[str, dict[str, object]]:
    return {row["key"]: row for row in manifest.table.to_pylist()}


def test_table_names_labels_groups_and_features(images: Path, tmp_path: Path) -> None:
    lines = [f"f{i % 2}/{i:02d}.png,0{i % 3},d{i % 4},{i / 8},{i if i % 5 else ''},text" for i in range(10)]
    path = write(
        tmp_path / "t.csv", "Path,Label,group,um_per_px,score,note", *lines, "f0/00.png,01,d1,1,1,x", "no.png,01,,,,"
    )
    manifest = pack(images, tmp_path / "out", read=ReadOptions(table=path), split=SplitOptions((0.5, 0.0, 0.5)))
    rows = rows_of(manifest)
    assert sorted(rows) == sorted(f"f{i % 2}/{i:02d}.png" for i in range(10))
    assert manifest.info.classes == ["00", "01", "02"]
    for i in range(10):
        row = rows[f"f{i % 2}/{i:02d}.png"]
        assert (row["class"], row["group"], row["width"]) == (f"0{i % 3}", f"d{i % 4}", i + 3)
        assert row["um_per_px"] == (pytest.approx(i / 8) if i else pytest.approx(float("nan"), nan_ok=True))
    features = manifest.features()
    assert features is not None
    assert features.column_names == ["cell_id", "score"]
    told = dict(zip(manifest.column("key").tolist(), features.column("score").to_pylist(), strict=True))
    assert told == {f"f{i % 2}/{i:02d}.png": float(i) if i % 5 else None for i in range(10)}
    bad = manifest.quarantine().select(["key", "reason"]).to_pylist()
    assert bad == [
        {"key": "f0/00.png", "reason": "named twice, first in row 1"},
        {"key": "no.png", "reason": "no such cell"},
    ]


def test_split_of_the_table_is_kept(images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [f"f{i % 2}/{i:02d}.png\tA\t{('train', 'VAL', 'test', '')[i % 4]}" for i in range(12)]
    path = write(tmp_path / "t.tsv", "file\tclass\tsplit", *lines)
    manifest = pack(images, tmp_path / "out", read=ReadOptions(table=path), verbose=True)
    said = capsys.readouterr().err
    assert "the split table (fit --data.split_name table)" in said
    assert f", table {path}\n" in said
    sides = dict(zip(manifest.column("key").tolist(), manifest.split("table").tolist(), strict=True))
    assert sides == {f"f{i % 2}/{i:02d}.png": ("train", "valid", "test", "")[i % 4] for i in range(12)}


def test_parquet_with_numbers_for_labels(images: Path, tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    columns = {"key": [f"f{i % 2}/{i:02d}.png" for i in range(12)], "label": [i % 2 if i else None for i in range(12)]}
    pq.write_table(pa.table(columns), path)
    manifest = pack(images, tmp_path / "out", read=ReadOptions(table=path))
    assert manifest.info.classes == ["0", "1"]
    assert rows_of(manifest)["f0/00.png"]["class"] is None
    assert rows_of(manifest)["f1/03.png"]["class"] == "1"


def test_a_table_stands_for_its_folder(images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(images / "t.csv", "path,label", *(f"f{i % 2}/{i:02d}.png,{'AB'[i % 2]}" for i in range(11)))
    assert main([str(path), str(tmp_path / "out")]) == 0
    assert "1 cells that the table does not name are left out" in capsys.readouterr().err
    assert len(Manifest.open(tmp_path / "out")) == 11


def test_cells_of_containers_get_labels_by_key(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 5, 6)).astype(np.uint8)
    np.savez(tmp_path / "a.npz", images=pixels, area=np.arange(20.0), score=np.zeros(20))
    lines = [f"a.npz/{i:06d},{'AB'[i % 2]},{i + 0.5}" for i in range(3, 20)]
    table = write(tmp_path / "t.csv", "path,label,score", *lines)
    manifest = pack(tmp_path / "a.npz", tmp_path / "out", read=ReadOptions(table=table))
    numbers = [int(key[-6:]) for key in manifest.column("key")]
    assert sorted(numbers) == list(range(3, 20))
    assert [row["class"] for row in manifest.table.to_pylist()] == ["AB"[i % 2] for i in numbers]
    features = manifest.features()
    assert features is not None
    assert features.column("area").to_pylist() == [float(i) for i in numbers]
    assert features.column("score").to_pylist() == [i + 0.5 for i in numbers]


def test_tables_that_cannot_be(images: Path, tmp_path: Path) -> None:
    def refused(path: Path, match: str) -> None:
        with pytest.raises(DataError, match=match):
            open_source(images, options=ReadOptions(table=path)).scan()

    refused(tmp_path / "no.csv", "must be a table of paths and labels, got no file")
    refused(write(tmp_path / "a.csv", "a,b", "1,2"), "must have a column path, key, file, filename, image, got a, b")
    refused(write(tmp_path / "b.csv", "path,label", "../x.png,A"), "row 1: the path must lie in the source")
    refused(write(tmp_path / "c.csv", "path,label", "/etc/passwd,A"), "row 1: the path must lie in the source")
    refused(write(tmp_path / "d.csv", "path,label"), "must name at least one cell")
    refused(write(tmp_path / "i.csv", "path,label", "00.png,A"), "paths are like 'f0/00.png', got '00.png' first")
    refused(write(tmp_path / "e.csv", "path,split", "f0/00.png,some"), "split must be empty or one of")
    refused(write(tmp_path / "f.csv", "path,label", "a,b,c,d"), "cannot be read")
    (tmp_path / "g.parquet").write_bytes(b"PAR1 and more")
    refused(tmp_path / "g.parquet", "g.parquet cannot be read")
    (tmp_path / "h.csv").write_bytes(b"path,label\n\xff\xfe\x00")
    refused(tmp_path / "h.csv", "h.csv")
    table = write(images / "t.csv", "path,label", "f0/00.png,A")
    with pytest.raises(ArgumentError, match="SRC is a table itself"):
        open_source(table, options=ReadOptions(table=table))
