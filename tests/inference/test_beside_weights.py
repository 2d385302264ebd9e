import json

import numpy as np
import torch

from fastcell.inference.beside_weights import join_content, split_content
from fastcell.inference.confidence import Confidence
from fastcell.inference.unlike.training_cells import TrainingCells
from fastcell.runs.checkpoint import read_checkpoint
from fastcell.runs.run_folder import scored_checkpoint


def test_statistics_and_confidence_survive_json_and_arrays(trained_run, tmp_path):
    content = read_checkpoint(scored_checkpoint(trained_run))
    values, arrays = split_content(content)
    np.savez(tmp_path / "arrays.npz", **arrays)
    with np.load(tmp_path / "arrays.npz", allow_pickle=False) as stored:
        again = join_content(json.loads(json.dumps(values)), {name: stored[name] for name in stored.files})
    one, two = (TrainingCells.from_checkpoint(each) for each in (content, again))
    for name, value in vars(one).items():
        np.testing.assert_array_equal(getattr(two, name), value)
    one, two = (Confidence.from_checkpoint(each) for each in (content, again))
    assert two.temperature == one.temperature
    np.testing.assert_array_equal(two.confidence, one.confidence)


def test_a_checkpoint_without_them_has_nothing():
    assert split_content({"state_dict": {"weight": torch.zeros(3)}, "fastcell_confidence": None}) == ({}, {})
    assert join_content({"other": 1}, {}) == {}
