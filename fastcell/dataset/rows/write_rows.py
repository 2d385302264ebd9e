"""Write the tables of a data set: its manifest and its quarantine."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from fastcell.dataset.dataset_info import DatasetInfo
from fastcell.dataset.parquet import group_rows, write_parquet
from fastcell.dataset.schema import QUARANTINE_SCHEMA, SCHEMA
from fastcell.storage.whole_files import replace_file


def write_manifest(path: Path, table: pa.Table, info: DatasetInfo) -> None:
    """Write ``manifest.parquet``, then ``dataset.json``.

    ``dataset.json`` is written last because a folder without it does not count as a data set.
    """
    table = table.cast(SCHEMA)
    step = group_rows(table.num_rows)
    starts = range(0, max(table.num_rows, 1), step)
    parts = (table.slice(start, step).combine_chunks() for start in starts)
    write_parquet(path / "manifest.parquet", parts)
    replace_file(path / "dataset.json", lambda file: file.write_text(info.to_json(), encoding="utf-8"))


def write_quarantine(path: Path, table: pa.Table) -> None:
    """Write ``quarantine.parquet``."""
    write_parquet(path / "quarantine.parquet", table.cast(QUARANTINE_SCHEMA))
