"""Locate the events of an RT-DC file: in the group `events`, or in a basin inside the same file.

An internal basin stores values once that several events share, for example one background image for 100 events. It is
described by JSON in `basins/HASH`: the group that holds the values, the names of its features, and the feature of the
file that gives the row of each event, `basinmap0`. Source: documentation of dclab, "Basins"
(dclab.readthedocs.io, sec_av_basins). Basins in other files are not followed.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import numpy as np

from fastcell.errors import DataError
from fastcell.sources import hdf5
from fastcell.sources.hdf5_links import children, find
from fastcell.system.text import storable

_MOST_BASINS = 64
_MOST_LINES = 10_000
_LINE_BYTES = 1 << 16


class EventData(NamedTuple):
    """Values of one feature.

    Attributes:
        path: path of the dataset in the file.
        mapping: path of the dataset that gives the row of each event; None if row k is event k.
    """

    path: str
    mapping: str | None = None


class InternalBasin(NamedTuple):
    """A basin inside the file: its group, the names of its features, and the path of its mapping."""

    group: str
    features: tuple[str, ...]
    mapping: str


def locate(file: Any, feature: str) -> EventData | None:
    """Return the location of the values of a feature; None if the file does not hold them.

    Raises:
        DataError: If they lie in another file.
    """
    if find(file, f"events/{feature}") is not None:
        return EventData(f"events/{feature}")
    for basin in internal_basins(file):
        if feature in basin.features and find(file, f"{basin.group}/{feature}") is not None:
            return EventData(f"{basin.group}/{feature}", basin.mapping)
    return None


def internal_basins(file: Any) -> list[InternalBasin]:
    """Return the basins inside the file that state their features and their mapping."""
    found = []
    for told in _descriptions(file):
        features, paths, mapping = told.get("features"), told.get("paths"), told.get("mapping")
        if told.get("type") != "internal" or told.get("format") != "h5dataset":
            continue
        if not (isinstance(features, list) and isinstance(paths, list) and paths and isinstance(mapping, str)):
            continue
        names = tuple(str(name) for name in features)
        found.append(InternalBasin(str(paths[0]).strip("/"), names, f"events/{mapping}"))
    return found


def describe_basins(file: Any) -> str:
    """Return a sentence on other files that may hold the images; empty without basins."""
    kinds = sorted({f"{told.get('type')} {told.get('format')}" for told in _descriptions(file)})
    if not kinds:
        return ""
    if any(kind.startswith(("file", "remote")) for kind in kinds):
        return " Its images lie in another file, a basin: pack that file."
    names = storable(", ".join(kinds))
    return f" Its basins ({names}) hold no images that can be read: export the file from Shape-Out or dclab."


def read_mapping(file: Any, path: str) -> np.ndarray:
    """Return the row of each event in a basin, (N,) int64.

    Raises:
        DataError: If the mapping is missing or is not one whole number for each event.
    """
    dataset = find(file, path)
    if dataset is None or len(getattr(dataset, "shape", ()) or ()) != 1 or dataset.dtype.kind not in "iu":
        raise DataError(f"{storable(file.filename)}: {path} must hold the row of each event in a basin, got none.")
    there = hdf5.written(dataset, dataset.shape[0])
    rows = dataset[()].astype(np.int64)
    if there is not None:
        rows[~there] = -1
    return rows  # type: ignore[no-any-return]


def _descriptions(file: Any) -> list[dict[str, Any]]:
    import h5py

    group = find(file, "basins")
    if not isinstance(group, h5py.Group):
        return []
    found = []
    for name in children(group)[:_MOST_BASINS]:
        dataset = find(file, f"basins/{name}")
        shape = getattr(dataset, "shape", None)
        if not shape or len(shape) != 1 or shape[0] > _MOST_LINES or dataset.dtype.itemsize > _LINE_BYTES:
            continue
        lines = hdf5.read_values(dataset, shape[0])
        try:
            told = json.loads(" ".join(map(str, [] if lines is None else lines)))
        except (ValueError, RecursionError):
            continue
        if isinstance(told, dict):
            found.append(told)
    return found
