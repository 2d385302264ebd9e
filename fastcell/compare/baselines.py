"""Classical baselines for the networks: k nearest neighbours and a support vector machine with an RBF kernel.

Both are scikit-learn classifiers on flattened, preprocessed cells, the same cells that the networks get. The first step
of their pipeline is a reduction to principal components. cuML fits them on a GPU if it is installed. Otherwise
scikit-learn does, accelerated by Intel's extension if that is installed.
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
from fastcell.system.optional_packages import extra_for_gpu, install_command

METHODS = ("knn", "svm")
SCALINGS = ("common", "pixels")
BACKENDS = ("auto", "cuml", "sklearnex", "sklearn")
_INTEL = "scikit-learn-intelex>=2025.11,!=2026.2.*"
KNN_SUBSAMPLE = 6500  # the paper classifies against a random subsample of this many training images
MAX_CELLS_WITHOUT_PCA = 3000
# Training an RBF machine takes at least quadratic time in the number of cells; at these sizes a study still finishes.
MAX_SVM_CELLS = {"sklearn": 30_000, "sklearnex": 100_000, "cuml": 1_000_000}
PCA_CELLS = 20_000
_CHUNK = 4096
_DTYPES = (np.float32, np.float64)


class Backend(NamedTuple):
    """Library that computes a baseline.

    Attributes:
        name: ``cuml``, ``sklearnex`` or ``sklearn``.
        svc: Class of the support vector machine.
        neighbors: Class of the nearest-neighbour classifier.
    """

    name: str
    svc: Any
    neighbors: Any


def find_backend(name: str = "auto") -> Backend:
    """Return the backend of a name.

    ``auto`` selects cuML if there is a GPU, otherwise scikit-learn-intelex if it is installed, otherwise scikit-learn.

    Raises:
        ArgumentError: The name is unknown, or the backend does not work on this machine.
    """
    from fastcell.system.resources import has_gpu

    if name not in BACKENDS:
        raise invalid("backend", f"one of {', '.join(BACKENDS)}", name, "Leave it at auto")
    # Check for a GPU first: cuML can be imported without a GPU and fails only later.
    if name in ("auto", "cuml") and has_gpu():
        try:
            from cuml.neighbors import KNeighborsClassifier as CumlNeighbors
            from cuml.svm import SVC as CumlSVC  # noqa: N811, cuML's name of the class
        except ImportError:
            if name == "cuml":
                hint = f"Leave it at auto, or install cuML ({install_command(f'cuml-{extra_for_gpu()}')})"
                raise invalid("backend", "auto where cuML is not installed", name, hint) from None
        else:
            return Backend("cuml", CumlSVC, CumlNeighbors)
    elif name == "cuml":
        raise invalid("backend", "auto where there is no GPU", name, "cuML needs one; leave it at auto")
    if name in ("auto", "sklearnex"):
        try:
            from sklearnex.neighbors import KNeighborsClassifier as IntelNeighbors
            from sklearnex.svm import SVC as IntelSVC  # noqa: N811, the extension's name of the class
        except ImportError as error:
            if name == "sklearnex":
                if importlib.util.find_spec("sklearnex") is None:
                    hint = f"Leave it at auto, or install it ({install_command(_INTEL)})"
                    raise invalid("backend", "auto where the extension is not installed", name, hint) from None
                # Version 2026.2 registers a type with the name of a DALI type; whichever is imported second fails.
                rule = f"auto where the extension cannot be imported ({error})"
                raise invalid("backend", rule, name, f"Install another ({install_command(_INTEL)})") from error
        else:
            return Backend("sklearnex", IntelSVC, IntelNeighbors)
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.svm import SVC

    return Backend("sklearn", SVC, KNeighborsClassifier)


class CellPCA(TransformerMixin, BaseEstimator):
    """Principal component analysis in bounded memory, with all components divided by one number.

    One common factor scales the components to a mean variance of 1, so that they keep their relative variances. With
    one factor per component, the last components, mostly noise, would count as much as the first. The accuracy of an
    SVM is then 0.645 instead of 0.667 on 2,393 Jurkat cells (five folds), and 0.891 instead of 0.899 on the synthetic
    default set.

    Args:
        n_components: Maximum number of components. Fewer are kept if there are fewer cells or pixels.
        scaling: ``common`` uses the pixels as they are; ``pixels`` first scales each pixel to a variance of 1.
        max_cells: Maximum number of cells that the components are computed from; from more cells a random subsample is
            drawn.
        random_state: Random seed of the subsample and of the randomized solver.
    """

    def __init__(
        self, n_components: int = 64, scaling: str = "common", max_cells: int = PCA_CELLS, random_state: int = 0
    ) -> None:
        self.n_components = n_components
        self.scaling = scaling
        self.max_cells = max_cells
        self.random_state = random_state

    def fit(self, X: np.ndarray, y: object = None) -> CellPCA:  # noqa: N803, scikit-learn's name
        """Compute the components of cells (n, p) float.

        Raises:
            ArgumentError: `n_components` is below 1, or `scaling` is unknown.
        """
        if self.n_components < 1:
            raise invalid("components", "a number of 1 or more, or none", self.n_components, "A usual value is 64")
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
        """Return the components (n, k) float of cells (n, p), computed in chunks."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=_DTYPES, reset=False)  # noqa: N806
        parts = [self.pca_.transform(X[begin : begin + _CHUNK] / self.pixel_std_) for begin in range(0, len(X), _CHUNK)]
        return np.concatenate(parts) / np.asarray(self.scale_, parts[0].dtype)


class _Baseline(ClassifierMixin, BaseEstimator):
    """PCA followed by a classifier; scaling and parameters are those with the highest validation accuracy.

    Attributes:
        classes_: (K,) labels.
        pipeline_: Fitted steps.
        parameters_: Chosen scaling and parameters.
        valid_accuracy_: Validation accuracy of the choice; NaN if there were no cells to choose by.
        backend_: Name of the backend.
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
        """Choose the parameters on validation cells, and fit the classifier with them.

        Args:
            X: (n, p) float32 or float64, flattened preprocessed cells.
            y: (n,) labels.
            X_valid: (m, p) cells for the choice of parameters. If None, a fifth of the training cells is held out, and
                included again in the final fit.
            y_valid: (m,) labels of `X_valid`.

        Returns:
            The fitted estimator itself.

        Raises:
            ArgumentError: There are more cells than the backend, or a fit without PCA, can take.
        """
        X, y = validate_data(self, X, y, dtype=_DTYPES, ensure_min_samples=2)  # noqa: N806
        check_classification_targets(y)
        self.classes_, labels = np.unique(y, return_inverse=True)
        if self.components is None and len(X) > MAX_CELLS_WITHOUT_PCA:
            raise ArgumentError(
                f"components must be a number above {MAX_CELLS_WITHOUT_PCA:,} cells, got None for {len(X):,}. "
                "Use 64, or subsample the cells."
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
        """Return the candidates for the first steps of the pipeline."""
        if self.components is None:
            return [[]]
        pcas = (CellPCA(self.components, scaling, random_state=self.random_state) for scaling in self.scalings)
        return [[("pca", pca)] for pca in pcas]

    def _held_out(
        self, reduce: list[Any], features: np.ndarray, labels: np.ndarray, valid: tuple[np.ndarray, np.ndarray] | None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Return features and labels to fit on, and features and labels to choose the parameters on."""
        if valid is not None:
            return features, labels, reduce[0][1].transform(valid[0]) if reduce else valid[0], valid[1]
        kept, aside = _put_aside(labels, self.random_state)
        return features[kept], labels[kept], features[aside], labels[aside]

    def predict(self, X: np.ndarray) -> np.ndarray:  # noqa: N803
        """Return the predicted labels (n,) of cells (n, p)."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=_DTYPES, reset=False)  # noqa: N806
        parts = [np.asarray(self.pipeline_.predict(X[begin : begin + _CHUNK])) for begin in range(0, len(X), _CHUNK)]
        return self.classes_[np.concatenate(parts).astype(np.int64)]

    def _pick(
        self, backend: Backend, features: np.ndarray, labels: np.ndarray, valid: np.ndarray, valid_labels: np.ndarray
    ) -> tuple[dict[str, Any], float]:
        """Return the parameters with the highest accuracy on held-out cells (the first of equal ones), and that
        accuracy.
        """
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
        """Return the indices of the training cells to use, or None for all."""
        raise NotImplementedError

    def _grid(self, num_cells: int) -> list[dict[str, Any]]:
        raise NotImplementedError

    def _make(self, backend: Backend, choice: dict[str, Any], features: np.ndarray) -> Any:
        raise NotImplementedError


class Knn(_Baseline):
    """Majority vote of the nearest training cells, which are a random subsample if there are many, as in the paper.

    Args:
        components: Number of principal components; None to use the pixels themselves (at most 3,000 cells).
        scalings: Scalings of the pixels to choose from, see `CellPCA`.
        num_references: Maximum number of training cells that vote; from more cells a random subsample is drawn.
        neighbors: Numbers k of neighbours to choose from.
        backend: ``auto``, ``cuml``, ``sklearnex`` or ``sklearn``.
        random_state: Random seed of the subsample, the PCA and the held-out cells.
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
        """Return the indices (r,) int64 of those of `num_cells` training cells that vote."""
        return np.random.default_rng(self.random_state).permutation(num_cells)[: self.num_references]

    def _rows(self, num_cells: int, backend: Backend) -> np.ndarray | None:
        return None if num_cells <= self.num_references else self.references(num_cells)

    def _grid(self, num_cells: int) -> list[dict[str, Any]]:
        return [{"n_neighbors": k} for k in self.neighbors if k <= num_cells] or [{"n_neighbors": 1}]

    def _make(self, backend: Backend, choice: dict[str, Any], features: np.ndarray) -> Any:
        return backend.neighbors(**choice)


class Svm(_Baseline):
    """Support vector machine with a Gaussian (RBF) kernel.

    Args:
        components: Number of principal components; None to use the pixels themselves (at most 3,000 cells).
        scalings: Scalings of the pixels to choose from, see `CellPCA`.
        costs: Values of C to choose from.
        gammas: Values of gamma to choose from, in units of scikit-learn's ``scale``: 1 / (features x their variance).
        search_cells: Maximum number of training cells for the choice of C and gamma; from more cells a random subsample
            is drawn. The final fit uses all cells.
        max_cells: Maximum number of training cells; None for the number that the backend fits in reasonable time.
        backend: ``auto``, ``cuml``, ``sklearnex`` or ``sklearn``.
        random_state: Random seed of the PCA, the held-out cells and the subsample for the search.
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
            ways = "Use a smaller volume" + {
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
    """Return an unfitted `Knn` or `Svm` with the given arguments.

    Raises:
        ArgumentError: `method` is neither ``knn`` nor ``svm``.
    """
    if method not in METHODS:
        raise invalid("method", f"one of {', '.join(METHODS)}", method, "svm is the more accurate one")
    return Knn(**values) if method == "knn" else Svm(**values)


def _put_aside(labels: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Split rows into those to fit on and those to choose parameters on.

    A fifth of each class, rounded down, is held out; a class of fewer than five cells keeps all its cells.
    """
    rng = np.random.default_rng([seed, 0xA51D])
    aside = [rng.permutation(np.flatnonzero(labels == label)) for label in np.unique(labels)]
    rows = np.sort(np.concatenate([cells[: len(cells) // 5] for cells in aside]))
    return np.setdiff1d(np.arange(len(labels)), rows), rows
