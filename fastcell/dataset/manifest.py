"""The manifest of a packed data set: one row per cell, written once and never changed. Mutable data are in other files.

Files of a packed data set::

    dataset.json         description: classes, layout, shards, window (`DatasetInfo`)
    manifest.parquet     one row per usable cell; row number = cell_id (`SCHEMA`)
    splits/NAME.parquet  cell_id, split
    quarantine.parquet   unusable cells, with the reason (`QUARANTINE_SCHEMA`)
    features.parquet     measurements of the instrument in addition to the pixels, optional
                         (`fastcell.dataset.rows.instrument_features`)
    quality.parquet      quality control, optional: score, most likely fault, verdict (`QUALITY_SCHEMA`) and features
                         by cell_id; does not change any view
    verdicts.csv         cells that views leave out, optional: cell_id, verdict (keep | drop), reason; may be edited
                         by hand
    marks.jsonl          labels by hand, unsure cells and tags of ``fastcell review``, optional, only appended to
                         (`fastcell.dataset.marks.journal`); a label by hand replaces the recorded one
    duplicates.parquet   copies that `fastcell split` found, optional (`fastcell.splits.copies.exact`)
    blocks.parquet       block layout only: one row per block (`BLOCKS_SCHEMA`)
    shard-*.tar          pixels
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fastcell.dataset.dataset_files import DatasetFiles
from fastcell.dataset.dataset_info import DatasetInfo, info_in, remote_at
from fastcell.dataset.decode import ENCODINGS
from fastcell.dataset.marks.corrected_labels import corrected_classes, corrected_column, marked_cells
from fastcell.dataset.marks.replay import MarkedCells
from fastcell.dataset.marks.verdict_bits import read_kept_cells
from fastcell.dataset.parquet import join_parts, read_parquet, read_parquet_parts
from fastcell.dataset.rows.cell_groups import CellGroups
from fastcell.dataset.rows.cell_labels import CellLabels
from fastcell.dataset.rows.instrument_features import read_feature_names, read_instrument_features
from fastcell.dataset.rows.manifest_checks import check_blocks, check_quarantine, checked_quality
from fastcell.dataset.rows.mapped_manifest import MappedRows
from fastcell.dataset.rows.read_rows import read_manifest_rows
from fastcell.dataset.rows.split_table import read_split, subset_names
from fastcell.dataset.rows.subset_codes import SubsetCodes
from fastcell.dataset.rows.take_rows import take_rows
from fastcell.dataset.schema import BLOCKS_SCHEMA, QUALITY_SCHEMA, QUARANTINE_SCHEMA, SCHEMA
from fastcell.errors import ArgumentError
from fastcell.remote.object_cache import ObjectCache
from fastcell.storage.places import local_path
from fastcell.system.text import html_text, printable

if TYPE_CHECKING:
    from fastcell.remote.remote_dataset import RemoteDataset

AnyManifest = TypeVar("AnyManifest", bound="Manifest")

_MOST_SHOWN = 4  # names of classes in a line
_MOST_ROWS_SHOWN = 20


@dataclass(frozen=True, repr=False)
class Manifest(DatasetFiles):
    """A data set folder, opened for reading.

    Attributes:
        path: the folder.
        info: content of ``dataset.json``; classes that exist only as labels by hand follow the others.
        table: N rows of `SCHEMA`; row number = cell_id. The class is the label by hand if there is one.
        marked: marks in ``marks.jsonl`` at the time of opening; None without marks.
        remote: the data set at its address, or the shards there of a data set on this machine; None if all is on this
            machine. For a data set at an address, `path` is a copy of its tables.
        mapped: mapped columns of a large data set; None for a smaller one or for some of its rows, in memory.
    """

    table: pa.Table
    marked: MarkedCells | None = None
    mapped: MappedRows | None = field(default=None, init=False)

    @classmethod
    def open(cls, path: str | os.PathLike[str], cache: ObjectCache | None = None) -> Manifest:
        """Open the data set in folder ``path``, or at an address such as ``s3://bucket/cells``.

        Args:
            path: folder or address.
            cache: cache of a data set at an address; None for the default one.

        Raises:
            ArgumentError: the address or the cache is invalid.
            FastcellError: the package for the address is not installed.
            DataError: the folder holds no data set, the data set is damaged or has another format version, its rows
                have invalid offsets or sizes, or its marks are damaged.
        """
        remote = remote_at(path, cache)
        folder = local_path("DATA", path) if remote is None else remote.folder
        info = info_in(folder, str(remote or path))
        remote = shards_of(info, folder, remote, cache)
        table, mapped = read_manifest_rows(folder, info)
        marked = marked_cells(folder, table)
        if marked is not None:
            info = replace(info, classes=corrected_classes(info.classes, marked))
            column = corrected_column(table.column("class"), marked)
            table = table.set_column(SCHEMA.get_field_index("class"), "class", column)
        manifest = cls(folder, info, table, marked, remote=remote)
        object.__setattr__(manifest, "mapped", mapped)
        if info.layout == "block" and mapped is None:
            manifest.blocks()
        return manifest

    @classmethod
    def like(cls: type[AnyManifest], manifest: Manifest, **more: Any) -> AnyManifest:
        """Return a manifest of this class with the rows of another one, given the further fields of the class."""
        given = {item.name: getattr(manifest, item.name) for item in fields(Manifest) if item.init}
        made = cls(**given, **more)
        object.__setattr__(made, "mapped", manifest.mapped)
        return made

    def __len__(self) -> int:
        return self.table.num_rows

    def __repr__(self) -> str:
        names = ", ".join(map(printable, self.info.classes[:_MOST_SHOWN]))
        more = ", ..." if len(self.info.classes) > _MOST_SHOWN else ""
        count = len(self.info.classes)
        classes = f"{count} class{'es' * (count != 1)} ({names}{more})" if count else "no classes"
        return f"<{type(self).__name__} of {printable(self.place)}: {len(self):,} cells, {classes}>"

    def _repr_html_(self) -> str:
        counts = pc.value_counts(self.table.column("class").fill_null("(no class)")).to_pylist()
        rows = sorted(counts, key=lambda row: -row["counts"])
        cells = "".join(
            f"<tr><td>{html_text(row['values'])}</td><td>{row['counts']:,}</td></tr>" for row in rows[:_MOST_ROWS_SHOWN]
        )
        more = f"<p>{len(rows) - _MOST_ROWS_SHOWN:,} more classes</p>" if len(rows) > _MOST_ROWS_SHOWN else ""
        about = html_text(repr(self)[1:-1])
        return f"<p>{about}</p><table><tr><th>class</th><th>cells</th></tr>{cells}</table>{more}"

    def column(self, name: str) -> np.ndarray:
        """Return one column as a NumPy array of N values.

        Columns of strings or bytes are returned as objects, with None for null.
        """
        return self.table.column(name).to_numpy(zero_copy_only=False)

    def select_cells(self, names: Sequence[str], cell_ids: npt.ArrayLike) -> pa.Table:
        """Return some columns of some cells, in the order of `cell_ids`, (n,) integers."""
        return take_rows(self.table.select(list(names)), cell_ids)

    def recorded_classes(self) -> pa.ChunkedArray:
        """Return the (N,) classes in ``manifest.parquet``, ignoring labels by hand; null for a cell without a class.

        Raises:
            DataError: the file is damaged.
        """
        if self.marked is None or not self.marked.labelled.any():
            return self.table.column("class")
        schema = pa.schema([SCHEMA.field("class")])
        return read_parquet(self.path / "manifest.parquet", schema).column("class")

    @cached_property
    def labels(self) -> np.ndarray:
        """(N,) int64, index into ``info.classes``, -1 for a cell without a class."""
        return self.class_codes.astype(np.int64)

    @cached_property
    def class_codes(self) -> np.ndarray:
        """(N,) signed integers of the smallest type, index into ``info.classes``, -1 for a cell without a class."""
        if self.mapped is not None and self.marked is None:
            return self.mapped.class_codes
        return self._codes("class", self.info.classes)

    @property
    def cell_labels(self) -> CellLabels:
        """Labels by cell_id, int64, in a byte or two for each cell."""
        return CellLabels(self.class_codes, np.append(np.arange(len(self.info.classes)), -1))

    @cached_property
    def encoding_codes(self) -> np.ndarray:
        """(N,) int8, index of the cell's encoding in `fastcell.dataset.decode.ENCODINGS`, -1 for another one."""
        if self.mapped is not None:
            return self.mapped.encoding_codes
        return self._codes("encoding", list(ENCODINGS))

    @cached_property
    def groups(self) -> CellGroups | None:
        """Group of each cell; None if no cell has a group."""
        return CellGroups.of(self.table.column("group")) if self.mapped is None else self.mapped.groups

    @cached_property
    def shard_index(self) -> np.ndarray:
        """(N,) int64, index into ``info.shards``."""
        return self._codes("shard", [shard["name"] for shard in self.info.shards]).astype(np.int64)

    @cached_property
    def shard_edges(self) -> np.ndarray | None:
        """(S + 1,) int64, first row of each shard and N; None for a selection of the rows of a data set."""
        edges = np.cumsum([0, *(shard["num_cells"] for shard in self.info.shards)])
        return edges if edges[-1] == len(self) else None

    def shards_of(self, cell_ids: np.ndarray) -> np.ndarray:
        """Return the index into ``info.shards`` of each cell, (n,) int64; cell_ids count through the shards."""
        if self.shard_edges is None:
            return self.shard_index[cell_ids]  # type: ignore[no-any-return]
        return np.searchsorted(self.shard_edges, cell_ids, "right") - 1

    def rows_of(self, shard: int) -> slice:
        """Return the rows of a shard, which are adjacent."""
        edges = self.shard_edges
        begin, end = (
            np.searchsorted(self.shard_index, (shard, shard + 1)) if edges is None else edges[shard : shard + 2]
        )
        return slice(int(begin), int(end))

    def rows_by_shard(self) -> list[np.ndarray]:
        """Return the cell_ids of each shard that has cells, (n,) int64 each."""
        order = np.argsort(self.shard_index, kind="stable")
        edges = np.flatnonzero(np.diff(self.shard_index[order])) + 1
        return np.split(order, edges) if len(order) else []

    def split(self, name: str = "default") -> np.ndarray:
        """Read a split.

        Args:
            name: name of the split.

        Returns:
            (N,) str, subset of each cell: ``train``, ``valid``, ``test`` or empty.

        Raises:
            ArgumentError: no split has this name; the message lists the existing names.
            DataError: the file is damaged, or does not match the manifest.
        """
        return subset_names(self.split_codes(name))

    def split_codes(self, name: str = "default") -> np.ndarray:
        """Read a split as numbers.

        Returns:
            (N,) int8, index into `SPLITS` of each cell's subset, -1 for none.

        Raises:
            ArgumentError, DataError: as for `split`.
        """
        return self.packed_split(name).whole()

    def packed_split(self, name: str = "default") -> SubsetCodes:
        """Read a split as `split_codes` does, and return it in two bits for each cell.

        Raises:
            ArgumentError, DataError: as for `split`.
        """
        there = self.split_names()
        if name not in there:
            raise ArgumentError(f"split_name must be one of {', '.join(there) or '(none)'}, got {name!r}.")
        return read_split(self.path / "splits" / f"{name}.parquet", len(self))

    def split_names(self) -> list[str]:
        """Return the names of the splits of the data set, sorted."""
        return sorted(path.stem for path in (self.path / "splits").glob("*.parquet"))

    def quarantine(self) -> pa.Table:
        """Read the quarantined cells.

        Returns:
            Rows of `QUARANTINE_SCHEMA`; no rows if no cell was quarantined.

        Raises:
            DataError: the file is damaged, or does not match the manifest.
        """
        path = self.path / "quarantine.parquet"
        if not path.exists():
            return QUARANTINE_SCHEMA.empty_table()
        table = read_parquet(path, QUARANTINE_SCHEMA)
        check_quarantine(table, len(self), path)
        return table

    def features(self) -> pa.Table | None:
        """Read the instrument features of all cells.

        Returns:
            N rows in the order of cell_id: `cell_id` and one float64 column for each feature, null for a missing value.
            None if the source had no features.

        Raises:
            DataError: the file is damaged, or does not match the manifest.
        """
        return read_instrument_features(self.path, len(self))

    def feature_names(self) -> list[str]:
        """Return the names of the instrument features without reading their values; an empty list if there are none.

        Raises:
            DataError: the file is damaged, or has other columns.
        """
        return read_feature_names(self.path)

    def quality(self) -> pa.Table | None:
        """Read the result of quality control.

        Returns:
            Rows of `QUALITY_SCHEMA`, one for each cell; None if quality control has not been run.

        Raises:
            DataError: the file is damaged, or does not match the manifest.
        """
        parts = self._quality_parts()
        return None if parts is None else join_parts(list(parts), QUALITY_SCHEMA)

    def num_poor(self) -> int | None:
        """Return the number of cells that quality control found poor; None if it has not been run.

        Raises:
            DataError: as for `quality`.
        """
        parts = self._quality_parts()
        if parts is None:
            return None
        return sum(pc.sum(pc.equal(part.column("verdict"), "drop"), min_count=0).as_py() for part in parts)

    def _quality_parts(self) -> Iterator[pa.Table] | None:
        path = self.path / "quality.parquet"
        if not path.exists():
            return None
        parts = read_parquet_parts(path, QUALITY_SCHEMA, most_rows=len(self), hint="Run fastcell qc again")
        return checked_quality(parts, len(self), path)

    def verdicts(self) -> np.ndarray:
        """Read the verdicts of ``verdicts.csv``.

        Returns:
            (N,) bool, False for the cells that ``verdicts.csv`` drops; all True if the file does not exist.

        Raises:
            DataError: the file has no columns ``cell_id`` and ``verdict``, has invalid values, or names a cell twice.
        """
        bits = self.verdict_bits()
        return np.ones(len(self), bool) if bits is None else np.unpackbits(bits, count=len(self)).view(bool)

    def verdict_bits(self) -> np.ndarray | None:
        """Read the verdicts of ``verdicts.csv`` as `numpy.packbits` of `verdicts`; None if the file does not exist."""
        path = self.path / "verdicts.csv"
        return read_kept_cells(path, len(self)) if path.exists() else None

    def blocks(self) -> pa.Table:
        """Return the rows of `BLOCKS_SCHEMA`, in stored order (block layout only).

        Raises:
            DataError: the file is missing or damaged, or does not match the manifest.
        """
        return self._blocks

    @cached_property
    def _blocks(self) -> pa.Table:
        path = self.path / "blocks.parquet"
        table = read_parquet(path, BLOCKS_SCHEMA, most_rows=len(self))
        check_blocks(table, self.table, self.info, path)
        return table

    def _codes(self, name: str, values: list[str]) -> np.ndarray:
        index = pc.index_in(self.table.column(name), value_set=pa.array(values, pa.string()))
        kind = np.min_scalar_type(-len(values) - 1)
        return index.fill_null(-1).to_numpy(zero_copy_only=False).astype(kind)  # type: ignore[no-any-return]


@lru_cache(maxsize=2)
def open_once(place: str) -> Manifest:
    """Return a data set; a worker that gets many tasks opens it once."""
    return Manifest.open(place)


def shards_of(
    info: DatasetInfo, folder: Path, remote: RemoteDataset | None, cache: ObjectCache | None
) -> RemoteDataset | None:
    """Return where the shards of a data set are, which need not be where its tables are; None for a folder here."""
    if info.shards_at is None:
        return remote
    from fastcell.remote.remote_dataset import RemoteDataset

    if remote is None:
        return RemoteDataset.of_shards(info.shards_at, cache or ObjectCache.of(), folder)
    return remote.with_shards_at(info.shards_at)
