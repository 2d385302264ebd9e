"""The classical methods the networks are compared with: kNN and an RBF support vector machine.

Both are scikit-learn classifiers over flattened, preprocessed cells, the same that the networks see. The first step of
their pipeline reduces them to principal components. On a GPU cuML fits them; otherwise scikit-learn does, through
Intel's extension where that is installed.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, TransformerMixin
from sklearn.decomposition import PCA
from sklearn.pipeline import Pipeline
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from fastcell.errors import ArgumentError, invalid

METHODS = ("knn", "svm")
SCALINGS = ("common", "pixels")
BACKENDS = ("auto", "cuml", "sklearnex", "sklearn")
KNN_SUBSAMPLE = 6500  # the paper classifies against a random subsample of this many training images
MAX_CELLS_WITHOUT_PCA = 3000
# Training an RBF machine takes time in the square of the cells, or worse; by these numbers a study still ends.
MAX_SVM_CELLS = {"sklearn": 30_000, "sklearnex": 100_000, "cuml": 1_000_000}
PCA_CELLS = 20_000
_CHUNK = 4096
_DTYPES = (np.float32, np.float64)


class Backend(NamedTuple):
    """Where a baseline is computed.

    Attributes:
        name: ``cuml``, ``sklearnex`` or ``sklearn``.
        svc: class of the support vector machine.
        neighbors: class of the nearest-neighbour classifier.
    """

    name: str
    svc: Any
    neighbors: Any


def find_backend(name: str = "auto") -> Backend:
    """The backend of a name; ``auto`` takes cuML on a GPU, else scikit-learn-intelex if installed, else scikit-learn.

    Raises:
        ArgumentError: unknown name, or one that cannot work here.
    """
    from fastcell.system.resources import has_gpu

    if name not in BACKENDS:
        raise invalid("backend", f"one of {', '.join(BACKENDS)}", name, "Leave it at auto")
    # The GPU is asked first: cuML can be imported without one, and dies later.
    if name in ("auto", "cuml") and has_gpu():
        try:
            from cuml.neighbors import KNeighborsClassifier as CumlNeighbors
            from cuml.svm import SVC as CumlSVC  # noqa: N811, the class is called so
        except ImportError:
            if name == "cuml":
                raise invalid("backend", "auto where cuML is not installed", name, "Install cuML (RAPIDS)") from None
        else:
            return Backend("cuml", CumlSVC, CumlNeighbors)
    elif name == "cuml":
        raise invalid("backend", "auto where there is no GPU", name, "cuML needs one; leave it at auto")
    if name in ("auto", "sklearnex"):
        try:
            from sklearnex.neighbors import KNeighborsClassifier as IntelNeighbors
            from sklearnex.svm import SVC as IntelSVC  # noqa: N811, the class is called so
        except ImportError as error:
            if name == "sklearnex":
                if importlib.util.find_spec("sklearnex") is None:
                    hint = "Install scikit-learn-intelex"
                    raise invalid("backend", "auto where the extension is not installed", name, hint) from None
                # 2026.2 registers a type of the same name as DALI does, and whichever is imported second fails.
                rule = f"auto where the extension cannot be imported ({error})"
                raise invalid("backend", rule, name, "Take the version that the extra bench names") from error
        else:
            return Backend("sklearnex", IntelSVC, IntelNeighbors)
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.svm import SVC

    return Backend("sklearn", SVC, KNeighborsClassifier)


class CellPCA(TransformerMixin, BaseEstimator):
    """Principal components in bounded memory, all divided by one number.

    The components keep their own variances and are scaled together, to a mean variance of 1: scaled one by one, the
    last ones, mostly noise, would count as much as the first (SVM on 2,393 Jurkat cells, five folds: 0.645 instead of
    0.667; on the synthetic default set 0.891 instead of 0.899).

    Args:
        n_components: kept, at most; fewer where there are fewer cells or pixels.
        scaling: ``common`` takes the pixels as they are; ``pixels`` brings each pixel to one variance first.
        max_cells: cells that the components are computed from, a random choice of them where there are more.
        random_state: of that choice and of the randomized solver.
    """

    def __init__(
        self, n_components: int = 64, scaling: str = "common", max_cells: int = PCA_CELLS, random_state: int = 0
    ) -> None:
        self.n_components = n_components
        self.scaling = scaling
        self.max_cells = max_cells
        self.random_state = random_state

    def fit(self, X: np.ndarray, y: object = None) -> CellPCA:  # noqa: N803, scikit-learn's name
        """Find the components of (n, p) float cells."""
        if self.n_components < 1:
            raise invalid("components", "a number of 1 or more, or none", self.n_components, "64 is usual")
        if self.scaling not in SCALINGS:
            raise invalid("scaling", f"one of {', '.join(SCALINGS)}", self.scaling, "Take common")
        X = validate_data(self, X, dtype=_DTYPES, ensure_min_samples=2)  # noqa: N806
        if len(X) > self.max_cells:
            X = X[np.random.default_rng(self.random_state).permutation(len(X))[: self.max_cells]]  # noqa: N806
        kept = min(self.n_components, *X.shape)
        self.pixel_std_ = np.ones(X.shape[1], X.dtype)
        if self.scaling == "pixels":
            spread = X.std(axis=0)
            self.pixel_std_ = np.where(spread > 0, spread, 1).astype(X.dtype)
            X = X / self.pixel_std_  # noqa: N806
        self.pca_ = PCA(kept, svd_solver="randomized", random_state=self.random_state).fit(X)
        variance = float(self.pca_.explained_variance_.mean())
        self.scale_ = variance**0.5 if variance > 0 else 1.0
        return self

    def transform(self, X: np.ndarray) -> np.ndarray:  # noqa: N803
        """(n, k) float of (n, p), in chunks."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=_DTYPES, reset=False)  # noqa: N806
        parts = [self.pca_.transform(X[begin : begin + _CHUNK] / self.pixel_std_) for begin in range(0, len(X), _CHUNK)]
        return np.concatenate(parts) / np.asarray(self.scale_, parts[0].dtype)


class _Baseline(ClassifierMixin, BaseEstimator):
    """PCA, then a classifier; its parameters and the scaling are those with the highest validation accuracy.

    Attributes:
        classes_: (K,) labels.
        pipeline_: fitted steps.
        parameters_: chosen.
        valid_accuracy_: of the choice; NaN where there was nothing to choose by.
        backend_: name of the one that computed.
    """

    components: int | None
    scalings: Sequence[str]
    backend: str
    random_state: int

    def fit(
        self,
        X: np.ndarray,  # noqa: N803, scikit-learn's name
        y: np.ndarray,
        X_valid: np.ndarray | None = None,  # noqa: N803
        y_valid: np.ndarray | None = None,
    ) -> _Baseline:
        """Fit, the parameters picked on validation cells.

        Args:
            X: (n, p) float32 or float64, flattened preprocessed cells.
            y: (n,) labels.
            X_valid: (m, p) cells to pick the parameters on; a fifth of the training cells is put aside for it where
                there are none, and comes back for the last fit.
            y_valid: (m,) their labels.

        Raises:
            ArgumentError: more cells than the backend or no PCA can take.
        """
        X, y = validate_data(self, X, y, dtype=_DTYPES, ensure_min_samples=2)  # noqa: N806
        check_classification_targets(y)
        self.classes_, labels = np.unique(y, return_inverse=True)
        if self.components is None and len(X) > MAX_CELLS_WITHOUT_PCA:
            raise ArgumentError(
                f"components must be a number above {MAX_CELLS_WITHOUT_PCA:,} cells, got None for {len(X):,}. "
                "Take 64, or subsample the cells."
            )
        backend = find_backend(self.backend)
        self.backend_ = backend.name
        rows = self._rows(len(X), backend)
        cells, labels = (X, labels) if rows is None else (X[rows], labels[rows])
        valid = None
        if X_valid is not None and y_valid is not None:
            X_valid = validate_data(self, X_valid, dtype=_DTYPES, reset=False)  # noqa: N806
            known = np.isin(y_valid, self.classes_)
            numbers = np.searchsorted(self.classes_, np.where(known, y_valid, self.classes_[0]))
            valid = X_valid, np.where(known, numbers, -1)
        best: tuple[dict[str, Any], float, list[Any], np.ndarray] | None = None
        for reduce in self._reductions():
            features = reduce[0][1].fit_transform(cells) if reduce else cells
            choice, accuracy = self._pick(backend, *self._held_out(reduce, features, labels, valid))
            if best is None or accuracy > best[1]:
                best = choice, accuracy, reduce, features
        assert best is not None
        choice, self.valid_accuracy_, reduce, features = best
        last = self._make(backend, choice, features).fit(features, labels)
        self.parameters_ = {**({"scaling": reduce[0][1].scaling} if reduce else {}), **choice}
        self.pipeline_ = Pipeline([*reduce, ("classify", last)])
        return self

    def _reductions(self) -> list[list[Any]]:
        """First steps of the pipeline to pick from."""
        if self.components is None:
            return [[]]
        pcas = (CellPCA(self.components, scaling, random_state=self.random_state) for scaling in self.scalings)
        return [[("pca", pca)] for pca in pcas]

    def _held_out(
        self, reduce: list[Any], features: np.ndarray, labels: np.ndarray, valid: tuple[np.ndarray, np.ndarray] | None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Features and labels to fit on, and those to pick on."""
        if valid is not None:
            return features, labels, reduce[0][1].transform(valid[0]) if reduce else valid[0], valid[1]
        kept, aside = _put_aside(labels, self.random_state)
        return features[kept], labels[kept], features[aside], labels[aside]

    def predict(self, X: np.ndarray) -> np.ndarray:  # noqa: N803
        """(n,) labels of (n, p) cells."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=_DTYPES, reset=False)  # noqa: N806
        parts = [np.asarray(self.pipeline_.predict(X[begin : begin + _CHUNK])) for begin in range(0, len(X), _CHUNK)]
        return self.classes_[np.concatenate(parts).astype(np.int64)]

    def _pick(
        self, backend: Backend, features: np.ndarray, labels: np.ndarray, valid: np.ndarray, valid_labels: np.ndarray
    ) -> tuple[dict[str, Any], float]:
        """The choice with the highest accuracy on the cells that are held out, and that; the first of equals."""
        choices = self._grid(len(features))
        best: tuple[dict[str, Any], float] = choices[0], float("nan")
        if not len(valid):
            return best
        for choice in choices:
            made = self._make(backend, choice, features).fit(features, labels)
            accuracy = float((np.asarray(made.predict(valid)) == valid_labels).mean())
            if not accuracy <= best[1]:
                best = choice, accuracy
        return best

    def _rows(self, num_cells: int, backend: Backend) -> np.ndarray | None:
        """Training cells that take part, or None for all."""
        raise NotImplementedError

    def _grid(self, num_cells: int) -> list[dict[str, Any]]:
        raise NotImplementedError

    def _make(self, backend: Backend, choice: dict[str, Any], features: np.ndarray) -> Any:
        raise NotImplementedError


class Knn(_Baseline):
    """Majority vote of the nearest training cells, as in the paper against a random subsample.

    Args:
        components: principal components; None for the pixels themselves (at most 3,000 cells then).
        scalings: of the pixels, to pick from: see `CellPCA`.
        num_references: training cells that vote, a random choice where there are more.
        neighbors: numbers k to pick from.
        backend: ``auto``, ``cuml``, ``sklearnex`` or ``sklearn``.
        random_state: of subsample, PCA and cells put aside.
    """

    def __init__(
        self,
        components: int | None = 64,
        scalings: Sequence[str] = SCALINGS,
        num_references: int = KNN_SUBSAMPLE,
        neighbors: Sequence[int] = (1, 3, 5, 9, 15),
        backend: str = "auto",
        random_state: int = 0,
    ) -> None:
        self.components = components
        self.scalings = scalings
        self.num_references = num_references
        self.neighbors = neighbors
        self.backend = backend
        self.random_state = random_state

    def references(self, num_cells: int) -> np.ndarray:
        """(r,) int64, which of `num_cells` training cells vote."""
        return np.random.default_rng(self.random_state).permutation(num_cells)[: self.num_references]

    def _rows(self, num_cells: int, backend: Backend) -> np.ndarray | None:
        return None if num_cells <= self.num_references else self.references(num_cells)

    def _grid(self, num_cells: int) -> list[dict[str, Any]]:
        return [{"n_neighbors": k} for k in self.neighbors if k <= num_cells] or [{"n_neighbors": 1}]

    def _make(self, backend: Backend, choice: dict[str, Any], features: np.ndarray) -> Any:
        return backend.neighbors(**choice)


class Svm(_Baseline):
    """Support vector machine with a Gaussian kernel.

    Args:
        components: principal components; None for the pixels themselves (at most 3,000 cells then).
        scalings: of the pixels, to pick from: see `CellPCA`.
        costs: values of C to pick from.
        gammas: values of gamma to pick from, in units of scikit-learn's ``scale``: 1 / (features x their variance).
        search_cells: training cells that C and gamma are picked with, a random choice where there are more; the last
            fit takes all.
        max_cells: training cells that are not refused; None for what the backend does in reasonable time.
        backend: ``auto``, ``cuml``, ``sklearnex`` or ``sklearn``.
        random_state: of PCA, cells put aside and cells for the search.
    """

    def __init__(
        self,
        components: int | None = 64,
        scalings: Sequence[str] = SCALINGS,
        costs: Sequence[float] = (1.0, 3.0, 10.0, 30.0),
        gammas: Sequence[float] = (0.3, 1.0, 2.0),
        search_cells: int = 8000,
        max_cells: int | None = None,
        backend: str = "auto",
        random_state: int = 0,
    ) -> None:
        self.components = components
        self.scalings = scalings
        self.costs = costs
        self.gammas = gammas
        self.search_cells = search_cells
        self.max_cells = max_cells
        self.backend = backend
        self.random_state = random_state

    def _rows(self, num_cells: int, backend: Backend) -> np.ndarray | None:
        most = MAX_SVM_CELLS.get(backend.name, num_cells) if self.max_cells is None else self.max_cells
        if num_cells > most:
            ways = "Take a smaller volume" + {
                "sklearn": ", a GPU with cuML, or install scikit-learn-intelex",
                "sklearnex": ", or a GPU with cuML",
            }.get(backend.name, "")
            raise invalid("training cells of svm", f"at most {most:,} with {backend.name}", num_cells, ways)
        return None

    def _grid(self, num_cells: int) -> list[dict[str, Any]]:
        return [{"C": cost, "gamma": gamma} for cost in self.costs for gamma in self.gammas]

    def _make(self, backend: Backend, choice: dict[str, Any], features: np.ndarray) -> Any:
        spread = features.shape[1] * float(features.var())
        return backend.svc(kernel="rbf", C=choice["C"], gamma=choice["gamma"] / (spread if spread > 0 else 1.0))

    def _pick(
        self, backend: Backend, features: np.ndarray, labels: np.ndarray, valid: np.ndarray, valid_labels: np.ndarray
    ) -> tuple[dict[str, Any], float]:
        if len(features) > self.search_cells:
            rows = np.random.default_rng(self.random_state).permutation(len(features))[: self.search_cells]
            features, labels = features[rows], labels[rows]
        return super()._pick(backend, features, labels, valid, valid_labels)


def make_baseline(method: str, **values: Any) -> Knn | Svm:
    """An unfitted `Knn` or `Svm` with these arguments.

    Raises:
        ArgumentError: `method` is neither ``knn`` nor ``svm``.
    """
    if method not in METHODS:
        raise invalid("method", f"one of {', '.join(METHODS)}", method, "Take svm for the stronger one")
    return Knn(**values) if method == "knn" else Svm(**values)


def _put_aside(labels: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows to fit on and a fifth of each class, rounded down, to pick on; a class of fewer than five keeps all."""
    rng = np.random.default_rng([seed, 0xA51D])
    aside = [rng.permutation(np.flatnonzero(labels == label)) for label in np.unique(labels)]
    rows = np.sort(np.concatenate([cells[: len(cells) // 5] for cells in aside]))
    return np.setdiff1d(np.arange(len(labels)), rows), rows
