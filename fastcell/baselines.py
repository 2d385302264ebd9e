"""The classical methods the networks are compared with: kNN and an RBF support vector machine.

Both see the same preprocessed cells as the networks, reduced to principal components by the first step of their
pipeline. On a GPU cuML fits them; otherwise scikit-learn does, through Intel's extension where that is installed.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from fastcell.errors import ArgumentError, invalid

METHODS = ("knn", "svm")
KNN_SUBSAMPLE = 6500  # the paper classifies against a random subsample of this many training images
MAX_CELLS_WITHOUT_PCA = 3000


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


def find_backend() -> Backend:
    """Choose cuML on a GPU (asked first: cuML imports without one and then fails), else what scikit-learn offers."""
    from fastcell.environment import has_gpu

    if has_gpu():
        try:
            from cuml.neighbors import KNeighborsClassifier as CumlNeighbors
            from cuml.svm import SVC as CumlSVC  # noqa: N811, the class is called so
        except ImportError:
            pass
        else:
            return Backend("cuml", CumlSVC, CumlNeighbors)
    try:
        from sklearnex.neighbors import KNeighborsClassifier as IntelNeighbors
        from sklearnex.svm import SVC as IntelSVC  # noqa: N811, the class is called so
    except ImportError:
        from sklearn.neighbors import KNeighborsClassifier
        from sklearn.svm import SVC

        return Backend("sklearn", SVC, KNeighborsClassifier)
    return Backend("sklearnex", IntelSVC, IntelNeighbors)


def make_baseline(
    method: str,
    num_cells: int,
    components: int | None = 64,
    backend: Backend | None = None,
    seed: int = 0,
    **values: Any,
) -> Any:
    """Build an unfitted scikit-learn pipeline: PCA, classifier.

    The components keep their own variances: scaled to one variance, the last ones, mostly noise, would count as much as
    the first (that takes the SVM's accuracy on 2,393 Jurkat cells, five folds, from 0.672 to 0.649).

    Args:
        method: ``knn`` or ``svm``.
        num_cells: training cells, for the checks.
        components: principal components kept; None for none (at most 3,000 cells then).
        backend: where to compute; None finds it.
        seed: of the PCA's random solver.
        **values: of the classifier: ``n_neighbors`` (default 5); ``C`` and ``gamma`` (default 3 and ``scale``).

    Returns:
        An estimator with ``fit(X (n, p) float32, y (n,))`` and ``predict(X)``.
    """
    from sklearn.decomposition import PCA
    from sklearn.pipeline import make_pipeline

    if method not in METHODS:
        raise invalid("method", f"one of {', '.join(METHODS)}", method, "Take svm for the stronger one")
    if components is None and num_cells > MAX_CELLS_WITHOUT_PCA:
        raise ArgumentError(
            f"components must be a number above {MAX_CELLS_WITHOUT_PCA:,} cells, got None for {num_cells:,}. "
            "Take 64, or subsample the cells."
        )
    backend = backend or find_backend()
    steps: list[Any] = []
    if components is not None:
        steps.append(PCA(min(components, num_cells), svd_solver="randomized", random_state=seed))
    if method == "knn":
        steps.append(backend.neighbors(**{"n_neighbors": 5, **values}))
    else:
        steps.append(backend.svc(kernel="rbf", **{"C": 3.0, "gamma": "scale", **values}))
    return make_pipeline(*steps)


class Fitted(NamedTuple):
    """A baseline with the parameters that were best on the validation cells.

    Attributes:
        estimator: fitted pipeline.
        parameters: the values of `GRID` that were chosen.
        valid_accuracy: of the choice.
    """

    estimator: Any
    parameters: dict[str, Any]
    valid_accuracy: float


# gamma is given in units of scikit-learn's "scale", 1 / (number of features x their variance).
GRID: dict[str, list[dict[str, Any]]] = {
    "knn": [{"n_neighbors": k} for k in (1, 3, 5, 9, 15)],
    "svm": [{"C": c, "gamma": gamma} for c in (1.0, 3.0, 10.0, 30.0) for gamma in (0.3, 1.0, 2.0)],
}


def fit_baseline(
    method: str,
    images: np.ndarray,
    labels: np.ndarray,
    valid_images: np.ndarray,
    valid_labels: np.ndarray,
    components: int | None = 64,
    seed: int = 0,
    backend: Backend | None = None,
) -> Fitted:
    """Fit a baseline, its parameters picked on the validation cells.

    kNN votes among a random subsample of 6,500 training cells, as in the paper.

    Args:
        method: ``knn`` or ``svm``.
        images: (n, ...) float32 preprocessed cells, flattened here.
        labels: (n,) int.
        valid_images: (m, ...) float32.
        valid_labels: (m,) int.
        components: see `make_baseline`.
        seed: of subsample and PCA.
        backend: see `make_baseline`.
    """
    backend = backend or find_backend()
    if method == "knn" and len(images) > KNN_SUBSAMPLE:
        chosen = np.random.default_rng(seed).permutation(len(images))[:KNN_SUBSAMPLE]
        images, labels = images[chosen], labels[chosen]
    flat, valid_flat = images.reshape(len(images), -1), valid_images.reshape(len(valid_images), -1)
    reduce = make_baseline(method, len(flat), components, backend, seed)[:-1]
    if len(reduce):  # the same for all parameters
        flat = reduce.fit_transform(flat)
    unit = 1 / (flat.shape[1] * float(flat.var()))
    best: Fitted | None = None
    for choice in GRID.get(method, [{}]):
        values = {**choice, "gamma": choice["gamma"] * unit} if "gamma" in choice else choice
        estimator = make_baseline(method, len(flat), components, backend, seed, **values)
        estimator.steps[:-1] = reduce.steps
        estimator[-1].fit(flat, labels)
        accuracy = float((np.asarray(estimator.predict(valid_flat)) == valid_labels).mean())
        if best is None or accuracy > best.valid_accuracy:
            best = Fitted(estimator, choice, accuracy)
    assert best is not None
    return best
