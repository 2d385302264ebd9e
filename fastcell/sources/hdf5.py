"""Read images and values from untrusted HDF5 files. Sizes in them are checked against the file's size.

Chunks are rejected if they would need more memory than their stored bytes can fill. HDF5 reads a chunk that was never
written, as in the file of an interrupted acquisition, as zeros. Here its cells and values are missing.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import math
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fastcell.dataset.image_headers import MAX_PIXELS
from fastcell.dataset.open_files import damaged, stamp_of
from fastcell.errors import BadCell, DataError
from fastcell.sources.containers import DECODED_RUNS, needs, read_bare
from fastcell.sources.hdf5_links import find
from fastcell.system.text import storable

_MOST_CHUNK_BYTES = 1 << 30
_FREE_CHUNK_BYTES = 1 << 24
_DENSEST = 1032  # maximum number of bytes that deflate produces from one byte
_RUN_CELLS = 64  # a library call takes longer than decoding this many cells
_RUN_BYTES = 1 << 20
_MOST_TEXT = 256
_WRITTEN = "already open for write"
_TRIES = 28
"""Maximum number of readings of metadata that another process is writing, until the checksum fits. The library waits 1
ns after the first one and then twice as long each time, 0.3 s in all; by its default of 100 readings a damaged file is
read for ever.
"""
_TEXT_LIMIT_S = 60.0
_TEXT_READER = """
import ctypes, json, resource, sys, h5py
ctypes.CDLL(None).prctl(1, 9)  # PR_SET_PDEATHSIG: the thread that waits for this process is the one that started it
resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
with h5py.File(sys.argv[1], "r", locking=False) as file:
    values = file[sys.argv[2]][()].ravel()
    texts = [value.decode("utf-8", "backslashreplace")[: int(sys.argv[3])] for value in values]
print(json.dumps(texts))
"""


class Images(NamedTuple):
    """A dataset of N images.

    Attributes:
        name: name of the dataset in the file.
        num, height, width: number and size of the images.
        channels: 1, or 3 or 4 for colour in the last axis.
        dtype: type of a grey level, as stored.
        run_cells: number of images to read at once; 0 if the images are stored contiguously and uncompressed, image k
            at `offset + k * height * width * channels` times the bytes of a grey level.
        offset: position of the first image in bytes; 0 if the dataset is chunked.
    """

    name: str
    num: int
    height: int
    width: int
    channels: int
    dtype: str
    run_cells: int
    offset: int

    @property
    def cell_bytes(self) -> int:
        """Size of one decoded cell with one channel, in bytes."""
        return self.height * self.width * np.dtype(self.dtype).itemsize


@contextmanager
def opened(path: str) -> Iterator[Any]:
    """Open an HDF5 file for reading; errors of the HDF5 library are raised as `DataError`.

    Yields:
        The open file, an `h5py.File`.

    Raises:
        DataError: If the file is damaged or not HDF5, or h5py is not installed.
    """
    h5py = _h5py(path)
    try:
        with _open(h5py, path) as file:
            yield file
    except PermissionError:
        raise
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, OverflowError, MemoryError) as error:
        raise damaged(path, error) from None


def describe_images(file: Any, dataset: Any, size: int) -> Images:
    """Describe a dataset of (N, H, W), (N, 1, H, W) or (N, H, W, 1 | 3 | 4) images.

    Args:
        file: open file.
        dataset: dataset from `find`.
        size: size of the file in bytes.

    Returns:
        The description.

    Raises:
        DataError: If the dataset holds no images, is not uint8 or uint16, or has a shape or chunks that the file cannot
            hold.
    """
    path, name = file.filename, dataset.name.strip("/")
    shape, dtype = tuple(map(int, dataset.shape or ())), dataset.dtype
    height, width, channels = image_shape(path, name, shape, dtype)
    num = shape[0]
    layout = dataset.id.get_create_plist()
    if dataset.chunks is None:
        offset = dataset.id.get_offset()
        if num and (offset is None or dataset.id.get_storage_size() < math.prod(shape) * dtype.itemsize):
            raise damaged(path, f"{name} of shape {shape} has {dataset.id.get_storage_size():,} bytes")
        return Images(name, num, height, width, channels, dtype.str, 0, offset or 0)
    chunk_bytes = math.prod(dataset.chunks) * dtype.itemsize
    if chunk_bytes > min(_MOST_CHUNK_BYTES, max(_FREE_CHUNK_BYTES, size * _DENSEST)):
        raise damaged(path, f"{name} has chunks of shape {dataset.chunks}, {chunk_bytes:,} bytes each")
    if num and not dataset.id.get_num_chunks():
        raise damaged(path, f"{name} of {num:,} images has no chunk")
    for i in range(layout.get_nfilters()):
        _check_filter(path, layout.get_filter(i))
    return Images(name, num, height, width, channels, dtype.str, _run_cells(shape, dataset.chunks[0], dtype), 0)


def written(dataset: Any, num: int) -> np.ndarray | None:
    """Return which of the first `num` rows of a dataset lie in chunks that were written, (num,) bool; None for all.

    Check `num` against the size of the file first. Call it inside `opened`.
    """
    if dataset.chunks is None:
        return None
    rows = -(-dataset.shape[0] // dataset.chunks[0])
    sides = zip(dataset.shape[1:], dataset.chunks[1:], strict=True)
    across = math.prod(-(-side // part) for side, part in sides)
    if dataset.id.get_num_chunks() >= rows * across:
        return None
    counts = np.zeros(-(-num // dataset.chunks[0]), np.int64)

    def count(chunk: Any) -> None:
        row = chunk.chunk_offset[0] // dataset.chunks[0]
        if row < len(counts):
            counts[row] += 1

    dataset.id.chunk_iter(count)
    return np.repeat(counts >= across, dataset.chunks[0])[:num]


def read_numbers(dataset: Any, first: int, last: int) -> np.ndarray:
    """Return rows of a dataset of numbers as (last - first,) float64; NaN for rows after its end and rows that were not
    written.

    Call it inside `opened`.
    """
    out = np.full(last - first, np.nan)
    stop = min(last, int(dataset.shape[0]))
    if stop > first:
        out[: stop - first] = dataset[first:stop]
        there = written(dataset, stop)
        if there is not None:
            out[: stop - first][~there[first:]] = np.nan
    return out


def image_shape(path: str, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> tuple[int, int, int]:
    """Return height, width and channels of the images in an array of (N, ...).

    Args:
        path: path of the file, for messages.
        name: name of the array, for messages.
        shape: shape of the array, (N, H, W), (N, 1, H, W) or (N, H, W, 1 | 3 | 4).
        dtype: type of its values, uint8 or uint16.

    Raises:
        DataError: If the array does not hold images.
    """
    if dtype.kind != "u" or dtype.itemsize > 2:
        raise DataError(
            f"{storable(path)}: {name} must hold uint8 or uint16, got {dtype}. Scale the images to one of these."
        )
    if len(shape) == 4 and shape[1] == 1:
        sides, channels = shape[2:], 1
    elif len(shape) == 4 and shape[3] in (1, 3, 4):
        sides, channels = shape[1:3], shape[3]
    elif len(shape) == 3:
        sides, channels = shape[1:], 1
    else:
        raise DataError(f"{storable(path)}: {name} must be (N, H, W), got {shape}. Save one channel of each cell.")
    if shape[0] and not 0 < sides[0] * sides[1] <= MAX_PIXELS:
        raise DataError(f"{storable(path)}: {name} must hold images of 1 to {MAX_PIXELS:,} pixels, got {shape}.")
    return sides[0], sides[1], channels


def load_images(path: str, images: Images, number: int) -> np.ndarray:
    """Return the (H, W) or (H, W, C) pixels of image `number`.

    Args:
        path: path of the file.
        images: description of the images.
        number: number of the image, from 0.

    Raises:
        OSError: If the file no longer exists.
        BadCell: If the bytes of the image are damaged.
    """
    if not images.run_cells:
        return read_bare(path, images.offset, number, images.height, images.width, images.channels, images.dtype)
    stamp = stamp_of(path)
    run, place = divmod(number, images.run_cells)
    key = (path, stamp, images.name, run)
    return DECODED_RUNS.get(key, lambda: _read_run(path, stamp, images, run))[place]


def read_values(dataset: Any, num: int) -> np.ndarray | None:
    """Return the (num,) numbers or texts of a dataset of shape (num,) or (num, 1); None for any other dataset.

    A value in a chunk that was never written is NaN or an empty text.

    Call it inside `opened`, which converts the errors of the HDF5 library for a damaged file.

    Raises:
        DataError: If texts cannot be read.
    """
    import h5py

    shape = tuple(dataset.shape or ())
    if shape not in ((num,), (num, 1)) or dataset.dtype.itemsize > 4 * _MOST_TEXT:
        return None
    text = h5py.check_string_dtype(dataset.dtype)
    if text is None and dataset.dtype.kind not in "biufS":
        return None
    if dataset.chunks is not None and math.prod(dataset.chunks) * dataset.dtype.itemsize > _FREE_CHUNK_BYTES * 4:
        return None
    if text is not None and text.length is None:
        return np.array(_read_texts(dataset.file.filename, dataset.name, num), dtype=object)
    values = np.asarray(dataset[()]).reshape(num)
    there = written(dataset, num)
    if there is not None:
        values = np.where(there, values, b"" if text is not None else np.nan)
    return np.array([_text(value) for value in values], dtype=object) if text is not None else values


def _read_texts(path: str, name: str, num: int) -> list[str]:
    """Read texts of variable length in a separate process: the library may never return for a damaged file."""
    command = [sys.executable, "-c", _TEXT_READER, path, name, str(_MOST_TEXT)]
    try:
        done = subprocess.run(command, capture_output=True, timeout=_TEXT_LIMIT_S, check=True)
        texts = json.loads(done.stdout)
    except (subprocess.SubprocessError, ValueError):
        raise damaged(path, f"the texts of {name}") from None
    if len(texts) != num:
        raise damaged(path, f"the texts of {name}")
    return [storable(text) for text in texts]


def _text(value: Any) -> str:
    return storable(value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value))[:_MOST_TEXT]


def _read_run(path: str, stamp: tuple[int, int], images: Images, run: int) -> np.ndarray:
    first = run * images.run_cells
    try:
        dataset = find(_file(path, stamp), images.name)
        pixels = np.asarray(dataset[first : first + images.run_cells])
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, DataError) as error:
        if not Path(path).exists():
            raise FileNotFoundError(2, "No such file or directory", path) from None
        raise BadCell(f"damaged: {str(error)[:120]}") from None
    shape = (images.height, images.width) if images.channels == 1 else (images.height, images.width, images.channels)
    pixels = pixels.reshape(len(pixels), *shape)
    pixels.flags.writeable = False
    return pixels


def _run_cells(shape: tuple[int, ...], chunk: int, dtype: np.dtype[Any]) -> int:
    cell_bytes = math.prod(shape[1:]) * dtype.itemsize
    most = max(chunk, min(_RUN_CELLS, _RUN_BYTES // max(cell_bytes, 1)))
    return most // chunk * chunk


@lru_cache(maxsize=16)
def _file(path: str, stamp: tuple[int, int]) -> Any:
    """Return the open file of this process, one for each `stamp`."""
    return _open(_h5py(path), path)


def close_files() -> None:
    """Close the files of this process. The library sees data added to a file only after the file is opened again."""
    _file.cache_clear()


def _open(h5py: Any, path: str) -> Any:
    """Open a file for reading. A file that another process is writing can be read if that process allows it (SWMR)."""
    try:
        return h5py.File(path, "r", locking=False)
    except OSError as error:
        if _WRITTEN not in str(error):
            raise
        try:
            return _open_growing(h5py, path)
        except OSError:
            raise error from None


def _open_growing(h5py: Any, path: str) -> Any:
    """Open a file that another process writes in the mode SWMR, with a limit on the time for its metadata."""
    access = h5py.h5p.create(h5py.h5p.FILE_ACCESS)
    access.set_fclose_degree(h5py.h5f.CLOSE_STRONG)
    access.set_file_locking(False, True)
    with contextlib.suppress(AttributeError), h5py._objects.phil:  # h5py does not offer the function
        limit = ctypes.CDLL(h5py.h5p.__file__).H5Pset_metadata_read_attempts
        limit.argtypes = (ctypes.c_int64, ctypes.c_uint)
        limit(access.id, _TRIES)
    flags = h5py.h5f.ACC_RDONLY | h5py.h5f.ACC_SWMR_READ
    return h5py.File(h5py.h5f.open(os.fsencode(path), flags, fapl=access))


def _h5py(path: str) -> Any:
    try:
        import h5py
    except ImportError:
        raise needs("h5py", path) from None
    return h5py


def _check_filter(path: str, description: tuple[Any, ...]) -> None:
    import h5py

    number, name = description[0], description[3]
    if h5py.h5z.filter_avail(number):
        return
    try:
        import hdf5plugin  # noqa: F401, registers its filters
    except ImportError:
        raise needs("hdf5plugin", path) from None
    if not h5py.h5z.filter_avail(number):
        raise DataError(
            f"{storable(path)} is compressed with {storable(name.decode('utf-8', 'replace'))!r} (filter {number}), "
            "which cannot be read. Save it with gzip or zstd."
        )
