"""The classifier as a scikit-learn estimator: images in, class names out.

::

    from fastcell import CellClassifier

    model = CellClassifier(random_state=0).fit(images, names)    # (N, H, W) uint8, or a list of (H, W) of any sizes
    model.predict_proba(others)
    CellClassifier().fit("cells").score("cells")                 # packed data: trained on train, scored on test

It trains like ``fastcell fit``, with the same preset files, Lightning module, preprocessing and augmentation, on cells
in memory. The Lightning module itself is `fastcell.models.lightning_module.CellModule`.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import check_random_state
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import (
    _check_sample_weight,
    check_array,
    check_consistent_length,
    check_is_fitted,
    column_or_1d,
    validate_data,
)

from fastcell.errors import DataError, invalid
from fastcell.sources.load_cells import as_images, load_cells, on_host, to_levels
from fastcell.system import library_settings, resources

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from fastcell.inference.classifier import Cells

Images = Sequence[np.ndarray] | np.ndarray

_CHUNK = 64  # fixed number of cells in a batch, with padding at the end: a result never depends on the other cells


class CellClassifier(ClassifierMixin, BaseEstimator):
    """Classify single-cell images with a convolutional network.

    `X` is one of:

    - an array or a tensor (N, H, W), (N, 1, H, W) or (N, H, W, 1);
    - a list of (H, W) arrays or tensors of any sizes;
    - a list of image files;
    - a folder of images (``CLASS/NAME.png``, or files without class folders for prediction);
    - a folder written by ``fastcell pack``;
    - rows (N, p) of flattened images. Without `image_shape` they are square if p is a square number, else one pixel
      high.

    8-bit images are used unchanged. Other numbers are mapped to grey levels by `window`.

    For folders, `y` is None and the class names come from the folder. With packed data, `fit` uses the training subset
    of the split ``default``, `score` the test subset, and `predict` every cell in the order of the manifest.

    `save` writes a fitted classifier as a folder that `load`, `fastcell.load` and ``fastcell predict`` open; `from_run`
    opens a run of ``fastcell fit``.

    Args:
        preset: ``fast``, ``thorough``, ``demo`` or ``paper``, as in ``fastcell fit``. It determines the arguments below
            that are None.
        network: ``cellnet``, ``cellnet-wide``, ``gao``, ``residual``, or the name of a network of timm.
        image_size: height and width of the square image that the network receives [px].
        square: how a cell is fitted into the square: ``stretch``, ``contain`` or ``scale``.
        normalization: intensity normalisation: ``divide``, ``subtract`` or ``standardize``. All of them remove the
            brightness of an image, so cells that differ in brightness alone cannot be distinguished.
        epochs: passes over the cells.
        batch_size: cells per step.
        learning_rate: peak learning rate.
        augment: apply random changes to the training cells.
        class_weight: None, ``balanced``, or a dictionary from class to weight. With None, the cells of rare classes are
            repeated up to 10 times if the largest class has more than 10 times as many cells as the smallest.
        image_shape: (H, W) of flattened rows.
        window: (low, high) values that become black and white if X is not uint8; None for minimum and maximum in `fit`.
        threads: threads of the preprocessing; None for all cores. The result does not depend on it, but does depend on
            the number of torch's threads.
        random_state: seed of weights, order and augmentation. On a CPU, the same seed and the same number of torch's
            threads give the same weights bit by bit.
        verbose: print steps, remaining time, and the last loss and accuracy of `fit` to stderr.

    Attributes:
        classes_: (K,) class names, sorted.
        n_features_in_: p, if X was rows.
        window_: (low, high), or None if X was uint8.
        module_: the fitted `fastcell.models.lightning_module.CellModule`, on the CPU.
    """

    def __init__(
        self,
        preset: str = "fast",
        network: str | None = None,
        image_size: int | None = None,
        square: str | None = None,
        normalization: str | None = None,
        epochs: int | None = None,
        batch_size: int | None = None,
        learning_rate: float | None = None,
        augment: bool = True,
        class_weight: str | dict[str, float] | dict[int, float] | dict[bool, float] | None = None,
        image_shape: tuple[int, int] | None = None,
        window: tuple[float, float] | None = None,
        threads: int | None = None,
        random_state: int | np.random.RandomState | None = None,
        verbose: bool | int = False,
    ) -> None:
        self.preset = preset
        self.network = network
        self.image_size = image_size
        self.square = square
        self.normalization = normalization
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.augment = augment
        self.class_weight = class_weight
        self.image_shape = image_shape
        self.window = window
        self.threads = threads
        self.random_state = random_state
        self.verbose = verbose

    def fit(
        self, X: Cells | ArrayLike, y: ArrayLike | None = None, sample_weight: ArrayLike | None = None
    ) -> CellClassifier:
        """Train on images and their classes.

        Args:
            X: N images, in one of the forms listed for the class.
            y: (N,) class names of any type; None if X is a folder.
            sample_weight: (N,) weight of each cell in the loss, 0 or more; None for equal weights.

        Raises:
            ArgumentError: there are no cells or fewer than two classes, a weight is negative, or the images cannot be
                used.
            DataError: a file cannot be used.
        """
        library_settings.limit_spinning()  # must happen before torch is loaded
        from fastcell.training.on_arrays import train_on_cells
        from fastcell.training.recipe import estimator_recipe

        for name in ("n_features_in_", "_of_run"):
            if hasattr(self, name):
                delattr(self, name)
        if isinstance(X, str | Path):
            if y is not None:
                raise invalid("y", "None where X is a folder", type(y).__name__, "The folder has the class names")
            loaded = load_cells(X, "train", self.window)
            X, y = loaded.images, loaded.classes
            if y is None:
                raise invalid("X", "a folder whose images have classes", str(X), "Sort them into CLASS/NAME.png")
        images, y = self._check_training(X, y)
        check_classification_targets(y)
        self.classes_, numbers = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            names = ", ".join(map(str, self.classes_))
            raise invalid("y", "of at least two classes", f"1 class ({names})", "Add cells of another class")
        weight = _check_sample_weight(on_host(sample_weight), images, dtype=np.float64)
        if not weight.min() >= 0:
            raise invalid(
                "sample_weight", "0 or more for each cell", float(weight.min()), "Leave it out for equal weights"
            )
        weight = weight * compute_sample_weight(self.class_weight, y)
        self.window_ = self._window_of(images)
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        recipe = estimator_recipe(
            self.preset,
            network=self.network,
            learning_rate=self.learning_rate,
            image_size=self.image_size,
            fit=self.square,
            normalization=self.normalization,
            batch_size=self.batch_size,
            epochs=self.epochs,
            augment=self.augment,
        )
        if self.class_weight is not None:
            recipe = recipe.changed(data={"balance": "none"})
        cells = [to_levels(image, self.window_) for image in images]
        class_names = [str(name) for name in self.classes_.tolist()]
        self.module_ = train_on_cells(
            recipe, cells, numbers, weight, class_names, seed, self._num_threads(), self.window_, bool(self.verbose)
        )
        return self

    def predict(self, X: Cells | ArrayLike) -> np.ndarray:
        """Return the predicted class names (N,) of the images; none for no images."""
        probabilities = self.predict_proba(X)
        return cast(np.ndarray, self.classes_[probabilities.argmax(axis=1)])

    def predict_proba(self, X: Cells | ArrayLike) -> np.ndarray:
        """Return the class probabilities (N, K) float64 of the images, columns in the order of `classes_`."""
        from fastcell.training.on_arrays import classify_cells

        check_is_fitted(self)
        if _is_empty(X):
            return np.empty((0, len(self.classes_)))
        if hasattr(self, "_of_run"):
            return self._of_run.predict_proba(X, window=self.window).astype(np.float64)
        if isinstance(X, str | Path):
            X = load_cells(X, None, self.window).images
        images = self._check_images(X)
        cells = [to_levels(image, self.window_) for image in images]
        probabilities = classify_cells(self.module_, cells, _CHUNK, self._num_threads()).astype(np.float64)
        return probabilities / probabilities.sum(axis=1, keepdims=True)

    def score(self, X: Cells | ArrayLike, y: ArrayLike | None = None, sample_weight: ArrayLike | None = None) -> float:
        """Return the accuracy on images and their classes, or on the test subset of a packed folder."""
        check_is_fitted(self)
        if isinstance(X, str | Path) and y is None:
            loaded = load_cells(X, "test", self.window)
            X, y = loaded.images, loaded.classes
        return float(super().score(X, y, sample_weight))

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write the fitted classifier as a new folder that `load`, `fastcell.load` and ``fastcell predict`` open.

        Args:
            folder: new or empty folder.

        Raises:
            ArgumentError: the folder has content.
        """
        from fastcell.training.estimators.saved_estimator import save_estimator

        check_is_fitted(self)
        save_estimator(self, Path(folder))

    @classmethod
    def load(cls, folder: str | os.PathLike[str], *, trust: Sequence[str] = ()) -> CellClassifier:
        """Return a classifier that `save` wrote. Nothing in its files is executed.

        Args:
            folder: the folder.
            trust: packages whose code a network of the user's own may import.

        Raises:
            ArgumentError: the network is of a package that is not in `trust`.
            DataError: the folder is missing or damaged, or `save` did not write it.
        """
        from fastcell.training.estimators.saved_estimator import load_estimator

        return load_estimator(cls, Path(folder), trust)

    @classmethod
    def from_run(cls, run: str | os.PathLike[str], *, trust: Sequence[str] = ()) -> CellClassifier:
        """Return the classifier of a run of ``fastcell fit``: it predicts as ``fastcell predict`` does.

        Args:
            run: run folder (its scored checkpoint is used), or a checkpoint.
            trust: packages whose code a network of the user's own may import.

        Raises:
            ArgumentError: the network is of a package that is not in `trust`.
            DataError: the checkpoint is missing or damaged, or does not fit this version.
        """
        from fastcell.training.estimators.saved_estimator import estimator_of_run

        return estimator_of_run(cls, Path(run), trust)

    def __sklearn_tags__(self) -> Any:
        """Return the tags of the estimator for scikit-learn.

        `poor_score` is set, because scikit-learn's own test data has two features per sample, which form no image.
        """
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        tags.classifier_tags.poor_score = True
        return tags

    def __getstate__(self) -> dict[str, Any]:
        """Return plain values and arrays, so that a pickle holds no objects of torch or Lightning."""
        state = dict(super().__getstate__())
        if "module_" in state:
            module = state["module_"]
            weights = {name: value.cpu().numpy() for name, value in module.state_dict().items()}
            state["module_"] = (dict(module.hparams), weights, _hash_weights(weights))
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore the estimator.

        Raises:
            DataError: the weights have changed since they were pickled.
        """
        state = {"verbose": False, **state}  # older pickles have no such argument
        if "module_" in state:
            import torch

            from fastcell.models.lightning_module import CellModule

            hparams, weights, *digest = state["module_"]  # older pickles have no hash
            if digest and digest[0] != _hash_weights(weights):
                raise DataError("the pickled classifier is damaged: its weights have another hash. Fit it again.")
            module = CellModule(**hparams)
            module.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in weights.items()})
            state["module_"] = module.eval()
        super().__setstate__(state)

    def _check_training(self, X: Any, y: Any) -> tuple[Images, np.ndarray]:
        if _is_empty(X) and np.ndim(X) != 2:
            raise invalid("X", "at least 1 image", 0, "Give images of at least two classes")
        images, y = as_images(X, self.window), on_host(y)
        if images is None:
            X, y = validate_data(self, X, y, dtype="numeric")
            return self._unflattened(X), y
        if y is None:
            raise invalid("y", "the class of each image", None, "Give the class names")
        y = column_or_1d(y, warn=True)
        check_consistent_length(images, y)
        return images, y

    def _check_images(self, X: Any) -> Images:
        images = as_images(X, self.window)
        if images is not None:
            return images
        if hasattr(self, "n_features_in_"):
            X = validate_data(self, X, reset=False, dtype="numeric")
        else:
            X = check_array(X, dtype="numeric")
        return self._unflattened(X)

    def _unflattened(self, rows: np.ndarray) -> np.ndarray:
        """Return rows (N, p) as images (N, H, W)."""
        num_values = rows.shape[1]
        side = round(num_values**0.5)
        shape = self.image_shape or ((side, side) if side * side == num_values else (1, num_values))
        if len(shape) != 2 or shape[0] * shape[1] != num_values:
            raise invalid("image_shape", f"(H, W) with H x W = {num_values}, the length of a row", shape, "Correct it")
        return rows.reshape(len(rows), *shape)

    def _window_of(self, images: Images) -> tuple[float, float] | None:
        """Return the values that become black and white; None if all images are uint8."""
        if all(image.dtype == np.uint8 for image in images):
            return None
        if self.window is not None:
            low, high = (float(value) for value in self.window)
            if not low < high:
                raise invalid("window", "(low, high) with low below high", self.window, "Leave it out for all values")
            return low, high
        low = min(float(image.min()) for image in images)
        high = max(float(image.max()) for image in images)
        return low, high if high > low else low + 1.0

    def _num_threads(self) -> int:
        if self.threads is not None and self.threads < 1:
            raise invalid("threads", "at least 1", self.threads, "Leave it out for all cores")
        return self.threads or resources.num_cpus()


def _is_empty(X: Any) -> bool:
    """Return True for an array, a tensor or a list without images. scikit-learn checks rows of a table itself."""
    return not isinstance(X, str | Path) and hasattr(X, "__len__") and not len(X)


def _hash_weights(weights: dict[str, np.ndarray]) -> str:
    digest = blake2b(digest_size=16)
    for name, values in weights.items():
        digest.update(f"{name} {values.dtype} {values.shape}".encode() + np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()


CellClassifier.__module__ = "fastcell.sklearn"  # module name in pickles
