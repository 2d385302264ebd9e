"""Cells on which an exported classifier is compared with its run."""

import numpy as np

from fastcell.dataset.manifest import Manifest
from fastcell.inference import compared_cells
from fastcell.ops.border import border_median


def test_cells_of_a_data_set_are_those_of_the_engine(trained_data):
    manifest = Manifest.open(trained_data)
    cells = compared_cells.data_set_cells(manifest, 7, 8)
    assert len(cells.pixels) == 7
    assert [cell.shape[0] for cell in cells.pixels] == manifest.column("height")[
        np.linspace(0, len(manifest) - 1, 7).round().astype(int)
    ].tolist()
    np.testing.assert_array_equal(cells.border, [border_median(np.ascontiguousarray(cell)) for cell in cells.pixels])
    deep = compared_cells.data_set_cells(manifest, 7, 16)
    for eight, sixteen in zip(cells.pixels, deep.pixels, strict=True):
        np.testing.assert_array_equal(sixteen, eight.astype(np.uint16) * 257)
