"""Parts of an interrupted run: what was predicted or found corrupt is not predicted again."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from fastcell.models.lightning_module import Prediction
from fastcell.predictions.saved_parts import PredictionParts, saved_parts
from fastcell.storage.saved_pieces import load


def make_prediction(ids: list[int], weight: list[float]) -> Prediction:
    probabilities = torch.tensor([[number / 10, 1 - number / 10] for number in ids])
    return Prediction(probabilities, torch.tensor(ids), torch.tensor(weight))


def make_trainer(skipped: list[np.ndarray], rank: int = 0) -> SimpleNamespace:
    return SimpleNamespace(
        strategy=SimpleNamespace(broadcast=lambda value: value, barrier=lambda: None),
        datamodule=SimpleNamespace(skip_predicted=skipped.append),
        global_rank=rank,
        is_global_zero=rank == 0,
        received_sigterm=False,
    )


def test_a_second_run_goes_on_where_the_first_was_stopped(tmp_path: Path) -> None:
    skipped: list[np.ndarray] = []
    first = PredictionParts(tmp_path, SimpleNamespace(reasons={4: "no JPEG"}))
    first.setup(make_trainer(skipped), None, "predict")
    first.on_predict_batch_end(make_trainer(skipped), None, make_prediction([3, 1, 4], [1, 1, 0]))
    first.on_exception(make_trainer(skipped), None, KeyboardInterrupt())
    (path,) = tmp_path.glob("*.saved")
    saved = load(path, "")
    assert saved.tables[0].column("cell_id").to_pylist() == [3, 1]
    assert saved.tables[0].column("0").to_pylist() == pytest.approx([0.3, 0.1])
    assert saved.facts["reasons"] == {"4": "no JPEG"}
    second = PredictionParts(tmp_path, SimpleNamespace(reasons={}))
    second.setup(make_trainer(skipped), None, "predict")
    assert [done.tolist() for done in skipped] == [[], [1, 3, 4]]
    second.on_predict_batch_end(make_trainer(skipped), None, make_prediction([0, 2], [1, 1]))
    second.on_predict_epoch_end(make_trainer(skipped), None)
    assert second.cell_ids.tolist() == [0, 1, 2, 3]
    assert second.probabilities[:, 0].tolist() == pytest.approx([0.0, 0.1, 0.2, 0.3])
    assert second.reasons == {4: "no JPEG"}


def test_a_torn_part_is_removed_and_its_cells_are_predicted_again(tmp_path: Path) -> None:
    skipped: list[np.ndarray] = []
    parts = PredictionParts(tmp_path, SimpleNamespace(reasons={}))
    parts.setup(make_trainer(skipped), None, "predict")
    parts.on_predict_batch_end(make_trainer(skipped), None, make_prediction([3, 1], [1, 1]))
    parts.on_predict_epoch_end(make_trainer(skipped, rank=1), None)
    (path,) = tmp_path.glob("*.saved")
    path.write_bytes(path.read_bytes()[:-1])
    PredictionParts(tmp_path, SimpleNamespace(reasons={})).setup(make_trainer(skipped), None, "predict")
    assert skipped[-1].tolist() == []
    assert list(tmp_path.glob("*.saved")) == []


def test_parts_of_another_job_are_not_taken(make_set, tmp_path: Path) -> None:
    manifest, checkpoint, out = make_set(4), tmp_path / "a.ckpt", tmp_path / "p.csv"
    checkpoint.write_bytes(b"weights")
    kept: list[list[str]] = []

    def interrupted(**settings: bool) -> None:
        with saved_parts(out, manifest, checkpoint, settings, lambda line: None) as stage:
            kept.append(sorted(path.name for path in stage.saved_dir.iterdir()))
            (stage.saved_dir / "1.saved").write_bytes(b"part")
            raise KeyboardInterrupt

    for tta in (False, False, True):
        with pytest.raises(KeyboardInterrupt):
            interrupted(tta=tta)
    assert kept == [[], ["1.saved"], []]
