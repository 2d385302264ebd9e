"""A classifier as a folder for other people: weights as safetensors, everything else as JSON, and a model card.

    config.json         classes, preprocessing, network and its arguments, temperature, scores; hash of the weights
    model.safetensors   weights and statistics of the training cells; its metadata hold config.json once more
    README.md           model card for people; never read

config.json holds a hash of model.safetensors, whose metadata hold all values of config.json, so a change of either file
is detected. Nothing in the folder is executed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastcell import __version__
from fastcell.errors import DataError
from fastcell.storage.formats import FORMATS, check_format
from fastcell.storage.whole_files import file_hash, write_text

if TYPE_CHECKING:
    import torch

SHARED_CONFIG_FILE, SHARED_WEIGHTS_FILE, CARD_FILE = "config.json", "model.safetensors", "README.md"

MODEL_ARGUMENTS = ("network", "classes", "preprocessing", "loss", "input_norm", "channels_last")
"""Arguments of `CellModule` that a shared model keeps, because its predictions depend on them."""

OPTIONAL_ARGUMENTS = ("decision_shift", "tta")
"""Further ones, which a shared model keeps if they are not 0 or false."""

BESIDE = ("fastcell_unlike", "fastcell_confidence")
"""Entries of a checkpoint, other than weights, that a shared model keeps."""

CODE_KEY = "fastcell_code"
"""Entry of a checkpoint that has hashes of the user's own code, but no settings of a training."""

_METADATA = "fastcell"
_NETWORK = "network."
_BETWEEN = "/"
_MOST_CONFIG_BYTES = 16 << 20


def is_shared_model(path: Path) -> bool:
    """Return whether a file has the ending of shared weights."""
    return path.suffix == ".safetensors"


def has_shared_config(path: Path) -> bool:
    """Return whether a safetensors file is of a shared model: fastcell wrote it, or config.json beside it.

    A damaged file counts as one of a shared model if config.json is of one.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="numpy") as file:
            if _METADATA in (file.metadata() or {}):
                return True
    except (SafetensorError, OSError):
        pass
    try:
        return "fastcell" in _read_json(path.parent / SHARED_CONFIG_FILE)
    except (DataError, PermissionError):
        return False


def write_shared_model(folder: Path, config: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> None:
    """Write model.safetensors and config.json into an existing folder.

    Args:
        folder: the folder.
        config: `model`, `beside`, `scores` and `code`, as `read_shared_config` returns them; plain values without NaN.
        tensors: weights by the names of `CellModule` (``network.*``), and arrays as ``ENTRY/NAME`` of `BESIDE`.
    """
    from safetensors.torch import save

    values = {"format": FORMATS["shared model"].number, "fastcell": __version__, **config}
    path = folder / SHARED_WEIGHTS_FILE
    whole = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    path.write_bytes(save(whole, metadata={"format": "pt", _METADATA: _canonical(values)}))
    described = {"file": path.name, "bytes": path.stat().st_size, "blake2b": file_hash(path)}
    content = {**values, "weights": described}
    write_text(folder / SHARED_CONFIG_FILE, json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def read_shared_config(path: Path) -> dict[str, Any]:
    """Return the content of config.json after a check of both files.

    Args:
        path: model.safetensors of the folder.

    Returns:
        `model`: arguments of `CellModule` of `MODEL_ARGUMENTS`; `beside`: plain values of `BESIDE` as ``ENTRY/NAME``;
        `scores`: scores of the run, or an empty dictionary; `code`: hashes of the user's own code, if there is any; and
        others.

    Raises:
        DataError: a file is missing or damaged, or a newer version wrote it.
    """
    config_path = path.parent / SHARED_CONFIG_FILE
    config = _read_json(config_path)
    check_format("shared model", config.get("format"), config_path, config.get("fastcell"))
    weights = config.pop("weights", None)
    from safetensors import SafetensorError, safe_open

    try:
        expected = weights["blake2b"]  # type: ignore[index]
        if path.stat().st_size != weights["bytes"] or file_hash(path) != expected:  # type: ignore[index]
            raise ValueError("its content does not match the hash in config.json")
        with safe_open(str(path), framework="numpy") as file:
            kept = json.loads((file.metadata() or {})[_METADATA])
    except PermissionError:
        raise
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise DataError(f"{path} is damaged, or of another model ({_reason(error)}). Copy the folder anew.") from None
    if _canonical(kept) != _canonical(config):
        raise DataError(
            f"{config_path} must hold the values that are in {path.name}, got others. Copy the folder anew."
        )
    _check_kinds(config, config_path)
    return config


def read_shared_model(path: Path) -> dict[str, Any]:
    """Return a shared model as the content of a checkpoint: state_dict, hyper_parameters, and entries of `BESIDE`.

    Args:
        path: model.safetensors of the folder.

    Raises:
        DataError: a file is missing or damaged, or a newer version wrote it.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    config = read_shared_config(path)
    try:
        tensors: dict[str, torch.Tensor] = load_file(str(path))
    except (SafetensorError, OSError, KeyError, ValueError, RuntimeError) as error:
        raise DataError(f"{path} cannot be read ({_reason(error)}). Copy the folder anew.") from None
    content: dict[str, Any] = {
        "fastcell_format": FORMATS["checkpoint"].number,
        "fastcell_version": config.get("fastcell"),
        "hyper_parameters": dict(config["model"]),
        "state_dict": {name: value for name, value in tensors.items() if name.startswith(_NETWORK)},
        CODE_KEY: config.get("code"),
    }
    others = {name: value for name, value in tensors.items() if not name.startswith(_NETWORK)}
    for name, value in {**config["beside"], **others}.items():
        entry, between, inner = name.partition(_BETWEEN)
        if not between or entry not in BESIDE:
            raise DataError(f"{path} has {name!r}, which no version of fastcell writes. Copy the folder anew.")
        content.setdefault(entry, {})[inner] = value
    return content


def _check_kinds(config: Mapping[str, Any], path: Path) -> None:
    known = all(isinstance(config.get(name), dict) for name in ("model", "beside", "scores"))
    if not known or set(config["model"]) - set(OPTIONAL_ARGUMENTS) != set(MODEL_ARGUMENTS):
        raise DataError(f"{path} must describe a model of fastcell, got other content. Export the run again.")


def _read_json(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > _MOST_CONFIG_BYTES:
            raise ValueError(f"it has more than {_MOST_CONFIG_BYTES >> 20} MiB")
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict) or "format" not in content:
            raise ValueError("it was not written by fastcell export")
    except PermissionError:
        raise
    except (OSError, ValueError, RecursionError) as error:
        told = f"{path} must be the {path.name} that fastcell export wrote beside {SHARED_WEIGHTS_FILE}"
        raise DataError(f"{told}, but: {_reason(error)}. Copy the whole folder.") from None
    return content


def _reason(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200].rstrip(".")


def _canonical(values: Any) -> str:
    return json.dumps(values, sort_keys=True, ensure_ascii=True)
