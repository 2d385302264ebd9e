"""Cells as augmented square images: a data set in which all classes have the same number of images.

The images are those of the paper's order, augment and then split. Each of them knows the cell that it was made of.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path

import numpy as np
import pyarrow as pa

from fastcell.compare.image_array import fingerprint
from fastcell.dataset.block_layout import MAX_BLOCK_BYTES
from fastcell.dataset.dataset_info import DatasetInfo
from fastcell.dataset.manifest import Manifest
from fastcell.dataset.parquet import read_parquet, write_parquet
from fastcell.dataset.single_cells import read_cells
from fastcell.dataset.views import ViewConfig, select
from fastcell.errors import invalid
from fastcell.ops.augmentation import Augmentation, draw
from fastcell.ops.cpu.transform import transform_pool
from fastcell.ops.matrices import matrices
from fastcell.packing.finish_dataset import finish_dataset
from fastcell.packing.records import Record
from fastcell.packing.shard_writer import write_block_shard
from fastcell.storage.staging import staging
from fastcell.training.recipe import Recipe

_SOURCES = pa.schema([("cell_id", pa.int64()), ("source", pa.int64()), ("copy", pa.int32())])
_SHARD_IMAGES = 20_000
_BLOCK = 256


def augmented_set(
    manifest: Manifest, recipe: Recipe, copies: float, seed: int, out: Path
) -> tuple[Manifest, np.ndarray]:
    """Pack the labelled cells as augmented square images, the same number per class, into a data set in `out`.

    The first image of a cell is the cell itself. The others are drawn with the seed (seed, copy, cell). A data set that
    already exists with the same settings is reused.

    Args:
        manifest: Manifest of the source cells.
        recipe: Recipe that gives image size, fit and augmentation.
        copies: Images per cell of the largest class, at least 1. The other classes get the same number of images.
        seed: Random seed of the augmentation and of the choice of cells that get one more image.
        out: Existing folder.

    Returns:
        The new data set; and (M,) int64, for each of its images the row of the source cell in `manifest`.

    Raises:
        ArgumentError: `copies` is below 1.
    """
    if not copies >= 1:
        raise invalid("--copies", "1 or more", copies, "The paper uses about 1.3")
    rows = select(manifest, ViewConfig(labelled=True)).rows
    augmentation = Augmentation(**recipe.data.get("augmentation", {}))
    settings = [fingerprint(manifest, rows), recipe.image_size, recipe.data.get("fit"), augmentation.to_dict()]
    what = json.dumps([*settings, copies, seed, recipe.data.get("scale_um_per_px")])
    folder = out / f"augmented-{blake2b(what.encode(), digest_size=6).hexdigest()}"
    if not (folder / "dataset.json").exists():
        _pack(folder, manifest, rows, recipe, augmentation, copies, seed)
    made = Manifest.open(folder)
    sources = read_parquet(folder / "sources.parquet", _SOURCES, most_rows=len(made))
    return made, sources.column("source").to_numpy()


def num_images(labels: np.ndarray, copies: float, seed: int) -> np.ndarray:
    """Return the number of images of each cell.

    Every class gets `copies` times as many images as the largest class has cells, rounded.

    Args:
        labels: (n,) int, class of each cell.
        copies: Images per cell of the largest class, at least 1.
        seed: Random seed of the choice of cells that get one more image.

    Returns:
        (n,) int64, at least 1.
    """
    counts = np.bincount(labels)
    target = round(copies * int(counts.max()))
    number = np.zeros(len(labels), np.int64)
    for name in np.flatnonzero(counts):
        cells = np.random.default_rng([seed, 7, int(name)]).permutation(np.flatnonzero(labels == name))
        whole, rest = divmod(target, len(cells))
        number[cells] = whole
        number[cells[:rest]] += 1
    return number


def _pack(
    folder: Path,
    manifest: Manifest,
    rows: np.ndarray,
    recipe: Recipe,
    augmentation: Augmentation,
    copies: float,
    seed: int,
) -> None:
    order = np.random.default_rng([seed, 8]).permutation(len(rows))
    number = num_images(manifest.cell_labels[rows], copies, seed)[order]
    order = rows[order]
    shard = np.cumsum(number) // _SHARD_IMAGES
    sources, copy_numbers, results = [], [], []
    with staging(folder) as tmp_dir:
        for index in np.unique(shard):
            mine, times = order[shard == index], number[shard == index]
            sources.append(np.repeat(mine, times))
            copy_numbers.append(np.concatenate([np.arange(count) for count in times]))
            images = _images(manifest, mine, times, recipe, augmentation, seed)
            results.append(write_block_shard(tmp_dir / f"shard-{index:06d}.tar", _blocks(images, recipe.image_size)))
        ids = np.arange(int(number.sum()))
        columns = [ids, np.concatenate(sources), np.concatenate(copy_numbers).astype(np.int32)]
        write_parquet(tmp_dir / "sources.parquet", pa.table(dict(zip(_SOURCES.names, columns, strict=True)), _SOURCES))
        info = DatasetInfo(
            f"{manifest.info.name}, augmented",
            list(manifest.info.classes),
            "block",
            synthetic=manifest.info.synthetic,
            generator=manifest.info.generator,
            seed=seed,
        )
        finish_dataset(tmp_dir, folder, results, info)


def _blocks(records: Iterator[Record], side: int) -> Iterator[tuple[str, list[Record]]]:
    most = max(1, min(_BLOCK, MAX_BLOCK_BYTES // (2 * side * side)))
    block: list[Record] = []
    for record in records:
        block.append(record)
        if len(block) == most:
            yield "", block
            block = []
    if block:
        yield "", block


def _images(
    manifest: Manifest, rows: np.ndarray, times: np.ndarray, recipe: Recipe, augmentation: Augmentation, seed: int
) -> Iterator[Record]:
    """Yield all images of some cells, cell by cell."""
    cells = manifest.select_cells(["key", "class", "group", "collection"], rows).to_pylist()
    for row, count, cell, pixels in zip(rows.tolist(), times.tolist(), cells, read_cells(manifest, rows), strict=True):
        for copy, image in enumerate(augmented_images(manifest, row, pixels, count, recipe, augmentation, seed)):
            key = f"{cell['key']}#{copy}"
            yield Record(key, image, "raw", cell["class"], cell["group"], cell["collection"], source=cell["key"])


def augmented_images(
    manifest: Manifest,
    row: int,
    pixels: np.ndarray,
    count: int,
    recipe: Recipe,
    augmentation: Augmentation,
    seed: int,
) -> list[np.ndarray]:
    """Return square images of a cell: first the cell itself, then augmented images.

    Args:
        manifest: Manifest of the source cells.
        row: Row of the cell in the manifest.
        pixels: (H, W) uint8.
        count: Number of images.
        recipe: Recipe that gives image size and fit.
        augmentation: Ranges of the augmentation.
        seed: Random seed; an augmented image is drawn with (seed, copy, row).

    Returns:
        `count` images (S, S) uint8.
    """
    side, fit = recipe.image_size, recipe.data.get("fit", "stretch")
    height, width = pixels.shape
    draws = [draw(augmentation if copy else Augmentation.none(), seed, copy, np.array([row])) for copy in range(count)]
    sizes = np.full(1, height, np.int32), np.full(1, width, np.int32)
    border = float(manifest.table.column("border_median")[row].as_py()) if fit != "stretch" else np.nan
    scale = recipe.data.get("scale_um_per_px")
    um_per_px = float(manifest.table.column("um_per_px")[row].as_py())
    images = []
    for drawn in draws:
        out = np.empty((1, 1, side, side), np.float32)
        transform_pool(
            np.ascontiguousarray(pixels).ravel(),
            np.zeros(1, np.int64),
            *sizes,
            matrices(*sizes, side, fit, drawn, scale, np.array([um_per_px])),
            np.full(1, border, np.float32),
            drawn.blur_sigma,
            drawn.noise_std,
            drawn.noise_seed,
            out,
            "divide",
        )
        # The transform divides by the mean, as for all methods; the cell's own mean restores grey levels.
        images.append(np.clip(out[0, 0] * max(float(pixels.mean()), 1.0) + 0.5, 0, 255).astype(np.uint8))
    return images
