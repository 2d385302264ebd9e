"""The subsets of a data module: their cells, weights and repeats."""

import numpy as np
import torch
from fixtures.recorded_training import Recorder, data, trainer

from fastcell.dataset.manifest import Manifest
from fastcell.dataset.rows.split_table import write_split


def test_scores_are_of_the_cells_that_training_announced(make_dataset):
    """`qc --apply` and `split --force` may run beside a fit: its test subset stays; a new fit reads the files anew."""
    manifest = make_dataset(60)
    before = np.flatnonzero(manifest.split() == "test").tolist()
    model, module = Recorder(), data(manifest, augment=False)
    runner = trainer()
    runner.fit(model, module)
    (manifest.path / "verdicts.csv").write_text(f"cell_id,verdict\n{before[0]},drop\n")
    write_split(manifest.path, "default", np.array(["train"] * 50 + ["test"] * 10))
    runner.test(model, module, verbose=False)
    assert [cell for _, cells in model.seen["test"] for cell in cells] == before
    again = Recorder()
    trainer().fit(again, module)
    assert sorted({*range(50)} - {before[0]}) == sorted(again.epoch("train", 0))


def test_oversampling_weights_and_subsample_concern_training_alone(make_dataset):
    manifest = make_dataset(100)
    assert data(manifest).class_weights is None
    np.testing.assert_allclose(data(manifest, balance="weights").class_weights, [1, 1, 1])
    module = data(manifest, balance="oversample", subsample=7)
    module.setup("fit")
    loader = module.train_dataloader()
    ids = torch.cat([batch.cell_ids[batch.weight == 1] for batch in loader])
    assert torch.bincount(ids % 3).tolist() == [3, 3, 3]  # 7 cells of three classes: 3, 2 and 2
    assert len(ids.unique()) == 7
    assert len(module.val_dataloader()) == 3


def test_auto_takes_half_of_its_repeats_back_and_oversample_none(make_dataset, monkeypatch):
    manifest = make_dataset(100)
    rare = manifest.labels.copy()  # 56, 2 and 2 training cells
    rare[:60] = [1 if row in (7, 8) else 2 if row in (9, 10) else 0 for row in range(60)]
    monkeypatch.setattr(Manifest, "class_codes", property(lambda self: rare))
    for balance, cap, want in (
        ("auto", None, [0, np.log(10) / 2, np.log(10) / 2]),
        ("auto", 4.0, [0, np.log(2), np.log(2)]),
        ("oversample", None, None),
        ("none", None, None),
    ):
        module = data(manifest, balance=balance, balance_cap=cap)
        module.setup("fit")
        shift = module.logit_shift
        assert (shift is None) == (want is None)
        if want is not None:
            np.testing.assert_allclose(shift, want, rtol=1e-6)
