"""The command `fastcell count`: RUN by position, as an option, as a checkpoint."""

import pytest
from fixtures.golden_files import run_command

CONFUSION = "true,a,b\na,8,2\nb,1,9\n"
PREDICTIONS = "cell_id,key,class,p_a,p_b\n0,x,a,0.9,0.1\n1,y,b,0.2,0.8\n2,z,a,0.7,0.3\n"


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "confusion.csv").write_text(CONFUSION)
    (tmp_path / "run" / "best.ckpt").write_bytes(b"weights")
    (tmp_path / "new.csv").write_text(PREDICTIONS)
    return tmp_path


def test_a_run_is_given_in_any_spelling(place, capsys):
    said = set()
    for words in (["run"], ["--confusion", "run"], ["run/confusion.csv"], ["run/best.ckpt"]):
        status, out, err = run_command(["count", "new.csv", *words, "-o", "counts.csv"], capsys)
        assert status == 0, err
        said.add(out + (place / "counts.csv").read_text())
    assert len(said) == 1


def test_no_run(place, capsys):
    assert run_command(["count", "new.csv"], capsys)[0] == 2


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ("", "no cells"),
        (
            "0,x,unsure,0.5,0.5,false\n1,y,a,0.5,0.5,true\n",
            "1 cell of which the classifier is unsure is not counted; 1 cell unlike those of training is not counted",
        ),
        ("0,x,unsure,0.5,0.5,false\n", "1 cell of which the classifier is unsure is not counted"),
        ("0,x,a,0.9,0.1,true\n1,y,b,0.1,0.9,true\n", "2 cells unlike those of training are not counted"),
    ],
)
def test_nothing_to_count_is_an_error_with_its_reason(place, capsys, rows, reason):
    (place / "none.csv").write_text("cell_id,key,class,p_a,p_b,unlike_training\n" + rows)
    status, _, err = run_command(["count", "none.csv", "run", "-o", "counts.csv"], capsys)
    assert (status, f"({reason})" in err) == (2, True), err
    assert not (place / "counts.csv").exists()


def test_one_cell_has_a_whole_interval_and_words_for_one(place, capsys):
    (place / "one.csv").write_text(PREDICTIONS.splitlines()[0] + "\n0,x,a,0.9,0.1\n1,y,unsure,0.5,0.5\n")
    (place / "run" / "confusion.csv").write_text("true,a,b\na,1,0\nb,0,1\n")
    status, out, err = run_command(["count", "one.csv", "run", "-o", "counts.csv"], capsys)
    assert status == 0, err
    assert "1 cell of which the classifier is unsure is not counted" in out
    assert "corrected counts are biased. Predict without --min_confidence" in out
    assert "class a has 1 test cell, too few" in out
    rows = [line.split(",")[2:] for line in (place / "counts.csv").read_text().splitlines()[1:]]
    assert [[float(value) for value in row] for row in rows] == [[1, 1, 0, 1], [0, 0, 0, 1]]
