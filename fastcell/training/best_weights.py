"""Weights kept as the best of a training: those of the least validation loss, or the last."""

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
    """Put the best weights into a model that has been trained, where they are chosen and there are any.

    Args:
        model: with the last weights.
        select: best or last.
        best: `state_dict` of the least validation loss; None where nothing validated.

    Returns:
        Whether the model has the best weights now, not the last.
    """
    if select == "last" or best is None:
        return False
    model.load_state_dict(best)
    return True


class BestWeights(pl.Callback):
    """Keeps the weights of the least validation loss in the host's memory.

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
    """Return what keeps ``last.ckpt``, and where the run validates ``best.ckpt``, of the least validation loss.

    Args:
        folder: the run folder; None on other ranks than 0.
        validates: whether there is a validation part, and it is looked at.
    """
    place: dict[str, Any] = {"dirpath": folder, "enable_version_counter": False}
    if validates:
        return ModelCheckpoint(filename="best", monitor="valid_loss", save_last=True, **place)
    return ModelCheckpoint(filename="last", **place)
