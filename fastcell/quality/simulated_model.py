"""Model of good and bad images fitted to simulated cells: logistic regression, calibration and range of validity.

The parameters are in ``simulated_model.json.xz``, which `write_model` writes. It draws cells of
:mod:`fastcell.simulator.simulate`, half of them with a defect, stores them as JPEG and measures them. A multinomial
logistic regression then predicts the defect from `MODEL_FEATURES`, the features that depend neither on the frame size
in pixels nor on its grey level. The cells of fit, calibration and held-out test come from three series, and so from
different recordings.

The model may not be valid for other cells. `SimulatedModel.distance` measures how far cells are from the simulated
ones.
"""

from __future__ import annotations

import json
import lzma
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fastcell.dataset.decode import decode
from fastcell.quality.features import FEATURES, cell_features

MODEL_FEATURES = (
    "contrast",
    "snr",
    "sharpness",
    "spectral_slope",
    "foreground",
    "border_contact",
    "flat_side",
    "objects",
    "second_object",
    "neck",
    "solidity",
    "elongation",
    "ghost",
)
GOOD = "none"
CELLS_PER_SERIES = 8_000
SEEDS = (101, 202, 303)
"""Seeds of the series for fit, calibration and held-out cells."""
DEFECT_SHARE = 0.5
LOOK_QUANTILE = 0.4
"""Quantile of a set's distances from the simulated cells that is compared: up to half of the cells may be bad."""

_PATH = Path(__file__).with_name("simulated_model.json.xz")
_COLUMNS = [FEATURES.index(name) for name in MODEL_FEATURES]
_RIDGE = 0.02  # added to the variances of standardized features, because some are constant among good cells


@dataclass(frozen=True)
class SimulatedModel:
    """Logistic regression of the defect, with its calibration and held-out scores.

    Attributes:
        kinds: K names, `GOOD` among them.
        mean, scale: (D,) mean and standard deviation of `MODEL_FEATURES` over the cells of the fit.
        coefficients, intercepts: (K, D), (K,) on standardized features.
        centers, precisions: (C, D), (C, D, D) mean and inverse covariance of good cells, standardized, by collection.
        look_limit: 99 % quantile of the distance of held-out good cells.
        calibration: ``num_bad``, the number of bad cells, and ``below_even``, those of their scores that are below 0.5.
        held_out: ``num`` by kind, and the scores ``below_even`` of bad kinds; for good cells ``top``, the highest tenth
            of the scores.
    """

    kinds: tuple[str, ...]
    mean: np.ndarray
    scale: np.ndarray
    coefficients: np.ndarray
    intercepts: np.ndarray
    centers: np.ndarray
    precisions: np.ndarray
    look_limit: float
    calibration: Mapping[str, Any]
    held_out: Mapping[str, Any]

    def predict(self, features: npt.NDArray[np.float32]) -> np.ndarray:
        """Return the probability of each kind, (n, K) float64, for features (n, F) without NaN."""
        logits = self._standardize(features) @ self.coefficients.T + self.intercepts
        odds = np.exp(logits - logits.max(1, keepdims=True))
        return odds / odds.sum(1, keepdims=True)

    def distance(self, features: npt.NDArray[np.float32]) -> np.ndarray:
        """Return the Mahalanobis distance from the good simulated cells of the nearest collection, (n,) float64."""
        away = self._standardize(features)[:, None] - self.centers
        return np.sqrt(np.einsum("ncd,cde,nce->nc", away, self.precisions, away)).min(1)

    def looks_alike(self, features: npt.NDArray[np.float32]) -> tuple[bool, float]:
        """Return whether a set resembles the simulated cells, and its distance, which is compared with `look_limit`."""
        typical = float(np.quantile(self.distance(features), LOOK_QUANTILE))
        return typical <= self.look_limit, typical

    def _standardize(self, features: npt.NDArray[np.float32]) -> np.ndarray:
        return (features[:, _COLUMNS].astype(np.float64) - self.mean) / self.scale


@lru_cache(maxsize=1)
def load_model() -> SimulatedModel:
    """Load the model that is distributed with fastcell."""
    return from_json(json.loads(lzma.decompress(_PATH.read_bytes())))


def from_json(values: Mapping[str, Any]) -> SimulatedModel:
    """Build the model from the values that `fit` returns."""
    if tuple(values["features"]) != MODEL_FEATURES:
        raise ValueError(
            f"{_PATH.name} has other features. Create it again with fastcell.quality.simulated_model.write_model()."
        )
    arrays = ("mean", "scale", "coefficients", "intercepts", "centers", "precisions")
    return SimulatedModel(
        kinds=tuple(values["kinds"]),
        **{name: np.array(values[name], np.float64) for name in arrays},
        look_limit=float(values["look_limit"]),
        calibration=values["calibration"],
        held_out=values["held_out"],
    )


def simulate_features(num_cells: int, seed: int) -> tuple[npt.NDArray[np.float32], np.ndarray, np.ndarray]:
    """Simulate the first cells of a series and measure them.

    Returns:
        Features (n, F), defect (n,) str and collection (n,) str.
    """
    from fastcell.simulator.simulate import simulate

    features, defects, collections = [], [], []
    cells: list[np.ndarray] = []
    for cell in simulate(num_cells, seed, DEFECT_SHARE):
        cells.append(decode(cell.encode(), "jpg").pixels)
        defects.append(cell.defect)
        collections.append(cell.collection)
        if len(cells) == 512:
            features.append(features_of(cells))
            cells = []
    if cells:
        features.append(features_of(cells))
    return np.concatenate(features), np.array(defects), np.array(collections)


def features_of(cells: Sequence[np.ndarray]) -> npt.NDArray[np.float32]:
    """Measure the features of cells (H, W) uint8, (n, F)."""
    heights, widths = (np.array([cell.shape[axis] for cell in cells], np.int32) for axis in (0, 1))
    area = heights.astype(np.int64) * widths
    pool = np.concatenate([cell.ravel() for cell in cells])
    return cell_features(pool, np.cumsum(area) - area, heights, widths)


def fit(num_cells: int = CELLS_PER_SERIES) -> dict[str, Any]:
    """Simulate cells, fit the model, calibrate it and test it.

    Args:
        num_cells: number of cells in each of the three series.

    Returns:
        The contents of ``simulated_model.json.xz``.
    """
    from sklearn.linear_model import LogisticRegression

    from fastcell.simulator.simulate import GENERATOR

    features, defects, collections = simulate_features(num_cells, SEEDS[0])
    chosen = features[:, _COLUMNS].astype(np.float64)
    mean, scale = chosen.mean(0), chosen.std(0)
    standard = (chosen - mean) / scale
    regression = LogisticRegression(C=1.0, max_iter=5_000, tol=1e-6).fit(standard, defects)
    good = [standard[(defects == GOOD) & (collections == name)] for name in np.unique(collections)]
    values = {
        "generator": GENERATOR,
        "series": list(SEEDS),
        "cells_per_series": num_cells,
        "defect_share": DEFECT_SHARE,
        "features": list(MODEL_FEATURES),
        "kinds": regression.classes_.tolist(),
        "mean": _rounded(mean),
        "scale": _rounded(scale),
        "coefficients": _rounded(regression.coef_),
        "intercepts": _rounded(regression.intercept_),
        "centers": _rounded([cells.mean(0) for cells in good]),
        "precisions": _rounded([np.linalg.inv(np.cov(cells.T) + _RIDGE * np.eye(cells.shape[1])) for cells in good]),
        "look_limit": np.inf,
        "calibration": {},
        "held_out": {},
    }
    values["calibration"] = _calibration(values)
    values["look_limit"], values["held_out"] = _held_out(values)
    return values


def _calibration(values: dict[str, Any]) -> dict[str, Any]:
    features, defects, _ = simulate_features(values["cells_per_series"], SEEDS[1])
    scores = _scores(values, features)[defects != GOOD]
    return {"num_bad": len(scores), "below_even": _rounded(np.sort(scores[scores < 0.5]))}


def _held_out(values: dict[str, Any]) -> tuple[float, dict[str, Any]]:
    features, defects, _ = simulate_features(values["cells_per_series"], SEEDS[2])
    scores = _scores(values, features)
    held_out: dict[str, Any] = {}
    for kind in values["kinds"]:
        mine = np.sort(scores[defects == kind])
        tail = {"top": mine[-(len(mine) // 10) :]} if kind == GOOD else {"below_even": mine[mine < 0.5]}
        held_out[kind] = {"num": len(mine), **{name: _rounded(part) for name, part in tail.items()}}
    limit = np.quantile(from_json(values).distance(features[defects == GOOD]), 0.99)
    return float(f"{limit:.6g}"), held_out


def _scores(values: dict[str, Any], features: np.ndarray) -> np.ndarray:
    model = from_json(values)
    return 1 - model.predict(features)[:, model.kinds.index(GOOD)]


def _rounded(numbers: Any) -> Any:
    """Return nested lists of numbers rounded to six significant digits."""
    array = np.asarray(numbers, np.float64)
    return float(f"{array:.6g}") if array.ndim == 0 else [_rounded(item) for item in array]


def write_model() -> Path:
    """Simulate, fit, calibrate and test, and write ``simulated_model.json.xz`` beside this file; for developers.

    In a checkout: ``python -c "from fastcell.quality.simulated_model import write_model; write_model()"``.

    Returns:
        The file written.
    """
    lines = (f"{json.dumps(name)}: {json.dumps(value, separators=(',', ':'))}" for name, value in fit().items())
    _PATH.write_bytes(lzma.compress(("{\n" + ",\n".join(lines) + "\n}\n").encode(), preset=9))
    return _PATH
