"""``fastcell audit``: report, JSON, CSV and figures."""

import contextlib
import csv
import io
import json
from types import SimpleNamespace

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fastcell.audit.collect import audit
from fastcell.audit.write_report import CANDIDATE_COLUMNS
from fastcell.cli.audit import main
from fastcell.cli.pack import main as pack
from fastcell.errors import DataError, StrictError


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    """300 discs of two classes in two groups; the background of B is brighter, and 12 labels are wrong."""
    folder = tmp_path_factory.mktemp("audit")
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:40, :40]
    for index in range(300):
        label, name = index % 2, f"{index}.png"
        far = np.hypot(y - 20 + rng.normal(), x - 20 + rng.normal())
        cell = 100 + 10 * label + rng.normal(0, 2, (40, 40)) + 60 * (far < 10) + 60 * label * (far < 5)
        if index % 25 == 0:
            label, name = 1 - label, f"{index}-wrong.png"
        place = folder / "images" / f"g{index // 2 % 2}" / "AB"[label]
        place.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(place / name), np.clip(cell, 0, 255).astype(np.uint8))
    assert pack([str(folder / "images"), str(folder / "set"), "--pattern", "{group}/{class}/{name}", "--split",
                 "50/0/50", "--jobs", "1"]) == 0  # fmt: skip
    return folder / "set"


@pytest.fixture(scope="module")
def run(packed, tmp_path_factory):
    """Run folder whose confidence falls from cell to cell."""
    from fastcell.dataset.manifest import Manifest

    folder, manifest = tmp_path_factory.mktemp("run"), Manifest.open(packed)
    keys, groups, classes = (manifest.column(name).tolist() for name in ("key", "group", "class"))
    number = np.array([int(key.split("/")[-1].split(".")[0].split("-")[0]) for key in keys])
    confidence = 0.9 - 0.3 * number / 300 + np.random.default_rng(0).normal(0, 0.05, len(keys))
    table = pa.table({"key": keys, "group": groups, "true_class": classes, "class": classes, "confidence": confidence})
    pq.write_table(table, folder / "predictions.parquet")
    return folder


@pytest.fixture(scope="module")
def audited(packed, run, tmp_path_factory):
    """Folder, text, exit status and findings of one audit with a run and --strict."""
    out, text, found = tmp_path_factory.mktemp("audited") / "out", io.StringIO(), []
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(text):
        patch.setattr(
            "fastcell.audit.collect.audit", lambda *args, **options: found.append(audit(*args, **options)) or found[-1]
        )
        with pytest.raises(StrictError, match="class_from_background") as caught:
            main([str(packed), str(run), "--out", str(out), "--permutations", "300", "--jobs", "1", "--strict"])
    return SimpleNamespace(out=out, text=text.getvalue(), status=caught.value.exit_code, found=found[0])


def test_report_json_csv_and_figures(audited):
    out, text = audited.out, audited.text
    assert "[problem] class from the background alone" in text
    assert "chance 0.5" in text
    assert "do: record every class in every recording" in text
    assert (out / "audit.txt").read_text() in text
    values = json.loads((out / "audit.json").read_text())
    by_key = {finding["key"]: finding for finding in values["findings"]}
    assert "class_from_background" in values["alarms"]
    assert by_key["class_from_background"]["number"] > 0.8
    assert by_key["label_noise"]["number"] == pytest.approx(0.04, abs=0.02)
    with open(out / "label_noise.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == CANDIDATE_COLUMNS
    wrong = ["wrong" in row["key"] for row in rows]
    assert sum(wrong) >= 10
    assert np.mean(wrong) > 0.8
    assert {row["verdict"] for row in rows} == {"keep"}
    for name in ("numbers", "class_by_group", "background", "drift", "label_noise"):
        assert cv2.imread(str(out / f"{name}.png")).shape[0] > 100
    assert not list(out.glob("*.partial"))


def test_candidates_can_stand_as_verdicts(packed, audited):
    from fastcell.dataset.manifest import Manifest

    text = (audited.out / "label_noise.csv").read_text().replace(",keep,", ",drop,")
    place = packed / "verdicts.csv"
    try:
        place.write_text(text)
        manifest = Manifest.open(packed)
        assert (~manifest.verdicts()).sum() == len(text.splitlines()) - 1
    finally:
        place.unlink()


def test_strict_ends_with_status_3_when_all_is_written(audited):
    assert audited.status == 3
    assert (audited.out / "audit.json").exists()


def test_a_problem_is_no_failure_without_strict(packed, audited, tmp_path, monkeypatch):
    """The same findings, and no run: they are not made again."""
    given = []
    monkeypatch.setattr(
        "fastcell.audit.collect.audit", lambda *args, **options: given.append((args, options)) or audited.found
    )
    out = tmp_path / "out"
    assert main([str(packed), "--out", str(out), "--permutations", "200", "--cells", "150", "--seed", "3"]) == 0
    (((_, run), options),) = given
    assert run is None
    options.pop("say")
    assert options == {"most_cells": 150, "permutations": 200, "seed": 3, "jobs": None, "trust": []}
    written, strictly = ({path.name for path in folder.iterdir()} for folder in (out, audited.out))
    assert written == strictly


def test_confidence_of_a_run_drifts(audited):
    assert "[problem] drift of the run's confidence" in audited.text
    assert (audited.out / "confidence_drift.png").exists()


def test_runs_that_are_none_are_refused_before_cells_are_read(packed, tmp_path, monkeypatch):
    monkeypatch.setattr("fastcell.audit.collect.read_sample", lambda *_, **__: pytest.fail("cells were read"))
    with pytest.raises(DataError, match=r"RUN must hold predictions\.parquet"):
        main([str(packed), str(tmp_path), "--out", str(tmp_path / "out"), "--permutations", "20"])
    (tmp_path / "bad.parquet").write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"bad\.parquet cannot be read as predictions"):
        main([str(packed), str(tmp_path / "bad.parquet"), "--out", str(tmp_path / "out"), "--permutations", "20"])
    pq.write_table(pa.table({"key": ["x"], "class": ["A"], "confidence": [0.5]}), tmp_path / "other.parquet")
    with pytest.raises(DataError, match="RUN must be of this data set"):
        main([str(packed), str(tmp_path / "other.parquet"), "--out", str(tmp_path / "out"), "--permutations", "20"])
