"""Effects of the options of `pack` and `index`: an option without effect on the cells is an error.

Options of reading (`--channel`, `--tile`, ...) act on some formats, see `fastcell.sources.registry.FORMATS`. Those of
this table act on any format, some of them on some cells only.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from fastcell.errors import ArgumentError, invalid
from fastcell.packing.records import ShardResult
from fastcell.packing.shard_layout import LAYOUTS
from fastcell.sources.base import Listing
from fastcell.sources.image_folder import Pattern, check_fields_used
from fastcell.splits.make_splits import SplitOptions

#: Options of `pack` and `index` -> on which cells they act; "all" for those that always do. `jobs`, `strict`,
#: `overwrite` and `allow_absent` change what a run may do, not what it makes.
PACK_OPTIONS = {
    "layout": "all",
    "shard_cells": "all",
    "block_cells": "layout block",
    "seed": "all",
    "split": "all",
    "split_seed": "with --split or --folds",
    "folds": "all",
    "window": "16-bit cells",
    "um_per_px": "cells whose source gives no pixel size",
    "collection": "cells whose source gives no collection",
    "name": "all",
    "source": "all",
    "licence": "all",
    "jobs": "all",
    "strict": "all",
    "overwrite": "all",
    "allow_absent": "all",
}


def check_split_seed_used(split: SplitOptions | None) -> None:
    """Check that a seed of the splits is given for a split.

    Raises:
        ArgumentError: If there is neither a split nor folds.
    """
    if split is not None and split.seed and split.shares is None and split.folds is None:
        raise invalid("--split-seed", "given with a split or folds", split.seed, "Leave it out with --split none")


def check_listing_options(listing: Listing, um_per_px: float | None, collection: str | None) -> None:
    """Check that pixel size and collection are used for at least one cell of a listing.

    Raises:
        ArgumentError: If the source gives its own for every cell.
    """
    items = listing.items
    if um_per_px is not None and items and not any(math.isnan(item.um_per_px) for item in items):
        raise _unused("--um-per-px", "a source without pixel size", um_per_px, items[0].um_per_px)
    if collection is not None and items and all(item.collection is not None for item in items):
        raise _unused("--collection", "a source without collections", collection, items[0].collection)


def check_window_used(window: tuple[float, float] | None, results: Iterable[ShardResult]) -> None:
    """Check that a window was used for at least one cell.

    Raises:
        ArgumentError: If there is a window and no cell has 16 bits.
    """
    results = list(results)
    found_some = any(result.rows.num_rows for result in results)
    if window is not None and found_some and not any(result.num_deep for result in results):
        raise _unused_window(window)


def check_index_options(
    window: tuple[float, float] | None,
    um_per_px: float | None,
    pattern: Pattern | None,
    used: Mapping[str, int],
) -> None:
    """Check that window, pixel size and pattern of `index` are used for at least one cell.

    Args:
        window, um_per_px, pattern: the arguments; None if not given.
        used: number of cells for which an argument gave the value: `window`, `um_per_px`, each field of the pattern.

    Raises:
        ArgumentError: If one of them is not used.
    """
    if window is not None and not used.get("window"):
        raise _unused_window(window)
    if um_per_px is not None and not used.get("um_per_px"):
        raise invalid("--um-per-px", "given for tars without pixel size", um_per_px, "Leave it out")
    if pattern is not None:
        check_fields_used(pattern, (field for field in pattern.fields if not used.get(field)), "a .cls or .json")


def check_block_cells(layout: str, block_cells: int | None) -> None:
    """Check that a number of cells per block is given for blocks.

    Raises:
        ArgumentError: If it is given for the layout `cell`.
    """
    if block_cells is not None and layout == LAYOUTS[0]:
        raise invalid("--block-cells", "given with --layout block", block_cells, "Leave it out")


def _unused_window(window: tuple[float, float]) -> ArgumentError:
    low, high = (f"{level:g}" for level in window)
    return invalid("--window", "given for 16-bit cells", f"{low} {high} for 8-bit cells only", "Leave it out")


def _unused(flag: str, rule: str, got: object, told: object) -> ArgumentError:
    shown = f"{told:g}" if isinstance(told, float) else repr(told)
    return invalid(flag, f"given for {rule}", got, f"Every cell has a value, the first {shown}: leave the option out")
