"""Small data sets whose pixels tell which cell they are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from fastcell.data.manifest import DatasetInfo, Manifest
from fastcell.data.records import Record
from fastcell.data.shards import finish_dataset, staging, write_block_shard, write_cell_shard

CLASSES = ["A", "B", "C"]


def tagged_pixels(number: int) -> np.ndarray:
    """(H, W) uint8 of a size that depends on `number`, which its first two pixels hold; the rest is noise."""
    rng = np.random.default_rng(number)
    pixels = rng.integers(1, 200, (3 + number % 5, 4 + number % 7)).astype(np.uint8)
    pixels[0, :2] = divmod(number, 256)
    return pixels


def _record(number: int, encoding: str, labelled: bool) -> Record:
    pixels = tagged_pixels(number)
    data: bytes | np.ndarray = pixels
    if encoding == "png16":
        data = cv2.imencode(".png", pixels.astype(np.uint16) * 257)[1].tobytes()
    elif encoding != "npy":
        data = cv2.imencode(f".{encoding}", pixels)[1].tobytes()
    name = CLASSES[number % 3] if labelled else None
    return Record(
        f"cell-{number:05d}.{encoding}", data, "raw" if encoding == "npy" else encoding[:3], name, um_per_px=0.25
    )


@pytest.fixture
def make_dataset(tmp_path: Path) -> Callable[..., Manifest]:
    """Function that packs `num_cells` tagged cells: the first 60 % train, 20 % valid, 20 % test."""

    def make(
        num_cells: int = 100,
        *,
        name: str = "set",
        layout: str = "cell",
        encoding: str = "png",
        num_shards: int = 3,
        block_cells: int = 16,
        labelled: bool = True,
        sides: tuple[float, float] = (0.6, 0.8),
    ) -> Manifest:
        window = (0.0, 65535.0) if encoding == "png16" else None
        edges = [int(num_cells * side) for side in sides]
        side = np.array(["train"] * edges[0] + ["valid"] * (edges[1] - edges[0]) + ["test"] * (num_cells - edges[1]))
        results = []
        with staging(tmp_path / name) as folder:
            for shard, numbers in enumerate(np.array_split(np.arange(num_cells), num_shards)):
                path = folder / f"shard-{shard:06d}.tar"
                records = [_record(number, encoding, labelled) for number in numbers.tolist()]
                if layout == "cell":
                    results.append(write_cell_shard(path, records, window, CLASSES))
                    continue
                blocks = []
                for part in ("train", "valid", "test"):
                    of_part = [record for record, number in zip(records, numbers, strict=True) if side[number] == part]
                    blocks += [(part, of_part[i : i + block_cells]) for i in range(0, len(of_part), block_cells)]
                results.append(write_block_shard(path, blocks, window))
            info = DatasetInfo(name, CLASSES if labelled else [], layout, window=list(window) if window else None)
            return finish_dataset(folder, tmp_path / name, results, info, {"default": side})

    return make


@pytest.fixture
def tagged() -> Callable[[int], np.ndarray]:
    """`tagged_pixels`: the pixels of a cell of `make_dataset`."""
    return tagged_pixels
