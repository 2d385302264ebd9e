"""Small data sets: simulated cells with faults, and drawn cells in which something may be planted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from fastcell.data.manifest import Manifest, write_split
from fastcell.data.pack import pack
from fastcell.data.splits import SplitOptions
from fastcell.data.synthetic import synthesize


@pytest.fixture(scope="session")
def synthetic(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """600 simulated cells, 30 % of them with a fault; not to be changed."""
    return synthesize(tmp_path_factory.mktemp("quality") / "set", 600, 11, defects=0.3, jobs=1)


@pytest.fixture
def fresh(tmp_path: Path) -> Manifest:
    """80 simulated cells, half of them with a fault, in a folder of the test's own."""
    return synthesize(tmp_path / "set", 80, 12, defects=0.5, jobs=1)


def draw_cell(rng: np.random.Generator, label: int, level: float = 120.0) -> np.ndarray:
    """(H, W) uint8: a disc on a noisy background; class 1 has a brighter core."""
    height, width = (int(side) for side in rng.integers(44, 52, 2))
    y, x = np.mgrid[:height, :width]
    far = np.hypot(y - height / 2 + rng.normal(), x - width / 2 + rng.normal()) / rng.normal(11, 0.7)
    cell = level + rng.normal(0, 2) + rng.normal(0, 2, (height, width))
    cell = cell + 70 * (far < 1) + 40 * label * (far < 0.5)
    return np.clip(cell, 0, 255).astype(np.uint8)


@pytest.fixture
def make_audit_set(tmp_path: Path) -> Callable[..., Manifest]:
    """Function that packs cells of classes A and B in three groups, all alike but for what is planted.

    background: grey levels that class B's background is brighter. drift: grey levels that all rise in a group. only:
    classes lie in groups of their own. copies: the first cell of A is also in B, turned, and on another side.
    """
    made = iter(range(100))

    def make(
        num: int = 240, *, background: float = 0, drift: float = 0, only: bool = False, copies: bool = False,
        labelled: bool = True, layout: str = "cell", grouped: bool = True, split: str | None = None,
    ) -> Manifest:  # fmt: skip
        rng = np.random.default_rng(5)
        folder = tmp_path / f"set-{next(made)}"
        for index in range(num):
            label = index % 2
            group = label if only else index // 2 % 3
            place = folder / "images" / f"g{group}" / "AB"[label]
            place.mkdir(parents=True, exist_ok=True)
            cell = draw_cell(rng, label, 120 + background * label + drift * index / num)
            cv2.imwrite(str(place / f"{index}.png"), cell)
            if copies and index == 0:
                other = folder / "images" / "g1" / "B"
                other.mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(other / "copy.png"), np.rot90(cell))
        fields = ("{group}" if grouped else "*", "{class}" if labelled else "*", "{name}")
        shares = SplitOptions(shares=(0.7, 0.0, 0.3))
        manifest = pack(
            folder / "images", folder / "set", pattern="/".join(fields), layout=layout, split=shares, jobs=1
        )
        if copies:
            sides = np.where(manifest.column("key") == "g1/B/copy.png", "test", "train")
            write_split(manifest.path, "leaky", sides)
        return manifest

    return make
