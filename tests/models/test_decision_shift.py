"""The shift of decisions towards rare classes, by value."""

import itertools
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet as pq
import pytest
import pytorch_lightning as pl
import torch

import fastcell
from fastcell.cli import main as cli
from fastcell.dataset.manifest import Manifest
from fastcell.errors import ArgumentError
from fastcell.inference.sharing.share import share
from fastcell.loading.batch import Batch
from fastcell.loading.datamodule import CellDataModule
from fastcell.loading.preprocessing import Preprocessing
from fastcell.models.decision_shift import DecisionShift
from fastcell.models.lightning_module import CellModule
from fastcell.runs.checkpoint import load_classifier
from fastcell.runs.run_folder import PREDICTIONS_FILE, find_checkpoint
from fastcell.system.library_settings import quiet
from fastcell.training.start_weights import start_from

CLASSES, SIZE, COUNTS = ["a", "b", "c"], 16, [60, 30, 10]


def make_model(**arguments):
    torch.manual_seed(0)
    return CellModule("gao", classes=CLASSES, preprocessing={"image_size": SIZE}, **arguments)


def test_probabilities_are_weighted_against_the_frequencies():
    layer = DecisionShift(0.1, 4).eval()
    layer.set_counts([*COUNTS, 0])
    logits = torch.randn(5, 4)
    weighted = logits.double().softmax(1) * torch.tensor([1 + 0.1 / 0.6, 1 + 0.1 / 0.3, 1 + 0.1 / 0.1, 1]).double()
    torch.testing.assert_close(layer(logits).softmax(1), (weighted / weighted.sum(1, keepdim=True)).float())
    assert torch.equal(layer.train()(logits), logits)
    layer.set_counts(COUNTS[:2])  # the last classes have no cells
    assert layer.shift[2:].tolist() == [0, 0]


def test_no_other_decision_has_a_better_sum_of_accuracy_and_balanced_accuracy():
    """All 3^7 decisions about seven cells of known probabilities."""
    rng = np.random.default_rng(0)
    for strength in (0.0, 0.1, 1.0):
        known = rng.dirichlet([2, 1, 0.3], 7)
        counts = known.sum(axis=0)  # expected cells of each class
        layer = DecisionShift(strength, 3).eval()
        layer.set_counts(counts)

        def worth(called, known=known, counts=counts, strength=strength):
            right = known[np.arange(7), list(called)]
            recalls = np.bincount(list(called), right, 3) / counts
            return right.sum() / 7 + strength * 3 * recalls.mean()

        chosen = layer(torch.from_numpy(np.log(known))).argmax(1).tolist()
        best = max(worth(called) for called in itertools.product(range(3), repeat=7))
        assert worth(chosen) == pytest.approx(best, rel=1e-6)


@pytest.mark.parametrize("settings", [{}, {"input_norm": True}, {"ema_decay": 0.9}, {"tta": True}])
def test_evaluation_is_shifted_and_training_is_not(settings, tmp_path):
    """Loss, validation loss, probabilities, features, checkpoint, and weights for another run."""
    model = make_model(decision_shift=0.2, **settings)
    plain = make_model(**settings)
    plain.bare_network.load_state_dict(model.bare_network.state_dict())
    images = torch.rand(6, 1, SIZE, SIZE)
    batch = Batch(images, torch.arange(6) % 3, torch.arange(6), torch.ones(6))
    data = SimpleNamespace(train_counts=np.array(COUNTS), emphasis=np.ones(3))
    for each in (model, plain):
        each._trainer = SimpleNamespace(datamodule=data, current_epoch=0, global_rank=0, world_size=1)
        each.setup("fit")
    assert torch.equal(model.train()._loss(batch), plain.train()._loss(batch))
    model.eval()._score(batch)
    plain.eval()._score(batch)
    losses = [float(each.balanced_scores.compute()["loss"]) for each in (model, plain)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)  # the best weights are chosen as without the shift
    with torch.inference_mode():
        (features, found), (same, without) = (each.features_and_probabilities(images) for each in (model, plain))
        assert torch.equal(features, same)
        if not settings.get("tta"):
            weighted = without * (1 + 0.2 / torch.tensor([0.6, 0.3, 0.1]))
            torch.testing.assert_close(found, weighted / weighted.sum(1, keepdim=True))
            torch.testing.assert_close(model(images).softmax(1), found)
            torch.testing.assert_close(model.shared_features_and_logits()(images)[1].softmax(1), found)
    again = make_model(decision_shift=0.2, **settings)
    again.load_state_dict(model.state_dict())
    torch.testing.assert_close(again.eval().predict_probabilities(images), found)


def fit(model, tmp_path):
    quiet()
    labels = torch.arange(6) % 3
    batch = Batch(torch.rand(6, 1, SIZE, SIZE), labels, torch.arange(6), torch.ones(6))
    trainer = pl.Trainer(max_steps=1, logger=False, accelerator="cpu", enable_progress_bar=False,
                         enable_model_summary=False, default_root_dir=tmp_path)  # fmt: skip
    trainer.fit(model, [batch])


def test_a_loader_without_the_numbers_of_cells_is_refused(tmp_path):
    with pytest.raises(ArgumentError, match="decision_shift needs a data module with train_counts"):
        fit(make_model(decision_shift=0.1), tmp_path)


@pytest.mark.parametrize("value", [-0.1, float("nan"), float("inf"), True, "much"])
def test_values_that_are_refused(value):
    with pytest.raises(ArgumentError, match="decision_shift must be a number from 0"):
        make_model(decision_shift=value)


def test_other_losses_are_refused():
    with pytest.raises(ArgumentError, match="decision_shift must be 0 with another loss than cross_entropy, got 0.1"):
        make_model(decision_shift=0.1, loss="sigmoid")


@pytest.fixture(scope="module")
def shifted_run(trained_data, tmp_path_factory):
    """Run folder of a network with shifted decisions and flips, after 3 steps on simulated cells."""
    runs = tmp_path_factory.mktemp("shifted")
    arguments = ["--data.image_size=16", "--data.threads=1", "--trainer.max_steps=3", "--trainer.max_epochs=-1"]
    arguments += ["--model.network=residual", "--model.decision_shift=0.5", "--model.tta=true"]
    assert cli.main(["fit", str(trained_data), "--preset=fast", f"--runs={runs / 'runs'}", *arguments]) == 0
    (run,) = (runs / "runs").iterdir()
    return run


def expected(run, data, images):
    """Probabilities of the network, multiplied by the weights of the training cells' classes; means over the flips."""
    module = load_classifier(find_checkpoint(run)).eval()
    manifest = Manifest.open(data)
    counts = np.bincount(manifest.labels[manifest.split("default") == "train"], minlength=len(module.classes))
    norm, network, _ = module.network
    found = []
    for axes in ((), (2,), (3,), (2, 3)):
        with torch.inference_mode():
            plain = network(norm(images.flip(axes))).double().softmax(1).numpy()
        weighted = plain * (1 + 0.5 * counts.sum() / counts)
        found.append(weighted / weighted.sum(axis=1, keepdims=True))
    return np.mean(found, axis=0)


def images_of(run, data):
    module = CellDataModule(str(data), image_size=16, threads=1, dtype="float32")
    preprocessing = Preprocessing.from_dict(load_classifier(find_checkpoint(run)).preprocessing)
    module.use_preprocessing(preprocessing, module.classes)
    module.setup("predict")
    batches = [
        (batch.cell_ids[batch.weight > 0], batch.images[batch.weight > 0]) for batch in module.predict_dataloader()
    ]
    ids, images = (torch.cat(column) for column in zip(*batches, strict=True))
    assert sorted(ids.tolist()) == list(range(len(ids)))
    return images[ids.argsort()]


def test_every_table_program_and_file_has_the_shift(shifted_run, trained_data, tmp_path):
    """``fit``, ``predict`` by each program, an opened classifier, a shared folder, an ONNX file; with flips unasked."""
    images = images_of(shifted_run, trained_data)
    wanted = expected(shifted_run, trained_data, images)
    rows = {key: row for row, key in enumerate(Manifest.open(trained_data).table.column("key").to_pylist())}

    def check(file):
        table = pq.read_table(file)
        found = np.stack([table[name] for name in table.column_names if name.startswith("p_")], axis=1)
        np.testing.assert_allclose(found, wanted[[rows[key] for key in table["key"].to_pylist()]], atol=2e-5)

    check(shifted_run / PREDICTIONS_FILE)
    for backend in ("torch", "onnxruntime", "openvino"):
        out = tmp_path / f"{backend}.parquet"
        words = [str(shifted_run), str(trained_data), f"--out={out}", f"--backend={backend}", "--precision=fp32"]
        assert cli.main(["predict", *words]) == 0
        check(out)
    share(shifted_run, tmp_path / "model", num_cells=20)
    for folder in (shifted_run, tmp_path / "model"):
        found = fastcell.load(folder).classify_images(images.numpy()[:50])
        np.testing.assert_allclose(found.probabilities, wanted[:50], atol=2e-5)
    assert cli.main(["export", str(shifted_run), str(tmp_path / "net.onnx"), "--check=20"]) == 0  # compares them


def test_weights_go_to_runs_with_and_without_a_shift(shifted_run):
    module = load_classifier(find_checkpoint(shifted_run))
    for strength in (0.0, 0.2):
        new = CellModule("residual", classes=module.classes, preprocessing=module.preprocessing,
                         decision_shift=strength)  # fmt: skip
        start_from(new, shifted_run)
        for name, value in module.bare_network.state_dict().items():
            assert torch.equal(new.bare_network.state_dict()[name], value), name


def test_a_resumed_run_keeps_its_shift(shifted_run, capsys):
    assert cli.main(["fit", f"--resume={shifted_run}", "--model.decision_shift=0.1"]) == 2
    assert "--model.decision_shift of a resumed run must be 0.5 as in the run, got 0.1" in capsys.readouterr().err
