"""Open a run as a classifier: choose the backend that runs its network, and read its classes, statistics and scores."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple, get_args

from fastcell.errors import DataError, invalid
from fastcell.inference.backends.choice import open_prepared, resolve
from fastcell.inference.backends.interface import NetworkBackend
from fastcell.inference.backends.network_files import NetworkFiles
from fastcell.inference.backends.programs import BackendChoice, PrecisionChoice, check_combination
from fastcell.inference.beside_weights import join_content
from fastcell.inference.classifier import Classifier
from fastcell.inference.confidence import Confidence
from fastcell.inference.unlike.training_cells import TrainingCells
from fastcell.loading.preprocessing import Preprocessing
from fastcell.runs.run_folder import METRICS_FILE, find_checkpoint
from fastcell.runs.shared_model import is_shared_model, read_shared_config
from fastcell.storage.whole_files import read_json_file
from fastcell.system import library_settings, resources

logger = logging.getLogger(__name__)


def load(
    run: str | os.PathLike[str],
    *,
    device: str | None = None,
    backend: BackendChoice | NetworkBackend | None = None,
    precision: PrecisionChoice = "auto",
    tta: bool | None = None,
    threads: int | None = None,
    trust: Sequence[str] = (),
) -> Classifier:
    """Open a run of ``fastcell fit``, or a folder of ``fastcell export``, as a classifier. Nothing in it is executed.

    Args:
        run: run folder (its scored checkpoint is used), checkpoint, or folder of a shared model.
        device: device of the network, e.g. ``cpu`` or ``cuda:1``; None for a GPU if there is one. A given device
            implies the backend torch.
        backend: program that runs the network: ``torch``, ``onnxruntime``, ``openvino``, or a backend object; ``auto``
            for the fastest backend on this machine that agrees with torch on validation cells. None uses the earlier
            choice of ``auto`` for this run if there is one, else torch. A prepared run loads torch only for ``torch``.
        precision: arithmetic of the network: ``fp32``, ``bf16`` or ``int8``; ``auto`` for the fastest one that agrees.
        tta: average over the four flips of every cell, as ``fastcell predict --tta``; None as in training.
        threads: threads of the preprocessing; None for all cores.
        trust: packages whose code a run with a user-defined network may import.

    Returns:
        The classifier. Its probabilities equal those of ``fastcell predict`` with the same backend within 1e-6.

    Raises:
        ArgumentError: an argument breaks its rule.
        DataError: the checkpoint is missing or damaged, or does not fit this version.
        FastcellError: a package of the backend is missing, or ``auto`` does not find the data set of the run.

    Examples:
        Classify an array of cells::

            classifier = fastcell.load("runs/20260131-142501-donors-cellnet")
            classifier.predict(images).labels
    """
    library_settings.limit_spinning()  # must happen before torch is loaded
    checkpoint = find_checkpoint(Path(run))
    if backend is None or isinstance(backend, str):
        opened = _open_backend(checkpoint, backend, precision, device, threads, trust)
    else:
        opened = backend, _describe(checkpoint, trust)
    confidence = Confidence.from_checkpoint(opened[1].content)
    classifier = Classifier(
        opened[0],
        opened[1].classes,
        opened[1].preprocessing,
        opened[1].loss,
        temperature=1.0 if confidence is None else confidence.temperature,
        known=TrainingCells.from_checkpoint(opened[1].content),
        scores=_scores(checkpoint),
        tta=opened[1].tta if tta is None else tta,
        threads=threads,
        origin=str(run),
    )
    if backend is None or isinstance(backend, str):
        place = str(checkpoint.absolute())
        options = device, backend, precision, tta, threads, tuple(trust)
        classifier._opened_by = _load_again, (place, _digest(checkpoint), *options)
    return classifier


class _Described(NamedTuple):
    """Description of a network for a classifier."""

    classes: list[str]
    preprocessing: Preprocessing
    loss: str
    tta: bool
    content: dict[str, Any]  # statistics and confidence, as in a checkpoint


def _describe(checkpoint: Path, trust: Sequence[str]) -> _Described:
    from fastcell.runs.checkpoint import load_classifier

    return _of_module(load_classifier(checkpoint, trust), checkpoint)


def _of_module(module: Any, checkpoint: Path) -> _Described:
    from fastcell.runs.checkpoint import read_checkpoint

    preprocessing = Preprocessing.from_dict(dict(module.preprocessing))
    return _Described(
        module.classes, preprocessing, module.hparams["loss"], bool(module.hparams["tta"]), read_checkpoint(checkpoint)
    )


def _open_backend(
    checkpoint: Path,
    name: BackendChoice | None,
    precision: PrecisionChoice,
    device: str | None,
    threads: int | None,
    trust: Sequence[str],
) -> tuple[NetworkBackend, _Described]:
    """Open the backend that the arguments of `load` name."""
    if name not in (None, *get_args(BackendChoice)):
        raise invalid("backend", f"one of {', '.join(get_args(BackendChoice))}", name, "Leave it out")
    if precision not in get_args(PrecisionChoice):
        raise invalid("precision", f"one of {', '.join(get_args(PrecisionChoice))}", precision, "Leave it out")
    if device is not None and name not in (None, "torch"):
        raise invalid("device", "left out with a backend other than torch", device, "They run on the CPU")
    chosen: tuple[str, str] = ("torch", "fp32" if precision == "auto" else precision)
    if device is None and not (name is None and resources.has_gpu()):
        chosen = resolve(checkpoint, name, precision, say=logger.info, trust=trust)
    check_combination(*chosen)
    if chosen[0] != "torch":
        files = NetworkFiles(checkpoint)
        backend, description = open_prepared(files, *chosen, threads or resources.num_cpus())
        content = join_content(description.values, files.arrays())
        return backend, _Described(
            description.classes, description.preprocessing, description.loss, description.tta, content
        )
    import torch

    from fastcell.inference.backends.pytorch import TorchNetwork
    from fastcell.runs.checkpoint import load_classifier

    module = load_classifier(checkpoint, trust)
    try:
        place = torch.device(device or ("cuda" if resources.has_gpu() else "cpu"))
        return TorchNetwork(module, place, chosen[1]), _of_module(module, checkpoint)
    except (RuntimeError, AssertionError) as error:  # torch is not built with CUDA, or has no such device
        told = str(error).splitlines()[0]
        raise invalid("device", "a device that torch can use", device, f"Leave it out ({told})") from None


def _load_again(
    checkpoint: str,
    digest: str,
    device: str | None,
    backend: BackendChoice | None,
    precision: PrecisionChoice,
    tta: bool | None,
    threads: int | None,
    trust: tuple[str, ...] = (),
) -> Classifier:
    """Open the checkpoint of a pickled classifier.

    Raises:
        DataError: the checkpoint is no longer there, or has changed.
    """
    if Path(checkpoint).is_file() and _digest(Path(checkpoint)) != digest:
        raise DataError(f"checkpoint {checkpoint} has changed since the classifier was pickled. Load it anew.")
    options: dict[str, Any] = {"precision": precision, "tta": tta, "threads": threads, "trust": trust}
    return load(checkpoint, device=device, backend=backend, **options)


def _digest(path: Path) -> str:
    return blake2b(path.read_bytes(), digest_size=16).hexdigest()


def _scores(checkpoint: Path) -> dict[str, Any]:
    """Return the scores of the checkpoint from its run folder or shared model; empty if there are none."""
    if is_shared_model(checkpoint):
        return dict(read_shared_config(checkpoint)["scores"])
    values = read_json_file(checkpoint.parent / METRICS_FILE)
    if not isinstance(values, dict) or values.get("checkpoint") != checkpoint.name:
        return {}
    found = values.get("test") or values.get("valid") or {}
    return found if isinstance(found, dict) else {}
