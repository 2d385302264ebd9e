import csv

import numpy as np

from fastcell.runs.run_folder import create_run_folder, write_confusion


def test_folders_are_never_taken_twice(tmp_path):
    folders = [create_run_folder(tmp_path / "runs", "demo") for _ in range(12)]
    assert len(set(folders)) == 12
    assert all(folder.is_dir() and folder.name[15:].startswith("-demo") for folder in folders)


def test_confusion_table_names_both_axes(tmp_path):
    write_confusion(tmp_path / "confusion.csv", np.array([[5, 1], [2, 7]]), ["a", "b, c"])
    with (tmp_path / "confusion.csv").open(newline="") as file:
        assert list(csv.reader(file)) == [["true", "a", "b, c"], ["a", "5", "1"], ["b, c", "2", "7"]]
