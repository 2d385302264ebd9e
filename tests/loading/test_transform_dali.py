"""DALI's graph of the transform against the fused loops."""

from __future__ import annotations

import ctypes
from collections.abc import Callable

import numpy as np
import pytest
import torch
from nvidia.dali.backend import TensorCPU, TensorListCPU

from fastcell.dataset.manifest import Manifest
from fastcell.dataset.views import ViewConfig, select
from fastcell.loading.preprocessing import Preprocessing
from fastcell.loading.ranks import evaluation_share
from fastcell.loading.stores.stream import CellReader, Cells
from fastcell.loading.transform_dali import pixel_addresses, sides
from fastcell.loading.transforms import (
    DaliTransform,
    FusedTransform,
    Geometry,
)
from fastcell.ops.augmentation import Augmentation

Make = Callable[..., Manifest]
STRONG = Augmentation(
    rotation_deg=180, translation=0.2, scale=0.5, blur_sigma=2.0, blur_probability=0.5, noise_probability=0.0
)
BATCH, SIZE = 24, 32


def read(manifest: Manifest) -> Cells:
    return next(CellReader(select(manifest, ViewConfig()), evaluation_share(len(manifest), BATCH)).epoch(0))


def both(
    manifest: Manifest, preprocessing: Preprocessing, augmentation: Augmentation | None
) -> tuple[torch.Tensor, torch.Tensor]:
    geometry, positions = Geometry(manifest, preprocessing, augmentation, 7), np.arange(100, 100 + BATCH)
    fused = FusedTransform(geometry, epoch=3)(read(manifest), positions)
    dali = DaliTransform(geometry, 3, BATCH)(read(manifest), positions)
    return fused, dali


@pytest.mark.parametrize("layout", ["cell", "block"])
@pytest.mark.parametrize("fit", ["stretch", "contain", "scale"])
@pytest.mark.parametrize("augmentation", [None, STRONG], ids=["plain", "augmented"])
def test_dali_equals_fused(make_dataset: Make, layout: str, fit: str, augmentation: Augmentation | None) -> None:
    """Grey levels over the mean, so the unit is about 1; DALI's coordinates are float32, hence 1e-3 at steep pixels."""
    preprocessing = Preprocessing(SIZE, fit, scale_um_per_px=0.1)
    fused, dali = both(make_dataset(40, layout=layout), preprocessing, augmentation)
    assert fused.shape == dali.shape == (BATCH, 1, SIZE, SIZE)
    np.testing.assert_allclose(dali.numpy(), fused.numpy(), atol=1e-3)
    np.testing.assert_allclose(fused.mean((1, 2, 3)).numpy(), 1, atol=1e-4)
    assert fused.std() > 0.1


def test_dali_noise_repeats_with_seed_and_epoch(make_dataset: Make) -> None:
    manifest = make_dataset(40)
    geometry = Geometry(manifest, Preprocessing(SIZE), Augmentation(noise_probability=1.0), 7)
    images = [DaliTransform(geometry, epoch, BATCH)(read(manifest), np.arange(BATCH)) for epoch in (0, 0, 1)]
    assert torch.equal(images[0], images[1])
    assert not torch.equal(images[0], images[2])


def test_addresses_and_sides_of_samples() -> None:
    cells = [np.full((3, 5, 1), 7, np.uint8), np.full((4, 2, 1), 9, np.uint8)]
    batch = TensorListCPU([TensorCPU(cell, layout="HWC") for cell in cells])
    heights, widths = sides(batch)
    assert (heights.tolist(), widths.tolist()) == ([3, 4], [5, 2])
    found = [ctypes.string_at(place, 8) for place in pixel_addresses(batch).tolist()]
    assert found == [b"\7" * 8, b"\t" * 8]
