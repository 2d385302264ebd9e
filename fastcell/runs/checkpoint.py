"""Checkpoints: required content, and safe reading and writing."""

import errno
import logging
import os
import resource
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.plugins.io import TorchCheckpointIO

from fastcell.errors import ArgumentError, DataError, FastcellError
from fastcell.loading.preprocessing import Preprocessing
from fastcell.models.lightning_module import CellModule
from fastcell.models.own_code import changed_parts
from fastcell.models.registry import is_network_name
from fastcell.runs.shared_model import CODE_KEY, is_shared_model, read_shared_model
from fastcell.runs.weight_files import DAMAGES
from fastcell.storage.formats import check_format
from fastcell.storage.whole_files import replace_file
from fastcell.system.own_parts import check_trusted, import_trusted, own_part

logger = logging.getLogger(__name__)


def load_classifier(path: str | Path, trust: Sequence[str] = ()) -> CellModule:
    """Return the classifier of a checkpoint, on the CPU, in evaluation mode. Nothing in the file is executed.

    The network is first laid out without memory, so a network that does not match the weights is never built. A
    checkpoint with a user-defined network, loss or metrics names their classes, which are imported only if `trust`
    contains their package. A warning is logged if their code has changed since the training.

    Args:
        path: the checkpoint.
        trust: packages whose code may be imported; they are imported first, so that they can register networks.

    Raises:
        ArgumentError: the checkpoint needs code of a package that is not in `trust`.
        DataError: the file is missing, damaged, not a checkpoint of this program, or does not fit this version.
    """
    content = read_checkpoint(path)
    weights = content["state_dict"]
    import_trusted(trust)
    check_trusted(content["hyper_parameters"], trust, f"checkpoint {path}")
    _check_registered(content["hyper_parameters"].get("network"), path)
    _warn_of_changed_code(content, path)
    try:
        hparams = {name: value for name, value in content["hyper_parameters"].items() if not name.startswith("_")}
        hparams["compile_network"] = False
        _check_classes(hparams.get("classes"))
        Preprocessing.from_dict(dict(hparams.get("preprocessing") or {}))
        # A user-defined network may not support tensors without memory.
        is_own = own_part(hparams.get("network"), "network") is not None
        with nullcontext() if is_own else torch.device("meta"):
            layout = CellModule(**hparams).state_dict()
        _check_weights(weights, layout)
        model = CellModule(**hparams)
        model.load_state_dict(weights)
    except (*DAMAGES, FastcellError) as error:
        raise DataError(
            f"checkpoint {path} does not fit this version ({_first_line(error)}). Train again, or use its version."
        ) from error
    return model.eval()


def code_of_checkpoint(content: Mapping[str, Any]) -> dict[str, str]:
    """Return the hashes of the user's own code in a checkpoint (`fastcell.models.own_code.code_of`); empty for none."""
    found = content.get(CODE_KEY)
    if found is None and isinstance(settings := content.get("fastcell_settings"), dict):
        found = settings.get("code")
    return dict(found) if isinstance(found, dict) else {}


def _warn_of_changed_code(content: Mapping[str, Any], path: str | Path) -> None:
    saved = code_of_checkpoint(content)
    if not saved:
        return
    parts = {f"model.{name}": content["hyper_parameters"].get(name) for name in ("network", "loss", "metrics")}
    for title in changed_parts(saved, parts):
        logger.warning(
            "the code of %s has changed since %s was trained: its answers may differ. Restore the code, or train "
            "again.",
            title.removeprefix("--model."),
            path,
        )


def _check_registered(network: Any, path: str | Path) -> None:
    """Raise ArgumentError if a network has a name that was not registered in this process."""
    known = own_part(network, "network") is not None or not isinstance(network, str) or is_network_name(network)
    if not known:
        raise ArgumentError(
            f"checkpoint {path} has the network {network!r}, which neither fastcell nor timm has here. Install "
            "timm, or name the package that registers it: --trust PACKAGE, in Python trust=[PACKAGE]."
        )


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Return the content of a checkpoint that `fit` wrote, with tensors on the CPU, memory-mapped from the file.

    The weights of a shared model (`fastcell.runs.shared_model`) are returned in the same form, without training state.

    Each tensor is compared with its CRC-32 once (2.4 ms for 3.4 MB), which `torch.load` does not do: this detects
    zeroed pages and flipped bits inside the file.

    Raises:
        DataError: the file is missing, damaged, or not a checkpoint of this program.
        PermissionError: the file cannot be read by this user.
    """
    path = Path(path)
    if is_shared_model(path) and path.is_file():
        return read_shared_model(path)
    if not path.is_file():
        raise DataError(f"checkpoint must be a file, got {str(path)!r}. Give a run folder, or a checkpoint in it.")
    try:
        _check_archive(path)
        with warnings.catch_warnings():  # torch's own message tells the user to unpickle the file
            warnings.simplefilter("ignore")
            content = torch.load(str(path), map_location="cpu", weights_only=True, mmap=True)
    except PermissionError:
        raise
    except DAMAGES as error:
        raise DataError(f"checkpoint {path} cannot be read. It is damaged or no checkpoint; take another.") from error
    if not isinstance(content, dict) or "fastcell_format" not in content:
        raise DataError(f"checkpoint {path} was not written by fastcell fit. Give a run folder, or a checkpoint in it.")
    check_format("checkpoint", content["fastcell_format"], path, content.get("fastcell_version"))
    for name in ("state_dict", "hyper_parameters"):
        if not isinstance(content.get(name), dict):
            raise DataError(f"checkpoint {path} has no {name}. It is damaged or no checkpoint; take another.")
    return content


def save_checkpoint(content: dict[str, Any], path: Path) -> None:
    """Write a checkpoint through a temporary file next to it; `content` may be mapped from the file it replaces.

    Raises:
        OSError: the disk is full, or a file may not become so large (``ulimit -f``).
    """
    replace_file(path, lambda file: _save(content, file))


def _save(content: dict[str, Any], path: Path) -> None:
    """Write with torch, whose C++ code has no error numbers."""
    try:
        torch.save(content, path)
    except RuntimeError as error:
        if "inline_container" not in str(error) and "StreamWriter" not in str(error):
            raise
        limited = resource.getrlimit(resource.RLIMIT_FSIZE)[0] != resource.RLIM_INFINITY
        number = errno.EFBIG if limited else errno.ENOSPC
        raise OSError(number, os.strerror(number), str(path)) from error


def _check_archive(path: Path) -> None:
    """Check that the file is an archive of uncompressed parts that fit into its size and have their CRC-32.

    Raises:
        BadZipFile: the file is not such an archive.
    """
    with zipfile.ZipFile(path) as archive:
        parts = archive.infolist()
        packed = any(part.compress_type != zipfile.ZIP_STORED for part in parts)
        if packed or sum(part.file_size for part in parts) > path.stat().st_size:
            raise zipfile.BadZipFile("parts of another size than the file has room for")
        wrong = archive.testzip()
    if wrong is not None:
        raise zipfile.BadZipFile(f"{wrong} has another CRC-32")


def _check_classes(classes: Any) -> None:
    if not isinstance(classes, list) or not all(isinstance(name, str) and name for name in classes):
        raise ValueError("its classes are not a list of names")
    if len(set(classes)) != len(classes):
        raise ValueError("it names a class twice")


def _check_weights(weights: dict[str, Any], layout: dict[str, Any]) -> None:
    """Check that the weights match the network, tensor by tensor.

    Raises:
        ValueError: a weight is missing, unknown, no tensor, or has another shape or a complex or quantised dtype.
    """
    for name in [*layout, *(name for name in weights if name not in layout)]:
        if name not in layout or name not in weights:
            raise ValueError(f"weight {name!r} is {'missing' if name in layout else 'unknown'}")
        found = weights[name]
        if not isinstance(found, torch.Tensor) or found.layout != torch.strided or found.device.type != "cpu":
            raise ValueError(f"weight {name!r} is no tensor")
        if found.shape != layout[name].shape or found.dtype.is_complex or found.is_quantized:
            got = f"{tuple(found.shape)} of {found.dtype}, not {tuple(layout[name].shape)} of {layout[name].dtype}"
            raise ValueError(f"weight {name!r} is {got}")


def _first_line(error: Exception) -> str:
    lines = str(error).splitlines() or [type(error).__name__]
    return lines[0][:300].rstrip(".")


class AtomicCheckpointIO(TorchCheckpointIO):
    """Write a checkpoint completely or not at all: a full disk or a kill never leaves a file with a checkpoint's name.

    Only checkpoints of this program are read.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write ``checkpoint`` to ``path`` through a temporary file next to it."""
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        save_checkpoint(checkpoint, Path(path))

    def load_checkpoint(self, path: str | Path, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Return the content of a checkpoint to resume from; see `read_checkpoint`."""
        return read_checkpoint(path)
