from dataclasses import replace

import numpy as np
import pytest
import torch

from fastcell.inference import keep_statistics as module
from fastcell.inference.confidence import Confidence
from fastcell.inference.keep_statistics import blind_spots, keep_statistics
from fastcell.inference.unlike.training_cells import TrainingCells
from fastcell.runs.checkpoint import load_classifier, read_checkpoint, save_checkpoint
from fastcell.runs.run_folder import scored_checkpoint
from fastcell.sources.load_cells import load_cells
from fastcell.training.trainer import build_trainer


def setup(trained_run, trained_data, tmp_path):
    from fastcell.loading.datamodule import CellDataModule

    source = scored_checkpoint(trained_run)
    copy = tmp_path / "copy.ckpt"
    copy.write_bytes(source.read_bytes())
    model = load_classifier(source)
    data = CellDataModule(str(trained_data), image_size=32, threads=1)
    return build_trainer(torch.device("cpu")), model, data, copy


def test_fit_keeps_statistics_in_the_checkpoint_that_it_scores(trained_run):
    content = read_checkpoint(scored_checkpoint(trained_run))
    assert content["fastcell_format"] == 3
    known = TrainingCells.from_checkpoint(content)
    assert known.network_whitening.shape == (64, 64)
    confidence = Confidence.from_checkpoint(content)
    assert len(confidence.right) == 30


def test_the_same_cells_give_the_same_statistics(trained_run, trained_data, tmp_path, monkeypatch):
    trainer, model, data, copy = setup(trained_run, trained_data, tmp_path)
    before = TrainingCells.from_checkpoint(read_checkpoint(copy))
    line, _ = keep_statistics(trainer, model, data, copy)
    assert line == (
        "statistics of 130 training cells, limits from the same cells, because there are too few validation cells; "
        "temperature 1.000 from 30 validation cells"
    )
    after = read_checkpoint(copy)
    known = TrainingCells.from_checkpoint(after)
    np.testing.assert_allclose(known.center, before.center, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(known.limits, before.limits, rtol=1e-4)
    assert {name: value for name, value in after.items() if name.startswith("fastcell_")}.keys() >= {
        "fastcell_unlike",
        "fastcell_confidence",
        "fastcell_unread",
    }
    right = Confidence.from_checkpoint(after).right
    cells = load_cells(trained_data, "valid")
    assert len(right) == len(cells.images)
    monkeypatch.setattr(module, "MOST_CELLS", 50)
    keep_statistics(trainer, model, data, copy)
    assert TrainingCells.from_checkpoint(read_checkpoint(copy)).num_training == 50


def test_a_few_training_cells_have_no_statistics(trained_run, trained_data, tmp_path):
    from fastcell.loading.datamodule import CellDataModule

    trainer, model, _, copy = setup(trained_run, trained_data, tmp_path)
    content = read_checkpoint(copy)
    del content["fastcell_unlike"]
    save_checkpoint(content, copy)
    data = CellDataModule(str(trained_data), image_size=32, threads=1, subsample=20)
    line, cautions = keep_statistics(trainer, model, data, copy)
    assert cautions == []
    assert line.startswith("cells unlike those of training cannot be found with fewer than 30 training cells; ")
    assert TrainingCells.from_checkpoint(read_checkpoint(copy)) is None


@pytest.mark.parametrize("blind", [True, False])
def test_images_without_a_cell_that_look_like_training_cells_are_told(
    trained_run, trained_data, tmp_path, monkeypatch, blind
):
    """With limits that nothing passes every such image looks like a cell, with limits that all pass none does."""
    limits = np.full(3, 1e9 if blind else 1e-9)
    fit = module.fit_training_cells
    monkeypatch.setattr(module, "fit_training_cells", lambda *given: replace(fit(*given), limits=limits))
    _, cautions = keep_statistics(*setup(trained_run, trained_data, tmp_path))
    assert len(cautions) == blind
    if blind:
        assert "only 0% of empty frames and 0% of mixed pixels and 0% of mixed pieces would be found" in cautions[0]


def test_a_caution_names_what_is_not_found():
    assert blind_spots({"empty frames": 0.8, "mixed pixels": 1.0}) == []
    (said,) = blind_spots({"empty frames": 0.25, "mixed pixels": 1.0})
    assert "made from its own cells, only 25% of empty frames would be found unlike" in said
