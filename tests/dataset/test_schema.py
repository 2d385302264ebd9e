"""Tables of rows in the types of their schema."""

import pyarrow as pa
import pytest

from fastcell.dataset.schema import BLOCKS_SCHEMA, QUARANTINE_SCHEMA, SCHEMA, make_table


def test_rows_become_columns_of_the_schema():
    table = make_table([("s.tar", 512, 40, 0, 3, "train"), ("s.tar", 1024, 50, 3, 1, "test")], BLOCKS_SCHEMA)
    assert table.schema == BLOCKS_SCHEMA
    assert table.column("num_cells").to_pylist() == [3, 1]
    assert [table.num_rows, table.num_columns] == [2, len(BLOCKS_SCHEMA)]


@pytest.mark.parametrize("schema", [SCHEMA, QUARANTINE_SCHEMA, BLOCKS_SCHEMA])
def test_no_rows_are_an_empty_table(schema):
    assert make_table([], schema).equals(schema.empty_table())


def test_rows_that_do_not_fit():
    with pytest.raises(pa.ArrowException):
        make_table([("s.tar", "no number", 40, 0, 3, "train")], BLOCKS_SCHEMA)
    with pytest.raises(ValueError, match="shorter"):
        make_table([("s.tar", 512, 40, 0, 3, "train"), ("s.tar",)], BLOCKS_SCHEMA)
