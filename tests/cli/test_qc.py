"""``fastcell qc`` measures, scores, shows, and keeps its hands off what the user has decided."""

import csv

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest

from fastcell.cli.main import main as fastcell
from fastcell.cli.pack import main as pack
from fastcell.dataset.manifest import Manifest
from fastcell.dataset.views import ViewConfig, select
from fastcell.simulator.synth import synthesize


@pytest.fixture
def data(tmp_path):
    return synthesize(tmp_path / "set", 240, 21, defects=0.4, jobs=1)


def rows_of(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def save(path, rows):
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def test_scores_table_and_verdicts(data, capsys):
    assert fastcell(["qc", str(data.path), "--jobs", "1"]) == 0
    text = capsys.readouterr().out
    assert "240 cells measured in" in text
    assert "resembles the simulated cells" in text
    assert "of held-out simulated cells" in text
    assert not (data.path / "verdicts.csv").exists()
    assert "no cell is dropped yet: --apply writes" in text
    assert len(select(data, ViewConfig())) == 240
    truth = np.array(pq.read_table(data.path / "truth.parquet").column("defect").to_pylist()) != "none"
    drop = np.array(data.quality().column("verdict").to_pylist()) == "drop"
    assert (drop == truth).mean() > 0.98
    total = next(line.split() for line in text.splitlines() if line.startswith("total"))
    assert total[1:3] == ["240", str(drop.sum())]
    assert "25.7 %" in next(line for line in text.splitlines() if line.startswith("MB231"))

    assert fastcell(["qc", str(data.path), "--apply"]) == 0
    assert "240 cells, measured earlier" in capsys.readouterr().out
    assert select(data, ViewConfig()).rows.tolist() == np.flatnonzero(~drop).tolist()
    assert fastcell(["info", str(data.path)]) == 0
    share = f"quality: {drop.sum()} of 240 cells found poor ({drop.mean():.1%}), verdicts.csv drops {drop.sum()}"
    assert share in capsys.readouterr().out


def test_what_the_user_decides_stands(data, capsys):
    fastcell(["qc", str(data.path), "--apply"])
    path = data.path / "verdicts.csv"
    rows = rows_of(path)
    rescued = int(rows[0]["cell_id"])
    rows[0]["verdict"] = "keep"
    good = int(np.flatnonzero(data.verdicts())[0])
    save(path, [*rows, {**rows[0], "cell_id": good, "verdict": "drop", "reason": "mine", "qc": ""}])
    for _ in range(2):
        assert fastcell(["qc", str(data.path), "--apply", "--max-bad-passed", "0.001"]) == 0
        keep = data.verdicts()
        assert keep[rescued]
        assert not keep[good]
    assert "2 verdicts by hand" in capsys.readouterr().out


def test_a_review_is_written_edited_and_read_back(data, tmp_path, capsys):
    review = tmp_path / "review"
    assert fastcell(["qc", str(data.path), "--review", str(review)]) == 0
    drop = np.array(data.quality().column("verdict").to_pylist()) == "drop"
    sheets = {path.stem for path in review.glob("*.png")}
    assert {"empty", "cut", "doublet", "good"} <= sheets
    for path in review.glob("*.png"):
        assert cv2.imread(str(path)).shape[1] > 400
    rows = rows_of(review / "review.csv")
    assert {int(row["cell_id"]) for row in rows} >= set(np.flatnonzero(drop).tolist())
    assert {row["verdict"] for row in rows} == {"keep", "drop"}
    edited = {row["cell_id"]: row for row in rows}
    first = next(row for row in rows if row["verdict"] == "drop")
    first["verdict"] = "keep"
    save(review / "edited.csv", rows)
    capsys.readouterr()
    assert fastcell(["qc", str(data.path), "--verdicts", str(review / "edited.csv")]) == 0
    assert f"drops {drop.sum() - 1} of 240 cells (1 verdict by hand)" in capsys.readouterr().out
    expected = ~drop
    expected[int(first["cell_id"])] = True
    assert data.verdicts().tolist() == expected.tolist()
    # An older review, in which that row was not edited, does not undo it.
    assert fastcell(["qc", str(data.path), "--verdicts", str(review / "review.csv")]) == 0
    assert data.verdicts()[int(first["cell_id"])]
    assert len(edited) == len(rows)


def test_an_edited_review_is_not_overwritten(data, tmp_path, capsys):
    review = tmp_path / "review"
    again = ["qc", str(data.path), "--review", str(review)]
    assert fastcell(again) == 0
    rows = rows_of(review / "review.csv")
    rows[0]["verdict"] = "keep" if rows[0]["verdict"] == "drop" else "drop"
    save(review / "review.csv", rows)
    assert fastcell(again) == 2
    assert "with 1 not yet applied" in capsys.readouterr().err
    assert rows_of(review / "review.csv") == rows
    assert fastcell(["qc", str(data.path), "--verdicts", str(review / "review.csv")]) == 0
    assert fastcell(again) == 0
    assert not data.verdicts()[int(rows[0]["cell_id"])] or rows[0]["verdict"] == "keep"


def test_labels_are_learned_from(data, tmp_path, capsys):
    truth = pq.read_table(data.path / "truth.parquet")
    rows = [
        {"key": key, "label": "good" if defect == "none" else "bad"}
        for key, defect in zip(truth.column("key").to_pylist(), truth.column("defect").to_pylist(), strict=True)
    ]
    save(tmp_path / "labels.csv", rows[:150])
    assert fastcell(["qc", str(data.path), "--labels", str(tmp_path / "labels.csv")]) == 0
    text = capsys.readouterr().out
    assert "labels: model fitted to" in text
    assert "in cross-validation on them" in text


@pytest.mark.parametrize("deep", [False, True])
def test_one_constant_cell_without_a_label(tmp_path, capsys, deep):
    (tmp_path / "src").mkdir()
    image = np.full((18, 11), 9, np.uint16 if deep else np.uint8)
    cv2.imwrite(str(tmp_path / "src" / "a.png"), image)
    window = ["--window", "0", "100"] if deep else []
    assert pack([str(tmp_path / "src"), str(tmp_path / "out"), "--pattern", "{name}", *window]) == 0
    assert fastcell(["qc", str(tmp_path / "out"), "--review", str(tmp_path / "review")]) == 0
    assert Manifest.open(tmp_path / "out").quality().column("reason").to_pylist() == ["empty"]
    assert "1 cell" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--max-bad-passed", "0"], "--max-bad-passed must be a share above 0 and below 1, got 0.0"),
        (["--jobs", "0"], "--jobs must be from 1 to 10,000, or -1 for all CPUs, got 0"),
        (["--labels", "none.csv"], "none.csv must be a table, got no file"),
        (["--verdicts", "none.csv"], "none.csv must be a table, got no file"),
        (["--verdicts", "a.csv", "--apply"], "--verdicts must be given alone"),
    ],
)
def test_bad_arguments(data, capsys, arguments, message):
    assert fastcell(["qc", str(data.path), *arguments]) == 2
    assert message in capsys.readouterr().err
    assert not (data.path / "quality.parquet").exists()


def test_a_broken_verdicts_file_is_not_overwritten(data, capsys):
    path = data.path / "verdicts.csv"
    path.write_text("cell_id,verdict\n1,perhaps\n")
    assert fastcell(["qc", str(data.path), "--apply"]) == 2
    assert "verdict must be keep or drop, got 'perhaps' in line 2" in capsys.readouterr().err
    assert path.read_text() == "cell_id,verdict\n1,perhaps\n"


def test_a_missing_shard_is_told(data, capsys):
    data.shard_path(0).unlink()
    assert fastcell(["qc", str(data.path)]) == 0
    text = capsys.readouterr().out
    num = int((data.shard_index == 0).sum())
    assert f"unreadable: {num:,}: the shard is missing" in text
    drop = np.array(data.quality().column("verdict").to_pylist()) == "drop"
    assert drop[data.shard_index == 0].all()
