"""Class-score files, read as the IFCB dashboard reads version v3."""

import json

import h5py
import numpy as np
import pytest

from fastcell.errors import DataError
from fastcell.predictions import to_ifcb

BIN = "D20130526T095207_IFCB013"


def read_v3(path):
    """As pyifcb does."""
    with h5py.File(path, "r") as file:
        labels = [label.decode("ascii") for label in file["class_labels"][:]]
        return file["output_scores"][:], labels, file["roi_numbers"][:]


@pytest.mark.parametrize("first", [0, 70_000])
def test_scores_are_read_back(tmp_path, first):
    scores = np.random.default_rng(0).dirichlet(np.ones(3), 7).astype(np.float32)
    rois = np.arange(7) * 2 + first
    to_ifcb.write_class_scores(tmp_path / "a.h5", BIN, to_ifcb.BinScores(rois, scores, {}), ["a", "b", "c"], "model 1")
    found, labels, numbers = read_v3(tmp_path / "a.h5")
    np.testing.assert_array_equal(found, scores)
    np.testing.assert_array_equal(numbers, rois)
    assert labels == ["a", "b", "c"]
    with h5py.File(tmp_path / "a.h5") as file:
        attributes = dict(file["metadata"].attrs)
        assert file["output_classes"][:].tolist() == scores.argmax(axis=1).tolist()
        assert file["metadata"].shape is None
    assert len(attributes.pop("timestamp")) == 25
    assert attributes == {"version": "v3", "model_id": "model 1", "bin_id": BIN}


def test_names_of_other_letters_open_in_pyifcb(tmp_path):
    classes = ["Größe", "Grosse", "µ-cell", "cafe\u0301", "Zelle"]
    labels = ["Grosse_2", "Grosse", "u03bc-cell", "cafe", "Zelle"]
    assert to_ifcb.ascii_labels(classes) == labels
    scores = np.eye(5, dtype=np.float32)
    to_ifcb.write_class_scores(tmp_path / "a.h5", BIN, to_ifcb.BinScores(np.arange(5), scores, {}), classes, "m")
    assert read_v3(tmp_path / "a.h5")[1] == labels
    with h5py.File(tmp_path / "a.h5") as file:
        assert json.loads(file["metadata"].attrs["class_names"]) == classes


def test_a_bin_without_a_score_is_an_empty_table(tmp_path):
    none = to_ifcb.BinScores(np.empty(0, np.int64), np.empty((0, 2), np.float32), {})
    to_ifcb.write_class_scores(tmp_path / "a.h5", BIN, none, ["a", "b"], "m")
    scores, labels, numbers = read_v3(tmp_path / "a.h5")
    assert (scores.shape, labels, numbers.shape) == ((0, 2), ["a", "b"], (0,))


def test_cells_go_to_their_bins_in_order():
    other = "IFCB5_2012_028_081515"
    keys = [f"day/{BIN}.roi/000012", f"{other}/000001", f"day/{BIN}.roi/000003"]
    found = to_ifcb.rois_by_bin(keys)
    assert {name: (rows.tolist(), rois.tolist()) for name, (rows, rois) in found.items()} == {
        BIN: ([2, 0], [3, 12]),
        other: ([1], [1]),
    }


@pytest.mark.parametrize("key", ["a.png", f"{BIN}.roi", f"../{BIN}x.roi/000001", "M1.rtdc/000001", f"{BIN}.roi/12a"])
def test_other_cells_are_refused(key):
    assert not to_ifcb.is_ifcb_key(key)
    with pytest.raises(DataError, match="must be of an IFCB bin"):
        to_ifcb.rois_by_bin([key])


def test_one_region_twice_is_refused():
    with pytest.raises(DataError, match="same region of interest"):
        to_ifcb.rois_by_bin([f"a/{BIN}.roi/000001", f"b/{BIN}.roi/000001"])
