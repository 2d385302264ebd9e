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
_LEAST_SIDE = 16  # px; smaller images are shown whole
_MARGIN = 0.15  # of the cell's longer side
_MOST_OF_FRAME = 0.6  # a cell that takes more of the frame is shown with it


def choose_cells(outputs: Outputs, most: int, seed: int) -> np.ndarray:
    """Choose at most `most` cells for the browser: errors by decreasing confidence, then correctly classified cells.

    Errors take up at most four fifths, so that correctly classified cells remain for comparison. Correct cells are
    drawn at random. If there are too few cells of one kind, more cells of the other kind are chosen.

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
        ``classes``; ``cells``, one ``{key, group, true, called, p, height, width, image, card}`` per cell; and
        ``num_lost``, the number of cells that cannot be read. ``true`` and ``called`` are class indices, ``p`` holds K
        probabilities, ``image`` is the data URI of a PNG, and ``card`` is the data URI of the part of the image with
        the cell, or None for the whole image.
    """
    cells, num_corrupt = [], 0
    keys = manifest.select_cells(["key"], outputs.cell_ids[places]).column("key").to_pylist()
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
                "card": None if (box := cell_box(pixels)) is None else _thumbnail(pixels[box]),
            }
        )
    return {"classes": classes, "cells": cells, "num_lost": num_corrupt}


def cell_box(pixels: np.ndarray) -> tuple[slice, slice] | None:
    """Return rows and columns of the cell in an image (H, W) uint8, with a margin; None if it fills most of its frame.

    The cell is the largest connected part that differs from the border's median by more than the border does.
    """
    height, width = pixels.shape
    if min(height, width) < _LEAST_SIDE:
        return None
    border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]]).astype(np.float32)
    level = float(np.median(border))
    off = cv2.GaussianBlur(np.abs(pixels.astype(np.float32) - level), (0, 0), 1.0)
    bound = max(4 * float(np.median(np.abs(border - level))), 0.25 * float(off.max()), 4.0)
    count, _, stats, _ = cv2.connectedComponentsWithStats((off > bound).astype(np.uint8))
    if count < 2:
        return None
    left, top, wide, high, _ = stats[1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())].tolist()
    margin = max(2, round(_MARGIN * max(wide, high)))
    rows = slice(max(0, top - margin), min(height, top + high + margin))
    columns = slice(max(0, left - margin), min(width, left + wide + margin))
    share = (rows.stop - rows.start) * (columns.stop - columns.start) / (height * width)
    return None if share > _MOST_OF_FRAME else (rows, columns)


def _thumbnail(pixels: np.ndarray) -> str:
    """Return the data URI of a cell (H, W) uint8 as PNG, shrunk to `_MOST_SIDE` if it is larger."""
    shrink = _MOST_SIDE / max(pixels.shape)
    if shrink < 1:
        size = (max(1, round(pixels.shape[1] * shrink)), max(1, round(pixels.shape[0] * shrink)))
        pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    return data_uri(cv2.imencode(".png", pixels)[1].tobytes())
