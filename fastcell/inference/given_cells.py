"""Arguments of `Classifier.predict`: files or arrays, grey levels and pixel sizes, checked in the words of Python."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from fastcell.dataset.grey_window import Window
from fastcell.errors import FastcellError, invalid
from fastcell.inference.grey_cells import as_array
from fastcell.storage.places import local_path

OnePath = str | os.PathLike[str]


def files_of(values: Any) -> OnePath | list[OnePath] | None:
    """Return a path, or the paths of a list, a tuple or a column; None for arrays.

    Raises:
        ArgumentError: a path is empty or does not exist, or a list holds something else beside paths.
    """
    if isinstance(values, str | os.PathLike):
        path = local_path("X", values)
        if not os.fspath(values) or not path.exists():
            raise invalid("X", "arrays, or a path that exists", str(values), "Check the path")
        return path
    if not isinstance(values, list | tuple):
        values = as_array(values)
        if not isinstance(values, np.ndarray) or values.ndim != 1 or values.dtype.kind not in "OU":
            return None
    if not len(values) or not isinstance(values[0], str | os.PathLike):
        return None
    for number, path in enumerate(values):
        if not isinstance(path, str | os.PathLike) or not os.fspath(path):
            got = "an empty path" if isinstance(path, str) else type(path).__name__
            raise invalid(f"X[{number}]", "a path, as X[0] is one", got, "Give arrays or paths, not both")
    return list(values)


def checked_levels(window: Any) -> Window:
    """Return the grey levels of `window`, or None for None.

    Raises:
        ArgumentError: they are not two finite numbers >= 0, the lower one first.
    """
    if window is None:
        return None
    try:
        low, high = (float(level) for level in window)
    except (TypeError, ValueError):
        low = high = math.nan
    if not 0 <= low < high < math.inf:
        raise invalid("window", "two grey levels, the lower one first", window, "For example window=(400, 1400)")
    return low, high


def checked_pitches(um_per_px: float | Sequence[float] | np.ndarray | None, num: int | None) -> np.ndarray | None:
    """Return micrometres per pixel as an array float32, or None for None.

    Args:
        um_per_px: one number, or one per cell; NaN if unknown.
        num: number of cells, the length of the array; None for files, which take one number (a 0-d array).

    Raises:
        ArgumentError: there are as many numbers as neither 1 nor `num`, or one is 0, negative or infinite.
    """
    if um_per_px is None:
        return None
    rule = "one number for files" if num is None else f"one number, or one for each of the {num} cells"
    try:
        pitch = np.asarray(um_per_px, np.float32)
    except (TypeError, ValueError):
        raise invalid("um_per_px", rule, um_per_px, "Correct it") from None
    if pitch.shape not in ((), (num,)):
        hint = "Leave it out, or read the files as arrays" if num is None else "Correct it"
        raise invalid("um_per_px", rule, um_per_px if pitch.size < 9 else pitch.shape, hint)
    wrong = pitch[~(np.isnan(pitch) | ((pitch > 0) & np.isfinite(pitch)))]
    if wrong.size:
        raise invalid("um_per_px", "micrometres above 0", float(wrong[0]), "Give NaN where it is unknown")
    return pitch if num is None else np.broadcast_to(pitch, (num,))


@contextmanager
def in_words_of_python() -> Iterator[None]:
    """Name arguments in errors as Python spells them: ``window=(400, 1400)`` for ``--window 400 1400``."""
    try:
        yield
    except FastcellError as error:
        text = re.sub(r"--window (\d\S*) (\d[\d.]*\d|\d)", r"window=(\1, \2)", str(error))
        text = re.sub(r"--(window|channel)\b", r"\1", text).replace("--um-per-px", "um_per_px")
        raise type(error)(re.sub(r"^SRC\b", "X", text)) from None
