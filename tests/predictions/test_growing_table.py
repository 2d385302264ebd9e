"""A table that grows beside the network: the bytes of the table that is made at the end, and what stops it."""

import threading
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from fastcell.cli.main import main
from fastcell.dataset.corrupt_cells import CorruptCells
from fastcell.dataset.manifest import Manifest
from fastcell.inference.unlike.reasons import UnlikeScores
from fastcell.predictions import growing_table
from fastcell.predictions.answer_limits import AnswerLimits
from fastcell.predictions.growing_table import GrowingTable, finish_table, grow_table
from fastcell.predictions.saved_parts import PartStore
from fastcell.predictions.table import prediction_table, quarantine_rows

Make = Callable[..., Manifest]
CLASSES = ["even", "odd"]
GROUP, PIECE = 32, 7


class Answers:
    """Predictions of 100 cells in chunks of 9; cell 20 is corrupt, cell 33 has no finite probability."""

    limits = AnswerLimits(None, None, 0.6, [])

    def __init__(self, manifest, rows):
        self.manifest, self.rows = manifest, rows
        self.corrupt = CorruptCells(manifest)
        self.corrupt.add({20: "short"})
        rng = np.random.default_rng(0)
        self.ids = rows[rows != 20]
        first = rng.random(len(self.ids)).astype(np.float32)
        self.found = np.stack([first, 1 - first], axis=1)
        self.found[self.ids == 33] = np.nan
        self.unlike = UnlikeScores(
            rng.random(len(self.ids)).astype(np.float32) * 2, np.zeros((len(self.ids), 2), np.int16)
        )

    def chunks(self):
        for begin in range(0, len(self.ids), 9):
            some = slice(begin, begin + 9)
            yield self.ids[some], self.found[some], UnlikeScores(self.unlike.scores[some], self.unlike.off[some])

    def whole(self):
        options = {"reasons": self.corrupt.reasons, "min_confidence": 0.6, "unlike": self.unlike}
        return prediction_table(self.manifest, CLASSES, self.rows, self.ids, self.found, **options)

    def grow(self, out):
        table = grow_table(out, self.manifest, CLASSES, self.rows, self.limits, self.corrupt)
        assert table is not None
        return table


@pytest.fixture(params=["every", "some"])
def answers(make_dataset, request, monkeypatch):
    """Answers of a manifest of several chunks, for all of its cells or two thirds of them; two cells in quarantine."""
    manifest = make_dataset(100)
    manifest = replace(manifest, table=pa.concat_tables([manifest.table.slice(0, 41), manifest.table.slice(41)]))
    bad = {"key": ["q1", "file"], "source": ["s", "file"], "reason": ["broken", "no image"], "group": [None, None]}
    rows = {"class": pa.nulls(2, pa.string()), **bad}
    monkeypatch.setattr(type(manifest), "quarantine", lambda self: pa.table(rows))
    monkeypatch.setattr(growing_table, "GROUP_ROWS", GROUP)
    monkeypatch.setattr(growing_table, "_PIECE_ROWS", PIECE)
    rows_of = {"every": np.arange(100), "some": np.flatnonzero(np.arange(100) % 3 > 0)}
    return Answers(manifest, rows_of[request.param])


@pytest.mark.parametrize("ending", [".parquet", ".csv"])
def test_the_bytes_are_those_of_the_whole_table(answers, tmp_path, ending):
    growing, whole = answers.grow(tmp_path / f"grown{ending}"), answers.whole()
    for chunk in answers.chunks():
        growing.add(*chunk)
    table = growing.finish(partial(quarantine_rows, answers.manifest))
    assert table.equals(whole, check_metadata=True)
    assert table.column("reason").to_pylist()[-1] == "broken"
    if ending == ".csv":
        pyarrow.csv.write_csv(whole, tmp_path / "whole.csv")
    else:
        pq.write_table(whole, tmp_path / "whole.parquet", write_page_checksum=True, row_group_size=GROUP)
        assert pq.ParquetFile(tmp_path / "grown.parquet").num_row_groups == -(-whole.num_rows // GROUP)
    assert (tmp_path / f"grown{ending}").read_bytes() == (tmp_path / f"whole{ending}").read_bytes()
    assert {path.stem for path in tmp_path.glob(f"*{ending}")} == {"grown", "whole"}


def test_groups_of_rows_are_made_while_cells_still_come(answers, tmp_path):
    made, rows = threading.Event(), []
    growing = answers.grow(tmp_path / "a.parquet")
    put = growing._put

    def noted(path, table):
        put(path, table)
        rows.append(table.num_rows)
        made.set()

    growing._put = noted
    chunks = list(answers.chunks())
    for chunk in chunks[:-1]:
        growing.add(*chunk)
    assert made.wait(20)
    assert sum(rows) >= GROUP
    assert not (tmp_path / "a.parquet").exists()
    growing.add(*chunks[-1])
    growing.finish(partial(quarantine_rows, answers.manifest))
    assert (tmp_path / "a.parquet").exists()


def test_predictions_in_another_order_make_the_same_table_at_the_end(answers, tmp_path):
    store = PartStore(answers.corrupt)
    (tmp_path / "saved").mkdir()
    store.begin(tmp_path / "saved")
    store.growing = answers.grow(tmp_path / "a.parquet")
    chunks = list(answers.chunks())
    for chunk in (chunks[1], chunks[0], *chunks[2:]):
        store.add(*chunk)
    store.save()
    what = (answers.manifest, CLASSES, answers.rows, answers.limits)
    table, lines = finish_table(store, tmp_path / "a.parquet", *what)
    assert (store.growing, lines) == (None, [])
    assert table.equals(answers.whole(), check_metadata=True)
    assert pq.read_table(tmp_path / "a.parquet").equals(table)


def test_a_table_that_is_given_up_leaves_the_file_as_it_was(answers, tmp_path):
    (tmp_path / "a.csv").write_text("old")
    growing = answers.grow(tmp_path / "a.csv")
    for chunk in answers.chunks():
        growing.add(*chunk)
    growing.stop()
    growing.stop()
    assert [path.name for path in tmp_path.glob("*.csv")] == ["a.csv"]
    assert (tmp_path / "a.csv").read_text() == "old"
    assert not any(".partial" in path.name for path in tmp_path.iterdir())


def test_an_error_of_the_thread_is_raised_at_the_end(answers, tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(growing_table.pq, "ParquetWriter", full)
    growing = answers.grow(tmp_path / "a.parquet")
    for chunk in answers.chunks():
        growing.add(*chunk)
    with pytest.raises(OSError, match="No space left"):
        growing.finish(partial(quarantine_rows, answers.manifest))
    assert not any(path.suffix in (".parquet", ".partial") for path in tmp_path.iterdir())


def test_other_formats_do_not_grow(answers, tmp_path):
    assert (
        grow_table(tmp_path / "a.fcs", answers.manifest, CLASSES, answers.rows, answers.limits, answers.corrupt) is None
    )


def test_the_command_hands_over_while_it_runs(trained_run, trained_data, tmp_path, monkeypatch):
    """Small pieces and few cells at a time against one piece at the end."""
    words = ["predict", str(trained_run), str(trained_data), "--backend", "torch", "--data.eval_batch_size=16"]
    assert main([*words, "--out", str(tmp_path / "end.csv")]) == 0
    added = []
    add = GrowingTable.add
    monkeypatch.setattr(GrowingTable, "add", lambda self, *what: (added.append(len(what[0])), add(self, *what))[1])
    monkeypatch.setattr("fastcell.predictions.parts_of_ranks.HAND_OVER_CELLS", 16)
    monkeypatch.setattr(growing_table, "_PIECE_ROWS", 8)
    assert main([*words, "--out", str(tmp_path / "pieces.csv")]) == 0
    assert len(added) > 2
    assert (tmp_path / "pieces.csv").read_bytes() == (tmp_path / "end.csv").read_bytes()
