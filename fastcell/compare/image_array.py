"""Preprocessed cells of the engine as one array on disk, for fitting baselines and for scoring all methods.

The file is memory-mapped, so that memory use does not grow with the data set and processes share the array.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

import numpy as np

from fastcell.dataset.cell_hashes import hashes_of
from fastcell.dataset.corrupt_cells import CorruptCells
from fastcell.dataset.integrity import WHOLE, check_stored_bytes
from fastcell.dataset.manifest import Manifest
from fastcell.dataset.views import View
from fastcell.errors import ArgumentError
from fastcell.loading.loader import CellLoader
from fastcell.loading.preprocessing import Preprocessing
from fastcell.loading.ranks import evaluation_share
from fastcell.loading.settings import LoaderSettings
from fastcell.storage.whole_files import file_crc32, replace_file, write_text
from fastcell.system.resources import available_memory, num_cpus

_BATCH = 256


@dataclass(frozen=True)
class CellImages:
    """Preprocessed cells in a file.

    Attributes:
        path: Path of the file, in NumPy's format.
        rows: (M,) int64, increasing; row of each image in the manifest.
        side: Side of the images [px].
    """

    path: Path
    rows: np.ndarray
    side: int

    def open(self) -> np.ndarray:
        """Return the images (M, S, S) float32, memory-mapped. An image is all NaN if its stored cell is corrupt."""
        return np.load(self.path, mmap_mode="r", allow_pickle=False)

    def places(self, rows: np.ndarray) -> np.ndarray:
        """Return the indices (n,) int64 of the images of some rows of the manifest."""
        return np.searchsorted(self.rows, rows)

    def corrupt_rows(self) -> np.ndarray:
        """Return the rows (L,) int64 of the corrupt cells in the manifest."""
        return self.rows[np.isnan(self.open()[:, 0, 0])]


def fingerprint(manifest: Manifest, rows: np.ndarray) -> str:
    """Return a hash of the stored bytes, classes and groups of some rows, which every result on them depends on."""
    digest = blake2b(np.ascontiguousarray(rows, np.int64).tobytes(), digest_size=16)
    digest.update(hashes_of(manifest)[rows].tobytes())
    digest.update(manifest.cell_labels[rows].tobytes())
    digest.update(json.dumps(manifest.info.classes).encode())
    if manifest.groups is not None:
        digest.update("\0".join(manifest.groups[rows].tolist()).encode())
    return digest.hexdigest()


def make_images(manifest: Manifest, rows: np.ndarray, preprocessing: Preprocessing, folder: Path) -> CellImages:
    """Preprocess cells as for networks and write them to a file in `folder`.

    An existing file is reused if its CRC-32 is correct and none of its corrupt cells has been repaired.

    Args:
        manifest: Manifest of the data set.
        rows: (M,) int64, increasing; rows of the manifest.
        preprocessing: Image size, fit and normalisation.
        folder: Folder of the file, which has M x S x S x 4 bytes.

    Raises:
        ArgumentError: The disk does not have enough free space for the file.
        DataError: More than half of the cells cannot be read.
    """
    side = preprocessing.image_size
    what = json.dumps([fingerprint(manifest, rows), preprocessing.to_dict()])
    name = blake2b(what.encode(), digest_size=8).hexdigest()
    images = CellImages(folder / f"images-{side}px-{name}.npy", rows, side)
    if _is_whole(images, manifest):
        return images
    size = len(rows) * side * side * 4
    free = shutil.disk_usage(folder).free
    if size > free:
        raise ArgumentError(
            f"--out must be on a disk with {size / 1e9:.1f} GB free for {len(rows):,} images of {side} x {side} "
            f"pixels, got {free / 1e9:.1f} GB at {folder}. Choose another place, or a smaller --data.image_size."
        )
    replace_file(images.path, lambda file: _write(file, manifest, rows, preprocessing))
    write_text(_crc_path(images), f"{file_crc32(images.path)}\n")
    return images


def _crc_path(images: CellImages) -> Path:
    return images.path.with_suffix(".crc32")


def _is_whole(images: CellImages, manifest: Manifest) -> bool:
    """Return whether a file of an earlier run exists and has the contents that it would have now."""
    try:
        if int(_crc_path(images).read_text()) != file_crc32(images.path):
            return False
    except (OSError, ValueError):
        return False
    corrupt = images.corrupt_rows()
    return len(corrupt) == 0 or bool((check_stored_bytes(manifest, corrupt) != WHOLE).all())


def _write(path: Path, manifest: Manifest, rows: np.ndarray, preprocessing: Preprocessing) -> None:
    side = preprocessing.image_size
    out = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(len(rows), side, side))
    loader = CellLoader(
        View(manifest, rows),
        evaluation_share(len(rows), _BATCH),
        preprocessing,
        LoaderSettings(threads=num_cpus()),
        corrupt_cells=CorruptCells(manifest, "replace"),
    )
    for step, batch in enumerate(loader):
        begin = step * _BATCH
        num = min(_BATCH, len(rows) - begin)
        pixels = batch.images[:num, 0].numpy()
        good = batch.weight[:num].numpy() > 0
        out[begin : begin + num] = np.where(good[:, None, None], pixels, np.nan)
    out.flush()


def frame_pixels(images: np.ndarray) -> np.ndarray:
    """Return the outer frame (n, p) float32 of images (n, S, S); its width is S // 16 pixels, but at least 2."""
    side = images.shape[1]
    inside = np.zeros((side, side), bool)
    width = max(2, side // 16)
    inside[width:-width, width:-width] = True
    return images.reshape(len(images), -1)[:, ~inside.ravel()]


def flat_pixels(images: CellImages, rows: np.ndarray, frame_only: bool) -> np.ndarray:
    """Return the pixels (n, p) float32 of some rows of the manifest, one row per image.

    Args:
        images: Preprocessed cells that include these rows.
        rows: (n,) int64, rows of the manifest.
        frame_only: Return only the outer frame of each image, see `frame_pixels`.

    Raises:
        ArgumentError: The pixels do not fit in memory.
    """
    size, free = len(rows) * images.side**2 * 4, available_memory()
    if 2 * size > free:
        raise ArgumentError(
            f"training cells must fit in half of the free memory ({free / 2e9:.1f} GB), got {len(rows):,} of "
            f"{images.side} x {images.side} pixels ({size / 1e9:.1f} GB). Use a smaller volume or --data.image_size."
        )
    chosen = images.open()[images.places(rows)]
    return frame_pixels(chosen) if frame_only else chosen.reshape(len(chosen), -1)
