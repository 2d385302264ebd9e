import csv
import datetime
import os

import numpy as np
import pytest

from fastcell.runs.run_folder import RUN_FILES, create_run_folder, run_title, scored_checkpoint, write_confusion


def test_folders_are_never_taken_twice(tmp_path):
    folders = [create_run_folder(tmp_path / "runs", "donors", "gao") for _ in range(12)]
    assert len(set(folders)) == 12
    assert all(folder.is_dir() and folder.name[15:].startswith("-donors-gao") for folder in folders)


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("Synthetic ATOM cells", "Synthetic-ATOM-cells"),
        ("a/../b c\n$(rm) é", "a-..-b-c-rm"),
        ("x" * 300, "x" * 40),
        ("../..", ""),
        ("\u7d30\u80de", ""),
    ],
)
def test_folder_names_are_safe_in_shells_and_file_systems(tmp_path, name, written):
    folder = create_run_folder(tmp_path / "runs", name, "cellnet")
    assert folder.parent == tmp_path / "runs"
    assert folder.name[16:] == (f"{written}-cellnet" if written else "cellnet")


def test_a_run_is_titled_by_data_network_and_date(tmp_path):
    folder = tmp_path / "20260131-142501-donors-cellnet-2"
    folder.mkdir()
    assert run_title(folder, "Donors, June", "cellnet") == "Donors, June, cellnet, 2026-01-31 14:25"


@pytest.mark.parametrize("name", ["best-run", "20261399-142501-donors"])
def test_the_date_of_a_renamed_run_is_that_of_its_settings(tmp_path, name):
    folder = tmp_path / name
    folder.mkdir()
    (folder / "config.yaml").write_text("data: {}")
    seconds = datetime.datetime(2025, 3, 4, 5, 6, 7).timestamp()
    os.utime(folder / "config.yaml", (seconds, seconds))
    assert run_title(folder, "donors", "gao") == "donors, gao, 2025-03-04 05:06"
    (folder / "environment.json").write_text('{"started": "2024-02-03 04:05:06 +0100"}')
    assert run_title(folder, "donors", "gao") == "donors, gao, 2024-02-03 04:05"
    for damaged in ('{"started": 5}', '{"started": "x"}', "[]", "{"):
        (folder / "environment.json").write_text(damaged)
        assert run_title(folder, "donors", "gao") == "donors, gao, 2025-03-04 05:06"


def test_confusion_table_names_both_axes(tmp_path):
    write_confusion(tmp_path / "confusion.csv", np.array([[5, 1], [2, 7]]), ["a", "b, c"])
    with (tmp_path / "confusion.csv").open(newline="") as file:
        assert list(csv.reader(file)) == [["true", "a", "b, c"], ["a", "5", "1"], ["b, c", "2", "7"]]


def test_the_table_names_every_file_of_a_finished_run(trained_run):
    named = set()
    for entry in RUN_FILES:
        first, *endings = entry.split(", ")
        named |= {first, *(first.rpartition(".")[0] + ending for ending in endings)}
    found = {path.name for path in trained_run.iterdir()}
    assert found <= named
    # no bad cell, no teacher, the run has ended, no backend
    assert named - found == {"losses.csv", "distillation.json", "step-*.ckpt", "backends"}


def test_the_scored_checkpoint_is_the_one_that_the_scores_are_of(tmp_path):
    assert scored_checkpoint(tmp_path) is None
    (tmp_path / "last.ckpt").touch()
    assert scored_checkpoint(tmp_path) == tmp_path / "last.ckpt"
    (tmp_path / "best.ckpt").touch()
    assert scored_checkpoint(tmp_path) == tmp_path / "best.ckpt"
    (tmp_path / "metrics.json").write_text('{"checkpoint": "last.ckpt"}')
    assert scored_checkpoint(tmp_path) == tmp_path / "last.ckpt"
    for text in ('{"checkpoint": "gone.ckpt"}', '{"checkpoint": "../last.ckpt"}', '{"checkpoint": 3}', "[]", "torn {"):
        (tmp_path / "metrics.json").write_text(text)
        assert scored_checkpoint(tmp_path) == tmp_path / "best.ckpt"
