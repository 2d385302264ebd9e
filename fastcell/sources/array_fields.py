"""Files of several named arrays: find the array of images and read labels, groups and features from the others.

    images | image | X | x | cells | imgs | img | data | stack | arr_0     (N, H, W) uint8 or uint16
    labels | label | y | Y | targets | target | class                       (N,) numbers or names
    classes | class_names | names | label_names                             (K,) names of the label numbers
    groups | group | donors | donor | runs | run                            (N,) groups that must not be split
    collections | collection                                                (N,) recordings

Every other (N,) array of numbers is a feature. If no array has one of the names for images, the only array of three
axes holds the images.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from fastcell.dataset.tables.dialect import read_rows, whole_text
from fastcell.errors import DataError
from fastcell.system.text import one_name, storable

IMAGE_ARRAYS = ("images", "image", "X", "x", "cells", "imgs", "img", "data", "stack", "arr_0")
LABEL_ARRAYS = ("labels", "label", "y", "Y", "targets", "target", "class")
CLASS_ARRAYS = ("classes", "class_names", "names", "label_names")
GROUP_ARRAYS = ("groups", "group", "donors", "donor", "runs", "run")
COLLECTION_ARRAYS = ("collections", "collection")
KNOWN_ARRAYS = {*IMAGE_ARRAYS, *LABEL_ARRAYS, *CLASS_ARRAYS, *GROUP_ARRAYS, *COLLECTION_ARRAYS}

_MOST_CLASSES = 65_536
_MOST_TEXT_BYTES = 1 << 28
_MOST_NAME = 256
_MOST_LIKE_LABELS = 100


class Stack(NamedTuple):
    """The images of a file.

    Attributes:
        num, height, width, channels: number and shape of the images.
        dtype: type of a grey level.
        run_cells: number of images that are decoded together; 0 if each is read separately.
        load: function that returns image k as (H, W) or (H, W, C).
        written: (N,) bool, False for an image that was never written to the file; None if all were.
    """

    num: int
    height: int
    width: int
    channels: int
    dtype: str
    run_cells: int
    load: Callable[[int], np.ndarray]
    written: np.ndarray | None = None


class ArrayFile(Protocol):
    """A file of named arrays."""

    path: str

    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Return the shape of every array of numbers or texts; in an array of images, the first axis counts cells."""

    def stack(self, name: str) -> Stack:
        """Return the images in an array.

        Raises:
            DataError: If the array does not hold images.
        """

    def values(self, name: str, num: int) -> np.ndarray | None:
        """Return (num,) numbers, or texts as objects; None if the array holds neither, or another number of values."""


class Fields(NamedTuple):
    """Labels and other values that a file gives for its N cells.

    Attributes:
        labels, groups, collections: (N,) names, with None for a cell without one; or None if the file has none.
        classes: class names in the order of their numbers; None if the file gives none.
        features: names of the arrays that hold one number per cell.
    """

    labels: list[str | None] | None
    classes: list[str] | None
    groups: list[str | None] | None
    collections: list[str | None] | None
    features: list[str]


def pick_images(file: ArrayFile) -> str:
    """Return the name of the array that holds the images.

    Raises:
        DataError: If no array, or more than one, can be the images.
    """
    shapes = {name: shape for name, shape in file.shapes().items() if len(shape) in (3, 4)}
    for name in IMAGE_ARRAYS:
        if name in shapes:
            return name
    if len(shapes) == 1:
        return next(iter(shapes))
    listed = ", ".join(f"{storable(name)} {shape}" for name, shape in list(file.shapes().items())[:5]) or "none"
    if [len(shape) for shape in file.shapes().values()] == [2]:
        hint = "Save it with three axes; .npy files of one image are read as a folder"
    else:
        hint = "Name it images" if shapes else "Put it at the top level of the file, and name it images"
    raise DataError(f"{storable(file.path)} must hold one array of images (N, H, W), got {listed}. {hint}.")


def read_fields(file: ArrayFile, images: str, num: int) -> Fields:
    """Read labels, groups and other values of the `num` images from the other arrays.

    Args:
        file: the file.
        images: name of the array of images.
        num: number of images.

    Returns:
        The values of the images.

    Raises:
        DataError: If an array of labels, groups or collections has another length, or `classes` has no name for a
            label.
    """
    shapes = {name: shape for name, shape in file.shapes().items() if name != images}
    used = {images}

    def find(names: Sequence[str], length: int | None = None) -> np.ndarray | None:
        name = next((name for name in names if name in shapes), None)
        if name is None:
            return None
        size = shapes[name][0] if shapes[name] else 0
        wanted = size if length is None else length
        values = file.values(name, wanted) if wanted <= max(_MOST_CLASSES, num) else None
        if values is None:
            if length is None:
                return None
            raise DataError(
                f"{storable(file.path)}: {storable(name)} must hold one value for each of the {num:,} images, got "
                f"{shapes[name]}. Correct or rename it."
            )
        used.add(name)
        return values

    names = find(CLASS_ARRAYS)
    classes = None
    if names is not None and names.dtype.kind in "OSU":
        classes = [text for text in map(_text, names) if text is not None]
        if len(classes) != len(names) or len(set(classes)) != len(classes):
            raise DataError(f"{storable(file.path)}: the class names must be different and not empty. Correct them.")
    labels = find(LABEL_ARRAYS, num)
    groups, collections = find(GROUP_ARRAYS, num), find(COLLECTION_ARRAYS, num)
    features = [name for name, shape in shapes.items() if name not in used and _is_column(shape, num)]
    return Fields(
        None if labels is None else name_labels(labels, classes, file.path),
        classes if labels is not None else None,
        None if groups is None else [_text(value) for value in groups],
        None if collections is None else [_text(value) for value in collections],
        features,
    )


class OtherArrays:
    """Arrays with one value per cell and an unknown name, over all files of a source, for the notes."""

    def __init__(self) -> None:
        self._texts: dict[str, None] = {}
        self._like_labels: dict[str, None] = {}

    def sort(self, file: ArrayFile, fields: Fields, num: int, classes_known: bool) -> list[str]:
        """Return which of the unknown arrays of a file are features: those of numbers.

        Args:
            file: the file.
            fields: its values, from `read_fields`.
            num: number of images.
            classes_known: True if the cells have classes from elsewhere.
        """
        names = []
        for name in fields.features:
            values = file.values(name, num)
            if values is None or values.dtype.kind not in "biuf":
                self._texts[name] = None
                continue
            names.append(name)
            if fields.labels is None and not classes_known and like_labels(values):
                self._like_labels[name] = None
        return names

    def notes(self) -> list[str]:
        """Return notes on arrays that are not read, and on arrays that may hold the classes under another name."""
        notes = []
        if self._texts:
            notes.append(
                f"arrays of other types than numbers are not read: {storable(', '.join(self._texts))[:200]}. If one "
                f"of them holds the classes or groups, name it {LABEL_ARRAYS[0]} or {GROUP_ARRAYS[0]}."
            )
        if self._like_labels:
            notes.append(
                f"no array is named {LABEL_ARRAYS[0]}; {storable(', '.join(self._like_labels))[:200]} of few different "
                f"whole numbers is read as a feature. If it holds the classes, name it {LABEL_ARRAYS[0]}."
            )
        return notes


def like_labels(values: np.ndarray) -> bool:
    """Return True for (N,) numbers that may be class numbers: whole, and few different ones."""
    known = values[np.isfinite(values)] if values.dtype.kind == "f" else values
    if not len(known) or (known.dtype.kind == "f" and (known != np.floor(known)).any()):
        return False
    return 2 <= len(np.unique(known)) <= min(_MOST_LIKE_LABELS, max(2, len(known) // 2))


def name_labels(labels: np.ndarray, classes: Sequence[str] | None, path: str) -> list[str | None]:
    """Convert labels to class names.

    Args:
        labels: (N,) numbers or names; a number below 0, NaN or an empty text means no class.
        classes: class names in the order of their numbers; None to use the numbers as names.
        path: path of the file, for messages.

    Returns:
        N class names, None for a cell without a class.

    Raises:
        DataError: If a number has no name in `classes`, or is not whole.
    """
    if labels.dtype.kind in "OSU":
        return [_text(value) for value in labels]
    known = labels >= 0 if labels.dtype.kind != "b" else np.ones(len(labels), bool)  # NaN is not known
    numbers = labels[known]
    if numbers.dtype.kind == "f" and ((numbers != np.floor(numbers)) | (numbers >= 1 << 31)).any():
        wrong = numbers[(numbers != np.floor(numbers)) | (numbers >= 1 << 31)][0]
        raise DataError(f"{storable(path)}: labels must be whole numbers or names, got {wrong}. Correct them.")
    if classes is not None and len(numbers) and int(numbers.max()) >= len(classes):
        raise DataError(
            f"{storable(path)}: classes must name every label, got {len(classes)} names for a label "
            f"{int(numbers.max())}. Add the others."
        )
    names: dict[int, str] = {}
    out: list[str | None] = [None] * len(labels)
    for place, number in zip(np.flatnonzero(known).tolist(), numbers.astype(np.int64).tolist(), strict=True):
        out[place] = names.setdefault(number, classes[number] if classes is not None else str(number))
    return out


def read_label_file(path: Path, num: int, read_npy: Callable[[str, int], np.ndarray | None]) -> Fields:
    """Read a file with one label per cell, in the order of the cells.

    The file is `.npy`, or text with one line per cell, with or without a header `label,group`.

    Args:
        path: path of the file.
        num: number of cells.
        read_npy: function that reads `num` values of a `.npy` file.

    Returns:
        The labels, and the groups if the file has a column of groups.

    Raises:
        DataError: If the file does not exist, the number of labels differs from `num`, or a label is invalid.
    """
    shown = storable(str(path))
    if not path.is_file():
        raise DataError(f"{shown} must be a file with one label for each cell, got no file. Check the path.")
    groups: list[str | None] | None = None
    if path.suffix.lower() == ".npy":
        values = read_npy(str(path), num)
        if values is None:
            raise DataError(f"{shown} must hold one label for each of the {num:,} cells. Correct it.")
        labels = name_labels(values, None, str(path))
    else:
        if path.stat().st_size > _MOST_TEXT_BYTES:
            raise DataError(f"{shown} must be a list of labels, got {path.stat().st_size:,} bytes. Check the path.")
        labels, groups = _label_columns(path, num)
    if len(labels) != num:
        raise DataError(f"{shown} must hold one label for each of the {num:,} cells, got {len(labels):,}. Correct it.")
    return Fields(labels, None, groups, None, [])


def _label_columns(path: Path, num: int) -> tuple[list[str | None], list[str | None] | None]:
    """Return the labels and the groups of a text file with a row for each cell, with or without a header."""
    rows = read_rows(path)
    header = [word.lower() for word in rows[0]] if rows else []
    column = next((header.index(name) for name in ("label", "labels", "class") if name in header), None)
    if column is None and max(map(len, rows), default=1) > 1:
        raise DataError(
            f"{storable(str(path))} must have one column, or a header with a column label, got the columns "
            f"{storable(', '.join(rows[0]))[:100]!r}. Name the column of labels in the first line."
        )
    rows = rows[column is not None :]
    filled = [row for row in rows if row]
    if len(filled) == num or len(rows) != num:  # else an empty line is a cell without a label
        rows = filled
    place = next((header.index(name) for name in ("group", "groups", "donor") if name in header), None)

    def texts(number: int) -> list[str | None]:
        return [_text(whole_text(row[number])) if len(row) > number else None for row in rows]

    return texts(column or 0), None if place is None or column is None else texts(place)


def _is_column(shape: tuple[int, ...], num: int) -> bool:
    return shape in ((num,), (num, 1))


def _text(value: Any) -> str | None:
    if isinstance(value, bytes):
        value = value.decode("utf-8", "backslashreplace")
    if isinstance(value, (float, np.floating)) and value == value // 1 and np.isfinite(value):
        value = int(value)
    if isinstance(value, (float, np.floating)) and value != value:  # NaN
        return None
    text: str = one_name(str(value)).strip("\0 \t\r\n")[:_MOST_NAME]
    return text or None
