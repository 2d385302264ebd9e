"""Read the rows of a manifest: mapped if they are many, else into memory."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from fastcell.dataset.dataset_info import DatasetInfo
from fastcell.dataset.parquet import join_parts, read_parquet, read_parquet_parts
from fastcell.dataset.rows.manifest_checks import ManifestChecks, check_blocks
from fastcell.dataset.rows.mapped_manifest import MappedRows, map_rows
from fastcell.dataset.schema import BLOCKS_SCHEMA, SCHEMA

FEWEST_MAPPED_ROWS = 1_000_000
"""Smallest number of rows of a manifest that is mapped. A smaller manifest is read in less than a second."""


def read_manifest_rows(folder: Path, info: DatasetInfo) -> tuple[pa.Table, MappedRows | None]:
    """Read and check the rows of a data set.

    Args:
        folder: folder of ``manifest.parquet``.
        info: content of ``dataset.json``.

    Returns:
        N rows of `SCHEMA`, and their mapped columns; None for the columns if the rows are few, or if the cache folder
        cannot hold them.

    Raises:
        DataError: the file is missing or damaged, or a row violates a rule.
    """
    mapped = _mapped(folder, info) if info.num_cells >= FEWEST_MAPPED_ROWS else None
    return (_read(folder / "manifest.parquet", info), None) if mapped is None else (mapped.table, mapped)


def _mapped(folder: Path, info: DatasetInfo) -> MappedRows | None:
    """Return the mapped rows of a large data set; None if the cache folder cannot hold them."""

    def check(table: pa.Table) -> None:
        if info.layout == "block":
            path = folder / "blocks.parquet"
            check_blocks(read_parquet(path, BLOCKS_SCHEMA, most_rows=len(table)), table, info, path)

    return map_rows(folder / "manifest.parquet", info, check)


def _read(path: Path, info: DatasetInfo) -> pa.Table:
    """Read and check the rows of a manifest, in parts, and return them as one chunk for each column."""
    checks, parts = ManifestChecks(info, path), []
    for part in read_parquet_parts(path, SCHEMA):
        checks.add(part)
        parts.append(part)
    checks.finish()
    return join_parts(parts, SCHEMA)
