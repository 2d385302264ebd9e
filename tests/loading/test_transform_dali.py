"""DALI's operators: noise that repeats, and the filter in front of the map. `test_transforms` compares the images."""

from collections.abc import Callable

import numpy as np
import torch

from fastcell.dataset.manifest import Manifest
from fastcell.dataset.views import ViewConfig, select
from fastcell.loading.geometry import Geometry
from fastcell.loading.preprocessing import Preprocessing
from fastcell.loading.ranks import evaluation_share
from fastcell.loading.stores.stream import CellReader
from fastcell.loading.transform_dali import DaliTransform, _shrink
from fastcell.ops.augmentation import Augmentation

Make = Callable[..., Manifest]
BATCH, SIZE = 24, 32


def read(manifest):
    return next(CellReader(select(manifest, ViewConfig()), evaluation_share(len(manifest), BATCH)).epoch(0))


def test_dali_noise_repeats_with_seed_and_epoch(make_dataset):
    manifest = make_dataset(40)
    geometry = Geometry(manifest, Preprocessing(SIZE), Augmentation(noise_probability=1.0), 7)
    images = [DaliTransform(geometry, epoch, BATCH)(read(manifest), np.arange(BATCH)) for epoch in (0, 0, 1)]
    assert torch.equal(images[0], images[1])
    assert not torch.equal(images[0], images[2])


def test_cells_are_filtered_to_the_size_they_get_and_mapped_from_there():
    """A cell of 40 x 20 (width x height) to 10 x 10: filtered to that size, then mapped one to one."""
    matrix = np.array([[[4.0, 0, 0], [0, 2.0, 0]]])
    sizes = _shrink(matrix, np.array([20]), np.array([40]))
    assert (sizes.dtype, sizes.tolist()) == (np.float32, [[10, 10]])
    np.testing.assert_allclose(matrix, [[[1, 0, 0], [0, 1, 0]]])


def test_enlarged_cells_keep_their_size():
    matrix = np.array([[[0.5, 0, 1], [0, 0.25, 2]]])
    before = matrix.copy()
    assert _shrink(matrix, np.array([20]), np.array([40])).tolist() == [[20, 40]]
    np.testing.assert_array_equal(matrix, before)
