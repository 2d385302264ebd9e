"""One function classifies batches, whatever runs the network."""

import subprocess
import sys

import numpy as np
import pytest

from fastcell.errors import DivergedError
from fastcell.inference.backend_torch import TorchBackend
from fastcell.inference.probabilities import class_probabilities, num_called_otherwise, part_outputs
from fastcell.runs.open_run import open_run


class Doubling:
    """Stands for a backend: values times 2."""

    def __init__(self):
        self.seen = []

    def probabilities(self, images):
        self.seen.append(len(images))
        return [2 * value for value in images]

    def to_host(self, values):
        return np.array(values, np.float32)[:, None]


def test_batches_come_back_in_their_order():
    backend = Doubling()
    found = class_probabilities(backend, iter([[1, 2, 3], [4], [5, 6]]))
    assert found.tolist() == [[2], [4], [6], [8], [10], [12]]
    assert found.dtype == np.float32
    assert backend.seen == [3, 1, 2]


def test_outputs_are_of_the_labelled_cells_of_a_part_and_kept_with_the_run(trained_run):
    run = open_run(trained_run)
    outputs = part_outputs(run, "valid")
    assert outputs.cell_ids.tolist() == run.rows("valid").tolist()
    assert outputs.labels.tolist() == run.labels[outputs.cell_ids].tolist()
    assert outputs.probabilities.shape == (len(outputs), len(run.model.classes))
    np.testing.assert_allclose(outputs.probabilities.sum(axis=1), 1, rtol=1e-5)
    one = next(iter(run.batches(outputs.cell_ids[:1])))
    np.testing.assert_allclose(
        TorchBackend.of_module(run.model).probabilities(one.images)[0].cpu(), outputs.probabilities[0], atol=1e-5
    )
    assert part_outputs(run, "valid") is outputs


def test_a_part_without_cells_has_no_outputs(trained_run, monkeypatch):
    run = open_run(trained_run)
    monkeypatch.setattr(type(run), "rows", lambda self, part: np.empty(0, np.int64))
    assert part_outputs(run, "valid") is None


def test_the_test_part_is_called_as_when_the_run_ended(trained_run):
    run = open_run(trained_run)
    outputs = part_outputs(run, "test")
    assert num_called_otherwise(run, outputs) == 0
    others = type(outputs)(outputs.cell_ids, outputs.labels, outputs.probabilities[:, ::-1], outputs.groups)
    assert num_called_otherwise(run, others) > 0


def test_the_module_needs_no_torch():
    code = "import sys, fastcell.inference.probabilities; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0


def test_cells_without_finite_probabilities_are_left_out(trained_run, monkeypatch, caplog):
    run = open_run(trained_run)
    every = part_outputs(run, "test")
    honest = TorchBackend.probabilities

    def one_broken(backend, images):
        found = honest(backend, images).clone()
        found[1, 0] = float("nan")
        return found

    monkeypatch.setattr(TorchBackend, "probabilities", one_broken)
    run.outputs.clear()
    found = part_outputs(run, "test")
    assert found.cell_ids.tolist() == np.delete(every.cell_ids, 1).tolist()
    assert len(found.labels) == len(found.probabilities) == len(every) - 1
    assert "1 cells are left out" in caplog.text
    monkeypatch.setattr(TorchBackend, "probabilities", lambda backend, images: honest(backend, images) * np.nan)
    run.outputs.clear()
    with pytest.raises(DivergedError, match="gives no finite probability"):
        part_outputs(run, "test")
