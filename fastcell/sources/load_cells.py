"""Load cells as arrays from arrays of any kind, image files, folders or packed data."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fastcell.dataset.decode import NeedsWindow, decode
from fastcell.dataset.decoder_messages import DecoderMessages
from fastcell.dataset.grey_window import Window
from fastcell.dataset.manifest import Manifest
from fastcell.dataset.single_cells import read_cells
from fastcell.dataset.views import ViewConfig, select
from fastcell.errors import BadCell, DataError, invalid
from fastcell.sources.base import encoding_of
from fastcell.sources.image_folder import ImageFolder, find_images, read_image

_LEAST_SIDE = 8  # of an image (H, W, channels); cells (N, H, W) of 1, 3 or 4 pixels in width are a mistake


class LoadedCells(NamedTuple):
    """Cells in memory.

    Attributes:
        images: N arrays (H, W) uint8.
        classes: (N,) str, or None if the cells have no classes.
        groups: (N,) str, or None if the cells have no groups.
        keys: N names.
    """

    images: list[np.ndarray]
    classes: np.ndarray | None
    groups: np.ndarray | None
    keys: list[str]


def load_cells(path: str | os.PathLike[str], part: str | None = None, window: Window = None) -> LoadedCells:
    """Read a packed data set, or a folder of images, into memory.

    Args:
        path: folder made by ``fastcell pack``, or folder of images: ``CLASS/NAME`` if they have classes, or files
            directly in the folder if not.
        part: for packed data, subset of the split ``default`` from which the labelled cells are read; None for all
            cells.
        window: grey levels (low, high) of 16-bit image files that become black and white.

    Returns:
        The cells.

    Raises:
        ArgumentError: If the folder does not exist, there are 16-bit images and no window, or the subset has no cells.
        DataError: If the data cannot be used.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise invalid("X", "a folder of images or of packed data", str(path), "Check the path")
    if (folder / "dataset.json").exists():
        manifest = Manifest.open(folder)
        rows = select(manifest, ViewConfig(part, labelled=part is not None, quality=part is not None)).rows
        told = manifest.select_cells(["key", "class"], rows)
        names, groups = told.column("class"), manifest.groups
        return LoadedCells(
            list(read_cells(manifest, rows)),
            None if names.null_count else np.array(names.to_pylist(), str),
            None if groups is None else groups[rows],
            told.column("key").to_pylist(),
        )
    keys, _ = find_images(folder)
    flat = all("/" not in key for key in keys)
    items = ImageFolder(folder, "{name}" if flat and keys else None).scan().items
    images = [_read(folder, item.key, window) for item in items]
    classes = None if flat else np.array([item.class_name for item in items])
    return LoadedCells(images, classes, None, [item.key for item in items])


def as_images(values: Any, window: Window = None) -> Sequence[np.ndarray] | None:
    """Return the images in scikit-learn's X, or None if X is a table with one row per cell.

    Args:
        values: (N, H, W), (N, 1, H, W) or (N, H, W, 1) array or tensor; a list or object array of (H, W), (1, H, W) or
            (H, W, 1) arrays, or of paths of image files; or a table.
        window: grey levels (low, high) of 16-bit image files that become black and white.

    Returns:
        N arrays (H, W), or None.

    Raises:
        ArgumentError: If an image is not grey, not finite or empty.
        DataError: If a file cannot be used.
    """
    values = on_host(values)
    if isinstance(values, np.ndarray) and values.ndim != 1 and values.dtype != object:
        if values.ndim == 2:
            return None
        return _checked(list(without_channel_axis(values, "X", "(N, H, W)")))
    if not isinstance(values, np.ndarray | list | tuple) or not len(values):
        return None
    if isinstance(values[0], str | os.PathLike):
        return [read_image_file(Path(path), window) for path in values]
    if getattr(values[0], "ndim", 0) in (2, 3):
        images = (on_host(image) for image in values)
        return _checked([_one_image(image, number) for number, image in enumerate(images)])
    return None


def on_host(values: Any) -> Any:
    """Return a tensor of torch as an array in host memory, and anything else unchanged."""
    if not (hasattr(values, "detach") and hasattr(values, "cpu")):
        return values
    tensor = values.detach().cpu()
    try:
        return tensor.numpy()
    except (TypeError, RuntimeError):  # bfloat16, or a sparse layout
        return tensor.to_dense().float().numpy()


def without_channel_axis(images: np.ndarray, name: str, rule: str) -> np.ndarray:
    """Return an array without its axis of one channel: the second one, or else the last.

    Args:
        images: (N, H, W), (N, 1, H, W) or (N, H, W, 1).
        name: what the array is, for messages.
        rule: its shape without the axis, for messages.

    Raises:
        ArgumentError: the array has another number of axes or several channels, or looks like one image with an axis
            of channels.
    """
    if images.ndim == 3:
        if images.shape[2] in (1, 3, 4) and min(images.shape[:2]) >= _LEAST_SIDE:
            got = f"{images.dtype} {images.shape}, which looks like one image with channels"
            raise invalid(name, f"grey, of the form {rule}", got, "Take one channel, or give a list of cells")
        return images
    if images.ndim == 4 and 1 in (images.shape[1], images.shape[3]):
        return images[:, 0] if images.shape[1] == 1 else images[:, :, :, 0]
    raise invalid(name, f"grey, of the form {rule}", f"{images.dtype} {images.shape}", "Take one channel")


def to_levels(image: np.ndarray, window: Window) -> np.ndarray:
    """Convert an image to the grey levels that the inference engine expects.

    Args:
        image: (H, W) numbers.
        window: grey levels (low, high) that become black and white, or None.

    Returns:
        (H, W) uint8 without a window, else uint16 in which 0 is black and 65535 is white.

    Raises:
        ArgumentError: If there is no window and a value is not a grey level 0..255.
    """
    if window is not None:
        low, high = window
        # Divide by the window before subtracting: the difference of large numbers may be infinite.
        share = image.astype(np.float64) / (high - low) - low / (high - low)
        return np.rint(np.clip(share, 0, 1) * 65535).astype(np.uint16)
    if image.dtype == np.uint8:
        return image
    levels = np.clip(image, 0, 255).astype(np.uint8)
    if not np.array_equal(levels, image):
        got = f"values from {image.min()} to {image.max()}"
        raise invalid(
            "X", "grey levels 0..255, like the uint8 images given to fit", got, "Convert the image in the same way"
        )
    return levels


def _checked(images: list[np.ndarray]) -> list[np.ndarray]:
    for number, image in enumerate(images):
        good = image.ndim == 2 and image.size and image.dtype.kind in "buif"
        if not good or (image.dtype.kind == "f" and not np.isfinite(image).all()):
            got = f"{image.dtype} {image.shape}" if not good else "NaN or infinity"
            raise invalid(f"X[{number}]", "a grey image (H, W) of finite numbers", got, "Leave it out, or convert it")
    return images


def _one_image(image: Any, number: int) -> np.ndarray:
    array = np.asarray(image)
    return array if array.ndim != 3 else without_channel_axis(array[None], f"X[{number}]", "(H, W)")[0]


def read_image_file(path: Path, window: Window) -> np.ndarray:
    """Return the grey pixels (H, W) uint8 of an image file.

    Args:
        path: path of the file.
        window: grey levels (low, high) of 16-bit images that become black and white.

    Raises:
        ArgumentError: If the image has 16 bits and there is no window.
        DataError: If the file cannot be used.
    """
    return _read(path.parent, path.name, window)


def _read(folder: Path, key: str, window: Window) -> np.ndarray:
    try:
        data = read_image(f"{folder}/{key}")
        with DecoderMessages() as messages:
            pixels = decode(data, encoding_of(key) or "", window).pixels
            messages.check(data)
        return pixels
    except NeedsWindow as error:
        rule = f"given for 16-bit images ({folder / key})"
        raise invalid("window", rule, None, f"{error.reason}; give the levels that become black and white") from None
    except BadCell as error:
        raise DataError(f"{folder / key} cannot be used as an image: {error.reason}. Leave it out.") from None
    except OSError as error:
        raise DataError(f"{folder / key} cannot be read ({error.strerror}). Check the path.") from None
