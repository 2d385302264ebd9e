"""Weights of other programs: files that hold a state dict and no more, as safetensors or by `torch.save`.

Files of timm, torchvision and the Hugging Face Hub are of this kind. Nothing in them is executed.
"""

from __future__ import annotations

import json
import pickle
import struct
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from fastcell.errors import DataError
from fastcell.runs.shared_model import SHARED_CONFIG_FILE, has_shared_config, is_shared_model

_NESTED = ("state_dict_ema", "model_ema", "state_dict", "model")
"""Entries under which training programs keep the state dict (the first existing one). Source: timm's `_helpers`."""

_WRAPPERS = ("_orig_mod.", "module.", "_orig_mod.")  # of torch.compile and DistributedDataParallel, in either order
_MOST_CONFIG_BYTES = 1 << 20

# Exceptions that zipfile and torch raise on damaged or foreign files.
DAMAGES = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    pickle.UnpicklingError,
    struct.error,
    zipfile.BadZipFile,
)


def is_weight_file(path: Path) -> bool:
    """Return whether a file is to be read as weights of another program: not as a checkpoint or shared model.

    A file that cannot be read is one of them by its ending.
    """
    if not path.is_file():
        return False
    if is_shared_model(path):
        return not has_shared_config(path)
    try:
        content = _load_torch(path)
    except DataError:
        return path.suffix != ".ckpt"
    return not (isinstance(content, dict) and "fastcell_format" in content)


def read_weight_file(path: Path) -> dict[str, torch.Tensor]:
    """Return the tensors of a file by name, on the CPU, without prefixes of wrappers.

    Raises:
        DataError: the file is damaged, or holds something else than tensors by name.
        PermissionError: the file cannot be read by this user.
    """
    content: Any = _load_safetensors(path) if is_shared_model(path) else _load_torch(path)
    for name in _NESTED:
        if isinstance(content, Mapping) and isinstance(content.get(name), Mapping):
            content = content[name]
            break
    found = {_unwrapped(name): value for name, value in content.items()} if _is_state_dict(content) else {}
    if not found:
        raise DataError(f"{path} must hold tensors by name (a state dict), got {_kind(content)}. Take another file.")
    if not all(bool(torch.isfinite(value).all()) for value in found.values() if value.is_floating_point()):
        raise DataError(f"{path} holds weights that are NaN or infinite. Take another file.")
    return found


def described_network(path: Path) -> str | None:
    """Return the network that the config.json beside a file names, as on the Hugging Face Hub; None without one."""
    config = path.parent / SHARED_CONFIG_FILE
    try:
        if config.stat().st_size > _MOST_CONFIG_BYTES:
            return None
        name = json.loads(config.read_text(encoding="utf-8"))["architecture"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return name if isinstance(name, str) else None


def _load_safetensors(path: Path) -> dict[str, torch.Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return dict(load_file(str(path)))
    except (SafetensorError, OSError, KeyError, ValueError, RuntimeError) as error:
        if isinstance(error, PermissionError):
            raise
        raise _unreadable(path, error) from error


def _load_torch(path: Path) -> Any:
    try:
        with warnings.catch_warnings():  # torch's own message tells the user to unpickle the file
            warnings.simplefilter("ignore")
            return torch.load(str(path), map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except PermissionError:
        raise
    except DAMAGES as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> DataError:
    told = "it is damaged, holds objects beside tensors, or is of another kind"
    if "TorchScript" in str(error):
        told = "it is a TorchScript program, which is not run; save its state_dict()"
    return DataError(
        f"{path} cannot be read as weights: {told}. Give a .safetensors file, or a state dict by torch.save."
    )


def _is_state_dict(content: Any) -> bool:
    return isinstance(content, Mapping) and all(
        isinstance(name, str)
        and isinstance(value, torch.Tensor)
        and value.layout is torch.strided
        and not value.is_quantized
        and not value.is_complex()
        for name, value in content.items()
    )


def _unwrapped(name: str) -> str:
    for prefix in _WRAPPERS:
        name = name.removeprefix(prefix)
    return name


def _kind(content: Any) -> str:
    if not isinstance(content, Mapping):
        return f"a {type(content).__name__}"
    others = [str(name) for name, value in content.items() if not isinstance(value, torch.Tensor)]
    return f"other values ({', '.join(others[:4])})" if others else "none" if not content else "tensors of other kinds"
