"""Tables of paths and labels, over images and over the cells of containers."""

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
def images(tmp_path):
    """12 images, 3 x (number + 3) pixels."""
    root = tmp_path / "images"
    for i in range(12):
        path = root / f"f{i % 2}" / f"{i:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), np.full((3, i + 3), 9 * i, np.uint8))
    return root


def write(path, *lines):
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def rows_of(manifest):
    return {row["key"]: row for row in manifest.table.to_pylist()}


def test_a_pixel_size_that_cannot_be_is_unknown(images, tmp_path):
    """1e-300 would be 0 in the manifest, and the whole set then refused."""
    lines = [f"f{i % 2}/{i:02d}.png,{value}" for i, value in enumerate(("1e-300", "0", "-1", "1e300", "0.5"))]
    path = write(tmp_path / "t.csv", "path,um_per_px", *lines)
    manifest = pack(images, tmp_path / "out", read=ReadOptions(table=path), split=SplitOptions(None))
    found = {key: row["um_per_px"] for key, row in rows_of(manifest).items()}
    assert found.pop("f0/04.png") == 0.5
    assert np.isnan(list(found.values())).all()


def test_table_names_labels_groups_and_features(images, tmp_path):
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


def test_split_of_the_table_is_kept(images, tmp_path, capsys):
    lines = [f"f{i % 2}/{i:02d}.png\tA\t{('train', 'VAL', 'test', '')[i % 4]}" for i in range(12)]
    path = write(tmp_path / "t.tsv", "file\tclass\tsplit", *lines)
    manifest = pack(images, tmp_path / "out", read=ReadOptions(table=path), verbose=True)
    said = capsys.readouterr().err
    assert "the split table (fit --data.split_name table)" in said
    assert f", table {path}\n" in said
    sides = dict(zip(manifest.column("key").tolist(), manifest.split("table").tolist(), strict=True))
    assert sides == {f"f{i % 2}/{i:02d}.png": ("train", "valid", "test", "")[i % 4] for i in range(12)}


def test_parquet_with_numbers_for_labels(images, tmp_path):
    path = tmp_path / "t.parquet"
    columns = {"key": [f"f{i % 2}/{i:02d}.png" for i in range(12)], "label": [i % 2 if i else None for i in range(12)]}
    pq.write_table(pa.table(columns), path)
    manifest = pack(images, tmp_path / "out", read=ReadOptions(table=path))
    assert manifest.info.classes == ["0", "1"]
    assert rows_of(manifest)["f0/00.png"]["class"] is None
    assert rows_of(manifest)["f1/03.png"]["class"] == "1"


def test_a_table_stands_for_its_folder(images, tmp_path, capsys):
    path = write(images / "t.csv", "path,label", *(f"f{i % 2}/{i:02d}.png,{'AB'[i % 2]}" for i in range(11)))
    assert main([str(path), str(tmp_path / "out")]) == 0
    assert "cells that the table does not name are left out: 1" in capsys.readouterr().err
    assert len(Manifest.open(tmp_path / "out")) == 11


def test_cells_of_containers_get_labels_by_key(tmp_path):
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


def test_tables_that_cannot_be(images, tmp_path):
    def refused(path, match):
        with pytest.raises(DataError, match=match):
            open_source(images, options=ReadOptions(table=path)).scan()

    refused(tmp_path / "no.csv", "must be a table, got no file")
    refused(
        write(tmp_path / "a.csv", "a,b", "1,2"),
        "must have a column path, key, .*, img_file_name, got a, b",
    )
    refused(write(tmp_path / "b.csv", "path,label", "../x.png,A"), "row 1: the path must lie in the source")
    refused(write(tmp_path / "c.csv", "path,label", "/etc/passwd,A"), "row 1: the path must lie in the source")
    refused(write(tmp_path / "d.csv", "path,label"), "must name at least one cell")
    refused(write(tmp_path / "i.csv", "path,label", "00.png,A"), "with paths such as 'f0/00.png', got '00.png' first")
    refused(write(tmp_path / "e.csv", "path,split", "f0/00.png,some"), "split must be empty or one of")
    refused(
        write(tmp_path / "f.csv", "path,label", "a,b,c,d"),
        "must have 2 fields in each line .*, got 4 in line 2",
    )
    (tmp_path / "g.parquet").write_bytes(b"PAR1 and more")
    refused(tmp_path / "g.parquet", "g.parquet cannot be read")
    (tmp_path / "h.csv").write_bytes(b"path,label\n\xff\xfe\x00")
    refused(tmp_path / "h.csv", "h.csv")
    table = write(images / "t.csv", "path,label", "f0/00.png,A")
    with pytest.raises(ArgumentError, match="SRC is itself a table"):
        open_source(table, options=ReadOptions(table=table))


def listed(images, path):
    return open_source(images, options=ReadOptions(table=path)).scan()


def features_of(listing):
    found = {}
    assert listing.features is not None
    for keys, values in listing.features.pieces():
        for name, column in values.items():
            found.setdefault(name, {}).update(zip(keys, column.tolist(), strict=True))
    return found


KEYS = [f"f{i % 2}/{i:02d}.png" for i in range(6)]


def test_numbers_with_gaps_are_the_classes_that_they_name(images, tmp_path):
    words = ["1.0", "2", "", "1", "2.0", "1.00"]
    path = write(tmp_path / "t.csv", "path,label", *(f"{key},{word}" for key, word in zip(KEYS, words, strict=True)))
    listing = listed(images, path)
    assert listing.classes == ["1", "2"]
    assert [item.class_name for item in listing.items] == ["1", "2", None, "1", "2", "1"]


def test_the_group_na_is_a_group_and_is_noted(images, tmp_path):
    groups = ["NA", "SA", "NA", "IO", "", "nan"]
    path = write(tmp_path / "t.csv", "path,group", *(f"{key},{word}" for key, word in zip(KEYS, groups, strict=True)))
    listing = listed(images, path)
    assert [item.group for item in listing.items] == ["NA", "SA", "NA", "IO", None, "nan"]
    assert any("'NA' in column group (2 rows) is read as a name" in note for note in listing.notes)


def test_german_excel(images, tmp_path):
    lines = [f"{key};Größe;{i},5;1.{i}00,25" for i, key in enumerate(KEYS)]
    path = tmp_path / "t.csv"
    path.write_bytes(("sep=;\r\nPath;Label;area;mass\r\n" + "\r\n".join(lines)).encode("utf-8-sig"))
    listing = listed(images, path)
    assert listing.classes == ["Größe"]
    assert features_of(listing) == {
        "area": {key: i + 0.5 for i, key in enumerate(KEYS)},
        "mass": {key: 1000 + 100 * i + 0.25 for i, key in enumerate(KEYS)},
    }


def test_unicode_text_of_excel_is_read_and_latin_1_is_refused(images, tmp_path):
    text = "path\tlabel\n" + "".join(f"{key}\tGröße\n" for key in KEYS)
    (tmp_path / "t.tsv").write_bytes(text.encode("utf-16"))
    assert listed(images, tmp_path / "t.tsv").classes == ["Größe"]
    (tmp_path / "t.tsv").write_bytes(text.encode("latin-1"))
    with pytest.raises(DataError, match="must be UTF-8 text, got byte 0xf6 in line 2"):
        listed(images, tmp_path / "t.tsv")


def test_columns_that_are_not_read_are_named_and_an_index_is_no_feature(images, tmp_path):
    lines = [f"{i},{key},A,{i} %,May,{i},{i},{i}" for i, key in enumerate(KEYS)]
    path = write(tmp_path / "t.csv", ",path,label,share,month,n,twice,twice", *lines)
    listing = listed(images, path)
    assert list(features_of(listing)) == ["n"]
    assert [note for note in listing.notes if "column" in note] == [
        (
            "columns that resemble numbers are not read: share. Write plain numbers, without units, percent signs "
            "or thousands separators."
        ),
        "columns of other types than numbers are not read: month.",
        "columns with a repeated name are not read as features: twice.",
    ]


def test_row_names_of_r_quotes_and_true_and_false(images, tmp_path):
    lines = [f'"{i + 1}" "{key}" "T cell" {i}.5 {"TRUE" if i % 2 else "NA"}' for i, key in enumerate(KEYS)]
    listing = listed(images, write(tmp_path / "t.txt", '"file" "class" "area" "round"', *lines))
    assert listing.classes == ["T cell"]
    found = features_of(listing)
    assert list(found) == ["area", "round"]
    assert found["area"] == {key: i + 0.5 for i, key in enumerate(KEYS)}
    assert [found["round"][key] for key in KEYS[1::2]] == [1.0] * 3
    assert all(np.isnan(found["round"][key]) for key in KEYS[::2])


def test_windows_paths_absolute_paths_and_other_case(images, tmp_path):
    paths = ["f0\\00.png", ".\\f1\\01.png", str(images / "f0/02.png"), "F1/03.PNG", " f0/04.png "]
    listing = listed(images, write(tmp_path / "t.csv", "path,label", *(f"{path},A" for path in paths)))
    assert [item.key for item in listing.items] == ["f0/00.png", "f1/01.png", "f0/02.png", "f0/04.png"]
    assert [(bad.item.key, bad.reason) for bad in listing.rejected] == [
        ("F1/03.PNG", "no such cell; f1/03.png is there, in other upper and lower case")
    ]


@pytest.mark.parametrize("types", [True, False])
def test_ecotaxa(images, tmp_path, types):
    names = ["object_id", "object_annotation_category", "object_annotation_status", "img_file_name", "object_area"]
    lines = ["[t]\t[t]\t[t]\t[t]\t[f]"] if types else []
    lines += [
        f"o{i}\t{'Copepoda' if i else ''}\t{('predicted', 'validated')[i % 2]}\t{key}\t{i}.25"
        for i, key in enumerate(KEYS)
    ]
    path = write(images / "ecotaxa_export.tsv", "\t".join(names), *lines)
    listing = open_source(path).scan()
    assert [item.key for item in listing.items] == KEYS
    assert [item.class_name for item in listing.items] == [None] + ["Copepoda"] * 5
    assert features_of(listing) == {"object_area": {key: i + 0.25 for i, key in enumerate(KEYS)}}
    assert any(
        note.startswith("rows with a class that is not validated (") and note.endswith("): 3.")
        for note in listing.notes
    )
    assert not listing.rejected


def test_columns_that_may_be_the_group_are_noted(images, tmp_path):
    lines = [f"{key},A,s{i % 2}" for i, key in enumerate(KEYS)]
    (note,) = [
        note
        for note in listed(images, write(tmp_path / "t.csv", "path,label,sample_id", *lines)).notes
        if "belong together" in note
    ]
    assert note.startswith(
        "sample_id may identify cells that belong together, but is not read as the group: name it group"
    )
    again = listed(images, write(tmp_path / "t.csv", "path,group,sample_id", *lines))
    assert not any("belong together" in note for note in again.notes)


def test_two_unicode_forms_are_one_name(tmp_path):
    root = tmp_path / "images"
    root.mkdir()
    cv2.imwrite(str(root / "cafe\u0301.png"), np.full((3, 4), 7, np.uint8))
    listing = listed(root, write(tmp_path / "t.csv", "path,label", "caf\u00e9.png,Gro\u0308\u00dfe"))
    assert [item.class_name for item in listing.items] == ["Gr\u00f6\u00dfe"]
    assert not listing.rejected


def test_splits_of_the_source_are_kept_beside_those_of_the_table(images, tmp_path):
    (images / "Train.txt").write_text("f0/00.png 0\nf0/02.png 0\n")
    (images / "Test.txt").write_text("f1/01.png 1\n")
    (images / "labels.txt").write_text("a 0\nb 1\n")
    path = write(tmp_path / "t.csv", "path,group,split", "f1/01.png,x,train", "f0/00.png,y,test")
    listing = open_source(images, options=ReadOptions(format="lists", table=path)).scan()
    assert [(item.key, item.class_name, item.group) for item in listing.items] == [
        ("f1/01.png", "b", "x"),
        ("f0/00.png", "a", "y"),
    ]
    assert listing.splits == {"paper": ["test", "train"], "table": ["train", "test"]}
