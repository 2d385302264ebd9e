"""The user's own code in a run that goes on: the same draws as without the stop, and no other code unnoticed."""

import shutil

import pytest
from fixtures.own_modules import forget_own_module
from fixtures.stopped_runs import assert_same_run, fit, fit_until, main, new_run

from fastcell.errors import ArgumentError

CODE = """
import random

import numpy as np
import torch
from torch import nn

class Drops(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.LazyLinear(8), nn.Dropout(0.5), nn.Linear(8, num_classes))
        self.layers(torch.zeros(1, 1, 16, 16))

    def forward(self, images):
        gain = 1 + 0.1 * (np.random.rand() + random.random()) * self.training
        return self.layers(nn.functional.dropout(gain * images, 0.2, self.training))

def loss(logits, labels):
    return nn.functional.cross_entropy(nn.functional.dropout(logits, 0.1), labels, reduction="none")
"""
OWN = ["--model.network=nets_of_test.Drops", "--model.loss=nets_of_test.loss"]


@pytest.fixture
def code(make_own_module):
    return make_own_module(CODE)


def test_dropout_of_a_resumed_run_is_that_of_the_unbroken_one(code, data, tmp_path, monkeypatch):
    whole = fit(data, tmp_path / "whole", *OWN)
    folder = fit_until(monkeypatch, 13, new_run(data, tmp_path / "broken", *OWN), tmp_path / "broken")
    stopped = shutil.copytree(folder, tmp_path / "stopped")
    assert main(["fit", f"--resume={folder}", "--trust=nets_of_test"]) == 0
    assert_same_run(folder, whole)
    code.write_text(CODE.replace("0.5", "0.6"))
    forget_own_module()
    with pytest.raises(ArgumentError, match=r"code of --model.network nets_of_test.Drops must be as in the run"):
        main(["fit", f"--resume={stopped}", "--trust=nets_of_test"])
