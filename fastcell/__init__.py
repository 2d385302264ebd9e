"""fastcell: pack, check, train on and classify single-cell images as fast as an imaging cytometer makes them.

Importing this package loads neither torch, DALI, CuPy nor Lightning. The names of the Python interface are
resolved when they are first used::

    import fastcell
    module = fastcell.CellDataModule("cells")   # here torch and DALI are loaded
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastcell.cli.distill_from_python import DistilledRun as DistilledRun
    from fastcell.cli.distill_from_python import distill as distill
    from fastcell.cli.fit_from_python import EpochScores as EpochScores
    from fastcell.cli.fit_from_python import FitResult as FitResult
    from fastcell.cli.fit_from_python import fit as fit
    from fastcell.dataset.manifest import Manifest as Manifest
    from fastcell.dataset.views import ViewConfig as ViewConfig
    from fastcell.errors import ArgumentError as ArgumentError
    from fastcell.errors import DataError as DataError
    from fastcell.errors import FastcellError as FastcellError
    from fastcell.errors import StrictError as StrictError
    from fastcell.inference.classified_cells import ClassifiedCells as ClassifiedCells
    from fastcell.inference.classifier import Classifier as Classifier
    from fastcell.inference.open_classifier import load as load
    from fastcell.live.client import Client as Client
    from fastcell.loading.batch import Batch as Batch
    from fastcell.loading.datamodule import CellDataModule as CellDataModule
    from fastcell.loading.preprocessing import Preprocessing as Preprocessing
    from fastcell.models.registry import register_network as register_network
    from fastcell.ops.augmentation import Augmentation as Augmentation
    from fastcell.training.estimator import CellClassifier as CellClassifier

__version__ = "0.2.0"

_EXPORTS = {
    "ArgumentError": "fastcell.errors",
    "Augmentation": "fastcell.ops.augmentation",
    "Batch": "fastcell.loading.batch",
    "CellClassifier": "fastcell.training.estimator",
    "CellDataModule": "fastcell.loading.datamodule",
    "ClassifiedCells": "fastcell.inference.classified_cells",
    "Classifier": "fastcell.inference.classifier",
    "Client": "fastcell.live.client",
    "DataError": "fastcell.errors",
    "DistilledRun": "fastcell.cli.distill_from_python",
    "EpochScores": "fastcell.cli.fit_from_python",
    "FastcellError": "fastcell.errors",
    "FitResult": "fastcell.cli.fit_from_python",
    "Manifest": "fastcell.dataset.manifest",
    "Preprocessing": "fastcell.loading.preprocessing",
    "StrictError": "fastcell.errors",
    "ViewConfig": "fastcell.dataset.views",
    "distill": "fastcell.cli.distill_from_python",
    "fit": "fastcell.cli.fit_from_python",
    "load": "fastcell.inference.open_classifier",
    "register_network": "fastcell.models.registry",
}

__all__ = ["__version__", *_EXPORTS]


def __getattr__(name: str) -> Any:
    """Return the public name ``name``, loading its module on first use."""
    if name not in _EXPORTS:
        raise AttributeError(f"module 'fastcell' has no attribute {name!r}")
    value = getattr(importlib.import_module(_EXPORTS[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names without loading their modules."""
    return sorted(set(globals()) | set(_EXPORTS))
