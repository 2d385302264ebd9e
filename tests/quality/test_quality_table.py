"""The sidecar gives back what was measured, of these very cells only, and is checked when it is read."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fastcell.dataset.manifest import Manifest
from fastcell.errors import DataError
from fastcell.packing.verify import verify
from fastcell.quality import quality_table
from fastcell.quality.features import FEATURES, measure_cells
from fastcell.quality.quality_table import (
    QUALITY_FILE,
    dropped_by_class,
    measure_missing,
    read_measured_features,
    read_quality_columns,
    write_quality,
)
from fastcell.simulator.synth import synthesize
from fastcell.stats.intervals import group_note
from fastcell.stats.score_intervals import proportion


@pytest.fixture
def written(fresh):
    features = measure_cells(fresh)
    features[4] = np.nan
    num = len(fresh)
    scores = np.linspace(0, 1, num).astype(np.float32)
    reasons = np.array(["cut" if i % 2 else "" for i in range(num)], dtype=object)
    write_quality(fresh, features, scores, reasons, scores > 0.5)
    return fresh, features


def test_what_is_written_is_read(written):
    manifest, features = written
    assert np.array_equal(read_measured_features(manifest), features, equal_nan=True)
    table = manifest.quality()
    assert table.column_names == ["cell_id", "score", "reason", "verdict"]
    assert table.column("verdict").to_pylist() == ["drop" if i > 39 else "keep" for i in range(80)]
    assert table.column("reason").to_pylist()[:2] == ["", "cut"]
    assert manifest.verdicts().all(), "a sidecar changes no view"


def test_features_of_other_cells_or_another_measure_are_not_taken(written, tmp_path, monkeypatch):
    manifest, _ = written
    other = synthesize(tmp_path / "other", 80, 13, jobs=1)
    (other.path / QUALITY_FILE).write_bytes((manifest.path / QUALITY_FILE).read_bytes())
    assert read_measured_features(other) is None
    monkeypatch.setattr(quality_table, "FEATURES_VERSION", 99)
    assert read_measured_features(manifest) is None
    (manifest.path / QUALITY_FILE).write_bytes(b"PAR1")
    assert read_measured_features(manifest) is None
    (manifest.path / QUALITY_FILE).unlink()
    assert read_measured_features(manifest) is None
    assert manifest.quality() is None


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("cell_id", 3, "cell_id must be those of the manifest, in order"),
        ("cell_id", None, "column 'cell_id' must have a value"),
        ("score", 1.5, "score must be from 0 to 1, got 1.5 in row 7"),
        ("score", float("nan"), "score must be from 0 to 1, got nan"),
        ("verdict", "maybe", "verdict must be one of keep, drop, got 'maybe' in row 7"),
        ("reason", None, "column 'reason' must have a value"),
    ],
)
def test_a_damaged_sidecar_is_refused_by_row(written, column, value, message):
    manifest, _ = written
    path = manifest.path / QUALITY_FILE
    table = pq.read_table(path)
    place = table.schema.get_field_index(column)
    values = table.column(column).to_pylist()
    values[7] = value
    pq.write_table(table.set_column(place, column, pa.array(values, table.schema.field(column).type)), path)
    with pytest.raises(DataError, match=message) as caught:
        manifest.quality()
    assert "Run fastcell qc again" in str(caught.value)
    assert [problem for problem in verify(manifest.path).problems if column in problem]
    assert read_measured_features(manifest) is None


def test_rows_are_held_against_the_manifest(written):
    manifest, _ = written
    path = manifest.path / QUALITY_FILE
    pq.write_table(pq.read_table(path).slice(0, 79), path)
    with pytest.raises(DataError, match="cell_id must be those of the manifest"):
        manifest.quality()
    table = pq.read_table(path)
    pq.write_table(pa.concat_tables([table, table]), path)
    with pytest.raises(DataError, match="must have at most 80 rows"):
        manifest.quality()


def test_infinite_features_are_measured_anew(written):
    manifest, features = written
    features[2, 3] = np.inf
    write_quality(manifest, features, np.zeros(80, np.float32), np.full(80, "", dtype=object), np.zeros(80, bool))
    assert read_measured_features(Manifest.open(manifest.path)) is None
    assert len(FEATURES) == features.shape[1]


@pytest.mark.parametrize("ids", [[0, 6], [0, 0], [-1, 2], [None, 2]])
def test_features_of_cells_that_are_not_there(make_set, ids):
    manifest = make_set(6)
    pq.write_table(pa.table({"cell_id": pa.array(ids, pa.int64()), "a": [1.0, 2.0]}), manifest.path / "quality.parquet")
    with pytest.raises(DataError, match="must name cells|must have one row"):
        read_quality_columns(manifest)


def test_a_damaged_table_of_features(make_set):
    manifest = make_set(6)
    (manifest.path / "quality.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match=r"quality\.parquet cannot be read"):
        read_quality_columns(manifest)


def test_dropped_cells_are_counted_by_class_with_their_reasons(fresh):
    drop, reasons = np.zeros(len(fresh), bool), np.full(len(fresh), "faint", dtype=object)
    drop[:3], reasons[:3] = True, ["cut", "", "cut"]
    lines = dropped_by_class(fresh, drop, reasons)
    assert lines[-1].split("  ")[0] == "total"
    assert lines[-1].endswith("cut 2, by label 1")
    assert "3.8 %" in lines[-1]
    units = np.unique(fresh.groups[:], return_inverse=True)[1]
    share = proportion(np.bincount(units, drop), np.bincount(units))
    assert f"{100 * share.low:.1f} to {100 * share.high:.1f} %" in lines[-1]
    rows = [line.split() for line in lines[1:-1]]
    expected = np.bincount(fresh.labels[:3], minlength=len(fresh.info.classes))
    for label, name in enumerate(fresh.info.classes):
        assert sum(int(row[3]) for row in rows if row[0] == name) == expected[label]
    assert "paper" in lines[0]  # the classes are the paper's
    assert lines[0].endswith(f"intervals by group{' (' + group_note(max(units) + 1) + ')' if max(units) < 5 else ''}")


def test_shares_of_dropped_cells_are_by_group(fresh):
    table = fresh.table.set_column(
        fresh.table.schema.get_field_index("group"), "group", pa.array([f"g{row % 4}" for row in range(80)])
    )
    grouped = Manifest(fresh.path, fresh.info, table)
    drop = np.arange(80) % 4 == 0  # one of four groups is bad
    lines = dropped_by_class(grouped, drop, np.full(80, "faint", dtype=object))
    assert "intervals by group (4 groups only, interval relies on an assumed spread between groups)" in lines[0]
    expected = proportion([20, 0, 0, 0], [20] * 4)
    assert f"{100 * expected.low:.1f} to {100 * expected.high:.1f} %" in lines[-1]
    assert expected.low < 0.02  # by cell 15.6 to 36.1 %


def test_what_was_measured_is_not_measured_again(fresh, monkeypatch):
    features, how = measure_missing(fresh, 1)
    assert how.startswith("80 cells measured in ")
    features[4] = np.nan
    write_quality(fresh, features, np.zeros(80, np.float32), np.full(80, "", object), np.zeros(80, bool))
    asked = []

    def measure(manifest, rows, jobs, **_):
        asked.append(rows.tolist())
        return np.ones((len(rows), len(FEATURES)), np.float32)

    monkeypatch.setattr(quality_table, "measure_cells", measure)
    again, how = measure_missing(fresh, 1)
    assert asked == [[4]]
    assert (again[4] == 1).all()
    assert np.array_equal(np.delete(again, 4, 0), np.delete(features, 4, 0))
    assert how == f"80 cells, measured earlier (remove {fresh.path / QUALITY_FILE} to measure them again)"
