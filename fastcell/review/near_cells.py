"""Neighbours of a cell: in the recording, and in the embedding."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from fastcell.dataset.manifest import Manifest

_LAST_NUMBER = r"^(?P<front>(?s:.*?))(?P<number>\d{1,18})(?P<back>\D*)$"


class RecordingOrder:
    """Order in time of the cells of each group: by the instrument's feature `time`, else by the number in their keys.

    Args:
        manifest: the data set.
    """

    def __init__(self, manifest: Manifest) -> None:
        table = manifest.table
        groups = _codes(table.column("group").fill_null(""))
        parts = pc.extract_regex(table.column("key"), _LAST_NUMBER)
        front = pc.coalesce(pc.struct_field(parts, "front"), table.column("key"))
        number = pc.struct_field(parts, "number").cast("int64").fill_null(0).to_numpy(zero_copy_only=False)
        names = _sorted_codes(front)
        keys: list[npt.NDArray[np.generic]] = [number, names]
        time = next((name for name in manifest.feature_names() if name.lower() == "time"), None)
        features = manifest.features() if time is not None else None
        if features is not None:
            keys.append(np.asarray(features.column(time).to_numpy(zero_copy_only=False), np.float64))
        self._order = np.lexsort([*keys, groups])
        self._place = np.empty(len(self._order), np.int64)
        self._place[self._order] = np.arange(len(self._order))
        self._groups = groups

    def around(self, cell: int, reach: int) -> npt.NDArray[np.int64]:
        """Return up to `reach` cells before and after a cell in its group, in order, including the cell itself."""
        place = int(self._place[cell])
        near = self._order[max(0, place - reach) : place + reach + 1]
        return near[self._groups[near] == self._groups[cell]]


def nearest(values: npt.NDArray[np.float32], cell: int, num: int) -> npt.NDArray[np.int64]:
    """Return the cells nearest to a cell in an embedding (N, D), the nearest first, without itself.

    Cells with NaN are left out.
    """
    if not np.isfinite(values[cell]).all():
        return np.empty(0, np.int64)
    distance = np.square(values - values[cell]).sum(1)
    distance[~np.isfinite(distance)] = np.inf
    distance[cell] = np.inf
    num = min(num, int(np.isfinite(distance).sum()))
    found = np.argpartition(distance, num - 1)[:num] if num else np.empty(0, np.int64)
    return found[np.argsort(distance[found], kind="stable")]


def _codes(column: object) -> npt.NDArray[np.int64]:
    coded = column.combine_chunks().dictionary_encode()  # type: ignore[attr-defined]
    return np.asarray(coded.indices.to_numpy(zero_copy_only=False), np.int64)


def _sorted_codes(column: object) -> npt.NDArray[np.int64]:
    """Return codes of texts that have the sort order of the texts."""
    coded = column.combine_chunks().dictionary_encode()  # type: ignore[attr-defined]
    rank = np.empty(len(coded.dictionary), np.int64)
    rank[pc.sort_indices(coded.dictionary).to_numpy()] = np.arange(len(rank))
    return np.asarray(rank[coded.indices.to_numpy(zero_copy_only=False)])
