"""Copies of a cell in a data set: exact copies up to flips and quarter turns, and near copies, found by registration.

A copy in another subset of a split makes a test score meaningless. The search for exact copies is complete: the mean,
the median of the border and the sorted sides, all stored in the manifest, are the same for all eight flips and quarter
turns of an image, so that only cells that agree in all of them need to be read. The search for near copies
(`fastcell.splits.copies.near`) may miss some; it measures its recall on copies that it makes itself. The result is
stored in the sidecar file `duplicates.parquet`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fastcell.dataset.cell_hashes import hash_pixels
from fastcell.dataset.manifest import Manifest
from fastcell.dataset.parquet import read_parquet, write_parquet
from fastcell.dataset.rows.byte_values import byte_values, distinct_values
from fastcell.dataset.single_cells import read_cells
from fastcell.errors import DataError
from fastcell.splits.linked_groups import Ids
from fastcell.stats.proportions import wilson_interval
from fastcell.system.worker_processes import check_jobs, num_threads

SIDECAR = "duplicates.parquet"
COPY_KINDS = ("exact", "near")
DUPLICATES_SCHEMA = pa.schema(
    [
        ("cell_id", pa.int64()),
        ("set", pa.int64()),  # cells of one set are copies of each other, directly or through other copies
        ("kind", pa.string()),  # exact: the cell has an exact copy in its set; near: it has only near copies
        ("correlation", pa.float32()),  # highest correlation with a copy: 1 for an exact copy
    ]
)
_FACTS = b"fastcell"
_VERSION = 1
_PART_CELLS = 512


class Recall(NamedTuple):
    """Number of planted copies of one kind that a search has found.

    Attributes:
        kind: one of `fastcell.splits.copies.planting.PLANTED_KINDS`.
        found: number of copies found.
        planted: number of copies made.
    """

    kind: str
    found: int
    planted: int

    def interval(self) -> tuple[float, float]:
        """Return the 95 % confidence interval of the share found (Wilson, JASA 22:209, 1927)."""
        return wilson_interval(self.found, self.planted)


class NearFacts(NamedTuple):
    """Statistics of a search for near copies.

    Attributes:
        num_plain: number of cells with too little content to compare: small, or of low contrast.
        num_pairs: number of pairs of neighbours that were registered.
        correlation: smallest correlation of a copy, see `fastcell.splits.copies.near.Bounds`.
        detail: smallest correlation of details of a copy, see `fastcell.splits.copies.near.Bounds`.
        recall: recall on planted copies of a sample of the same cells, by kind.
    """

    num_plain: int
    num_pairs: int
    correlation: float
    detail: float
    recall: tuple[Recall, ...]


@dataclass(frozen=True)
class Duplicates:
    """Sets of cells that are copies of each other. m cells are in a set; all other cells have no copy.

    Attributes:
        cell_ids: (m,) int64, sorted by set, then ascending.
        sets: (m,) int64, number of each cell's set, 0 to S - 1, in the order of their first cells.
        kinds: (m,) `exact` or `near`, see `DUPLICATES_SCHEMA`.
        correlations: (m,) float32, highest correlation of the cell with a copy.
        blank: (m,) bool, True for cells of one grey level: they are copies of each other but show no cell.
        num_cells: number of cells that were searched.
        num_read: number of cells whose pixels were read.
        near: statistics of the search for near copies; None if only exact copies were searched.
    """

    cell_ids: Ids
    sets: Ids
    kinds: npt.NDArray[np.str_]
    correlations: npt.NDArray[np.float32]
    blank: npt.NDArray[np.bool_]
    num_cells: int
    num_read: int = 0
    near: NearFacts | None = None

    def __len__(self) -> int:
        """Return the number of sets."""
        return int(self.sets[-1]) + 1 if len(self.sets) else 0

    def of_cells(self, num_cells: int) -> Ids:
        """Return the set of each cell by cell_id, (num_cells,) int64, -1 for a cell without copies."""
        found = np.full(num_cells, -1, np.int64)
        found[self.cell_ids] = self.sets
        return found

    def members(self) -> list[Ids]:
        """Return the cell_ids of each set."""
        return np.split(self.cell_ids, np.flatnonzero(np.diff(self.sets)) + 1) if len(self) else []

    def under_two_classes(self, labels: np.ndarray) -> Ids:
        """Return two cells of different classes of each set that has several, (n, 2) cell_ids: one label is wrong.

        Args:
            labels: (N,) int, class of each cell by cell_id, -1 without one. Sets of images of one grey level do not
                count.
        """
        label = np.asarray(labels)[self.cell_ids]
        known = np.flatnonzero((label >= 0) & ~self.blank)
        order = known[np.lexsort((label[known], self.sets[known]))]
        new = np.append(True, self.sets[order][1:] != self.sets[order][:-1])[: len(order)]
        first, last = order[new], order[np.append(new[1:], True)[: len(order)]]
        several = label[first] != label[last]
        return np.stack([self.cell_ids[first[several]], self.cell_ids[last[several]]], axis=1)

    def spanning(self, subsets: np.ndarray) -> Ids:
        """Return the numbers of the sets whose cells are in two or more subsets of a split.

        Args:
            subsets: (N,) str, in the order of cell_id; a cell in no subset (`""`) cannot leak.
        """
        _, subset = np.unique(np.asarray(subsets)[self.cell_ids], return_inverse=True)
        placed = np.asarray(subsets)[self.cell_ids] != ""
        pairs = np.unique(np.stack([self.sets[placed], subset[placed]]), axis=1)[0]
        numbers, counts = np.unique(pairs, return_counts=True)
        return numbers[counts > 1].astype(np.int64)

    def note_classes(self, labels: np.ndarray) -> list[str]:
        """Return a note if copies of one cell are of different classes, else an empty list."""
        num = len(self.under_two_classes(labels))
        if not num:
            return []
        sets = "1 set of copies is" if num == 1 else f"{num:,} sets of copies are"
        return [f"{sets} of different classes: one label of each is wrong. `fastcell audit` names them."]

    def write(self, manifest: Manifest) -> Path:
        """Write the sidecar file `duplicates.parquet` of the data set.

        Returns:
            Path of the file.
        """
        table = pa.table(
            [
                pa.array(self.cell_ids),
                pa.array(self.sets),
                pa.array(self.kinds.tolist(), pa.string()),
                pa.array(self.correlations),
            ],
            schema=DUPLICATES_SCHEMA,
        )
        facts = {
            "version": _VERSION,
            "data": _digest(manifest),
            "num_cells": self.num_cells,
            "num_read": self.num_read,
            "blank": self.cell_ids[self.blank].tolist(),
            "near": None if self.near is None else self.near._asdict(),
        }
        path = manifest.path / SIDECAR
        write_parquet(path, table.replace_schema_metadata({_FACTS: json.dumps(facts).encode()}))
        return path


def exact_sets(manifest: Manifest, rows: npt.ArrayLike | None = None, jobs: int | None = None) -> Duplicates:
    """Find all sets of cells whose decoded pixels are equal up to a flip or a quarter turn, whatever their class.

    Turned copies that were each stored as JPEG differ by a few grey levels. They are near copies.

    Args:
        manifest: manifest of the data set; its shards must exist.
        rows: (n,) cell_ids to search; None: all cells.
        jobs: number of reading threads; None: one for each CPU.

    Raises:
        DataError: a cell that must be read is corrupt.
    """
    check_jobs(jobs)
    ids = np.arange(len(manifest)) if rows is None else np.unique(np.asarray(rows, np.int64))
    if not len(ids):
        return _group(manifest, ids, ids)
    table = manifest.table.select(["pixel_hash", "mean_intensity", "border_median", "height", "width"])
    table = table if len(ids) == len(manifest) else table.take(ids)
    kind = _codes(table)
    first, image = distinct_values(byte_values(table.column("pixel_hash")))  # first: a cell of each distinct image
    collides = np.bincount(kind[first], minlength=int(kind.max()) + 1)[kind[first]] > 1
    turned = np.arange(len(first))
    todo = np.flatnonzero(collides)
    forms = _canonical_forms(manifest, ids[first[todo]], jobs)
    seen: dict[bytes, int] = {}
    for place, form in zip(todo.tolist(), forms, strict=True):
        turned[place] = seen.setdefault(form, place)
    return _group(manifest, ids, turned[image], len(todo))


def canonical(pixels: np.ndarray) -> bytes:
    """Return a 16-byte hash that is equal for an image and its flips and quarter turns, and differs for other images.

    Args:
        pixels: (H, W) uint8.
    """
    lying = pixels if pixels.shape[0] <= pixels.shape[1] else pixels.T
    forms = [lying, lying[::-1], lying[:, ::-1], lying[::-1, ::-1]]
    if lying.shape[0] == lying.shape[1]:
        forms += [form.T for form in forms]
    shape = lying.shape[0].to_bytes(4, "little") + lying.shape[1].to_bytes(4, "little")
    return blake2b(shape + min(form.tobytes() for form in forms), digest_size=16).digest()


def read_duplicates(manifest: Manifest) -> Duplicates | None:
    """Read the result of an earlier search of all cells.

    Returns:
        The result; None if there is none, or if it belongs to other cells.

    Raises:
        DataError: the file is damaged.
    """
    path = manifest.path / SIDECAR
    if not path.exists():
        return None
    table = read_parquet(path, DUPLICATES_SCHEMA, most_rows=len(manifest), hint="Remove it and search again")
    try:
        facts = json.loads(pq.read_schema(path).metadata[_FACTS])
        if facts["version"] != _VERSION or facts["data"] != _digest(manifest):
            return None
        blank = np.isin(table.column("cell_id").to_numpy(), np.array(facts["blank"], np.int64))
        numbers = (int(facts["num_cells"]), int(facts["num_read"]))
        near = facts["near"]
        if near is not None:
            recall = tuple(Recall(str(kind), int(found), int(planted)) for kind, found, planted in near["recall"])
            bounds = (float(near["correlation"]), float(near["detail"]))
            near = NearFacts(int(near["num_plain"]), int(near["num_pairs"]), *bounds, recall)
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path} is not a list of duplicates ({error!r}). Remove it and search again.") from None
    ids, sets = (table.column(name).to_numpy() for name in ("cell_id", "set"))
    right = len(ids) == 0 or bool(
        (np.diff(sets) >= 0).all()
        and sets[0] == 0
        and np.diff(sets).max(initial=0) <= 1
        and len(np.unique(ids)) == len(ids)
        and ids.min() >= 0
        and ids.max() < len(manifest)
    )
    if not right or not pc.all(pc.is_in(table.column("kind"), value_set=pa.array(COPY_KINDS)), min_count=0).as_py():
        raise DataError(f"{path} names impossible cells, sets or kinds. Remove it and search again.")
    kinds = np.array(table.column("kind").to_pylist(), dtype="<U5")
    return Duplicates(ids, sets, kinds, table.column("correlation").to_numpy(), blank, *numbers, near)


def _group(manifest: Manifest, ids: Ids, image: Ids, num_read: int = 0) -> Duplicates:
    """Return the sets of the cells `ids` (n,), ascending, that have equal values of `image` (n,)."""
    counts = np.bincount(image, minlength=1)
    inside = np.flatnonzero(counts[image] > 1)
    _, first, number = np.unique(image[inside], return_index=True, return_inverse=True)
    rank = np.empty(len(first), np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    sets = rank[number.reshape(-1)]
    order = np.argsort(sets, kind="stable")
    members, num = ids[inside[order]], len(inside)
    kinds, ones = np.full(num, "exact", dtype="<U5"), np.ones(num, np.float32)
    return Duplicates(members, sets[order], kinds, ones, _is_blank(manifest, members), len(ids), num_read)


def _codes(table: pa.Table) -> Ids:
    """Return codes, (n,) int64, equal for cells that agree in mean, border median and sorted sides."""
    sides = np.stack([table.column(name).to_numpy().astype(np.int64) for name in ("height", "width")])
    parts = [
        table.column("mean_intensity").to_numpy().astype(np.float32).view(np.int32),
        table.column("border_median").to_numpy().astype(np.float32).view(np.int32),
        sides.min(0) << 32 | sides.max(0),
    ]
    code = np.zeros(table.num_rows, np.int64)
    for part in parts:
        _, part = np.unique(part, return_inverse=True)
        _, code = np.unique(code * (int(part.max()) + 1) + part.reshape(-1), return_inverse=True)
        code = code.reshape(-1)
    return code


def _canonical_forms(manifest: Manifest, ids: Ids, jobs: int | None) -> Iterator[bytes]:
    """Yield `canonical` of each cell, in the given order; each thread reads its parts in stored order."""

    def of_part(part: Ids) -> list[bytes]:
        return [canonical(pixels) for pixels in read_cells(manifest, part.tolist())]

    parts = [ids[start : start + _PART_CELLS] for start in range(0, len(ids), _PART_CELLS)]
    with ThreadPoolExecutor(num_threads(jobs), "fastcell-copies") as pool:
        for forms in pool.map(of_part, parts):
            yield from forms


def _is_blank(manifest: Manifest, ids: Ids) -> npt.NDArray[np.bool_]:
    """Return (n,) bool, True for images of one grey level, recognised by their hash."""
    names = ["pixel_hash", "mean_intensity", "border_median", "height", "width"]
    blank = np.zeros(len(ids), bool)
    known: dict[tuple[int, int, int], bytes] = {}
    for place, cell in enumerate(manifest.select_cells(names, ids).to_pylist()):
        level = cell["mean_intensity"]
        if level == cell["border_median"] and level.is_integer():
            what = (cell["height"], cell["width"], int(level))
            if what not in known:
                known[what] = hash_pixels(np.full(what[:2], what[2], np.uint8))
            blank[place] = cell["pixel_hash"] == known[what]
    return blank


def _digest(manifest: Manifest) -> str:
    """Return a hash of all pixels, in the order of cell_id."""
    column = manifest.table.column("pixel_hash").combine_chunks()
    return blake2b(b"".join(chunk for chunk in column.to_pylist()), digest_size=16).hexdigest()
