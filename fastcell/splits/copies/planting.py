"""Make copies of cells as careless augmentation would. The share of these copies that a search finds is its recall."""

from __future__ import annotations

import cv2
import numpy as np

from fastcell.splits.copies.signature import border_level

STRONG_JPEG = "saved as JPEG of quality 50"
PLANTED_KINDS = (
    "turned and mirrored, saved as JPEG",
    "other angles",
    "shifted",
    "brightness",
    "blurred",
    "all at once",
    "rescaled",
    STRONG_JPEG,
)
NOT_PLANTED = "crops, scales beyond 0.8 to 1.25, JPEG of a quality below 50, other focus, noise"
"""Kinds of copies that the recall does not cover."""
SCALES = (0.8, 1.25)
STRONG_JPEG_QUALITY = 50
PLANTED_JPEG_QUALITY = 90
SHIFT = 0.08
"""Largest shift along each axis, as a share of the shorter side."""
GAIN = (0.8, 1.25)
OFFSET = 20.0
"""Largest change of all grey levels, in 8-bit grey levels."""
BLUR_PX = (0.3, 1.2)


def plant(pixels: np.ndarray, kind: str, rng: np.random.Generator) -> np.ndarray:
    """Return a copy of a cell. Uncovered corners are filled with the median of the border.

    The copy has the size of the cell, with height and width exchanged after a quarter turn. Every second rescaled copy
    is resized as a whole image.

    Args:
        pixels: (H, W) uint8.
        kind: one of `PLANTED_KINDS`.
        rng: generator for angle, shift, gain, offset, blur and scale.
    """
    if kind == PLANTED_KINDS[0]:
        turned = np.rot90(pixels, int(rng.integers(4)))
        turned = turned[:, ::-1] if rng.integers(2) else turned
        return _saved_as_jpeg(np.ascontiguousarray(turned), PLANTED_JPEG_QUALITY)
    if kind == PLANTED_KINDS[6]:
        return _rescaled(pixels, rng)
    if kind == STRONG_JPEG:
        return _saved_as_jpeg(pixels, STRONG_JPEG_QUALITY)
    image = pixels.astype(np.float32)
    every = kind == PLANTED_KINDS[5]
    if every or kind in (PLANTED_KINDS[1], PLANTED_KINDS[2]):
        image = _moved(image, pixels, rng, turns=kind != PLANTED_KINDS[2], shifts=kind != PLANTED_KINDS[1])
    if every or kind == PLANTED_KINDS[4]:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(*BLUR_PX))
    if every or kind == PLANTED_KINDS[3]:
        image = image * rng.uniform(*GAIN) + rng.uniform(-OFFSET, OFFSET)
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


def _saved_as_jpeg(pixels: np.ndarray, quality: int) -> np.ndarray:
    coded = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return np.asarray(cv2.imdecode(coded, cv2.IMREAD_GRAYSCALE), np.uint8)


def _rescaled(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return an image enlarged or reduced: as a whole, or its content on a canvas of the same size."""
    height, width = pixels.shape
    factor = float(np.exp(rng.uniform(*np.log(SCALES))))
    if rng.integers(2):
        way = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
        size = (max(2, round(width * factor)), max(2, round(height * factor)))
        return np.asarray(cv2.resize(pixels, size, interpolation=way), np.uint8)
    motion = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), 0.0, factor)
    fill = border_level(pixels)
    moved = cv2.warpAffine(pixels, motion, (width, height), borderMode=cv2.BORDER_CONSTANT, borderValue=fill)
    return np.asarray(moved, np.uint8)


def _moved(image: np.ndarray, pixels: np.ndarray, rng: np.random.Generator, turns: bool, shifts: bool) -> np.ndarray:
    height, width = image.shape
    angle = rng.uniform(0, 360) if turns else 0.0
    if turns and rng.integers(2):
        image = np.ascontiguousarray(image[:, ::-1])
    motion = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), angle, 1.0)
    if shifts:
        motion[:, 2] += rng.uniform(-SHIFT, SHIFT, 2) * min(height, width)
    fill = border_level(pixels)
    return cv2.warpAffine(image, motion, (width, height), borderMode=cv2.BORDER_CONSTANT, borderValue=fill)
