"""Data of the cell browser: pictures of cells with their true and predicted classes, for the page's script."""

from __future__ import annotations

import cv2
import numpy as np

from fastcell.dataset.manifest import Manifest
from fastcell.dataset.single_cells import read_cells
from fastcell.errors import DataError
from fastcell.inference.probabilities import Outputs
from fastcell.report.page_elements import data_uri

_MOST_SIDE = 160  # px; larger cells are shrunk to this side


def choose_cells(outputs: Outputs, most: int, seed: int) -> np.ndarray:
    """Choose at most `most` cells for the browser: errors by decreasing confidence, then correctly classified cells.

    Errors take up to four fifths of the places, so that correct cells remain for comparison. Correct cells are drawn at
    random. If there are too few cells of one kind, cells of the other kind fill their places.

    Returns:
        (n,) int64, indices of the chosen cells in `outputs`.
    """
    called = outputs.probabilities.argmax(axis=1)
    wrong = np.flatnonzero(called != outputs.labels)
    confidence = outputs.probabilities[wrong, called[wrong]]
    wrong = wrong[np.argsort(-confidence, kind="stable")]
    right = np.random.default_rng(seed).permutation(np.flatnonzero(called == outputs.labels))
    num_right = min(len(right), max(most - len(wrong), most - 4 * most // 5))
    return np.concatenate([wrong[: most - num_right], right[:num_right]])


def browser_data(manifest: Manifest, outputs: Outputs, classes: list[str], places: np.ndarray) -> dict[str, object]:
    """Return the data that the page's script needs, without the cells that cannot be read.

    Args:
        manifest: Manifest of the data set.
        outputs: Network outputs of one subset.
        classes: Names of the K classes.
        places: (n,) int64, indices of the cells in `outputs`.

    Returns:
        ``classes``; ``cells``, one ``{key, group, true, called, p, height, width, image}`` per cell; ``num_lost``, the
        number of cells that cannot be read. ``true`` and ``called`` are class indices, ``p`` holds K probabilities, and
        ``image`` is the data URI of a PNG.
    """
    cells, num_corrupt = [], 0
    keys = manifest.table.column("key").take(outputs.cell_ids[places]).to_pylist()
    for place, key in zip(places.tolist(), keys, strict=True):
        try:
            (pixels,) = read_cells(manifest, [outputs.cell_ids[place]])
        except DataError:
            num_corrupt += 1
            continue
        probabilities = outputs.probabilities[place]
        cells.append(
            {
                "key": str(key),
                "group": "" if outputs.groups is None else str(outputs.groups[place]),
                "true": int(outputs.labels[place]),
                "called": int(probabilities.argmax()),
                "p": [round(float(value), 4) for value in probabilities],
                "height": pixels.shape[0],
                "width": pixels.shape[1],
                "image": _thumbnail(pixels),
            }
        )
    return {"classes": classes, "cells": cells, "num_lost": num_corrupt}


def _thumbnail(pixels: np.ndarray) -> str:
    """Return the data URI of a cell (H, W) uint8 as PNG, shrunk to `_MOST_SIDE` if it is larger."""
    shrink = _MOST_SIDE / max(pixels.shape)
    if shrink < 1:
        size = (max(1, round(pixels.shape[1] * shrink)), max(1, round(pixels.shape[0] * shrink)))
        pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    return data_uri(cv2.imencode(".png", pixels)[1].tobytes())
