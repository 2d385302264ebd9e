"""Compile the loops of training and prediction before they are needed, so that the first command need not wait.

The script ``./run`` does so at set-up. Without it, each command compiles the loops that it needs when it first needs
them, and the cache on disk keeps them (`fastcell.ops.cpu.compiled_loops`).
"""

from __future__ import annotations

import itertools

import cv2
import numpy as np

from fastcell.inference.unlike.feature_names import IMAGE_FEATURES
from fastcell.inference.unlike.image_features import network_image_features
from fastcell.inference.unlike.training_cells import TrainingCells
from fastcell.ops.cpu.copy import copy_cells
from fastcell.ops.cpu.transform import transform_pool
from fastcell.ops.jpeg import decode_jpegs
from fastcell.ops.random_draws import change_words

_SIDE = 16


def compile_loops() -> None:
    """Compile the loops for 8-bit cells that are not in the cache: JPEG, transform, augmentation, unlike cells."""
    pixels = _decode()
    for blur, fill in itertools.product((0.0, 1.0), (np.nan, 99.0)):  # each of them is code of its own
        images = _transform(pixels, blur, fill)
    _transform(pixels, 0.0, np.nan, "standardize")  # normalised after the map
    copy_cells(np.full(1, pixels.ctypes.data, np.int64), np.ones(1, np.int64), np.empty(1, np.uint8))
    change_words(0, 0, np.arange(2))
    _score(images)


def _decode() -> np.ndarray:
    """Return the pixels of a JPEG file, (N,) uint8."""
    data = np.frombuffer(cv2.imencode(".jpg", np.full((_SIDE, _SIDE), 99, np.uint8))[1].tobytes(), np.uint8)
    pixels = np.empty(_SIDE * _SIDE, np.uint8)
    first, side = np.zeros(1, np.int64), np.full(1, _SIDE, np.int32)
    decode_jpegs(data, first, np.full(1, len(data), np.int64), side, side, pixels, first)
    return pixels


def _transform(pixels: np.ndarray, blur: float, border: float, mode: str = "divide") -> np.ndarray:
    side = np.full(1, _SIDE, np.int32)
    matrix, fill = np.eye(3)[None, :2].copy(), np.full(1, border, np.float32)
    some, none = np.full(1, blur, np.float32), np.zeros(1, np.float32)
    first, seed, out = np.zeros(1, np.int64), np.zeros(1, np.uint64), np.empty((1, 1, _SIDE, _SIDE), np.float32)
    return transform_pool(pixels, first, side, side, matrix, fill, some, none, seed, out, mode)


def _score(images: np.ndarray) -> None:
    num = len(IMAGE_FEATURES)
    ones, nothing = np.ones(num), np.empty((0, 0))
    known = TrainingCells(ones, ones, -ones, ones, np.eye(num), nothing, nothing, np.ones(3), 1, 0)
    known.measure(network_image_features(images), np.empty((1, 0), np.float32))
