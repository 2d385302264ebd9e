"""Make the manifest of WebDataset tars that others wrote.

The tars stay as they are. Headers are walked first, then every cell is decoded once, so that a bad one is known before
a run; what comes out are manifest, splits and quarantine, beside the tars or in a folder of their own.
"""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from fastcell import __version__
from fastcell.dataset.grey_window import Window
from fastcell.dataset.manifest import DatasetInfo, Manifest, read_info
from fastcell.dataset.schema import FORMAT_VERSION
from fastcell.errors import DataError, StrictError, invalid
from fastcell.packing.finish_dataset import write_sidecars
from fastcell.packing.keep_copies_together import keep_exact_copies_together
from fastcell.packing.quarantine import describe_reasons
from fastcell.packing.read_tars import read_tars, replace_column
from fastcell.packing.records import ShardResult, check_levels
from fastcell.sources.image_folder import Pattern
from fastcell.sources.webdataset_samples import (
    find_tars,
    name_classes,
    read_class_file,
)
from fastcell.splits.make_splits import SplitOptions, make_splits
from fastcell.storage.staging import describe_job, open_staging, open_staging_in, put_in_place
from fastcell.system.messages import explained, printer
from fastcell.system.worker_processes import check_jobs

_CREATOR = " index"


def index(
    folder: str | os.PathLike[str],
    *,
    out: str | os.PathLike[str] | None = None,
    pattern: str | None = None,
    split: SplitOptions | None = None,
    window: Window = None,
    um_per_px: float | None = None,
    name: str | None = None,
    jobs: int | None = None,
    strict: bool = False,
    overwrite: bool = False,
    verbose: bool = False,
) -> Manifest:
    """Make the manifest of the WebDataset tars in `folder` and its subfolders.

    A run that was interrupted or killed leaves what it has read, by tar and 2,000 cells; the same call goes on from
    there. Tars that were changed since, by size or time, are read again.

    Args:
        folder: with `*.tar`; `classes.txt` or `labels.txt` in it names the classes, one per line, class 0 first.
        out: folder to be made for manifest and sidecars; None: beside the tars.
        pattern: how class, group and collection stand in the names inside the tars, see
            `fastcell.sources.image_folder.Pattern`; used for what `.cls` and `.json` do not tell.
        split: shares, seed and folds; None: 65/15/20.
        window: grey levels (low, high) of 16-bit cells that map to 0 and 255.
        um_per_px: micrometres per pixel of cells whose `.json` does not tell.
        name: of the data set; None: that of the folder.
        jobs: worker processes; None: those of the surrounding `joblib.parallel_config`, else one for each CPU.
        strict: refuse bad cells.
        overwrite: replace a manifest that `fastcell index` has made before.
        verbose: print notes, rate and time left to stderr.

    Raises:
        ArgumentError: an argument out of its rule, a manifest that is there already, 16-bit cells without window.
        BusyError: another run indexes the same place.
        DataError: no tar, one that cannot be read, no usable cell, or labels that cannot be.
        StrictError: bad cells, where `strict`; nothing is written then.
    """
    root = Path(folder)
    check_levels(window, um_per_px)
    check_jobs(jobs)
    path_pattern = None if pattern is None else Pattern(pattern)
    paths = find_tars(root)
    if out is None and not os.access(root, os.W_OK):
        raise invalid("DIR", "writable", str(root), "Name a folder for the manifest with --out")
    names = read_class_file(root)
    base = (root if out is None else Path(out)).resolve()
    say = printer(verbose)
    common = (window, math.nan if um_per_px is None else um_per_px, path_pattern)
    opened = open_staging_in(root, say) if out is None else open_staging(out, say, "part")
    with explained(f"{root} cannot be indexed"), opened as stage:
        if out is None:
            _check_place(root, overwrite)
        job = {"tars": str(root.resolve()), "arguments": repr((*common[:2], pattern))}
        stage.begin(describe_job("index", FORMAT_VERSION) | job)
        done, results = read_tars(paths, base, stage.saved_dir, common, jobs, verbose)
        bad = pa.concat_tables([result.quarantine for result in results])
        results = [result for result in results if result.rows.num_rows]
        if not results:
            raise DataError(f"{root} has no usable cell: {describe_reasons(bad)}. Check the tars.")
        if strict and bad.num_rows:
            raise StrictError(f"--strict refuses {describe_reasons(bad)}. Mend the tars, or index without --strict.")
        num_unreadable = sum(part.num_unreadable for part in done)
        if num_unreadable:
            say(f"note: the label of {num_unreadable:,} cells cannot be read; they count as unlabelled.")
        classes, results, bad = _name(results, bad, names)
        info = DatasetInfo(
            name=name or root.resolve().name,
            classes=classes,
            window=None if window is None else [float(window[0]), float(window[1])],
            um_per_px=um_per_px,
            seed=0 if split is None else split.seed,
            created_by=f"fastcell {__version__}{_CREATOR}",
        )
        splits, notes = _subsets(base, results, info, split or SplitOptions())
        for note in notes:
            say(f"note: {note}")
        write_sidecars(stage.data_dir, results, info, splits, bad)
        if out is None:
            _clear(root)
        return Manifest.open(put_in_place(stage.data_dir, base))


def _check_place(root: Path, overwrite: bool) -> None:
    if not (root / "dataset.json").exists():
        return
    rule = "a folder without a manifest"
    try:
        mine = read_info(root).created_by.endswith(_CREATOR)
    except DataError:
        mine = True  # damaged: it may be replaced, on demand
    if not mine:
        raise invalid("DIR", rule, str(root), "It was packed by fastcell, which needs no index: use it as it is")
    if not overwrite:
        raise invalid("DIR", rule, str(root), "Give --overwrite to replace the one of an earlier index")
    if (root / "verdicts.csv").exists():
        hint = "Move verdicts.csv away: its cell_ids are those of the manifest that is to be replaced"
        raise invalid("DIR", "without verdicts", str(root), hint)


def _clear(root: Path) -> None:
    """Remove what an earlier index has left, dataset.json first."""
    for name in ("dataset.json", "manifest.parquet", "quarantine.parquet", "quality.parquet", "duplicates.parquet"):
        (root / name).unlink(missing_ok=True)
    splits = root / "splits"
    if splits.is_symlink():  # splits are written into a folder of ours, not to where a link points
        splits.unlink()
    shutil.rmtree(splits, ignore_errors=True)


def _name(
    results: Sequence[ShardResult], bad: pa.Table, names: Sequence[str] | None
) -> tuple[list[str], list[ShardResult], pa.Table]:
    """Classes, and the tables with class names in the place of what the labels say."""
    labels: set[str] = set()
    for result in results:
        labels.update(result.rows.column("class").unique().drop_null().to_pylist())
    classes, name_of = name_classes(labels, names)

    def named(table: pa.Table) -> pa.Table:
        found = table.column("class").to_pylist()
        return replace_column(table, "class", [None if label is None else name_of.get(label, label) for label in found])

    return classes, [result._replace(rows=named(result.rows)) for result in results], named(bad)


def _subsets(
    base: Path, results: Sequence[ShardResult], info: DatasetInfo, options: SplitOptions
) -> tuple[dict[str, np.ndarray], list[str]]:
    """All splits in the order of the results, exact copies together, and notes."""
    table = pa.concat_tables([result.rows.select(["key", "class", "group"]) for result in results])
    number = {name: index for index, name in enumerate(info.classes)}
    labels = np.array([number.get(name, -1) for name in table.column("class").to_pylist()], dtype=np.int64)
    groups = table.column("group").to_pylist()
    named = groups if any(groups) else None
    keys = table.column("key").to_pylist()
    splits = make_splits(labels, named, options)
    return keep_exact_copies_together(base, results, info, keys, splits, labels, named, options)
