"""A finished run, opened again."""

import shutil

import numpy as np
import pytest
import yaml

from fastcell.errors import ArgumentError, DataError
from fastcell.runs.open_run import open_run


@pytest.fixture
def run_folder(trained_run, tmp_path):
    return shutil.copytree(trained_run, tmp_path / "run")


def test_network_data_and_split_are_those_of_the_run(trained_run, trained_data):
    run = open_run(trained_run)
    assert run.checkpoint == "last.ckpt"  # the preset fast is scored with its last weights
    assert (run.split_name, run.quality, run.manifest.path) == ("default", True, trained_data)
    assert not run.model.training
    subsets = run.manifest.split()
    for part in ("train", "valid", "test"):
        assert run.rows(part).tolist() == np.flatnonzero(subsets == part).tolist()
    assert [run.model.classes[number] for number in run.labels[:]] == run.manifest.column("class").tolist()
    assert run.num_trained() == len(run.rows("train"))
    counted = [batch.cell_ids[batch.weight > 0].tolist() for batch in run.batches(np.array([7, 3, 5]))]
    assert counted == [[3, 5, 7]]


def test_a_subsample_is_counted(run_folder):
    config = yaml.safe_load((run_folder / "config.yaml").read_text())
    for share, expected in ((20, 20), (20.0, 20), (10**6, 160)):
        config["data"]["subsample"] = share
        (run_folder / "config.yaml").write_text(yaml.safe_dump(config))
        run = open_run(run_folder)
        assert run.num_trained() == min(expected, len(run.rows("train")))


def test_what_is_no_run(run_folder, tmp_path):
    with pytest.raises(ArgumentError, match="RUN must be the folder of a run .*no such folder"):
        open_run(tmp_path / "gone")
    for name in ("best.ckpt", "last.ckpt"):
        (run_folder / name).unlink()
    with pytest.raises(DataError, match="must have a checkpoint"):
        open_run(run_folder)
    for text in ("", "data: 3", "data: {path: 3}", "[1", "data: !!python/object:os.x {}", "model: {}"):
        (run_folder / "config.yaml").write_text(text)
        with pytest.raises(DataError, match="config.yaml is not a file written by fastcell fit"):
            open_run(run_folder)
    (run_folder / "config.yaml").unlink()
    with pytest.raises(ArgumentError, match="no config.yaml in it"):
        open_run(run_folder)


def test_data_that_have_moved(run_folder, trained_data, tmp_path):
    config = yaml.safe_load((run_folder / "config.yaml").read_text())
    config["data"]["path"] = str(tmp_path / "moved")
    (run_folder / "config.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(DataError, match="If it has moved, say where it is: --data.path DATA"):
        open_run(run_folder)
    assert open_run(run_folder, str(trained_data)).manifest.path == trained_data
