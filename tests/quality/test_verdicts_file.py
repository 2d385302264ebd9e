"""Verdicts by hand stand, in every order of edits and runs; bad tables are refused by line."""

import numpy as np
import pytest

from fastcell.dataset.tables.read_table import read_text_columns
from fastcell.errors import DataError
from fastcell.quality.verdicts_file import (
    VERDICTS_FILE,
    Verdicts,
    apply_drops,
    find_cells,
    merge_verdicts,
    read_verdicts,
    write_verdicts,
)


def verdicts(*rows):
    """(cell_id, drop, by hand)."""
    ids, drop, hand = (np.array(column) for column in zip(*rows, strict=True))
    reasons = np.array(["blur" if dropped else "" for dropped in drop.tolist()], dtype=object)
    return Verdicts(ids.astype(np.int64), drop.astype(bool), reasons, hand.astype(bool))


def test_what_is_written_is_read(fresh, tmp_path):
    written = verdicts((0, True, False), (3, False, True), (7, True, True), (9, False, False))
    write_verdicts(tmp_path / "v.csv", fresh, written)
    found = read_verdicts(tmp_path / "v.csv", fresh)
    for ours, theirs in zip(written, found, strict=True):
        assert ours.tolist() == theirs.tolist()


def test_the_first_word_counts():
    merged = merge_verdicts(verdicts((5, False, True), (1, True, True)), verdicts((1, False, False), (2, True, False)))
    assert merged.cell_ids.tolist() == [1, 2, 5]
    assert merged.drop.tolist() == [True, True, False]
    assert merged.by_hand.tolist() == [True, False, True]


def test_an_edited_row_is_by_hand_and_so_is_one_without_qc(fresh, tmp_path):
    path = tmp_path / "v.csv"
    path.write_text("cell_id,verdict,qc,reason\n4,keep,drop,cut\n2,drop,drop,cut\n9,drop,,mine\n")
    found = read_verdicts(path, fresh)
    assert found.cell_ids.tolist() == [2, 4, 9]
    assert found.by_hand.tolist() == [False, True, True]
    assert found.reasons.tolist() == ["cut", "cut", "mine"]
    path.write_text("cell_id,verdict\n4,keep\n")
    assert read_verdicts(path, fresh).by_hand.tolist() == [True]


def test_cells_by_key_and_keys_that_look_like_numbers(fresh, tmp_path):
    keys = fresh.table.column("key").to_pylist()
    path = tmp_path / "v.csv"
    path.write_text(f'key,verdict\n"{keys[7]}", drop \n{keys[3]},keep\n')
    assert read_verdicts(path, fresh).cell_ids.tolist() == [3, 7]
    path.write_text("cell_id\n007\n")
    assert find_cells(read_text_columns(path, ("cell_id",)), fresh, path).tolist() == [7]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must have a header line with names of columns"),
        ("verdict\nkeep\n", "must have a column cell_id or key, got verdict"),
        ("cell_id\n1\n", "must have a column verdict, got cell_id"),
        ("cell_id,verdict\n1,maybe\n", "verdict must be keep or drop, got 'maybe' in line 2"),
        ("cell_id,verdict\n1,keep\n,drop\n", "cell_id must be that of a cell in .*, got '' in line 3"),
        ("cell_id,verdict\n80,keep\n", "cell_id must be that of a cell in .*, got '80' in line 2"),
        ("cell_id,verdict\n-1,keep\n", "got '-1'"),
        ("cell_id,verdict\n1.5,keep\n", "got '1.5'"),
        ("cell_id,verdict\n99999999999999999999999,keep\n", "got '99999999999999999999999'"),
        ("cell_id,verdict\n1,keep\n2,keep\n1,drop\n", "line 4 names cell '1' again"),
        ("key,verdict\nno/such.jpg,keep\n", "key must be that of a cell in .*, got 'no/such.jpg' in line 2"),
        ("cell_id,verdict\n1,keep\n2,keep,x\n", "must have 2 fields in each line as in its header, got 3 in line 3"),
    ],
)
def test_bad_tables_are_refused_by_line(fresh, tmp_path, text, message):
    path = tmp_path / "v.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        read_verdicts(path, fresh)
    with pytest.raises(DataError, match="must be a table, got no file"):
        read_verdicts(tmp_path / "none.csv", fresh)


def test_a_new_run_replaces_its_own_rows_and_leaves_the_users(fresh):
    path = fresh.path / VERDICTS_FILE
    write_verdicts(path, fresh, verdicts((2, True, False), (5, False, True), (6, True, True)))
    drop, reasons = np.zeros(len(fresh), bool), np.full(len(fresh), "cut", dtype=object)
    drop[[1, 5]] = True
    line = apply_drops(fresh, drop, reasons)
    assert line == f"wrote {path}: drops 2 of 80 cells (2 verdicts by hand); training and evaluation leave them out"
    found = read_verdicts(path, fresh)
    assert found.cell_ids.tolist() == [1, 5, 6]
    assert found.drop.tolist() == [True, False, True]
    assert found.reasons.tolist() == ["cut", "", "blur"]
    assert not fresh.verdicts()[[1, 6]].any()


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("sep=;\r\ncell_id;key;Verdict\r\n4,0;;drop\r\n2;; keep \r\n", "utf-8-sig"),
        ("cell_id\tverdict\n4.0\tdrop\n2\tkeep\n", "utf-16"),
        ('"","cell_id","verdict"\n"1","4","drop"\n"2","2","keep"\n', "utf-8"),
    ],
)
def test_verdicts_saved_by_other_programs(fresh, tmp_path, text, encoding):
    for path in (tmp_path / "v.csv", fresh.path / VERDICTS_FILE):
        path.write_bytes(text.encode(encoding))
        found = read_verdicts(path, fresh)
        assert (found.cell_ids.tolist(), found.drop.tolist()) == ([2, 4], [False, True])
    assert np.flatnonzero(~fresh.verdicts()).tolist() == [4]
    (fresh.path / VERDICTS_FILE).write_bytes("cell_id,verdict\n1,ü\n".encode("latin-1"))
    with pytest.raises(DataError, match="must be UTF-8 text"):
        fresh.verdicts()
