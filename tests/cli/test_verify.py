"""The command `fastcell verify`: exit status, words and list of what is lost."""

import csv
import itertools
import os
import signal
import time
from collections.abc import Callable

import numpy as np
import pytest
from fixtures.written_bytes import overwrite

from fastcell.cli import main as cli
from fastcell.dataset import integrity
from fastcell.dataset.integrity import CHANGED, MISSING, REASONS
from fastcell.dataset.manifest import Manifest
from fastcell.errors import ArgumentError
from fastcell.packing.verify import verify
from fastcell.predictions.table import write_csv_or_parquet

MakeDataset = Callable[..., Manifest]


@pytest.mark.parametrize("layout", ["cell", "block"])
def test_whole_set_exits_0_with_one_line(make_dataset, layout, capsys):
    manifest = make_dataset(80, layout=layout)
    assert cli.main(["verify", str(manifest.path)]) == 0
    out = capsys.readouterr().out
    assert out.startswith("whole: 80 cells, ")
    lines = out.splitlines()
    assert lines[1:] == [f"next: fastcell {command} {manifest.path}" for command in ("info", "fit")]
    assert f"{manifest.column('bytes').sum() / 1e6:,.1f} MB checked in" in out
    verdict = verify(manifest.path, jobs=2)
    assert (verdict.whole, verdict.problems, len(verdict.losses)) == (True, [], 0)
    assert verdict.num_bytes == manifest.column("bytes").sum()


def test_damage_exits_1_with_tables_and_a_list(make_dataset, tmp_path, capsys):
    manifest = make_dataset(30)
    (manifest.path / "shard-000002.tar").unlink()
    overwrite(manifest.path / "shard-000000.tar", int(manifest.column("offset")[4]), b"\0")
    listed = tmp_path / "lost.csv"
    assert cli.main(["verify", str(manifest.path), "--list", str(listed), "--jobs", "2"]) == 1
    out = capsys.readouterr().out
    assert "problem: shard 'shard-000002.tar': the shard is missing" in out
    assert "lost: cell-00004.png, cell-00020.png" in out
    assert out.splitlines()[-1].startswith("damaged, 11 of 30 cells corrupt: 30 cells, ")
    with open(listed, newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["cell_id"]) for row in rows] == [4, *range(20, 30)]
    assert {row["reason"] for row in rows[1:]} == {REASONS[MISSING]}
    assert rows[0] == {
        "cell_id": "4",
        "key": "cell-00004.png",
        "shard": "shard-000000.tar",
        "class": "B",
        "reason": REASONS[CHANGED],
    }
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lost.csv", "set"]


def test_list_of_a_whole_set_has_no_row(make_dataset, tmp_path):
    assert cli.main(["verify", str(make_dataset(9).path), "--list", str(tmp_path / "lost.csv")]) == 0
    assert len((tmp_path / "lost.csv").read_text().splitlines()) == 1


def test_list_that_cannot_be_written_is_an_error(make_dataset, tmp_path, capsys):
    path = str(make_dataset(9).path)
    assert cli.main(["verify", path, "--list", str(tmp_path / "no" / "lost.csv")]) == 2
    assert "--list must be a file in an existing folder" in capsys.readouterr().err
    (tmp_path / "lost.csv").mkdir()
    assert cli.main(["verify", path, "--list", str(tmp_path / "lost.csv")]) == 2
    captured = capsys.readouterr()
    assert "--list must be a file, got" in captured.err
    assert captured.out == ""  # before the work


def test_no_data_set_exits_2(tmp_path, make_dataset, capsys):
    assert cli.main(["verify", str(tmp_path)]) == 2
    assert "is not a packed data set" in capsys.readouterr().err
    manifest = make_dataset(9)
    whole = (manifest.path / "dataset.json").read_text()
    (manifest.path / "dataset.json").write_text(whole.replace('"num_cells": 3', '"cells": 3'))
    assert cli.main(["verify", str(manifest.path)]) == 2
    assert "shards must be a list of different tars" in capsys.readouterr().err
    (manifest.path / "dataset.json").write_text(whole)
    (manifest.path / "manifest.parquet").write_bytes(b"PAR1")
    assert cli.main(["verify", str(manifest.path)]) == 2
    with pytest.raises(ArgumentError, match="--jobs must be from 1 to 10,000, or -1 for all CPUs, got 0"):
        verify(manifest.path, jobs=0)


def test_blocks_table_that_does_not_fit(make_dataset, capsys):
    manifest = make_dataset(60, layout="block")
    write_csv_or_parquet(manifest.path / "blocks.parquet", manifest.blocks().slice(1))
    assert cli.main(["verify", str(manifest.path)]) == 2
    assert "first_cell must be after the cells of the previous block" in capsys.readouterr().err
    (manifest.path / "blocks.parquet").unlink()
    assert cli.main(["verify", str(manifest.path)]) == 2
    assert "blocks.parquet is missing" in capsys.readouterr().err


def test_interrupt_ends_it_promptly(make_dataset, monkeypatch, capsys):
    monkeypatch.setattr(integrity, "_PART_CELLS", 1)
    manifest = make_dataset(200)
    num = []
    calls = itertools.count(1)  # each number once, also in two threads at the same moment

    def slow(*arguments):
        num.append(1)
        if next(calls) == 5:
            os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.05)
        return np.zeros(1, np.uint8)

    monkeypatch.setattr(integrity, "_check_read", slow)
    start = time.monotonic()
    assert cli.main(["verify", str(manifest.path), "--jobs", "2"]) == 130
    assert time.monotonic() - start < 3
    assert len(num) < 50
    assert capsys.readouterr().err.endswith("fastcell: error: interrupted.\n")
