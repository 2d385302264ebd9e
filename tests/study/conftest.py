"""Sets in which there is something to be found, and studies of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fastcell.data.manifest import DatasetInfo, Manifest
from fastcell.data.shards import Record, finish_dataset, staging, write_cell_shard
from fastcell.study.engine import Study, units_of
from fastcell.study.recipe import Recipe
from fastcell.study.schemes import SplitManifest, find_schemes

CLASSES = ["left", "right", "top"]
PLACES = {"left": np.s_[:, :4], "right": np.s_[:, -4:], "top": np.s_[:4, :]}


def bright(name: str, seed: int, noise: float = 10.0) -> np.ndarray:
    """(12, 16) uint8: a cell of a class is bright at one side."""
    cell = np.full((12, 16), 60.0)
    cell[PLACES[name]] = 180
    return np.clip(cell + np.random.default_rng(seed).normal(0, noise, cell.shape), 1, 255).astype(np.uint8)


@pytest.fixture
def planted(tmp_path: Path) -> Callable[..., Manifest]:
    """Function that packs `num` cells, classes in turn, in `groups` groups in turn, 60 / 20 / 20 %."""

    def make(
        num: int = 120,
        *,
        groups: int = 4,
        draw: Callable[[str, int], np.ndarray] = bright,
        names: list[str] | None = None,
        folder: str = "set",
    ) -> Manifest:
        labels = names or [CLASSES[number % 3] for number in range(num)]
        records = [
            Record(
                f"cell-{number:04d}.npy",
                draw(labels[number], number),
                "raw",
                labels[number],
                f"donor-{number // 3 % groups}" if groups else None,
            )
            for number in range(num)
        ]
        sides = np.array(["train", "train", "train", "valid", "test"])[np.arange(num) // 3 % 5]
        out = tmp_path / folder
        with staging(out) as hidden:
            shard = write_cell_shard(hidden / "shard-000000.tar", records, None, CLASSES)
            return finish_dataset(hidden, out, [shard], DatasetInfo("planted", CLASSES), {"default": sides})

    return make


@pytest.fixture
def study_of(tmp_path: Path) -> Callable[..., Study]:
    """Function that makes a quiet study of a manifest, on images of 16 x 16."""

    def make(manifest: Manifest, splits: str | None = "default", out: str = "out", **values: object) -> Study:
        schemes = find_schemes(manifest, splits)
        units, unit = units_of(manifest)
        (tmp_path / out).mkdir(exist_ok=True)
        lines: list[str] = []
        settings: dict[str, object] = {
            "recipe": Recipe(
                "demo",
                {"network": "cellnet", "optimizer": "adam", "learning_rate": 3e-3},
                {"image_size": 16, "batch_size": 32, "augment": False},
                {"max_epochs": 2},
            ),
            "components": 8,
            "min_steps": 4,
            "backend": "sklearn",
        }
        study = Study(
            SplitManifest.of(manifest, {name: s for one in schemes for name, s in one.splits.items()}),
            {scheme.name: scheme for scheme in schemes},
            out_dir=tmp_path / out,
            units=units,
            unit=unit,
            say=lines.append,
            **{**settings, **values},
        )
        study.lines = lines
        return study

    return make
