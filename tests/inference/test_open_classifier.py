"""A run opened as a classifier, in this process and in others."""

import json
import multiprocessing
import pickle

import numpy as np
import pytest

import fastcell
from fastcell.errors import ArgumentError, DataError, FastcellError
from fastcell.inference.classifier import Classifier
from fastcell.loading.preprocessing import Preprocessing

TOLERANCE = 1e-6


def test_a_run_and_its_checkpoint(classifier, trained_run):
    assert classifier.classes == ["MB231", "MCF7", "PBMC", "THP1"]
    assert classifier.preprocessing == Preprocessing(image_size=32)
    accuracy = classifier.scores["accuracy"]
    assert repr(classifier) == (
        f"<Classifier of {trained_run}: 4 classes (MB231, MCF7, PBMC, THP1); 32 x 32 px, stretch; torch fp32, accuracy "
        f"{accuracy['value']:.3f} ({accuracy['low']:.3f}..{accuracy['high']:.3f})>"
    )
    other = fastcell.load(trained_run / "last.ckpt")
    assert other.classes == classifier.classes
    checkpoint = json.loads((trained_run / "metrics.json").read_text())["checkpoint"]
    assert (other.scores == classifier.scores) == (checkpoint == "last.ckpt")
    with pytest.raises(DataError, match="must be a checkpoint, or a run folder"):
        fastcell.load(trained_run.parent)
    with pytest.raises(ArgumentError, match="backend must be one of auto, torch, .*got 'tensorflow'"):
        fastcell.load(trained_run, backend="tensorflow")
    with pytest.raises(ArgumentError, match="threads must be at least 1"):
        fastcell.load(trained_run, threads=0)
    with pytest.raises(ArgumentError, match="device must be a device that torch can use, got 'toaster'"):
        fastcell.load(trained_run, device="toaster")


def _in_child(classifier, cells, out):
    out.put(classifier.predict_proba(cells))


@pytest.mark.parametrize("method", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_other_processes(classifier, cells, method):
    expected = classifier.predict_proba(cells)
    context = multiprocessing.get_context(method)
    out = context.Queue()
    child = context.Process(target=_in_child, args=(classifier, cells, out))
    child.start()
    found = out.get(timeout=120)
    child.join(timeout=60)
    assert child.exitcode == 0
    np.testing.assert_allclose(found, expected, atol=TOLERANCE)


def test_pickles_name_the_checkpoint(trained_run, cells, tmp_path):
    checkpoint = tmp_path / "copy.ckpt"
    checkpoint.write_bytes((trained_run / "last.ckpt").read_bytes())
    one = fastcell.load(checkpoint, threads=1)
    stored = pickle.dumps(one)
    assert len(stored) < 1000
    np.testing.assert_array_equal(pickle.loads(stored).predict_proba(cells[:5]), one.predict_proba(cells[:5]))
    checkpoint.write_bytes((trained_run / "best.ckpt").read_bytes())
    with pytest.raises(DataError, match=r"copy.ckpt has changed since the classifier was pickled"):
        pickle.loads(stored)
    checkpoint.unlink()
    with pytest.raises(DataError, match="checkpoint must be a file"):
        pickle.loads(stored)
    by_hand = Classifier(one.backend, one.classes, one.preprocessing, "mse")
    with pytest.raises(FastcellError, match="made by fastcell.load only"):
        pickle.dumps(by_hand)
