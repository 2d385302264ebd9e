"""Selection of a model's weights after training: lowest validation loss, or last.

If training repeats or weights classes, the best weights have the lowest `BALANCED`: the validation loss in which a cell
of each class counts as in training. Otherwise a network that never predicts a rare class could have the lowest loss.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint

from fastcell.models.lightning_module import CellModule

PLAIN, BALANCED = "valid_loss", "valid_balanced_loss"
_PATHS = ("best_model_path", "kth_best_model_path", "last_model_path")


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
        loss = float(trainer.callback_metrics.get(BALANCED, trainer.callback_metrics[PLAIN]))
        if self.weights is None or loss < self._least:
            self._least = loss
            self.weights = {name: value.detach().cpu().clone() for name, value in pl_module.state_dict().items()}


class RunCheckpoints(ModelCheckpoint):
    """Lightning's checkpoint callback for a run, with file names relative to the run folder in its state.

    Lightning's own state holds absolute paths: after a run folder was moved, Lightning forgets the best score and
    overwrites the best checkpoint with the next one.
    """

    @property
    def state_key(self) -> str:
        return super().state_key.replace(type(self).__qualname__, ModelCheckpoint.__qualname__, 1)

    def state_dict(self) -> dict[str, Any]:
        state = super().state_dict()
        paths = {name: _file_name(state[name]) for name in _PATHS}
        best = {_file_name(path): score for path, score in state["best_k_models"].items()}
        return {**state, **paths, "best_k_models": best, "dirpath": ""}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load the state of a run; only the current score if its best checkpoint is not in this run's folder."""

        def here(path: str) -> str:
            return str(Path(str(self.dirpath), _file_name(path))) if path else ""

        if not Path(here(state_dict["best_model_path"])).is_file():
            return
        paths = {name: here(state_dict[name]) for name in _PATHS}
        best = {here(path): score for path, score in state_dict["best_k_models"].items()}
        super().load_state_dict({**state_dict, **paths, "best_k_models": best, "dirpath": self.dirpath})


def _file_name(path: str) -> str:
    return path.replace("\\", "/").rpartition("/")[2]


def monitor_of(content: Mapping[str, Any]) -> str | None:
    """Return the loss by which the run of a checkpoint selects its best weights; None if it selects none.

    Args:
        content: result of `fastcell.runs.checkpoint.read_checkpoint`.
    """
    keys = [str(key) for key in content.get("callbacks", {})]
    return next((name for name in (PLAIN, BALANCED) if any(f"'monitor': '{name}'" in key for key in keys)), None)


def checkpoint_callback(folder: Path | None, validates: bool, monitor: str = PLAIN) -> RunCheckpoints:
    """Return the callback that writes ``last.ckpt`` and, with validation, ``best.ckpt`` (lowest validation loss).

    Args:
        folder: the run folder; None on ranks other than 0.
        validates: True if the run has a validation subset and evaluates it.
        monitor: `PLAIN` or `BALANCED`, the loss to compare.
    """
    place: dict[str, Any] = {"dirpath": folder, "enable_version_counter": False}
    if validates:
        return RunCheckpoints(filename="best", monitor=monitor, save_last=True, **place)
    return RunCheckpoints(filename="last", **place)
