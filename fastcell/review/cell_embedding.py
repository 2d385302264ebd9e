"""Embedding of cells: activations before the last layer of a run, or quality features, reduced by principal components.

It is computed once in the background, and stored in the cache folder under a hash of the cells and weights.
"""

from __future__ import annotations

import threading
import zipfile
import zlib
from collections.abc import Callable
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from fastcell.dataset.manifest import Manifest
from fastcell.dataset.marks.journal import digest_cells
from fastcell.quality.features import measure_cells
from fastcell.quality.quality_table import FEATURES_VERSION, read_measured_features
from fastcell.review.cell_columns import CellAnswers
from fastcell.review.thumbnails import Thumbnails
from fastcell.storage.whole_files import replace_file
from fastcell.system.resources import cache_dir, num_cpus

if TYPE_CHECKING:
    from fastcell.inference.classifier import Classifier

COMPONENTS = 16
"""Maximum number of principal components."""

_MOST_FITTED = 20_000
_CHUNK = 65_536
_KEPT_FILES = 8

Report = Callable[[int], object]


class CellEmbedding(NamedTuple):
    """Embedding of N cells.

    Attributes:
        source: ``run`` or ``quality``.
        values: (N, D) float32, principal components in descending order of variance; NaN for a cell that cannot be
            read.
        answers: answers of the run; None for quality features.
    """

    source: str
    values: npt.NDArray[np.float32]
    answers: CellAnswers | None

    @property
    def points(self) -> npt.NDArray[np.float32]:
        """(N, 2) float32, the first two components; the second is 0 if there is only one."""
        num, width = self.values.shape
        return np.concatenate([self.values[:, :2], np.zeros((num, max(0, 2 - width)), np.float32)], 1)


class EmbeddingJob:
    """Computation of the embedding in a thread, with its progress.

    Args:
        manifest: the data set.
        thumbnails: reads its cells.
        run: run folder or checkpoint; None for quality features.
        load: function that opens the run.

    Attributes:
        done, total: number of cells so far, and of all cells.
        error: reason why it ended without a result; empty otherwise.
        result: the embedding; None until it is computed.
    """

    def __init__(
        self, manifest: Manifest, thumbnails: Thumbnails, run: Path | None, load: Callable[[Path], Classifier]
    ) -> None:
        self._manifest, self._thumbnails, self._run, self._load = manifest, thumbnails, run, load
        self.done, self.total, self.error = 0, len(manifest), ""
        self.result: CellEmbedding | None = None
        self._classifier: Classifier | None = None
        self._lock, self._thread = threading.Lock(), threading.Thread(target=self._work, daemon=True)
        self._started = False
        self._stop = False

    @property
    def running(self) -> bool:
        """Whether the computation has begun and has not ended."""
        return self._started and self.result is None and not self.error

    def start(self, then: Callable[[CellEmbedding], None]) -> None:
        """Begin the computation, once. `then` receives the result in the thread of the computation."""
        with self._lock:
            if not self._started:
                self._started, self._then = True, then
                self._thread.start()

    def stop(self) -> None:
        """Stop the computation after the cells in progress."""
        self._stop = True

    def classifier(self) -> Classifier:
        """Return the run's classifier, opened at the first call."""
        assert self._run is not None
        with self._lock:
            if self._classifier is None:
                self._classifier = self._load(self._run)
            return self._classifier

    def _work(self) -> None:
        try:
            path = self._cache_file()
            found = read_embedding(path, len(self._manifest))
            if found is None:
                found = self._computed()
                keep_embedding(path, found)
            self.result = found
            self._then(found)
        except Exception as error:  # noqa: BLE001, the page shows it
            self.error = str(error) or type(error).__name__

    def _computed(self) -> CellEmbedding:
        if self._run is None:
            return embed_quality(self._manifest, self._advance)
        return embed_run(self.classifier(), self._manifest, self._thumbnails, self._advance)

    def _advance(self, num: int) -> None:
        self.done += num
        if self._stop:
            raise InterruptedError("stopped")

    def _cache_file(self) -> Path:
        digest = blake2b(digest_size=12)
        digest.update(f"{digest_cells(self._manifest.table)} {self._manifest.info.window} {COMPONENTS}".encode())
        if self._run is None:
            digest.update(f"quality {FEATURES_VERSION}".encode())
        else:
            from fastcell.runs.run_folder import find_checkpoint

            digest.update(find_checkpoint(self._run).read_bytes())
        return cache_dir() / "review" / f"{digest.hexdigest()}.npz"


def embed_quality(manifest: Manifest, report: Report) -> CellEmbedding:
    """Return the embedding by quality features, as ``fastcell qc`` measures them.

    Args:
        manifest: data set of N cells.
        report: function that receives the number of cells measured since its last call.
    """
    features = read_measured_features(manifest)
    if features is None:
        features = measure_cells(manifest, problems={}, report=report)
    return CellEmbedding("quality", principal_components(features), None)


def embed_run(classifier: Classifier, manifest: Manifest, thumbnails: Thumbnails, report: Report) -> CellEmbedding:
    """Return the embedding by the activations before the last layer, and the answers of the run.

    Args:
        classifier: the run.
        manifest: data set of N cells.
        thumbnails: reads its cells.
        report: function that receives the number of cells classified since its last call.
    """
    from fastcell.inference.confidence import calibrated
    from fastcell.inference.grey_cells import grey_cells
    from fastcell.inference.network_answers import features_and_answers
    from fastcell.inference.unlike.image_features import network_image_features

    num, threads = len(manifest), max(1, num_cpus() - 1)
    probabilities = np.full((num, len(classifier.classes)), np.nan, np.float32)
    unlike = np.full(num, np.nan, np.float32)
    activations = np.empty((num, 0), np.float32)
    pitch = manifest.column("um_per_px")
    for begin in range(0, num, classifier.chunk):
        ids = np.arange(begin, min(num, begin + classifier.chunk))
        pixels = thumbnails.cells(ids, keep=False)
        good = [place for place, cell in enumerate(pixels) if cell is not None]
        if good:
            rows = ids[good]
            cells = grey_cells([cell for cell in pixels if cell is not None], classifier.preprocessing, None, begin)
            images = cells.images(classifier.preprocessing, pitch[rows], threads)
            features, mean = features_and_answers(classifier.backend, images, classifier.loss)
            probabilities[rows] = calibrated(mean, classifier.temperature)
            if classifier.known is not None:
                unlike[rows] = classifier.known.measure(network_image_features(images, threads), features).scores
            if activations.shape[1] == 0:
                activations = np.full((num, features.shape[1]), np.nan, np.float32)
            activations[rows] = features
        report(len(ids))
    answers = CellAnswers(list(classifier.classes), probabilities, unlike)
    return CellEmbedding("run", principal_components(activations), answers)


def principal_components(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return the first principal components of standardised values, (N, D) float32, at most `COMPONENTS`.

    Args:
        values: (N, F) float32; a row with a value that is not finite gives a row of NaN.
    """
    from sklearn.decomposition import PCA

    good = np.isfinite(values).all(1) if values.shape[1] else np.zeros(len(values), bool)
    rows = np.flatnonzero(good)
    if len(rows) < 2:
        return np.where(good, 0, np.nan).astype(np.float32)[:, None]
    chosen = rows
    if len(rows) > _MOST_FITTED:
        chosen = np.sort(np.random.default_rng(0).choice(rows, _MOST_FITTED, replace=False))
    sample = values[chosen].astype(np.float64)
    mean, spread = sample.mean(0), sample.std(0)
    spread[spread == 0] = 1
    number = max(1, min(COMPONENTS, len(chosen) - 1, values.shape[1]))
    model = PCA(number, svd_solver="full" if values.shape[1] <= 256 else "randomized", random_state=0)
    model.fit((sample - mean) / spread)
    out = np.full((len(values), number), np.nan, np.float32)
    for begin in range(0, len(rows), _CHUNK):
        part = rows[begin : begin + _CHUNK]
        out[part] = model.transform((values[part] - mean) / spread)
    return out


def keep_embedding(path: Path, found: CellEmbedding) -> None:
    """Store an embedding in a file, and remove old ones. Nothing is stored if the folder cannot be written."""
    arrays: dict[str, np.ndarray] = {"values": found.values}
    if found.answers is not None:
        arrays |= {"probabilities": found.answers.probabilities, "unlike": found.answers.unlike}
        arrays["classes"] = np.array(found.answers.classes, np.str_)

    def write(target: Path) -> None:
        with open(target, "wb") as file:
            np.savez(file, allow_pickle=False, **arrays)

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, write)
        kept = sorted(path.parent.glob("*.npz"), key=lambda file: file.stat().st_mtime, reverse=True)
        for old in kept[_KEPT_FILES:]:
            old.unlink(missing_ok=True)
    except OSError:
        return


def read_embedding(path: Path, num_cells: int) -> CellEmbedding | None:
    """Return a stored embedding; None if there is none with this number of cells."""
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
        return None
    values = arrays.get("values")
    if values is None or values.ndim != 2 or len(values) != num_cells:
        return None
    answers = None
    if "classes" in arrays:
        answers = CellAnswers(arrays["classes"].tolist(), arrays["probabilities"], arrays["unlike"])
    return CellEmbedding("quality" if answers is None else "run", values, answers)
