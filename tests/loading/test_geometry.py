"""Map, grey level outside and augmentation of each cell, as its manifest's row and its place in the epoch say."""

from collections.abc import Callable

import numpy as np
import pytest

from fastcell.dataset.manifest import Manifest
from fastcell.loading.geometry import Geometry
from fastcell.loading.preprocessing import Preprocessing
from fastcell.loading.ragged_cells import RaggedCells
from fastcell.ops.augmentation import Augmentation, draw
from fastcell.ops.matrices import matrices

Make = Callable[..., Manifest]
IDS = np.array([5, 2, 11])


def cells_of(manifest):
    sides = (manifest.column(name).astype(np.int32)[IDS] for name in ("height", "width"))
    return RaggedCells(IDS, *sides, [], None)


def test_stretched_cells_go_on_at_their_edge(make_dataset):
    manifest = make_dataset(12)
    geometry = Geometry(manifest, Preprocessing(16), None, 0)
    assert not geometry.fills
    assert np.isnan(geometry.fill(cells_of(manifest))).all()
    assert geometry.columns(IDS) == (None, None)


@pytest.mark.parametrize("fit", ["contain", "scale"])
def test_others_are_filled_with_their_border(make_dataset, fit):
    manifest = make_dataset(12)
    geometry = Geometry(manifest, Preprocessing(16, fit, scale_um_per_px=0.5), None, 0)
    border = manifest.column("border_median")[IDS].astype(np.float32)
    np.testing.assert_array_equal(geometry.fill(cells_of(manifest)), border)
    got_border, um_per_px = geometry.columns(IDS)
    np.testing.assert_array_equal(got_border, border)
    assert (um_per_px is None) if fit == "contain" else (um_per_px == np.float32(0.25)).all()


def test_scale_knows_micrometres(make_dataset):
    """0.25 micrometres a pixel into pixels of 0.5: one step in the image is two in the cell."""
    manifest = make_dataset(12)
    geometry = Geometry(manifest, Preprocessing(16, "scale", scale_um_per_px=0.5), None, 0)
    np.testing.assert_allclose(
        geometry.matrices(cells_of(manifest), None)[:, :, :2], np.eye(2) * 2 * np.ones((3, 1, 1))
    )


def test_the_draw_follows_seed_epoch_and_position(make_dataset):
    manifest, augmentation = make_dataset(12), Augmentation()
    geometry = Geometry(manifest, Preprocessing(16), augmentation, 7)
    positions = np.array([3, 1000, 4])
    drawn = geometry.draw(2, positions)
    assert drawn is not None
    np.testing.assert_array_equal(drawn.noise_seed, draw(augmentation, 7, 2, positions).noise_seed)
    cells = cells_of(manifest)
    want = matrices(cells.heights, cells.widths, 16, "stretch", drawn, None, None)
    np.testing.assert_array_equal(geometry.matrices(cells, drawn), want)
    assert Geometry(manifest, Preprocessing(16), Augmentation.none(), 7).draw(2, positions) is None
