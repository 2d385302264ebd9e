"""Selection of a model's weights after training: lowest validation loss, or last."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint

from fastcell.models.lightning_module import CellModule


def choose_weights(model: CellModule, select: str, best: Mapping[str, torch.Tensor] | None) -> bool:
    """Load the best weights into a trained model, if they are selected and available.

    Args:
        model: model with the last weights.
        select: ``best`` or ``last``.
        best: `state_dict` with the lowest validation loss; None without validation.

    Returns:
        True if the model now has the best weights, False if it keeps the last.
    """
    if select == "last" or best is None:
        return False
    model.load_state_dict(best)
    return True


class BestWeights(pl.Callback):
    """Keep the weights with the lowest validation loss in host memory.

    Attributes:
        weights: their `state_dict`; None before the first validation.
    """

    def __init__(self) -> None:
        self.weights: dict[str, torch.Tensor] | None = None
        self._least = math.inf

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        loss = float(trainer.callback_metrics["valid_loss"])
        if self.weights is None or loss < self._least:
            self._least = loss
            self.weights = {name: value.detach().cpu().clone() for name, value in pl_module.state_dict().items()}


def checkpoint_callback(folder: Path | None, validates: bool) -> ModelCheckpoint:
    """Return the callback that writes ``last.ckpt`` and, with validation, ``best.ckpt`` (lowest validation loss).

    Args:
        folder: the run folder; None on ranks other than 0.
        validates: True if the run has a validation subset and evaluates it.
    """
    place: dict[str, Any] = {"dirpath": folder, "enable_version_counter": False}
    if validates:
        return ModelCheckpoint(filename="best", monitor="valid_loss", save_last=True, **place)
    return ModelCheckpoint(filename="last", **place)
