import numpy as np
import pytest
import torch

from fastcell.errors import ArgumentError, DataError
from fastcell.inference.confidence import CHECKPOINT_KEY, LEAST_ACCEPTED, LEAST_VALID, Confidence, fit_confidence
from fastcell.stats.calibration import log_probabilities, negative_log_likelihood, rescale


def overconfident(num=4000, seed=0):
    """Probabilities that are the true ones at temperature 2, and labels."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (num, 3))
    true = np.exp(logits / 2) / np.exp(logits / 2).sum(axis=1, keepdims=True)
    labels = np.array([rng.choice(3, p=row) for row in true])
    return (np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)).astype(np.float32), labels, true


def test_the_temperature_is_found_and_applied():
    probabilities, labels, true = overconfident()
    found = fit_confidence(probabilities, labels, None)
    assert found.temperature == pytest.approx(2, abs=0.15)
    calibrated = found.calibrate(probabilities)
    assert calibrated.dtype == np.float32
    assert np.abs(calibrated - true).max() < 0.05
    np.testing.assert_array_equal(calibrated.argmax(axis=1), probabilities.argmax(axis=1))
    np.testing.assert_allclose(calibrated, rescale(log_probabilities(probabilities), found.temperature), rtol=1e-6)
    better = negative_log_likelihood(log_probabilities(calibrated), labels)
    assert better < negative_log_likelihood(log_probabilities(probabilities), labels)


def test_calibration_is_cell_by_cell(monkeypatch):
    probabilities = overconfident(100)[0]
    found = Confidence(1.7, np.zeros(0, np.float32), np.zeros(0, bool), None)
    whole = found.calibrate(probabilities)
    monkeypatch.setattr("fastcell.inference.confidence._ROWS_AT_ONCE", 7)
    np.testing.assert_array_equal(found.calibrate(probabilities), whole)
    probabilities[3] = np.nan
    assert np.isnan(found.calibrate(probabilities)[3]).all()
    np.testing.assert_array_equal(found.calibrate(probabilities)[4:], whole[4:])


def test_few_cells_have_temperature_one():
    probabilities, labels, _ = overconfident(LEAST_VALID - 1)
    found = fit_confidence(probabilities, labels, None)
    assert found.temperature == 1
    np.testing.assert_array_equal(found.calibrate(probabilities), probabilities)
    empty = fit_confidence(probabilities[:0], labels[:0], None)
    assert len(empty.confidence) == len(empty.right) == 0


@pytest.mark.parametrize("groups", [None, np.arange(4000) % 8])
def test_the_threshold_reaches_the_accuracy_on_validation_and_on_new_cells(groups):
    probabilities, labels, _ = overconfident()
    found = fit_confidence(probabilities, labels, groups)
    limit = found.threshold(0.85)
    kept = found.confidence >= np.float32(limit.confidence)
    assert kept.sum() == limit.num_cells == round(limit.coverage * 4000)
    assert found.right[kept].mean() == pytest.approx(limit.accuracy)
    assert limit.low < 0.85 <= limit.accuracy < limit.high
    lower = found.confidence >= np.float32(limit.confidence) - 0.02
    assert found.right[lower].mean() < 0.85
    new, new_labels, _ = overconfident(8000, seed=1)
    sure = found.calibrate(new).max(axis=1) >= np.float32(limit.confidence)
    accuracy = (new.argmax(axis=1) == new_labels)[sure].mean()
    assert accuracy == pytest.approx(0.85, abs=0.02)
    assert sure.mean() == pytest.approx(limit.coverage, abs=0.03)
    assert (
        f"accuracy {limit.accuracy:.3f} [{limit.low:.3f}, {limit.high:.3f}] on {limit.num_cells:,}" in limit.describe()
    )


def test_an_accuracy_that_cannot_be_reached_is_refused():
    rng = np.random.default_rng(0)
    found = Confidence(1.0, rng.random(500).astype(np.float32), rng.random(500) < 0.7, None)
    with pytest.raises(ArgumentError, match=r"--accuracy must be reached on at least 30 .* got 0\.95: the best is 0\."):
        found.threshold(0.95)
    lucky = Confidence(1.0, np.linspace(0, 1, 500, dtype=np.float32), np.arange(500) >= 500 - LEAST_ACCEPTED + 1, None)
    with pytest.raises(ArgumentError, match="must be reached"):  # one cell too few is right
        lucky.threshold(1.0)
    enough = Confidence(1.0, lucky.confidence, np.arange(500) >= 500 - LEAST_ACCEPTED, None)
    assert enough.threshold(1.0).num_cells == LEAST_ACCEPTED
    few = Confidence(1.0, np.ones(LEAST_ACCEPTED - 1, np.float32), np.ones(LEAST_ACCEPTED - 1, bool), None)
    with pytest.raises(ArgumentError, match=r"needs at least 30 validation cells in the run, got 29"):
        few.threshold(0.5)


@pytest.mark.parametrize("accuracy", [0, -0.1, 1.01, float("nan")])
def test_accuracies_out_of_range_are_refused(accuracy):
    with pytest.raises(ArgumentError, match="--accuracy must be above 0 and at most 1"):
        Confidence(1.0, np.ones(50, np.float32), np.ones(50, bool), None).threshold(accuracy)


def test_confidence_survives_a_checkpoint(tmp_path):
    probabilities, labels, _ = overconfident(200)
    found = fit_confidence(probabilities, labels, np.arange(200) % 3)
    plain = {
        name: torch.from_numpy(np.array(value)) if isinstance(value, np.ndarray) else value
        for name, value in found.to_checkpoint().items()
    }
    torch.save({CHECKPOINT_KEY: plain}, tmp_path / "one.ckpt")
    read = Confidence.from_checkpoint(torch.load(tmp_path / "one.ckpt", weights_only=True))
    assert read.temperature == found.temperature
    assert read.threshold(0.6) == found.threshold(0.6)
    assert Confidence.from_checkpoint({}) is None


@pytest.mark.parametrize(
    "change",
    [
        {"temperature": 0.0},
        {"temperature": float("nan")},
        {"temperature": "hot"},
        {"confidence": np.full(3, np.nan)},
        {"confidence": np.ones((3, 1))},
        {"right": np.ones(2, bool)},
        {"groups": np.zeros(4)},
        {"groups": np.array([0, -1, 0])},
    ],
)
def test_damaged_confidence_is_refused(change):
    good = {"temperature": 1.0, "confidence": np.ones(3), "right": np.ones(3, bool), "groups": None}
    assert Confidence.from_checkpoint({CHECKPOINT_KEY: good}) is not None
    with pytest.raises(DataError, match="the calibration in the checkpoint is damaged"):
        Confidence.from_checkpoint({CHECKPOINT_KEY: {**good, **change}})
