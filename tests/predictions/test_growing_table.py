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
from fastcell.predictions.prediction_summary import PredictionSummary
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
        table = grow_table(out, self.manifest, CLASSES, self.rows, self.limits, lambda: self.corrupt.reasons)
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
    summary = growing.finish(partial(quarantine_rows, answers.manifest))
    expected = PredictionSummary(CLASSES)
    expected.add(whole)
    assert vars(summary) == vars(expected)
    assert (summary.num_rows, summary.num_not_finite) == (whole.num_rows, int(33 in answers.ids))
    assert whole.column("reason").to_pylist()[-1] == "broken"
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
    summary, lines = finish_table(store, tmp_path / "a.parquet", *what)
    assert (summary.num_rows, lines) == (answers.whole().num_rows, [])
    assert pq.read_table(tmp_path / "a.parquet").equals(answers.whole(), check_metadata=True)


def test_parts_of_several_processes_are_written_span_by_span(answers, tmp_path, monkeypatch):
    """Two interrupted processes have saved parts that overlap, one in no order, and both have one cell."""
    monkeypatch.setattr("fastcell.predictions.saved_parts._SPAN_CELLS", 10)
    monkeypatch.setattr(growing_table, "_MOST_WAITING", 12)
    (tmp_path / "saved").mkdir()
    chunks = list(answers.chunks())
    for rank, mine in enumerate((chunks[4::-2], [*chunks[1::2], *chunks[6::2], chunks[0]])):
        store = PartStore(answers.corrupt if rank else CorruptCells(answers.manifest))
        store.begin(tmp_path / "saved", rank)
        for chunk in mine:
            store.add(*chunk)
        store.save()
    store = PartStore(CorruptCells(answers.manifest))
    store.begin(tmp_path / "saved")
    parts = list(store.in_order())
    assert max(len(part.cell_ids) for part in parts) <= 10
    assert np.array_equal(np.concatenate([part.cell_ids for part in parts]), answers.ids)
    what = (answers.manifest, CLASSES, answers.rows, answers.limits)
    for ending in (".parquet", ".csv"):
        assert finish_table(store, tmp_path / f"a{ending}", *what)[0].num_rows == answers.whole().num_rows
        store.growing = None
    assert store.reasons == {20: "short"}
    assert pq.read_table(tmp_path / "a.parquet").equals(answers.whole(), check_metadata=True)
    pyarrow.csv.write_csv(answers.whole(), tmp_path / "whole.csv")
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()


def test_cells_wait_for_the_table(answers, tmp_path, monkeypatch):
    """A source that is faster than the table does not fill the memory."""
    monkeypatch.setattr(growing_table, "_MOST_WAITING", 12)
    held, waiting = threading.Event(), []
    growing = answers.grow(tmp_path / "a.csv")
    make = growing._make
    growing._make = lambda *what: (held.wait(20), make(*what))[1]

    def feed():
        for chunk in answers.chunks():
            growing.add(*chunk)
            waiting.append(growing._num_waiting)

    source = threading.Thread(target=feed)
    source.start()
    source.join(0.3)
    assert source.is_alive()
    held.set()
    source.join(20)
    assert len(waiting) == len(list(answers.chunks()))
    assert max(waiting) < 12 + 9
    assert growing.finish(partial(quarantine_rows, answers.manifest)).num_rows == answers.whole().num_rows


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
    assert grow_table(tmp_path / "a.fcs", answers.manifest, CLASSES, answers.rows, answers.limits, dict) is None


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
