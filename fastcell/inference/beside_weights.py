"""Statistics of training cells and calibration in a checkpoint, as plain values and named arrays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from fastcell.inference.confidence import CHECKPOINT_KEY as CONFIDENCE_KEY
from fastcell.inference.unlike.training_cells import CHECKPOINT_KEY as UNLIKE_KEY

KEYS = (UNLIKE_KEY, CONFIDENCE_KEY)
_BETWEEN = "/"


def split_content(content: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return the statistics and the calibration of a checkpoint as two dictionaries: JSON values, and arrays.

    The names in both have the form ``key/name``.

    Args:
        content: the checkpoint; arrays may be tensors.
    """
    values: dict[str, Any] = {}
    arrays: dict[str, np.ndarray] = {}
    for key in KEYS:
        for name, value in (content.get(key) or {}).items():
            if hasattr(value, "shape"):
                arrays[f"{key}{_BETWEEN}{name}"] = np.asarray(value)
            else:
                values[f"{key}{_BETWEEN}{name}"] = value
    return values, arrays


def join_content(values: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Return the part of a checkpoint that `split_content` has split into values and arrays."""
    content: dict[str, Any] = {}
    for name, value in {**values, **arrays}.items():
        key, found, inner = name.partition(_BETWEEN)
        if found and key in KEYS:
            content.setdefault(key, {})[inner] = value
    return content
