"""Pieces hold the bytes of the cells that were asked for; corrupt ones are found before anybody decodes them."""

from collections.abc import Callable

import numpy as np
import pytest
from fixtures.written_bytes import damage, stored_bytes

from fastcell.dataset.corrupt_cells import CorruptCells
from fastcell.dataset.manifest import Manifest
from fastcell.errors import DataError
from fastcell.loading.stores.reading import PieceReader

Make = Callable[..., Manifest]
ORDER = np.array([7, 3, 11, 3, 0, 8, 5])
EDGES = np.array([0, 3, 6, 7])


@pytest.mark.parametrize("at_once", [1, 2, 9])
def test_pieces_are_the_cells_between_the_edges(make_dataset, at_once):
    manifest = make_dataset(12)
    reader = PieceReader(manifest, CorruptCells(manifest), raw=False)
    pieces = list(reader.pieces(ORDER, EDGES, at_once))
    assert [piece.wanted.tolist() for piece in pieces] == [[7, 3, 11], [3, 0, 8], [5]]
    for piece in pieces:
        assert piece.good_unless_all is None
        np.testing.assert_array_equal(piece.cell_ids, piece.wanted)
        np.testing.assert_array_equal(piece.heights, manifest.column("height")[piece.wanted])
        for cell_id, place in zip(piece.cell_ids, piece.places, strict=True):
            assert piece.stored.bytes_of(place).tobytes() == stored_bytes(manifest, int(cell_id))
    assert np.flatnonzero(reader.checked).tolist() == sorted(set(ORDER.tolist()))


def test_a_good_cell_or_a_blank_one_stands_in(make_dataset):
    manifest = make_dataset(12)
    for cell_id in (7, 5):
        damage(manifest, cell_id)
    reader = PieceReader(manifest, CorruptCells(manifest), raw=False)
    first, _, last = reader.pieces(ORDER, EDGES, 9)
    assert (first.cell_ids.tolist(), first.good.tolist()) == ([3, 3, 11], [False, True, True])
    np.testing.assert_array_equal(first.widths, manifest.column("width")[[3, 3, 11]])
    assert (last.cell_ids.tolist(), last.places.tolist()) == ([5], [-1])  # no good cell in its piece
    first, *_ = reader.pieces(ORDER, EDGES, 9, blank=True)
    assert first.cell_ids.tolist() == [7, 3, 11]
    assert (first.places < 0).tolist() == [True, False, False]
    assert reader.corrupt_cells.reasons == dict.fromkeys((7, 5), "other bytes than were packed")


def test_again_leaves_out_what_was_found_since(make_dataset):
    manifest = make_dataset(12)
    reader = PieceReader(manifest, CorruptCells(manifest), raw=False)
    piece = next(reader.pieces(ORDER, EDGES, 9))
    reader.corrupt_cells.add({3: "cannot be decoded"})
    again = reader.again(piece)
    assert (again.cell_ids.tolist(), again.good.tolist()) == ([7, 7, 11], [True, False, True])


def test_shards_are_looked_at_as_a_whole(make_dataset):
    manifest = make_dataset(12)  # four cells in each of three shards
    for cell_id in (1, 2, 9):
        damage(manifest, cell_id)
    reader = PieceReader(manifest, CorruptCells(manifest), raw=False)
    assert sorted(reader.check_shards([0])) == [1, 2]
    assert np.flatnonzero(reader.checked).tolist() == [0, 3]


def test_an_error_names_the_cell(make_dataset):
    manifest = make_dataset(12)
    damage(manifest, 11)
    reader = PieceReader(manifest, CorruptCells(manifest, "error"), raw=False)
    with pytest.raises(DataError, match="cell-00011.png"):
        list(reader.pieces(ORDER, EDGES, 9))
