"""The command that packs a data set, for its data card."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastcell.sources.registry import ReadOptions
from fastcell.splits.make_splits import SplitOptions


def pack_command(
    src: str | os.PathLike[str], read: ReadOptions, split: SplitOptions, settings: Mapping[str, Any]
) -> str:
    """Return the ``fastcell pack`` command that makes the same data set.

    Equal calls give the same text on any machine: files and folders are named without the folders that contain them,
    the new data set is ``OUT``, and options that do not change what is made (``--jobs``, ``--strict``) are left out.

    Args:
        src: file or folder of cells.
        read: options for reading the source.
        split: shares, seed and folds.
        settings: values of the other options by their name with ``_``; None, False and empty values are left out.
    """
    options = {
        "pattern": read.pattern,
        "format": read.format,
        "table": _file_name(read.table),
        "labels": _file_name(read.labels),
        "tile": read.tile and f"{read.tile[0]}x{read.tile[1]}",
        "channel": read.channel,
        "pages": read.pages,
        "subtract_background": read.subtract_background,
        "split": _shares(split),
        "split_seed": split.seed or None,
        "folds": split.folds,
        **settings,
    }
    words = ["fastcell", "pack", _file_name(src) or "SRC", "OUT"]
    for name, value in options.items():
        if value is None or value is False or value == "":
            continue
        words.append(f"--{name.replace('_', '-')}")
        if isinstance(value, tuple):
            words += [f"{number:g}" for number in value]
        elif value is not True:
            words.append(str(value))
    return shlex.join(words)


def _file_name(path: str | os.PathLike[str] | None) -> str | None:
    return None if path is None else Path(path).resolve().name


def _shares(split: SplitOptions) -> str | None:
    """Return the shares in percent; None for the default ones."""
    if split.shares is None:
        return "none"
    if split.shares == SplitOptions().shares:
        return None
    return "/".join(f"{round(100 * share, 6):g}" for share in split.shares)
