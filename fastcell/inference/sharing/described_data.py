"""Description of the data set of a run for a model card."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastcell.dataset.cell_hashes import version_id
from fastcell.dataset.manifest import Manifest
from fastcell.dataset.rows.cell_groups import CellGroups
from fastcell.dataset.rows.count_codes import count_codes
from fastcell.dataset.schema import SPLITS
from fastcell.dataset.views import ViewConfig, select
from fastcell.errors import ArgumentError
from fastcell.loading.same_data import hash_cells


@dataclass(frozen=True)
class DescribedData:
    """A data set as a model card describes it.

    Attributes:
        name, source, licence: as given to ``fastcell pack``; empty if not given.
        version: version id of the data set.
        origin: ``recorded cells``, or the simulator that made them.
        classes: class names.
        counts: (K, 3) int64, number of labelled cells of each class in training, validation and test subset.
        groups: number of groups in training, validation and test subset; None if the cells have no groups.
        sizes: height, width, pixel size and bit depth of the cells, as text.
        is_that_of_training: whether the training cells are still those of the run; None if unknown.
    """

    name: str
    source: str
    licence: str
    version: str
    origin: str
    classes: list[str]
    counts: np.ndarray
    groups: list[int] | None
    sizes: str
    is_that_of_training: bool | None


def describe_data(manifest: Manifest, settings: Mapping[str, Any], trained: Mapping[str, Any]) -> DescribedData:
    """Return the description of a data set.

    Args:
        manifest: the data set.
        settings: section `data` of the run's config.yaml.
        trained: state of the run's data module in its checkpoint; may be empty.
    """
    info = manifest.info
    split = str(settings.get("split_name", "default"))
    there = split in manifest.split_names()
    subsets = manifest.split_codes(split) if there else np.full(len(manifest), -1, np.int8)
    counts = count_codes((manifest.class_codes, len(info.classes)), (subsets, len(SPLITS)))
    return DescribedData(
        info.name,
        info.source,
        info.licence,
        version_id(manifest),
        f"simulated cells ({info.generator})" if info.synthetic else "recorded cells",
        list(info.classes),
        counts[:-1, :-1],
        _count_groups(manifest.groups, subsets),
        _describe_sizes(manifest),
        _is_that_of_training(manifest, settings, trained),
    )


def _count_groups(groups: CellGroups | None, subsets: np.ndarray) -> list[int] | None:
    """Return the number of groups in each subset; None if no cell has a group."""
    if groups is None or not groups.names:
        return None
    counts = count_codes((groups.codes, len(groups.names)), (subsets, len(SPLITS)))
    return (counts[:-1, :-1] > 0).sum(axis=0).tolist()  # type: ignore[no-any-return]


def _describe_sizes(manifest: Manifest) -> str:
    if not len(manifest):
        return "no cells"
    sides = [manifest.column(name) for name in ("height", "width")]
    height, width = (f"{side.min()} to {side.max()}" for side in sides)
    pitch = manifest.column("um_per_px")
    known = pitch[~np.isnan(pitch)]
    scale = f"{known.min():g} to {known.max():g} um per pixel" if len(known) else "pixel size unknown"
    depths = " and ".join(str(depth) for depth in np.unique(manifest.column("depth")))
    window = manifest.info.window
    levels = "" if window is None else f", grey levels {window[0]:g} to {window[1]:g}"
    return f"height {height} px, width {width} px, {scale}, {depths} bit{levels}"


def _is_that_of_training(manifest: Manifest, settings: Mapping[str, Any], trained: Mapping[str, Any]) -> bool | None:
    """Return whether the hash of the training subset equals that in the checkpoint."""
    expected = trained.get("training cells")
    if not isinstance(expected, str):
        return None
    try:
        view = ViewConfig(
            "train",
            str(settings.get("split_name", "default")),
            settings.get("subsample"),
            str(settings.get("balance", "none")),
            int(trained.get("seed", 0)),
            bool(settings.get("quality", True)),
            labelled=True,
            balance_cap=settings.get("balance_cap"),
        )
        return hash_cells(select(manifest, view)) == expected
    except (ArgumentError, TypeError, ValueError):  # no such split or no training cells: another data set
        return False
