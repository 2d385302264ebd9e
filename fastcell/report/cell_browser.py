"""The cell browser: pictures of cells with what they are and what they were called, as data for the page's script."""

from __future__ import annotations

import cv2
import numpy as np

from fastcell.dataset.manifest import Manifest
from fastcell.dataset.single_cells import read_cells
from fastcell.errors import DataError
from fastcell.inference.probabilities import Outputs
from fastcell.report.page_elements import data_uri

_MOST_SIDE = 160  # px; larger cells are shrunk


def choose_cells(outputs: Outputs, most: int, seed: int) -> np.ndarray:
    """Places (n,) int64 in `outputs` of at most `most` cells: errors first, the most confident first, then others.

    Up to four in five are errors, so that right ones are there to compare with; places that errors leave are filled
    with right ones, drawn at random, and the other way round.
    """
    called = outputs.probabilities.argmax(axis=1)
    wrong = np.flatnonzero(called != outputs.labels)
    confidence = outputs.probabilities[wrong, called[wrong]]
    wrong = wrong[np.argsort(-confidence, kind="stable")]
    right = np.random.default_rng(seed).permutation(np.flatnonzero(called == outputs.labels))
    num_right = min(len(right), max(most - len(wrong), most - 4 * most // 5))
    return np.concatenate([wrong[: most - num_right], right[:num_right]])


def browser_data(manifest: Manifest, outputs: Outputs, classes: list[str], places: np.ndarray) -> dict[str, object]:
    """What the script of the page needs; cells that cannot be read are left out and counted.

    Args:
        manifest: of the data set.
        outputs: what the network says of the part.
        classes: K names.
        places: (n,) int64 of the cells in `outputs`.

    Returns:
        ``classes``; ``cells``: one ``{key, group, true, called, p, height, width, image}`` each, with numbers of
        classes, K probabilities and the data URI of a PNG; ``num_lost``.
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
    """Data URI of a cell (H, W) uint8 as PNG, shrunk where it is large."""
    shrink = _MOST_SIDE / max(pixels.shape)
    if shrink < 1:
        size = (max(1, round(pixels.shape[1] * shrink)), max(1, round(pixels.shape[0] * shrink)))
        pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    return data_uri(cv2.imencode(".png", pixels)[1].tobytes())
