"""Predictions of a run: read, found in the data set, and followed over the order of cells."""

import dataclasses

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from fastcell.audit.confidence_drift import RunCells, find_confidence_drift, read_confidences, read_run
from fastcell.audit.findings import judge
from fastcell.errors import DataError

TABLE = pa.table({"key": ["a", "b"], "class": ["A", "B"], "confidence": [0.5, 0.75], "p_A": [0.5, 0.25]})


@pytest.mark.parametrize("place", ["run", "cells.parquet", "cells.csv"])
def test_a_run_folder_and_files_of_predict(tmp_path, place):
    path = tmp_path / place
    if place == "run":
        path.mkdir()
        pq.write_table(TABLE, path / "predictions.parquet")
    elif place == "cells.csv":
        pyarrow.csv.write_csv(TABLE, path)
    else:
        pq.write_table(TABLE, path)
    table = read_confidences(path)
    assert table.to_pydict() == {"key": ["a", "b"], "class": ["A", "B"], "confidence": [0.5, 0.75]}


def test_numbers_as_names_are_text(tmp_path):
    (tmp_path / "cells.csv").write_text("key,group,class,confidence\n12,3,1,1\n")
    assert read_confidences(tmp_path / "cells.csv").to_pylist() == [
        {"key": "12", "group": "3", "class": "1", "confidence": 1.0}
    ]


def test_tables_that_are_none(tmp_path):
    with pytest.raises(DataError, match=r"Take a folder that `fastcell fit` made, or a file of `fastcell predict`"):
        read_confidences(tmp_path)
    (tmp_path / "last.ckpt").touch()
    with pytest.raises(DataError, match=r"Take `fastcell predict \S+ DATA --out FILE\.parquet`, then give FILE"):
        read_confidences(tmp_path)
    pq.write_table(TABLE.drop_columns(["key", "confidence"]), tmp_path / "few.parquet")
    with pytest.raises(DataError, match=r"must have columns key, class and confidence, lacks confidence, key\.$"):
        read_confidences(tmp_path / "few.parquet")
    (tmp_path / "bad.csv").write_text("key,class,confidence\na,A,high\n")
    with pytest.raises(DataError, match=r"bad\.csv cannot be read as predictions"):
        read_confidences(tmp_path / "bad.csv")


def write_run(manifest, path, rows, **columns):
    names = manifest.table.column("class").take(rows)
    groups = manifest.table.column("group").take(rows)
    table = {"key": manifest.table.column("key").take(rows), "group": groups, "class": names}
    pq.write_table(pa.table({**table, "confidence": np.full(len(rows), 0.9), **columns}), path)
    return path


def test_cells_are_found_by_key_and_group(planted, tmp_path):
    manifest = planted(24)
    rows = np.array([7, 3, 5])
    path = write_run(manifest, tmp_path / "run.parquet", rows, confidence=np.array([0.7, 0.3, np.nan]))
    found = read_run(manifest, path)
    assert found.rows.tolist() == [3, 7]
    assert found.confidence.tolist() == [0.3, 0.7]
    assert found.called.tolist() == ["left", "right"]
    wrong_group = pa.array(["donor-9"] * 3)
    with pytest.raises(DataError, match="RUN must be of this data set, but no key of"):
        read_run(manifest, write_run(manifest, tmp_path / "other.parquet", rows, group=wrong_group))


def test_names_that_occur_twice_are_passed_over(planted, tmp_path):
    manifest = planted(24)
    found = read_run(manifest, write_run(manifest, tmp_path / "run.parquet", np.array([4, 4, 6])))
    assert found.rows.tolist() == [6]


def run_of(manifest, confidence, wrong=()):
    called = np.array(manifest.info.classes, object)[manifest.labels]
    called[list(wrong)] = "other"
    return RunCells(np.arange(len(manifest)), confidence, called)


def test_falling_confidence_and_late_errors_are_found(planted):
    manifest = planted(120, groups=1, names=["left"] * 120)
    rng = np.random.default_rng(0)
    steady = rng.normal(0.9, 0.02, 120)
    falling = steady - np.linspace(0, 0.1, 120)
    drift, finding = find_confidence_drift(manifest, run_of(manifest, falling), 99, rng)
    assert drift.names == ["confidence"]  # errors do not vary
    assert drift.sequences == ["donor-0 / left"]
    (judged,) = judge([finding])
    assert judged.verdict == "problem"
    assert "confidence changes with the order of cells, most in donor-0 / left" in judged.says["problem"]
    drift, finding = find_confidence_drift(manifest, run_of(manifest, steady, range(90, 120)), 99, rng)
    assert drift.names == ["confidence", "error"]
    assert drift.names[drift.strongest] == "error"
    assert drift.p[0] > 0.05
    assert judge([find_confidence_drift(manifest, run_of(manifest, steady), 99, rng)[1]])[0].verdict == "ok"


def test_too_few_cells_of_a_class_in_a_group(planted):
    manifest = planted(60)
    drift, finding = find_confidence_drift(manifest, run_of(manifest, np.ones(60)), 9, np.random.default_rng(0))
    assert drift is None
    assert (finding.verdict, finding.notes) == (
        "skipped",
        ("not tested: no group has 40 predicted cells of one class.",),
    )


def test_cells_of_the_set_that_share_a_name_are_passed_over(planted, tmp_path):
    manifest = planted(24)
    path = write_run(manifest, tmp_path / "run.parquet", np.array([1, 2, 3]))
    table = pa.concat_tables([manifest.table.slice(0, 4), manifest.table.slice(2, 1)])
    assert read_run(dataclasses.replace(manifest, table=table), path).rows.tolist() == [1, 3]
