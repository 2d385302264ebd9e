"""Corrected counts: exact where the answer is known, and covered by their intervals as often as they say."""

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pytest

from fastcell.cli import count
from fastcell.errors import DataError
from fastcell.predictions import counts
from fastcell.predictions.table import Predictions, read_predictions, write_csv_or_parquet
from fastcell.runs.run_folder import write_confusion

RATES = np.array([[0.9, 0.08, 0.02, 0.0], [0.1, 0.8, 0.05, 0.05], [0.03, 0.07, 0.85, 0.05], [0.0, 0.1, 0.1, 0.8]])
CLASSES = ["a", "b", "c", "d"]


def make_predictions(called, groups, truth=None):
    names = np.array([*CLASSES, None], object)
    columns = {"key": [f"k{number}" for number in range(len(called))], "group": groups}
    if truth is not None:
        columns["true_class"] = pa.array(names[truth], pa.string())
    columns["class"] = pa.array(names[called], pa.string())
    chances = np.where(called < 0, np.nan, 1.0)
    hot = {f"p_{name}": pa.array(np.where(called == number, chances, 0.0)) for number, name in enumerate(CLASSES)}
    return pa.table({**columns, **hot})


@pytest.fixture
def files(tmp_path):
    """Two recordings of other mixtures, and the predictions of 2,000 test cells in 8 groups."""
    rng = np.random.default_rng(0)
    truth = np.repeat([0, 1, 0, 2, 3], [800, 100, 300, 600, 100])
    called = np.array([rng.choice(4, p=RATES[number]) for number in truth])
    called[[5, 1_000]] = -1
    groups = np.repeat(["run 1", "run 2"], [900, 1_000])
    write_csv_or_parquet(tmp_path / "predictions.csv", make_predictions(called, groups))
    tested = np.repeat(np.arange(4), 500)
    answers = np.array([rng.choice(4, p=RATES[number]) for number in tested])
    write_csv_or_parquet(tmp_path / "test.parquet", make_predictions(answers, np.arange(2_000) % 8, tested))
    confusion = np.zeros((4, 4), np.int64)
    np.add.at(confusion, (tested, answers), 1)
    write_confusion(tmp_path / "confusion.csv", confusion, CLASSES)
    return tmp_path


@pytest.mark.parametrize("confusion", ["test.parquet", "confusion.csv"])
def test_command(files, capsys, confusion):
    out = files / "counts.csv"
    arguments = [str(files / "predictions.csv"), "--confusion", str(files / confusion), "--out", str(out)]
    assert count.main(arguments) == 0
    text = capsys.readouterr().out
    assert "2 cells without a prediction are not counted" in text
    assert ("how the 8 test recordings differ" if confusion == "test.parquet" else "2,000 test cells and an") in text
    assert ("cannot show how much recordings differ" in text) == (confusion == "confusion.csv")
    table = pyarrow.csv.read_csv(out).to_pydict()
    assert table["group"] == ["run 1"] * 4 + ["run 2"] * 4
    assert table["class"] == CLASSES * 2
    for name in ("called", "corrected"):
        assert sum(table[name][:4]) == pytest.approx(899)
        assert sum(table[name][4:]) == pytest.approx(999)
    truth = np.array([799, 100, 0, 0, 299, 0, 600, 100])
    low, high = np.array(table["low"]), np.array(table["high"])
    assert ((low <= truth) & (truth <= high)).all()
    assert (low >= 0).all()
    assert np.abs(np.array(table["corrected"]) - truth).sum() < 0.5 * np.abs(np.array(table["called"]) - truth).sum()


def test_a_run_folder_is_enough(files):
    run = files / "run"
    run.mkdir()
    with pytest.raises(DataError, match="must be a run folder"):
        counts.read_confusion(run, CLASSES)
    (files / "confusion.csv").rename(run / "confusion.csv")
    by_cell = counts.read_confusion(run, CLASSES[::-1])
    (files / "test.parquet").rename(run / "predictions.parquet")
    by_group = counts.read_confusion(run, CLASSES[::-1])
    assert (len(by_cell.tables), len(by_group.tables)) == (1, 8)
    np.testing.assert_array_equal(by_cell.counts, by_group.counts)
    assert by_cell.counts[0, 0] == pytest.approx(400, abs=40)  # d called d


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("true,a,b,c,e\na,1,0,0,0\nb,0,1,0,0\nc,0,0,1,0\ne,0,0,0,1\n", "must be of the classes a, b, c, d"),
        ("true,a,b,c,d\na,1,0,0,0\nb,0,1,0,0\nc,0,0,0,0\nd,0,0,0,1\n", "got none of c"),
        ("true,a,b,c,d\na,1,0,0,0\nb,0,1,0,0\nc,0,0,-1,0\nd,0,0,0,1\n", "is no confusion matrix"),
        ("true,a,b,c,d\na,1,0,0\n", "is no confusion matrix"),
        ("true,a,b,c,d\na,1e400,0,0,x\n", "is no confusion matrix"),
        ("true\n", "is no confusion matrix"),
        ("nothing of the kind\n", "must have columns key, class"),
    ],
)
def test_bad_matrices(tmp_path, text, message):
    (tmp_path / "confusion.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        counts.read_confusion(tmp_path / "confusion.csv", CLASSES)


def test_a_matrix_saved_again_by_a_spreadsheet(tmp_path):
    text = "true;a;b\r\na;5;1\r\nb;2;7\r\n;;\r\n"
    (tmp_path / "confusion.csv").write_bytes(text.encode("utf-8-sig"))
    assert counts.read_confusion(tmp_path / "confusion.csv", ["b", "a"]).tables.tolist() == [[[7, 2], [1, 5]]]


def test_a_confusion_that_is_not_there(files):
    with pytest.raises(DataError, match="--confusion must be a run folder, or a .csv or .parquet file"):
        counts.read_confusion(files / "none", CLASSES)


def test_predictions_without_truth_are_no_test(files):
    with pytest.raises(DataError, match="must have a column true_class"):
        counts.read_confusion(files / "predictions.csv", CLASSES)
    assert isinstance(read_predictions(files / "predictions.csv"), Predictions)
