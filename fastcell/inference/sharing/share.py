"""Write the classifier of a run as a folder for other people, and check that it gives the same probabilities."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import yaml

from fastcell import __version__
from fastcell.dataset.manifest import Manifest
from fastcell.errors import DataError, invalid
from fastcell.inference.backend_torch import TorchBackend
from fastcell.inference.beside_weights import split_content
from fastcell.inference.compared_cells import (
    NUM_CELLS,
    RawCells,
    data_set_cells,
    manifest_of_run,
    prepare_images,
    simulated_cells,
)
from fastcell.inference.confidence import Confidence
from fastcell.inference.probabilities import class_probabilities
from fastcell.inference.sharing.card import CardFacts, write_card
from fastcell.inference.sharing.described_data import describe_data
from fastcell.inference.unlike.training_cells import CHECKPOINT_KEY as UNLIKE_KEY
from fastcell.loading.preprocessing import Preprocessing
from fastcell.models.lightning_module import CellModule
from fastcell.runs.checkpoint import code_of_checkpoint, load_classifier, read_checkpoint
from fastcell.runs.run_folder import CONFIG_FILE, ENVIRONMENT_FILE, METRICS_FILE, find_checkpoint, run_title
from fastcell.runs.shared_model import (
    CARD_FILE,
    MODEL_ARGUMENTS,
    OPTIONAL_ARGUMENTS,
    SHARED_WEIGHTS_FILE,
    is_shared_model,
    write_shared_model,
)
from fastcell.storage.places import check_output_folder
from fastcell.storage.staging import put_in_place, staging
from fastcell.storage.whole_files import read_json_file, write_text
from fastcell.system.own_parts import own_part

_CHUNK = 256
_TOLERANCE = 1e-6
_SETTINGS = {
    "preset": "preset",
    "data.batch_size": "batch size",
    "data.augment": "augmentation",
    "data.balance": "balance of the classes",
    "model.loss": "loss",
    "model.label_smoothing": "label smoothing",
    "model.optimizer": "optimizer",
    "model.learning_rate": "learning rate",
    "model.weight_decay": "weight decay",
    "model.schedule": "schedule",
    "model.ema_decay": "average of the weights",
    "model.decision_shift": "emphasis on rare classes",
    "seed_everything": "seed",
}
"""Settings of config.yaml that the card names."""


class SharedCheck(NamedTuple):
    """Comparison of a shared model with its run.

    Attributes:
        largest: largest absolute difference of a probability.
        num_cells: number of cells.
        origin: description of the cells for the user.
    """

    largest: float
    num_cells: int
    origin: str


def share(
    run: Path,
    out: Path,
    *,
    data: str | Path | None = None,
    num_cells: int = NUM_CELLS,
    licence: str = "",
    trust: Sequence[str] = (),
) -> SharedCheck:
    """Write the classifier of a run as a folder with weights, description and model card.

    `fastcell.load` and ``fastcell predict`` open the folder. It contains no paths of this machine.

    Args:
        run: run folder or checkpoint.
        out: new or empty folder. It is filled only if the check succeeds.
        data: data set to describe in the card and to compare on; None for the data set of the run. If that is missing,
            simulated cells are compared and the card describes no data set.
        num_cells: number of cells to compare.
        licence: licence of the weights, such as ``cc-by-4.0``; empty for none.
        trust: packages whose code a run with a user-defined network may import.

    Raises:
        ArgumentError: an argument breaks its rule.
        DataError: a file cannot be read, or the folder does not give the probabilities of the run.
    """
    if num_cells < 1:
        raise invalid("--check", "at least 1 cell", num_cells, f"Leave it out for {NUM_CELLS:,}")
    check_output_folder("OUT", out)
    checkpoint = find_checkpoint(run)
    if is_shared_model(checkpoint):
        raise invalid("RUN", "a run of fastcell fit", str(run), "It is a shared model already: copy its folder")
    model = load_classifier(checkpoint, trust)
    content = read_checkpoint(checkpoint)
    manifest = manifest_of_run(run, data)
    scored = _scored(checkpoint)
    with staging(out) as hidden:
        write_shared_model(hidden, _config(model, content, scored), _tensors(model, content))
        write_text(
            hidden / CARD_FILE, write_card(_card_facts(model, content, scored, manifest, checkpoint, out, licence))
        )
        cells = _cells(model, manifest, num_cells)
        check = _compare(model, load_classifier(hidden / SHARED_WEIGHTS_FILE, trust), cells)
        if not check.largest <= _TOLERANCE:
            raise DataError(
                f"{out} is not written: its probabilities must be those of the run, got a difference of "
                f"{check.largest:.2g} on {cells.origin}. Use the run itself."
            )
        put_in_place(hidden, out.absolute())
    return check


def _tensors(model: CellModule, content: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """Return the weights used for evaluation, and the other arrays of the checkpoint."""
    network = model.network if model.average is None else model.average.module
    _, arrays = split_content(content)
    weights = {f"network.{name}": value for name, value in network.state_dict().items()}
    return weights | {name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}


def _config(model: CellModule, content: Mapping[str, Any], scored: Mapping[str, Any]) -> dict[str, Any]:
    arguments = {name: model.hparams[name] for name in MODEL_ARGUMENTS}
    arguments |= {name: model.hparams[name] for name in OPTIONAL_ARGUMENTS if model.hparams[name]}
    if model.own_loss is not None:  # the loss only determines the probabilities, which are those of the softmax
        arguments["loss"] = "cross_entropy"
    values, _ = split_content(content)
    subset = _subset(scored)
    scores = scored.get(subset, {})
    config = {"model": _plain(arguments), "beside": _plain(values), "subset": subset, "scores": _plain(scores)}
    network = [title for title in code_of_checkpoint(content) if title.startswith("--model.network ")]
    return config | ({"code": {title: code_of_checkpoint(content)[title] for title in network}} if network else {})


def _plain(value: Any) -> Any:
    """Return a value as JSON can hold it; numbers that are not finite become None."""
    if isinstance(value, Mapping):
        return {str(name): _plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, str | int) else str(value)


def _scored(checkpoint: Path) -> dict[str, Any]:
    """Return the content of the run's metrics.json; empty if it is about another checkpoint."""
    values = read_json_file(checkpoint.parent / METRICS_FILE)
    return values if isinstance(values, dict) and values.get("checkpoint") == checkpoint.name else {}


def _subset(scored: Mapping[str, Any]) -> str:
    return next((part for part in ("test", "valid") if _is_summary(scored.get(part))), "")


def _is_summary(scores: Any) -> bool:
    names = {"accuracy", "classes", "num_groups", "interval_by", "interval_note"}
    return isinstance(scores, dict) and names <= set(scores)


def _card_facts(
    model: CellModule,
    content: Mapping[str, Any],
    scored: Mapping[str, Any],
    manifest: Manifest | None,
    checkpoint: Path,
    out: Path,
    licence: str,
) -> CardFacts:
    settings = _settings(checkpoint.parent)
    trained = content.get("CellDataModule")
    data_settings = settings.get("data") if isinstance(settings.get("data"), dict) else {}
    data = None
    if manifest is not None:
        data = describe_data(manifest, data_settings or {}, trained if isinstance(trained, dict) else {})
    own = own_part(model.hparams["network"], "network")
    confidence = Confidence.from_checkpoint(dict(content))
    cautions = scored.get("cautions")
    subset = _subset(scored)
    return CardFacts(
        run_title(checkpoint.parent, "unknown data" if data is None else data.name, model.network_name),
        out.name,
        model.network_name,
        "" if own is None else own.class_path.partition(".")[0],
        sum(value.numel() for value in model.network.parameters()),
        model.classes,
        Preprocessing.from_dict(model.preprocessing),
        licence,
        __version__,
        data,
        _training(settings, scored, checkpoint.parent),
        subset,
        scored.get(subset, {}),
        [line for line in cautions if isinstance(line, str)] if isinstance(cautions, list) else [],
        None if confidence is None else confidence.temperature,
        UNLIKE_KEY in content,
    )


def _settings(folder: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load((folder / CONFIG_FILE).read_text(encoding="utf-8"))
    except (OSError, UnicodeError, yaml.YAMLError, RecursionError):
        return {}
    return values if isinstance(values, dict) else {}


def _training(settings: Mapping[str, Any], scored: Mapping[str, Any], folder: Path) -> dict[str, str]:
    """Return the training settings that the card lists. They contain no paths."""
    found: dict[str, str] = {}
    for name, title in _SETTINGS.items():
        value: Any = settings
        for key in name.split("."):
            value = value.get(key) if isinstance(value, dict) else None
        if isinstance(value, dict):  # a part of the user's own
            value = value.get("class_path")
        if isinstance(value, str | int | float):
            found[title] = str(value)
    for name in ("epochs", "steps"):
        if isinstance(scored.get(name), int):
            found[name] = f"{scored[name]:,}"
    environment = read_json_file(folder / ENVIRONMENT_FILE)
    if isinstance(environment, dict):
        packages = environment.get("packages")
        if isinstance(packages, dict) and isinstance(packages.get("torch"), str):
            found["torch"] = packages["torch"]
        if isinstance(environment.get("started_from"), dict):
            found["started from"] = "weights of another training"
    return found


def _cells(model: CellModule, manifest: Manifest | None, num_cells: int) -> RawCells:
    preprocessing = Preprocessing.from_dict(model.preprocessing)
    if manifest is None or not len(manifest):
        return simulated_cells(num_cells, preprocessing.depth, preprocessing.scale_um_per_px)
    return data_set_cells(manifest, num_cells, preprocessing.depth)


def _compare(model: CellModule, shared: CellModule, cells: RawCells) -> SharedCheck:
    """Compare the probabilities of two models on the same cells."""
    images = prepare_images(cells, Preprocessing.from_dict(model.preprocessing))
    starts = range(0, len(images), _CHUNK)
    found, expected = (
        class_probabilities(TorchBackend.of_module(each), (images[begin : begin + _CHUNK] for begin in starts))
        for each in (shared, model)
    )
    same_nan = np.array_equal(np.isnan(found), np.isnan(expected))
    largest = float(np.nanmax(np.abs(found - expected), initial=0.0)) if same_nan else math.inf
    return SharedCheck(largest, len(found), cells.origin)
