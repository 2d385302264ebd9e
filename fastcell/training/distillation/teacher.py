"""A trained network as the teacher of another: it classifies each training batch with the same random changes.

Order and augmentation of a batch follow from seed, epoch and step. A second loader of the same cells can therefore make
the teacher's images, in the teacher's image size and normalisation. If teacher and student have the same preprocessing,
the teacher uses the student's images.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from fastcell.errors import ArgumentError, invalid
from fastcell.loading.batch import Batch
from fastcell.loading.datamodule import CellDataModule
from fastcell.loading.preprocessing import Preprocessing
from fastcell.models.lightning_module import CellModule
from fastcell.models.soft_losses import SHARE, TEMPERATURE, check_distillation, soft_losses, softmax_scores
from fastcell.runs.checkpoint import load_classifier
from fastcell.runs.run_folder import find_checkpoint
from fastcell.system.text import list_names
from fastcell.training.start_weights import hash_tensors


class Teacher:
    """Teacher of a network: adds a term to the loss of each cell of a training batch.

    Args:
        path: run folder or checkpoint of the teacher; nothing in it is executed.
        model: network in training.
        data: its data.
        temperature: temperature of the compared probabilities.
        share: weight of the teacher's term in the loss, above 0 and at most 1; the labels have the rest.
        trust: packages whose code a teacher with a user-defined network may import.

    Raises:
        ArgumentError: a number is out of its range, the teacher has other classes, or the data have a user-defined
            augmentation, which cannot be applied to the teacher's images.
        DataError: the checkpoint is missing or damaged.
    """

    def __init__(
        self,
        path: Path,
        model: CellModule,
        data: CellDataModule,
        temperature: float = TEMPERATURE,
        share: float = SHARE,
        trust: Sequence[str] = (),
    ) -> None:
        check_distillation(temperature, share)
        self.temperature, self.share = temperature, share
        self.source = find_checkpoint(path)
        self._model = load_classifier(self.source, trust)
        if set(self._model.classes) != set(model.classes):
            rule = f"a run with the classes of the data ({list_names(model.classes)})"
            raise invalid("--teacher", rule, list_names(self._model.classes), "Give a run that was trained on them")
        if data.own_augmentation is not None:
            raise ArgumentError(
                "--teacher must be given without --data.batch_augmentation, which the teacher's images do not get. "
                "Leave one out."
            )
        self._columns = [self._model.classes.index(name) for name in model.classes]
        self._own_loss = model.own_loss is not None
        self._student, self._data = model, data
        self.preprocessing = Preprocessing.from_dict(dict(self._model.preprocessing))
        levels = data.preprocessing.window
        if levels is not None and self.preprocessing.window not in (None, levels):
            raise invalid("--teacher", f"trained on the grey levels {levels} of the data", self.preprocessing.window,
                          "Give another run")  # fmt: skip
        self._sees_same = self.preprocessing.to_dict() == dict(model.preprocessing)
        self._twins: Iterator[Batch] = iter(())
        self._following: tuple[int, int] | None = None

    def add_losses(self, losses: torch.Tensor, logits: torch.Tensor, batch: Batch, step: int) -> torch.Tensor:
        """Return the losses of the cells of a batch including the teacher's term, (B,) float32.

        Args:
            losses: (B,) losses against the labels.
            logits: (B, K) logits of the network in training.
            batch: batch number `step` of the current epoch.
            step: number of the batch in the epoch.
        """
        found = softmax_scores("cross_entropy" if self._own_loss else self._student.hparams["loss"], logits)
        soft = soft_losses(found, self._scores_of(batch, step), self.temperature)
        known = batch.labels >= 0
        return (1 - self.share) * losses + self.share * torch.where(known, soft, torch.zeros_like(soft))

    def record(self) -> dict[str, Any]:
        """Return the record of the teacher for the run folder."""
        digest = hash_tensors({k: v for k, v in self._model.state_dict().items() if isinstance(v, torch.Tensor)})
        return {"source": str(self.source), "digest": digest, "temperature": self.temperature, "share": self.share}

    def describe(self) -> str:
        """Return a description of the teacher in one line."""
        side = self.preprocessing.image_size
        return (
            f"teacher {self.source}: {self._model.network_name}, {side} x {side} pixels; share of the loss "
            f"{self.share:g}, temperature {self.temperature:g}"
        )

    def check_unchanged_since(self, recorded: Any) -> None:
        """Check that a resumed run has the teacher with which it began.

        Args:
            recorded: entry ``teacher`` of the run's environment.json; None if there is none.

        Raises:
            ArgumentError: its weights have changed since.
        """
        digest = recorded.get("digest") if isinstance(recorded, dict) else None
        if digest is not None and digest != self.record()["digest"]:
            raise ArgumentError(
                "--teacher of a resumed run must have the weights with which the run began, but those of "
                f"{self.source} have changed since. Start a new run."
            )

    def _scores_of(self, batch: Batch, step: int) -> torch.Tensor:
        images = batch.images if self._sees_same else self._twin_of(batch, step).images
        if next(self._model.parameters()).device != images.device:
            self._model.to(images.device)
        with torch.no_grad():
            logits = self._model(images.to(next(self._model.parameters()).dtype))
        own = self._model.own_loss is not None
        return softmax_scores("cross_entropy" if own else self._model.hparams["loss"], logits)[:, self._columns]

    def _twin_of(self, batch: Batch, step: int) -> Batch:
        """Return the batch with the teacher's images."""
        place = self._student.trainer.current_epoch, step
        begins = place != self._following
        if begins:
            self._twins = iter(self._data.training_twin(self.preprocessing, place))
        self._following = place[0], step + 1
        twin = next(self._twins)
        # On a GPU, reading each batch would make the host wait for the device.
        looks = begins or not batch.cell_ids.is_cuda
        if looks and bool(((twin.cell_ids != batch.cell_ids) & (batch.weight > 0)).any()):
            raise ArgumentError(
                "the teacher must see the cells of the network in training, but the loader gave others. Leave out "
                "options that change the batches (--trainer.overfit_batches, callbacks)."
            )
        return twin
