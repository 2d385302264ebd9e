"""What a page says of a run: files that it reads, scores, speed, environment."""

import re
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from fastcell.errors import DataError
from fastcell.inference.probabilities import Outputs
from fastcell.report.run_sections import (
    METRICS,
    SCORE_FIGURES,
    check_kinds,
    environment_section,
    explanation_pictures,
    learnt_from,
    read_json,
    scores_section,
    speed_section,
    what_bound,
)


@pytest.mark.parametrize(
    ("share", "words"),
    [(0.02, "the network limited the speed"), (0.3, "a noticeable part"), (0.8, "loading cells limited the speed")],
)
def test_what_bound_follows_the_share(share, words):
    assert words in what_bound(share)
    assert f"{100 * share:.0f}\u00a0%" in what_bound(share)


def test_on_a_gpu_the_host_s_waiting_is_no_verdict():
    assert "the network limited the speed" in what_bound(0.02, on_gpu=True)
    for share in (0.3, 0.8):
        assert "loading cells limited the speed" not in what_bound(share, on_gpu=True)
        assert "fastcell bench finds the bottleneck" in what_bound(share, on_gpu=True)


def test_kinds_of_values_are_checked(tmp_path):
    path = tmp_path / "metrics.json"
    check_kinds({"cells_per_s": {"train": 5.0}, "seconds": None, "other": "x"}, METRICS, path)
    for values, message in (
        ({"train_waited_s": True}, "must have a number under 'train_waited_s', got 'True'"),
        ({"seconds": {"train": "long"}}, "must have an object of numbers under 'seconds'"),
        ({"cells_per_s": [1]}, "must have an object of numbers under 'cells_per_s'"),
    ):
        with pytest.raises(DataError, match=message):
            check_kinds(values, METRICS, path)


def test_json_without_its_nulls(tmp_path):
    path = tmp_path / "metrics.json"
    assert read_json(path) == {}
    path.write_text('{"a": 1, "b": null, "c": {"d": null}}')
    assert read_json(path) == {"a": 1, "c": {"d": None}}
    path.write_text("[1]")
    with pytest.raises(DataError, match="must hold a JSON object, got a list"):
        read_json(path)
    path.write_text("{")
    with pytest.raises(DataError, match="must be JSON written by fastcell"):
        read_json(path)
    path.write_text("[" * 100_000)
    with pytest.raises(DataError, match="must be JSON written by fastcell"):
        read_json(path)
    with open(path, "wb") as file:
        file.truncate((64 << 20) + 1)
    with pytest.raises(DataError, match="more than 64 MiB"):
        read_json(path)


def finished(folder, classes):
    model = SimpleNamespace(classes=classes)
    return SimpleNamespace(folder=folder, model=model)


def test_scores_are_those_of_the_outputs(tmp_path):
    probabilities = np.repeat([[0.9, 0.1], [0.2, 0.8]], [6, 4], axis=0)  # 6 called A, 4 called B
    labels = np.array([0] * 5 + [1] * 5)
    outputs = {"test": Outputs(np.arange(10), labels, probabilities, None)}
    section, summaries = scores_section(finished(tmp_path, ["A", "B"]), outputs)
    assert summaries["test"]["accuracy"]["value"] == 0.9
    overall, by_class = section.tables
    assert (
        overall.caption
        == "Scores over all classes, with 95 % intervals in brackets, by cell: they hold for cells drawn as these were"
    )
    (row,) = overall.rows
    assert row[:2] == ["test", "10"]
    assert re.fullmatch(r"0\.900 \(0\.555 to 0\.997\)", row[2])
    assert row[3].startswith("0.900 (")
    assert by_class.caption == "By class, test subset"
    assert list(by_class.header) == ["class", "cells", "precision", "recall", "f-score"]
    assert [r[:2] for r in by_class.rows] == [["A", "5"], ["B", "5"]]
    assert by_class.rows[0][2].startswith("0.833 (")
    assert by_class.rows[0][3].startswith("1.000 (0.478 to 1.000)")
    assert by_class.rows[1][3].startswith("0.800 (")
    assert section.pictures == []
    Image.new("L", (300, 30)).save(tmp_path / "curves.png")
    (picture,) = scores_section(finished(tmp_path, ["A", "B"]), outputs)[0].pictures
    assert (picture.title, picture.inches) == ("Training", 2.0)


def test_scores_without_cells_are_dashes(tmp_path):
    outputs = {
        "valid": Outputs(np.arange(4), np.zeros(4, int), np.repeat([[1.0, 0.0]], 4, axis=0), np.array(list("aabb")))
    }
    section, _ = scores_section(finished(tmp_path, ["A", "B"]), outputs)
    unit = "by group (2 groups only, interval relies on an assumed spread between groups)"
    assert section.tables[0].caption.endswith(unit)
    assert section.tables[0].rows[0][0] == "validation"
    assert section.tables[1].rows[1] == ["B", "0", "-", "-", "-"]  # never predicted either


def test_figures_of_an_explanation(tmp_path):
    for name in ("filters", "calibration", "mine"):
        Image.new("L", (300, 30)).save(tmp_path / f"{name}.png")
    summary = {"captions": {name: f"text of {name}" for name in ("calibration", "filters", "mine", "gone")}}
    shown = explanation_pictures(tmp_path, summary, None)
    assert [picture.title for picture in shown] == ["Filters of the first convolutions", "mine"]
    assert shown[0].alt == "text of filters"
    assert [picture.alt for picture in explanation_pictures(tmp_path, summary, SCORE_FIGURES)] == [
        "text of calibration"
    ]
    assert explanation_pictures(tmp_path, {}, SCORE_FIGURES) == []


def test_speed_of_a_run_and_of_the_machine():
    metrics = {"cells_per_s": {"train": 1234.6, "test": 9.2}, "seconds": {"train": 100.0}, "train_waited_s": 60.0}
    row = {"part": "read", "what": "stored bytes", "cells_per_s": 1234.0, "low": 1000.0, "high": 1500.0}
    section = speed_section(metrics, {"rows": [row], "conclusions": ["Reading binds."]})
    assert section.tables[0].rows == [["train", "1,235", "100.0"], ["test", "9", "0.0"]]
    assert section.tables[1].rows == [["read", "1,234", "1,000 to 1,500", "stored bytes"]]
    assert section.paragraphs == [what_bound(0.6), "Reading binds."]
    assert speed_section({}, {}).paragraphs == ["The run has no rates, because it did not finish."]
    assert speed_section(metrics, {}, on_gpu=True).paragraphs == [what_bound(0.6, on_gpu=True)]
    with pytest.raises(DataError, match="--bench must be a file written by fastcell bench --out"):
        speed_section({}, {"rows": [{"part": "read"}]})


def test_machine_and_versions():
    values = {
        "fastcell": "1.2", "commit": "0123456789abcdef", "python": "3.12", "cpu": "Xeon", "num_cpus": 2,
        "memory_bytes": 3 << 30, "gpus": ["H200", "T4"], "packages": {"torch": "2.11"},
    }  # fmt: skip
    machine, packages = environment_section(values).tables
    rows = dict(machine.rows)
    assert rows["fastcell"] == "1.2, commit 0123456789ab"
    assert rows["processor"] == "Xeon, 2 cores"
    assert rows["memory"] == "3.0 GiB"
    assert rows["GPU"] == "H200; T4"
    assert rows["CUDA of the driver"] == "none"
    assert packages.rows == [["torch", "2.11"]]
    assert dict(environment_section({"cpu": "x"}).tables[0].rows)["GPU"] == "none"
    assert environment_section({}).paragraphs == ["The run has no environment.json."]


def test_what_a_network_has_learnt_from_beside_its_cells():
    assert learnt_from({}, {"freeze": None, "part_learning_rates": None}, {"batch_augmentation": None}) == []
    environment = {
        "started_from": {"source": "runs/a/last.ckpt", "taken": ["x", "y"], "anew": {"head": "other classes"}},
        "teacher": {"source": "runs/b/last.ckpt", "share": 0.7, "temperature": 2.0},
    }
    arguments = {"freeze": ["features"], "part_learning_rates": {"head": 0.01}}
    assert learnt_from(environment, arguments, {"batch_augmentation": {"class_path": "mine.Flip"}}) == [
        "Training started from the weights of runs/a/last.ckpt: 2 of 3 tensors.",
        "Parts that were not trained: features.",
        "Parts with a peak learning rate of their own: head 0.01.",
        "The probabilities of runs/b/last.ckpt made 70 % of the loss, at temperature 2.",
        "mine.Flip changed each batch of training, beside the augmentation under Data.",
    ]


def test_a_machine_without_a_commit_names_none():
    rows = dict(environment_section({"fastcell": "0.1.0", "commit": None}).tables[0].rows)
    assert rows["fastcell"] == "0.1.0"
    rows = dict(environment_section({"fastcell": "0.1.0", "commit": "abc"}).tables[0].rows)
    assert rows["fastcell"] == "0.1.0, commit abc"
