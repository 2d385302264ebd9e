"""Checkpoints: what must be in one, and reading it safely."""

import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.plugins.io import TorchCheckpointIO

from fastcell.data.manifest import replace_file
from fastcell.errors import DataError
from fastcell.models.classifier import CHECKPOINT_FORMAT, CellClassifier


def load_classifier(path: str | Path) -> CellClassifier:
    """The classifier of a checkpoint, on the CPU, in evaluation mode. Nothing in the file is executed.

    Raises DataError where the file is missing, damaged, or no checkpoint of this program.
    """
    content = read_checkpoint(path)
    hparams = {name: value for name, value in content["hyper_parameters"].items() if not name.startswith("_")}
    try:
        model = CellClassifier(**{**hparams, "compile_network": False})
        model.load_state_dict(content["state_dict"])
    except (TypeError, ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(
            f"checkpoint {path} does not fit this version ({reason}). Train again, or use its version."
        ) from error
    return model.eval()


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """The content of a checkpoint that `fit` wrote, tensors on the CPU.

    Raises DataError where the file is missing, damaged, or no checkpoint of this program.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"checkpoint must be a file, got {str(path)!r}. Give a best.ckpt of a run folder.")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except PermissionError:
        raise
    except (pickle.UnpicklingError, zipfile.BadZipFile, RuntimeError, OSError, EOFError, ValueError, KeyError) as error:
        # torch's own text would have the user unpickle the file
        raise DataError(f"checkpoint {path} cannot be read. It is damaged or no checkpoint; take another.") from error
    if not isinstance(content, dict) or "fastcell_format" not in content:
        raise DataError(f"checkpoint {path} was not written by fastcell fit. Give a best.ckpt of a run folder.")
    if content["fastcell_format"] != CHECKPOINT_FORMAT:
        raise DataError(
            f"checkpoint format must be {CHECKPOINT_FORMAT}, got {content['fastcell_format']} in {path}. "
            "Use the version that wrote it."
        )
    return content


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint whole or not at all: what a full disk or a kill cuts off never has a checkpoint's name."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write ``checkpoint`` to ``path`` through a temporary file beside it."""
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        replace_file(Path(path), lambda file: torch.save(checkpoint, file))
