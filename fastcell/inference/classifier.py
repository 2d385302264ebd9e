"""A trained classifier as an object: a run is opened once, and each call then costs only preprocessing and network."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fastcell.dataset.grey_window import Window
from fastcell.errors import FastcellError, invalid
from fastcell.inference.backends.interface import NetworkBackend
from fastcell.inference.classified_cells import ClassifiedCells
from fastcell.inference.confidence import calibrated
from fastcell.inference.given_cells import OnePath, checked_levels, checked_pitches, files_of, in_words_of_python
from fastcell.inference.grey_cells import cell_arrays, grey_cells
from fastcell.inference.network_answers import ChunkAnswers, features_and_answers, joined_answers, mean_probabilities
from fastcell.inference.unlike.image_features import network_image_features
from fastcell.inference.unlike.reasons import UnlikeScores
from fastcell.inference.unlike.training_cells import TrainingCells
from fastcell.loading.preprocessing import Preprocessing
from fastcell.system import resources
from fastcell.system.text import html_text, printable

if TYPE_CHECKING:
    import torch

    Cells = np.ndarray | torch.Tensor | OnePath | Sequence[np.ndarray] | Sequence[torch.Tensor] | Sequence[OnePath]

CHUNK = 256
"""Number of cells in a batch of the network, as in ``fastcell predict``."""

_FEWEST_PER_THREAD = 4  # with fewer cells, starting a thread costs more than it saves


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
        self._opened_by: tuple[Callable[..., Classifier], tuple[Any, ...]] | None = None  # and its arguments

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
        found = None if run_cells is None else run_cells(grey, um_per_px, self.tta)
        if found is not None:
            return self._answers(found.images, found.features, mean_probabilities(self.loss, found.logits))
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
        if self._opened_by is None:
            raise FastcellError("a classifier can be pickled if it was made by fastcell.load only. Load it from a run.")
        return self._opened_by

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
