"""A run opened for cells that arrive one by one: small batches, and the flags of ``fastcell predict`` for each cell."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, cast

import numpy as np

from fastcell.dataset.grey_window import Window
from fastcell.errors import printable
from fastcell.inference.backends.fixed_batches import batch_size
from fastcell.inference.backends.network_files import NetworkFiles
from fastcell.inference.backends.programs import BackendChoice, PrecisionChoice
from fastcell.inference.beside_weights import join_content
from fastcell.inference.classifier import Classifier
from fastcell.inference.open_classifier import load
from fastcell.inference.unlike.reasons import UnlikeScores
from fastcell.live.protocol import UNLIKE_FLAG, UNSURE_FLAG, AnswerStatus
from fastcell.live.small_batches import FixedBatchNetwork, SmallBatches
from fastcell.predictions.answer_limits import AnswerLimits, answer_limits
from fastcell.runs.run_folder import find_checkpoint

logger = logging.getLogger(__name__)


class LiveAnswers(NamedTuple):
    """Answers for N cells.

    Attributes:
        status: (N,) uint16, see `AnswerStatus`.
        flags: (N,) uint16, `UNSURE_FLAG` and `UNLIKE_FLAG`.
        classes: (N,) int32, -1 without an answer.
        probabilities: (N, K) float32, NaN without an answer.
        unlike: scores of cells unlike those of training.
    """

    status: np.ndarray
    flags: np.ndarray
    classes: np.ndarray
    probabilities: np.ndarray
    unlike: UnlikeScores


class LiveClassifier:
    """Classifier that answers with the flags of ``fastcell predict``.

    Args:
        classifier: an open run.
        window: grey levels of 16-bit cells that become black and white; None for those of the run.
        min_confidence: a cell with a lower confidence is unsure.

    Raises:
        ArgumentError: the window differs from that of the run.
    """

    def __init__(self, classifier: Classifier, window: Window = None, min_confidence: float = 0.0) -> None:
        self.classifier = classifier
        self.window = classifier.checked_window(window)
        self.min_confidence = min_confidence
        self.batch = 1
        """Best batch size of the network; batches of other sizes are padded or divided."""
        self._warned: set[type[Exception]] = set()

    @property
    def classes(self) -> list[str]:
        """K class names."""
        return self.classifier.classes

    @property
    def knows_training(self) -> bool:
        """Whether cells unlike those of training are found."""
        return self.classifier.known is not None

    def prepare(self) -> None:
        """Compile all code before the first cells, and measure which sizes of batches are fastest."""
        size = self.classifier.preprocessing.image_size
        backend = self.classifier.backend
        if backend.name in ("openvino", "onnxruntime") and not isinstance(backend, SmallBatches):
            self.batch = batch_size(size)
            self.classifier.backend = SmallBatches(cast("FixedBatchNetwork", backend), size)
        blank = np.zeros((max(2, self.batch), size, size), np.uint8)
        for count in (len(blank), 1, 1):
            self.classifier.classify_chunk(blank[:count], self.window)
            self.classifier.classify_chunk(list(blank[:count]), self.window)
        if self.window is not None:
            self.classifier.classify_chunk(list(blank[:2].astype(np.uint16)), self.window)

    def answer(self, cells: Sequence[np.ndarray] | np.ndarray, um_per_px: np.ndarray | None) -> LiveAnswers:
        """Classify N cells. Cells that cannot be classified get the status `AnswerStatus.UNUSABLE`.

        Args:
            cells: N arrays (H, W) uint8 or uint16.
            um_per_px: (N,) micrometres per pixel, NaN if unknown; None if unknown for all cells.
        """
        num = len(cells)
        usable = np.ones(num, bool)
        if self.window is None:
            if isinstance(cells, np.ndarray):
                usable[:] = cells.dtype == np.uint8
            else:
                usable = np.array([cell.dtype == np.uint8 for cell in cells], bool)
        probabilities = np.full((num, len(self.classes)), np.nan, np.float32)
        unlike = UnlikeScores.none(num)
        places = np.flatnonzero(usable)
        for part in self._parts(cells, places):
            self._classify(cells, part, um_per_px, probabilities, unlike)
        answered = np.asarray(np.isfinite(probabilities).all(axis=1))
        filled = np.where(answered[:, None], probabilities, np.float32(-1))
        unsure = answered & (filled.max(axis=1, initial=-1) < np.float32(self.min_confidence))
        with np.errstate(invalid="ignore"):
            far = answered & (unlike.scores > 1)
        status = np.where(answered, AnswerStatus.ANSWERED, AnswerStatus.UNUSABLE).astype(np.uint16)
        flags = (unsure * UNSURE_FLAG + far * UNLIKE_FLAG).astype(np.uint16)
        classes = np.where(answered, filled.argmax(axis=1), -1).astype(np.int32)
        return LiveAnswers(status, flags, classes, probabilities, unlike)

    def _parts(self, cells: Sequence[np.ndarray] | np.ndarray, places: np.ndarray) -> list[np.ndarray]:
        """Return the indices of the cells by chunk of the classifier."""
        size = self.classifier.chunk
        return [places[first : first + size] for first in range(0, len(places), size)]

    def _classify(
        self,
        cells: Sequence[np.ndarray] | np.ndarray,
        places: np.ndarray,
        um_per_px: np.ndarray | None,
        probabilities: np.ndarray,
        unlike: UnlikeScores,
    ) -> None:
        """Fill in the answers for some cells, one by one if they fail together."""
        some = cells if len(places) == len(cells) else [cells[place] for place in places.tolist()]
        try:
            found = self.classifier.classify_chunk(some, self.window, None if um_per_px is None else um_per_px[places])
        except Exception as error:  # noqa: BLE001, an error of one cell must not affect the cells after it
            if len(places) > 1:
                for place in places:
                    self._classify(cells, np.array([place]), um_per_px, probabilities, unlike)
                return
            if type(error) not in self._warned:  # once, not for each cell of a stream
                self._warned.add(type(error))
                logger.warning("a cell of %s pixels cannot be classified: %s", some[0].shape, printable(error))
            return
        probabilities[places] = found.probabilities
        if found.unlike is not None:
            unlike.scores[places], unlike.off[places] = found.unlike


def open_live(
    run: str,
    *,
    backend: BackendChoice | None = None,
    precision: PrecisionChoice = "auto",
    threads: int | None = None,
    trust: Sequence[str] = (),
    window: Window = None,
    min_confidence: float | None = None,
    accuracy: float | None = None,
) -> tuple[LiveClassifier, AnswerLimits]:
    """Open a run for live cells; torch is loaded only if the backend is torch.

    Args:
        run: run folder or checkpoint.
        backend, precision, threads, trust: as for `fastcell.load`.
        window: grey levels (low, high) of 16-bit cells that become black and white.
        min_confidence, accuracy: as for ``fastcell predict``.

    Returns:
        The classifier, and the limits of its answers according to the checkpoint.

    Raises:
        ArgumentError: an argument breaks its rule.
        DataError: the checkpoint is missing or damaged.
    """
    classifier = load(run, backend=backend, precision=precision, threads=threads, trust=trust)
    limits = answer_limits(
        _content(find_checkpoint(Path(run)), classifier.backend.name), classifier.classes, min_confidence, accuracy
    )
    return LiveClassifier(classifier, window, limits.min_confidence), limits


def _content(checkpoint: Path, program: str) -> dict[str, object]:
    """Return statistics and calibration of a checkpoint, from the files of the prepared backend if one is used."""
    if program != "torch":
        files = NetworkFiles(checkpoint)
        description = files.read()
        if description is not None:
            return join_content(description.values, files.arrays())
    from fastcell.runs.checkpoint import read_checkpoint

    return read_checkpoint(checkpoint)
