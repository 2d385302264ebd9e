"""Which cells belong together: by a column, a pattern, a file."""

from collections.abc import Callable

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import csv

from fastcell.dataset.manifest import Manifest
from fastcell.errors import ArgumentError, DataError
from fastcell.splits.read_groups import read_grouping

Make = Callable[..., Manifest]


def test_groups_by_pattern_on_the_keys(make_dataset):
    manifest = make_dataset(40)
    grouping = read_grouping(manifest, "cell-*{group}.{name}")
    assert grouping.groups is not None
    with pytest.raises(ArgumentError, match=r"--group-by must be a pattern that matches every key"):
        read_grouping(manifest, "{group}/{name}")
    with pytest.raises(ArgumentError, match=r"^--group-by must be .*--group-by '"):
        read_grouping(manifest, "{group")
    with pytest.raises(ArgumentError, match=r"a pattern that contains \{group\}"):
        read_grouping(manifest, "{name}")


def test_no_groups_is_said_loudly(make_dataset):
    manifest = make_dataset(40)
    assert "No cell has a group" in read_grouping(manifest, None).notes[0]
    with pytest.raises(ArgumentError, match="a column or pattern that gives some cell a group"):
        read_grouping(manifest, "group")


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("cell_id,donor\n0,a\n0,b\n", DataError),
        ("cell,donor\n0,a\n", ArgumentError),
        ("cell_id,other\n0,a\n", ArgumentError),
        ("cell_id,donor\nx,a\n", DataError),
        ("", DataError),
    ],
)
def test_bad_tables_are_refused(make_dataset, tmp_path, text, error):
    path = tmp_path / "bad.csv"
    path.write_text(text)
    with pytest.raises(error):
        read_grouping(make_dataset(10), f"{path}:donor")


def test_groups_of_the_manifest_are_taken_unless_said_otherwise(planted):
    manifest = planted(12)
    grouping = read_grouping(manifest, None)
    assert grouping.groups[:].tolist() == manifest.groups[:].tolist()
    assert (grouping.by, grouping.short, grouping.notes) == ("group", "group", ())
    none = read_grouping(manifest, "none")
    assert (none.groups, none.short) == (None, "cell")
    assert none.notes == ("As requested, the groups of the manifest (4) are not kept whole.",)


def test_part_of_the_key_is_the_group(planted):
    manifest = planted(12)
    grouping = read_grouping(manifest, "cell-{group}.{name}")
    assert grouping.groups[:].tolist() == [f"{number:04d}" for number in range(12)]
    assert grouping.short == "pattern"
    assert grouping.notes == (
        "Some groups of the manifest have cells in several of these groups, and may be in two subsets.",
    )


@pytest.mark.parametrize("kind", ["csv", "parquet"])
@pytest.mark.parametrize("by", ["cell_id", "key"])
def test_column_of_a_file(make_dataset, tmp_path, kind, by):
    manifest = make_dataset(10)
    cells = [7, 2, 0]
    named = cells if by == "cell_id" else manifest.column("key")[cells].tolist()
    table = pa.table({by: [*named, 99 if by == "cell_id" else "elsewhere"], "donor": ["d7", "d2", None, "x"]})
    path = tmp_path / f"groups.{kind}"
    (pq.write_table if kind == "parquet" else csv.write_csv)(table, path)
    grouping = read_grouping(manifest, f"{path}:donor")
    assert grouping.groups[:].tolist() == ["", "", "d2", "", "", "", "", "d7", "", ""]
    assert grouping.short == "donor"
    assert grouping.notes == (f"Cells without a group by {path}:donor are split one by one: 8.",)


def test_numbers_as_groups_are_names(make_dataset, tmp_path):
    path = tmp_path / "groups.csv"
    path.write_text("cell_id,run\n0,10\n1,9\n")
    assert read_grouping(make_dataset(2), f"{path}:run").groups[:].tolist() == ["10", "9"]


@pytest.mark.parametrize("by", ["donor", "no.csv:donor", ":donor"])
def test_what_names_nothing_is_refused(make_dataset, by):
    with pytest.raises(ArgumentError, match="--group-by must be one of group, collection, none, a pattern, or FILE"):
        read_grouping(make_dataset(4), by)
