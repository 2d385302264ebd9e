"""The closing table of a command that made a data set."""

import numpy as np
import pyarrow as pa
import pytest

from fastcell.dataset.dataset_info import DatasetInfo
from fastcell.dataset.manifest import Manifest
from fastcell.dataset.rows.split_table import write_split
from fastcell.dataset.rows.write_rows import write_quarantine
from fastcell.dataset.schema import QUARANTINE_SCHEMA, SCHEMA
from fastcell.packing.summary import describe_dataset


def make(path, classes, sides, bad):
    rows = [
        {"cell_id": i, "key": f"{i}.png", "shard": "shard-000000.tar", "class": name, "channels": 1 + 2 * (i == 0)}
        for i, name in enumerate(classes)
    ]
    info = DatasetInfo(
        name="set",
        classes=sorted({name for name in classes if name is not None}),
        shards=[{"name": "shard-000000.tar", "bytes": 1_234_567, "num_cells": len(rows)}],
        num_cells=len(rows),
    )
    write_split(path, "default", np.array(sides, dtype="<U5"))
    if bad:
        write_quarantine(
            path,
            pa.Table.from_pylist(
                [{"class": name, "reason": reason, "key": key} for name, reason, key in bad], schema=QUARANTINE_SCHEMA
            ),
        )
    return Manifest(path, info, pa.Table.from_pylist(rows, schema=SCHEMA))


def test_table_counts_classes_sides_and_quarantine(tmp_path):
    bad = [("a", "truncated", "a/1.jpg"), ("a", "truncated", "a/2.jpg"), ("b", "empty file", "b/1.jpg")]
    manifest = make(tmp_path, ["a"] * 6 + ["b"] * 2, ["train"] * 5 + ["test", "train", "valid"], bad)
    lines = describe_dataset(manifest, (0.65, 0.15, 0.2)).splitlines()
    assert lines[0] == "set: 8 cells in 1 shard, 1.2 MB, layout cell"
    assert [line.split() for line in lines[1:7]] == [
        ["class", "train", "valid", "test", "cells", "quarantined"],
        ["a", "5", "0", "1", "6", "2"],
        ["b", "1", "1", "0", "2", "1"],
        ["all", "6", "1", "1", "8", "3"],
        ["share", "75.0", "%", "12.5", "%", "12.5", "%"],
        ["asked", "65.0", "%", "15.0", "%", "20.0", "%"],
    ]
    assert lines[7:10] == [
        "quarantined 3 cells (quarantine.parquet lists them):",
        "  2 of a: truncated, e.g. a/1.jpg",
        "  1 of b: empty file, e.g. b/1.jpg",
    ]
    assert [line.split(":")[1] for line in lines[10:]] == [
        " The valid subset has no cell of class a",
        " The test subset has no cell of class b",
        " Images with colour or alpha are read as grey",
        " The number of labelled cells (8) is too small for training and scoring.",
    ]


@pytest.mark.parametrize(
    ("classes", "note"), [(["a", "a"], "All labelled cells are of one class"), ([None, None], "No cell has a class")]
)
def test_sets_that_cannot_be_trained_on_are_told(tmp_path, classes, note):
    assert f"note: {note}" in describe_dataset(make(tmp_path, classes, ["", ""], []))


def test_unlabelled_cells_among_labelled_ones_are_counted(tmp_path):
    manifest = make(
        tmp_path, ["a", "b", None, None], ["train", "train", "train", "test"], [(None, "truncated", "x.png")]
    )
    table = {line.split()[0]: line.split() for line in describe_dataset(manifest).splitlines()}
    assert table["(unlabelled)"] == ["(unlabelled)", "1", "0", "1", "2", "1"]
    assert table["all"] == ["all", "3", "0", "1", "4", "1"]
