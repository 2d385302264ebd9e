"""Verdicts are read as bits, and a file that says something else is refused by line."""

import numpy as np
import pytest

from fastcell.dataset.marks.verdict_bits import read_kept_cells
from fastcell.errors import DataError


def test_dropped_cells_are_zero_bits(tmp_path):
    path = tmp_path / "verdicts.csv"
    path.write_text("cell_id,verdict,reason\n9,drop,cut\n3,keep,\n0,drop,\n")
    kept = np.unpackbits(read_kept_cells(path, 11), count=11)
    assert np.flatnonzero(kept == 0).tolist() == [0, 9]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cell_id\n1\n", "must have columns cell_id and verdict"),
        ("cell_id,verdict\n1,drop\n11,drop\n", "of cells in the manifest, got 'drop' for '11'"),
        ("cell_id,verdict\n-1,drop\n", "got 'drop' for '-1'"),
        ("cell_id,verdict\n1,away\n", "got 'away' for '1'"),
        ("cell_id,verdict\n1,drop\n2,drop\n1,keep\n", "cell 1 must have one verdict, got drop, keep"),
    ],
)
def test_other_contents_are_refused(tmp_path, text, message):
    path = tmp_path / "verdicts.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        read_kept_cells(path, 11)


def test_a_folder_is_no_file(tmp_path):
    with pytest.raises(DataError, match="must be a file"):
        read_kept_cells(tmp_path, 1)
