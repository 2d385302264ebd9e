"""A fitted `CellClassifier` as a folder, and runs of ``fastcell fit`` as estimators."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch

from fastcell import __version__
from fastcell.errors import ArgumentError, DataError
from fastcell.inference.open_classifier import load
from fastcell.loading.preprocessing import Preprocessing
from fastcell.models.lightning_module import CHECKPOINT_FORMAT
from fastcell.models.own_code import code_of
from fastcell.runs.checkpoint import load_classifier
from fastcell.runs.run_folder import LAST_FILE, find_checkpoint
from fastcell.runs.shared_model import CODE_KEY
from fastcell.storage.places import check_output_folder
from fastcell.storage.staging import put_in_place, staging
from fastcell.storage.whole_files import read_json_file, write_json

if TYPE_CHECKING:
    from fastcell.training.estimator import CellClassifier

ESTIMATOR_FILE = "estimator.json"
_SIMPLE = (str, int, float, bool, type(None))

Estimator = TypeVar("Estimator", bound="CellClassifier")


def save_estimator(model: CellClassifier, folder: Path) -> None:
    """Write a fitted estimator: weights as a checkpoint, and its arguments and classes as JSON.

    Raises:
        ArgumentError: the folder has content, or the classes are neither texts, numbers nor booleans.
    """
    if hasattr(model, "_of_run"):
        raise ArgumentError("a classifier of a run is saved already: copy the run folder instead.")
    check_output_folder("folder", folder)
    names: list[Any] = model.classes_.tolist()
    if not all(isinstance(name, _SIMPLE) for name in names):
        raise ArgumentError(f"classes must be texts, numbers or booleans to be saved, got {names[0]!r}. Rename them.")
    arguments = {name: _as_json(name, value) for name, value in model.get_params().items()}
    values = {
        "arguments": arguments,
        "classes": names,
        "dtype": model.classes_.dtype.str,
        "window": model.window_,
        "num_values": getattr(model, "n_features_in_", None),
        "fastcell": __version__,
    }
    hparams = {name: value for name, value in model.module_.hparams.items() if not name.startswith("_")}
    checkpoint = {
        "state_dict": model.module_.state_dict(),
        "hyper_parameters": hparams,
        "fastcell_format": CHECKPOINT_FORMAT,
        "fastcell_version": __version__,
        CODE_KEY: code_of({f"model.{name}": hparams.get(name) for name in ("network", "loss")}),
    }
    with staging(folder) as hidden:
        torch.save(checkpoint, hidden / LAST_FILE)
        write_json(hidden / ESTIMATOR_FILE, values)
        put_in_place(hidden, folder.absolute())


def _as_json(name: str, value: Any) -> Any:
    """Return an argument as a JSON value; a random generator becomes None, since `fit` has changed its state."""
    if isinstance(value, np.random.RandomState):
        return None
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, dict):
        return [[_as_json(name, key), _as_json(name, item)] for key, item in value.items()]
    return list(value) if isinstance(value, tuple) else value


def load_estimator(kind: type[Estimator], folder: Path, trust: Sequence[str] = ()) -> Estimator:
    """Return the estimator that `save_estimator` wrote to a folder.

    Args:
        kind: class of the estimator.
        folder: the folder.
        trust: packages whose code the network may import.

    Raises:
        ArgumentError: the network is of a package that is not in `trust`.
        DataError: the folder is missing or damaged, or holds no saved estimator.
    """
    values = read_json_file(folder / ESTIMATOR_FILE)
    try:
        arguments = dict(values["arguments"])
        for name, value in arguments.items():
            if name == "class_weight" and isinstance(value, list):
                arguments[name] = dict(value)
            elif isinstance(value, list):
                arguments[name] = tuple(value)
        model = kind(**arguments)
        model.classes_ = np.array(list(values["classes"]), np.dtype(values["dtype"]))
        window = values["window"]
        model.window_ = None if window is None else (float(window[0]), float(window[1]))
        if values["num_values"] is not None:
            model.n_features_in_ = int(values["num_values"])
    except (TypeError, KeyError, ValueError, AttributeError):
        raise DataError(
            f"{folder} must be a folder that CellClassifier.save wrote, got another or a damaged one. Open a run of "
            "fastcell fit with CellClassifier.from_run."
        ) from None
    model.module_ = load_classifier(folder / LAST_FILE, trust)
    if len(model.module_.classes) != len(model.classes_):
        raise DataError(
            f"{folder} has {len(model.classes_)} classes in {ESTIMATOR_FILE}, and other weights. Save it anew."
        )
    return model


def estimator_of_run(kind: type[Estimator], run: Path, trust: Sequence[str] = ()) -> Estimator:
    """Return the estimator of a run of ``fastcell fit``; `trust` as in `load_estimator`."""
    classifier = load(run, trust=trust)
    module = load_classifier(find_checkpoint(run), trust)
    preprocessing = Preprocessing.from_dict(dict(module.preprocessing))
    model = kind(
        network=module.hparams["network"],
        image_size=preprocessing.image_size,
        square=preprocessing.fit,
        normalization=preprocessing.normalization,
        learning_rate=module.hparams["learning_rate"],
    )
    model.classes_, model.window_, model.module_ = np.array(module.classes), preprocessing.window, module
    model._of_run = classifier
    return model
