import csv

import numpy as np

from fastcell.runs.run_folder import RUN_FILES, create_run_folder, scored_checkpoint, write_confusion


def test_folders_are_never_taken_twice(tmp_path):
    folders = [create_run_folder(tmp_path / "runs", "demo") for _ in range(12)]
    assert len(set(folders)) == 12
    assert all(folder.is_dir() and folder.name[15:].startswith("-demo") for folder in folders)


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
    assert named - found == {"losses.csv", "step-*.ckpt"}  # no cell went bad, and the run has ended


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
