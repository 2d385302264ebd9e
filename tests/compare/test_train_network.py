"""Networks of a study are trained on exactly their rows, for a length that can be told before."""

import numpy as np
import pytest
import torch

from fastcell.compare.saved_results import Task
from fastcell.compare.split_schemes import SplitManifest
from fastcell.compare.train_network import Length, make_data, num_training_rows, train_network, training_length
from fastcell.training.recipe import Recipe


@pytest.mark.parametrize(
    ("cells", "steps", "every", "batch"),
    [
        (5200, 1312, 82, 64),  # 16 epochs of 82 steps
        (2600, 656, 41, 64),
        (1000, 608, 38, 64),  # the floor of 600, in whole checks
        (26, 608, 38, 26),
    ],
)
def test_epochs_with_a_floor(cells, steps, every, batch):
    recipe = Recipe("demo", data={"batch_size": 64}, trainer={"max_epochs": 16})
    assert training_length(cells, 5200, recipe, 600) == Length(steps, every, batch)


def test_no_longer_than_the_whole_training():
    recipe = Recipe("demo", data={"batch_size": 64}, trainer={"max_epochs": 2})
    assert training_length(10, 640, recipe, 600).steps <= 32  # 20 steps in checks of 2
    assert training_length(640, 640, recipe, 600).steps == 20


def test_counted_steps_stay():
    recipe = Recipe("paper", data={"batch_size": 1300}, trainer={"max_steps": 3000, "max_epochs": -1})
    assert training_length(100, 5000, recipe, 600) == Length(3008, 188, 100)


def test_repeats_for_balance_count(planted):
    manifest = SplitManifest.of(planted(), {})
    rows = np.concatenate([np.flatnonzero(manifest.labels == 0)[:20], np.flatnonzero(manifest.labels == 1)[:5]])
    assert num_training_rows(manifest, rows, Recipe("demo")) == 25
    assert num_training_rows(manifest, rows, Recipe("demo", data={"balance": "oversample"})) == 40


def test_the_batches_are_of_exactly_the_rows(planted, study_of):
    study = study_of(planted())
    parts = study.parts(Task("cnn", "default", "default", 0.5, 1, 16))
    data = make_data(study.manifest, parts, study.recipe, 1, 8)
    data.setup("fit")
    seen = torch.cat([batch.cell_ids[batch.weight > 0] for batch in data.train_dataloader()])
    assert sorted(seen.tolist()) == parts["train"].tolist()
    assert len(parts["train"]) == 36
    assert data.view("valid").rows.tolist() == parts["valid"].tolist()


def test_the_best_weights_are_those_of_the_least_validation_loss(planted, study_of):
    study = study_of(planted())
    parts = study.parts(Task("cnn", "default", "default", 1.0, 0, 16))
    wild = study.recipe.with_model(learning_rate=0.3)  # the loss goes up and down
    model, rows, _ = train_network(study.manifest, parts, wild, 0, Length(24, 3, 16))
    losses = [row["valid_loss"] for row in rows if "valid_loss" in row]
    assert len(losses) == 8
    images = study.images(16)
    pixels = torch.from_numpy(images.open()[images.places(parts["valid"])].copy())[:, None]
    labels = torch.from_numpy(study.manifest.labels[parts["valid"]])
    with torch.inference_mode():
        loss = torch.nn.functional.cross_entropy(model(pixels), labels)
    assert float(loss) == pytest.approx(min(losses), rel=1e-3)
