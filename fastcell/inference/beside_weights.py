"""What a checkpoint holds beside the weights for answers that can be trusted, as plain values and arrays by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from fastcell.inference.confidence import CHECKPOINT_KEY as CONFIDENCE_KEY
from fastcell.inference.unlike.training_cells import CHECKPOINT_KEY as UNLIKE_KEY

KEYS = (UNLIKE_KEY, CONFIDENCE_KEY)
_BETWEEN = "/"


def split_content(content: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return statistics and confidence of a checkpoint as values that JSON can represent, and as arrays.

    Names are ``key/name``.

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
    """Return what `split_content` has split, as in a checkpoint."""
    content: dict[str, Any] = {}
    for name, value in {**values, **arrays}.items():
        key, found, inner = name.partition(_BETWEEN)
        if found and key in KEYS:
            content.setdefault(key, {})[inner] = value
    return content
