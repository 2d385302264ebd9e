"""Whether a data set is whole: damage of tables and heads as well as of cells."""

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from fixtures.written_bytes import overwrite

from fastcell.dataset.manifest import Manifest
from fastcell.dataset.parquet import write_parquet
from fastcell.dataset.schema import SPLIT_SCHEMA
from fastcell.packing.verify import verify

MakeDataset = Callable[..., Manifest]


def test_heads_of_blocks_are_held_against_the_manifest(make_dataset):
    manifest = make_dataset(90, layout="block", num_shards=2)
    block = manifest.blocks().slice(1, 1).to_pylist()[0]
    overwrite(manifest.path / block["shard"], block["offset"] + 40, b"\xff")
    verdict = verify(manifest.path)
    assert len(verdict.losses) == 0
    last = block["first_cell"] + block["num_cells"] - 1
    (problem,) = verdict.problems
    assert f"'{block['shard']}': the headers of 1 of its" in problem
    assert f"that of cells {block['first_cell']} to {last}" in problem


def test_tar_headers_and_sizes_that_the_loader_would_refuse(make_dataset):
    manifest = make_dataset(60, num_shards=3)
    row = manifest.table.slice(25, 1).to_pylist()[0]
    overwrite(manifest.path / row["shard"], row["offset"] - 512, b"\xff" * 512)
    with open(manifest.path / "shard-000000.tar", "ab") as file:
        file.write(bytes(512))
    verdict = verify(manifest.path)
    assert len(verdict.losses) == 0
    assert len(verdict.problems) == 2
    assert any("no record of" in line and row["shard"] in line for line in verdict.problems)
    assert any("shard-000000.tar" in line and "when the manifest was made" in line for line in verdict.problems)


def test_what_later_commands_refuse(make_dataset):
    """Keys that occur twice, which tables of predictions must not have, and a cell with two verdicts."""
    manifest = make_dataset(30)
    table = pq.read_table(manifest.path / "manifest.parquet")
    keys = table.column("key").to_pylist()
    place = table.schema.get_field_index("key")
    keys[4] = keys[20] = keys[21]
    write_parquet(manifest.path / "manifest.parquet", table.set_column(place, "key", pa.array(keys)))
    (manifest.path / "verdicts.csv").write_text("cell_id,verdict\n3,drop\n5,keep\n3,keep\n")
    first, second = verify(manifest.path).problems
    assert f"keys must be unique, got {keys[21]!r} for 3 cells (repeated keys: 1)" in first
    assert "verdicts.csv: cell 3 must have one verdict, got drop, keep. Leave one of the lines." in second


def test_tables_that_do_not_fit(make_dataset):
    manifest = make_dataset(30)
    odd = pa.table({"cell_id": np.arange(30), "split": ["left"] * 30}, schema=SPLIT_SCHEMA)
    write_parquet(manifest.path / "splits" / "odd.parquet", odd)
    table = pq.read_table(manifest.path / "splits" / "default.parquet")
    write_parquet(
        manifest.path / "splits" / "far.parquet",
        table.set_column(0, "cell_id", pq.read_table(manifest.path / "manifest.parquet")["cell_id"].take([29] * 30)),
    )
    far = pq.read_table(manifest.path / "splits" / "far.parquet").to_pydict()
    assert set(far["cell_id"]) == {29}
    (manifest.path / "splits" / "torn.parquet").write_bytes(b"PAR1")
    (manifest.path / "quarantine.parquet").write_bytes(b"")
    (manifest.path / "duplicates.parquet").write_bytes(b"PAR1")
    (manifest.path / "verdicts.csv").write_text("cell_id,verdict\n31,drop\n")
    problems = "\n".join(verify(manifest.path).problems)
    assert "split must be one of train, valid, test, got 'left'" in problems
    assert "far.parquet: cell_id must occur once for each cell" in problems
    assert "torn.parquet cannot be read" in problems
    assert "quarantine.parquet cannot be read" in problems
    assert "verdicts.csv" in problems
    (line,) = [line for line in problems.splitlines() if "duplicates.parquet cannot be read" in line]
    assert line.endswith("Remove it and search again.")
    assert len(problems.splitlines()) == 6
