"""A teacher sees the cells of each batch with the same changes, and its part of the loss is that of its answers."""

import json
import shutil
from functools import partial
from types import SimpleNamespace

import pytest
import torch

from fastcell.cli.main import main
from fastcell.errors import ArgumentError
from fastcell.loading.datamodule import CellDataModule
from fastcell.models.lightning_module import CellModule
from fastcell.models.soft_losses import soft_losses
from fastcell.ops.augmentation import Augmentation
from fastcell.runs.checkpoint import load_classifier
from fastcell.training.distillation.teacher import Teacher

TURNED = Augmentation(rotation_deg=180.0, translation=0.05)


def make(data, place=(0, 0)):
    """A student in training, as far as a teacher looks at it."""
    torch.manual_seed(1)
    model = CellModule("student", classes=data.classes, preprocessing=data.preprocessing.to_dict())
    model._trainer = SimpleNamespace(current_epoch=place[0])
    return model


@pytest.mark.parametrize("store", ["bank", "stream"])
def test_the_images_are_those_of_a_run_of_the_teachers_size(trained_run, trained_data, store):
    small = partial(
        CellDataModule, str(trained_data), batch_size=48, store=store, threads=1, seed=3, augmentation=TURNED
    )
    data, large = small(image_size=24), small(image_size=32)
    model = make(data)
    teacher = Teacher(trained_run, model, data, temperature=3.0, share=0.25)
    reference = load_classifier(trained_run / "last.ckpt")
    for epoch in (0, 1):
        model._trainer.current_epoch = epoch
        batches, twins = data.train_dataloader(), large.train_dataloader()
        batches.set_epoch(epoch)
        twins.set_epoch(epoch)
        for step, (batch, twin) in enumerate(zip(batches, twins, strict=True)):
            logits, losses = torch.randn(len(batch.labels), 4), torch.rand(len(batch.labels))
            with torch.no_grad():
                expected = soft_losses(logits, reference(twin.images), 3.0)
            found = teacher.add_losses(losses, logits, batch, step)
            torch.testing.assert_close(found, 0.75 * losses + 0.25 * expected, rtol=1e-4, atol=1e-4)
        assert step > 1


def test_it_begins_within_an_epoch_where_a_run_goes_on(trained_run, trained_data):
    data = CellDataModule(str(trained_data), batch_size=48, image_size=24, threads=1, seed=3, augmentation=TURNED)
    model = make(data)
    batches = list(data.train_dataloader())
    logits, losses = torch.zeros(48, 4), torch.zeros(48)
    whole = [
        Teacher(trained_run, model, data).add_losses(losses, logits, one, step) for step, one in enumerate(batches[:2])
    ]
    late = Teacher(trained_run, model, data).add_losses(losses, logits, batches[1], 1)
    assert torch.equal(late, whole[1])
    with pytest.raises(ArgumentError, match="the loader gave others"):
        Teacher(trained_run, model, data).add_losses(losses, logits, batches[1], 0)


def test_classes_are_matched_by_name_and_unlabelled_cells_have_no_loss(trained_run, trained_data):
    data = CellDataModule(str(trained_data), batch_size=48, image_size=32, threads=1, seed=3, normalization="divide")
    model = make(data)
    batch = next(iter(data.train_dataloader()))
    logits, losses = torch.randn(48, 4), torch.zeros(48)
    batch = batch._replace(labels=torch.where(torch.arange(48) < 3, -1, batch.labels))
    plain = Teacher(trained_run, model, data).add_losses(losses, logits, batch, 0)
    assert (plain[:3] == 0).all()
    assert (plain[3:] > 0).all()
    model.classes = model.classes[::-1]
    turned = Teacher(trained_run, model, data).add_losses(losses, logits.flip(1), batch, 0)
    torch.testing.assert_close(turned, plain)
    model.classes = ["a", "b", "c", "d"]
    with pytest.raises(ArgumentError, match="--teacher must be a run with the classes of the data"):
        Teacher(trained_run, model, data)


def test_an_augmentation_of_the_user_is_refused(trained_run, trained_data):
    data = CellDataModule(str(trained_data), image_size=24, batch_augmentation=lambda batch: batch)
    with pytest.raises(ArgumentError, match="without --data.batch_augmentation"):
        Teacher(trained_run, make(data), data)


def test_a_run_records_its_teacher_and_goes_on_with_it(trained_run, trained_data, tmp_path, capsys):
    teacher = tmp_path / "teacher"
    shutil.copytree(trained_run, teacher)
    words = [f"--teacher={teacher}", "--model.network=student", "--data.image_size=24", "--data.threads=1"]
    words += ["--trainer.max_epochs=2", "--model.schedule=constant", "--model.warmup=0", f"--runs={tmp_path / 'runs'}"]
    assert main(["fit", str(trained_data), "--preset=fast", *words]) == 0
    assert f"teacher {teacher / 'last.ckpt'}: cellnet, 32 x 32 pixels" in capsys.readouterr().out
    (run,) = (tmp_path / "runs").iterdir()
    recorded = json.loads((run / "environment.json").read_text())["teacher"]
    assert (recorded["temperature"], recorded["share"]) == (2.0, 0.7)
    assert not [name for name in torch.load(run / "last.ckpt", weights_only=True)["state_dict"] if "teacher" in name]
    (teacher / "last.ckpt").unlink()
    other = next(path for path in trained_run.parent.parent.glob("runs/*/best.ckpt"))
    shutil.copy(other, teacher / "last.ckpt")
    resumed = ["fit", "--resume", str(run), "--trainer.max_epochs=3"]
    changed = torch.load(other, weights_only=True)
    changed["state_dict"] = {
        name: value + 1 if value.is_floating_point() else value for name, value in changed["state_dict"].items()
    }
    torch.save(changed, teacher / "last.ckpt")
    assert main(resumed) == 2
    assert "have changed since" in capsys.readouterr().err
