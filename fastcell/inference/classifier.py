"""A trained classifier as an object: a run is opened once, and each call then costs only preprocessing and network."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, get_args

import numpy as np

from fastcell.dataset.grey_window import Window
from fastcell.errors import DataError, FastcellError, invalid
from fastcell.inference.backends.choice import open_prepared, resolve
from fastcell.inference.backends.interface import NetworkBackend
from fastcell.inference.backends.network_files import NetworkFiles
from fastcell.inference.backends.programs import BackendChoice, PrecisionChoice, check_combination
from fastcell.inference.beside_weights import join_content
from fastcell.inference.classified_cells import ClassifiedCells
from fastcell.inference.confidence import Confidence, calibrated
from fastcell.inference.given_cells import OnePath, checked_levels, checked_pitches, files_of, in_words_of_python
from fastcell.inference.grey_cells import cell_arrays, grey_cells
from fastcell.inference.unlike.image_features import network_image_features
from fastcell.inference.unlike.reasons import UnlikeScores, joined_scores
from fastcell.inference.unlike.training_cells import TrainingCells
from fastcell.loading.preprocessing import Preprocessing
from fastcell.runs.run_folder import METRICS_FILE, find_checkpoint
from fastcell.runs.shared_model import is_shared_model, read_shared_config
from fastcell.storage.whole_files import read_json_file
from fastcell.system import library_settings, resources
from fastcell.system.text import html_text, printable

logger = logging.getLogger(__name__)

if TYPE_CHECKING:
    import torch

    Cells = np.ndarray | torch.Tensor | OnePath | Sequence[np.ndarray] | Sequence[torch.Tensor] | Sequence[OnePath]

CHUNK = 256
"""Number of cells in a batch of the network, as in ``fastcell predict``."""

_FLIPS: tuple[tuple[int, ...], ...] = ((), (2,), (3,), (2, 3))
_FEWEST_PER_THREAD = 4  # with fewer cells, starting a thread costs more than it saves


class ChunkAnswers(NamedTuple):
    """Answers for N cells.

    Attributes:
        probabilities: (N, K) float32.
        unlike: scores of the difference of each cell from the training cells; None without their statistics.
    """

    probabilities: np.ndarray
    unlike: UnlikeScores | None


def joined_answers(parts: Sequence[ChunkAnswers]) -> ChunkAnswers:
    """Join the answers for one or more chunks."""
    scores = [part.unlike for part in parts if part.unlike is not None]
    probabilities = np.concatenate([part.probabilities for part in parts])
    return ChunkAnswers(probabilities, joined_scores(scores) if scores else None)


class Classifier:
    """A trained network with its classes and its preprocessing, ready to classify cells; made by `load`.

    Any number of threads may call it, and processes that receive it as a pickle. It works after a fork, except with the
    backend ``openvino``, which raises an error there. It holds no thread pools or open files.

    Args:
        backend: runs the network.
        classes: K class names, in the order of the network's outputs.
        preprocessing: preprocessing with which the network was trained.
        loss: loss of the training; it determines how logits become probabilities.
        temperature: temperature of the probabilities, fitted on validation cells; 1 leaves them unchanged.
        known: statistics of the training cells, which are needed to find cells unlike them; None to search for none.
        scores: scores of the run on its test (or validation) subset, as in its metrics.json: ``accuracy``,
            ``balanced_accuracy``, ``classes`` and others, with intervals; empty if unknown.
        tta: average over the four flips of every cell.
        threads: threads of the preprocessing; None for all cores.
        origin: run or checkpoint, for messages.
    """

    def __init__(
        self,
        backend: NetworkBackend,
        classes: Sequence[str],
        preprocessing: Preprocessing,
        loss: str,
        *,
        temperature: float = 1.0,
        known: TrainingCells | None = None,
        scores: dict[str, Any] | None = None,
        tta: bool = False,
        threads: int | None = None,
        origin: str = "",
    ) -> None:
        if threads is not None and threads < 1:
            raise invalid("threads", "at least 1", threads, "Leave it out for all cores")
        self.backend, self.classes, self.preprocessing = backend, list(classes), preprocessing
        self.loss, self.temperature, self.scores, self.tta = loss, temperature, dict(scores or {}), tta
        self.origin, self.known = origin, known
        self.threads, self.chunk = threads or resources.num_cpus(), CHUNK
        self._source: _Source | None = None

    def predict(
        self, X: Cells, *, window: Window = None, um_per_px: float | Sequence[float] | np.ndarray | None = None
    ) -> ClassifiedCells:
        """Classify cells.

        Args:
            X: arrays: (N, H, W), (N, 1, H, W) or (N, H, W, 1) array or tensor; one cell (H, W); or a list of cells of
                any sizes. uint8, or uint16 with a window. Or files: an image file or a list of these; a folder of
                images, at any depth; a file or folder of an instrument, as `fastcell pack` reads it; a packed data set.
            window: grey levels (low, high) of 16-bit cells that become black and white; None for those of the run.
            um_per_px: micrometres per pixel, for a run with fit ``scale``; None if unknown. For arrays: one number, or
                one per cell. For files: one number, used for cells whose file gives none.

        Returns:
            The answers. Cells of arrays and of lists of files keep their order. Cells of other files have the order in
            which ``fastcell pack`` would store them; cells that it would quarantine come last, with a reason.

        Raises:
            ArgumentError: the cells cannot be used.
            DataError: the files cannot be read.
        """
        files, window = files_of(X), checked_levels(window)
        if files is not None:
            with in_words_of_python():
                return self._predict_files(files, window, checked_pitches(um_per_px, None))
        cells = cell_arrays(X)
        pitch = checked_pitches(um_per_px, len(cells))
        parts = []
        for first in range(0, len(cells), CHUNK):
            some = slice(first, first + CHUNK)
            parts.append(self.classify_chunk(cells[some], window, None if pitch is None else pitch[some], first))
        found = joined_answers(parts or [self.no_answers()])
        return ClassifiedCells(list(self.classes), found.probabilities, unlike=found.unlike)

    def predict_proba(
        self, X: Cells, *, window: Window = None, um_per_px: float | Sequence[float] | np.ndarray | None = None
    ) -> np.ndarray:
        """Return the class probabilities (N, K) float32 of cells, columns in the order of `classes`; see `predict`."""
        return self.predict(X, window=window, um_per_px=um_per_px).probabilities

    def _predict_files(self, files: Any, window: Window, um_per_px: Any) -> ClassifiedCells:
        from fastcell.inference.classify_files import SourceAnswers, classify_packed, classify_source
        from fastcell.inference.source_cells import open_cells

        if isinstance(files, str | os.PathLike) and (Path(files) / "dataset.json").exists():
            for name, value in (("window", window), ("um_per_px", um_per_px)):
                if value is not None:
                    raise invalid(name, "left out for a packed data set, which has its own", value, "Leave it out")
            return classify_packed(self, Path(files))
        levels, pitch = self.checked_window(window), None if um_per_px is None else float(um_per_px)
        depth = self.preprocessing.depth
        cells = open_cells(files, window=levels, um_per_px=pitch, depth=depth, any_layout=True)
        answers = SourceAnswers(list(self.classes), cells)
        answers.parts += classify_source(self, cells)
        return answers.collect()

    def checked_window(self, window: Window) -> Window:
        """Return the window of 16-bit cells: `window` if given, else that of the run; None if neither exists.

        Raises:
            ArgumentError: both exist and differ.
        """
        trained = self.preprocessing.window
        if window is None or trained is None or tuple(map(float, window)) == trained:
            return trained if window is None else window
        rule = f"{trained[0]:g} to {trained[1]:g}, as in training"
        raise invalid("window", rule, f"{window[0]:g} to {window[1]:g}", "Leave it out")

    def no_answers(self) -> ChunkAnswers:
        """Return the answers for no cells."""
        unlike = None if self.known is None else UnlikeScores.none(0)
        return ChunkAnswers(np.empty((0, len(self.classes)), np.float32), unlike)

    def classify_chunk(
        self,
        cells: Sequence[np.ndarray] | np.ndarray,
        window: Window = None,
        um_per_px: np.ndarray | None = None,
        first: int = 0,
    ) -> ChunkAnswers:
        """Classify N cells as one batch of the network.

        Args:
            cells: N arrays (H, W) uint8 or uint16, at most `chunk`.
            window: grey levels (low, high) of 16-bit cells; None for those of the run.
            um_per_px: (N,) micrometres per pixel, NaN if unknown; None if it is unknown for all cells.
            first: number of the first cell, for messages.
        """
        if not len(cells):
            return self.no_answers()
        grey = grey_cells(cells, self.preprocessing, self.checked_window(window), first)
        run_cells = getattr(self.backend, "run_cells", None)  # transform and network together, on a GPU
        found = None if run_cells is None or self.tta else run_cells(grey, um_per_px)
        if found is not None:
            return self._answers(found.images, found.features, probabilities_of(self.loss, found.logits))
        threads = min(self.threads, max(1, len(grey) // _FEWEST_PER_THREAD))
        return self.classify_images(grey.images(self.preprocessing, um_per_px, threads))

    def classify_images(self, images: np.ndarray) -> ChunkAnswers:
        """Classify preprocessed images (B, 1, S, S) float32."""
        return self._answers(images, *features_and_answers(self.backend, images, self.loss, self.tta))

    def _answers(self, images: np.ndarray, features: np.ndarray, mean: np.ndarray) -> ChunkAnswers:
        probabilities = calibrated(mean, self.temperature)
        if self.known is None:
            return ChunkAnswers(probabilities, None)
        threads = min(self.threads, max(1, len(images) // _FEWEST_PER_THREAD))
        return ChunkAnswers(probabilities, self.known.measure(network_image_features(images, threads), features))

    def __reduce__(self) -> tuple[Any, ...]:
        if self._source is None:
            raise FastcellError("a classifier can be pickled if it was made by fastcell.load only. Load it from a run.")
        return _load_again, self._source

    def __repr__(self) -> str:
        side, fit = self.preprocessing.image_size, self.preprocessing.fit
        accuracy = _score_text(self.scores, "accuracy")
        scored = f", accuracy {accuracy}" if accuracy else ""
        how = f"{self.backend.name} {self.backend.precision}"
        return (
            f"<{type(self).__name__} of {printable(self.origin)}: {len(self.classes)} classes "
            f"({printable(_shortened(self.classes))}); "
            f"{side} x {side} px, {fit}; {how}{scored}>"
        )

    def _repr_html_(self) -> str:
        names = ("accuracy", "balanced_accuracy")
        found = [(name.replace("_", " "), _score_text(self.scores, name)) for name in names]
        rows = "".join(f"<tr><td>{name}</td><td>{html_text(text)}</td></tr>" for name, text in found if text)
        table = f"<table><tr><th>score</th><th>value (95 %)</th></tr>{rows}</table>" if rows else ""
        return f"<p>{html_text(repr(self)[1:-1])}</p>{table}"


_Source = tuple[str, str, str | None, BackendChoice | None, PrecisionChoice, bool | None, int | None, tuple[str, ...]]


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
        classifier._source = (place, _digest(checkpoint), device, backend, precision, tta, threads, tuple(trust))
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


def probabilities_of(loss: str, logits: np.ndarray) -> np.ndarray:
    """Return class probabilities (B, K) float32 that sum to 1: the softmax, or normalised sigmoids for `sigmoid`.

    Computes the same as `fastcell.models.losses.probabilities`, without torch.

    Args:
        loss: loss of the training.
        logits: (B, K) float32.
    """
    with np.errstate(invalid="ignore"):  # logits of a diverged network
        if loss == "sigmoid":  # in log space: sigmoids of very negative logits underflow
            logits = -np.logaddexp(np.float32(0), -logits)
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        return np.asarray(powers / powers.sum(axis=1, keepdims=True), np.float32)


def features_and_answers(
    backend: NetworkBackend, images: np.ndarray, loss: str, tta: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Run a network on images (B, 1, S, S) and return features (B, F) and probabilities (B, K), both float32.

    Args:
        backend: runs the network.
        images: preprocessed images, float32.
        loss: loss of the training.
        tta: average the probabilities over the four flips; the features are those of the images themselves.
    """
    found, features = [], np.empty((len(images), 0), np.float32)
    for number, flipped in enumerate(_flipped(images) if tta else iter((images,))):
        logits, of_flip = backend.run(flipped)
        features = features if number else of_flip
        found.append(probabilities_of(loss, logits))
    return features, found[0] if len(found) == 1 else np.asarray(np.mean(found, axis=0, dtype=np.float32))


def _flipped(images: np.ndarray) -> Iterator[np.ndarray]:
    return (np.ascontiguousarray(np.flip(images, axes)) if axes else images for axes in _FLIPS)


def _score_text(scores: dict[str, Any], name: str) -> str:
    """Return a score and its interval (if it has one) as text; empty if the score is unknown."""
    values = scores.get(name)
    if not isinstance(values, dict) or not isinstance(values.get("value"), float):
        return ""
    low, high = values.get("low"), values.get("high")
    between = f" ({low:.3f}..{high:.3f})" if isinstance(low, float) and isinstance(high, float) else ""
    return f"{values['value']:.3f}{between}"


def _shortened(names: Sequence[str], most: int = 6) -> str:
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")
