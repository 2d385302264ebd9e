"""Write the manifest of WebDataset tars made by other programs.

The tars are not changed. First the headers are read, then every cell is decoded once, so that unusable cells are known
before training. The manifest, the splits and the quarantine table are written beside the tars or into a separate
folder.
"""

from __future__ import annotations

import math
import os
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from fastcell import __version__
from fastcell.dataset.grey_window import Window
from fastcell.dataset.manifest import DatasetInfo, Manifest, read_info
from fastcell.dataset.marks.journal import MARKS_FILE
from fastcell.dataset.schema import FORMAT_VERSION
from fastcell.errors import DataError, StrictError, invalid
from fastcell.packing.dataset_name import name_dataset
from fastcell.packing.finish_dataset import write_sidecars
from fastcell.packing.keep_copies_together import keep_exact_copies_together
from fastcell.packing.option_effects import check_index_options, check_split_seed_used
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
    """Write the manifest of the WebDataset tars in `folder` and its subfolders.

    Progress is saved in parts of 2,000 cells of one tar. If a run is interrupted or killed, the same call resumes from
    these parts. Tars whose size or modification time has changed since are read again.

    Args:
        folder: folder with `*.tar`. A file `classes.txt` or `labels.txt` in it names the classes, one per line, class 0
            first.
        out: new folder for the manifest and sidecars; None writes them beside the tars.
        pattern: position of class, group and collection in the names inside the tars, see
            `fastcell.sources.image_folder.Pattern`. It supplies the values that `.cls` and `.json` do not contain.
        split: shares, seed and folds; None for 65/15/20.
        window: grey levels (low, high) of 16-bit cells that map to 0 and 255.
        um_per_px: micrometres per pixel of cells whose `.json` does not give the value.
        name: name of the data set; None for `fastcell.packing.dataset_name.name_dataset`.
        jobs: number of worker processes; None for the number set by the surrounding `joblib.parallel_config`, else one
            per CPU.
        strict: raise an error if any cell is unusable.
        overwrite: replace a manifest written by an earlier `fastcell index`.
        verbose: print notes, rate and remaining time to stderr.

    Returns:
        The manifest.

    Raises:
        ArgumentError: If an argument is invalid, a manifest exists already, or there are 16-bit cells and no window.
        BusyError: If another run indexes the same folder.
        DataError: If there is no tar, a tar or the class file cannot be read, a label has no class name, or no cell is
            usable.
        StrictError: If `strict` is set and any cell is unusable; nothing is written then.
    """
    root = Path(folder)
    check_levels(window, um_per_px)
    check_split_seed_used(split)
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
            raise StrictError(f"--strict refuses {describe_reasons(bad)}. Repair the tars, or index without --strict.")
        used = sum((Counter(part.used) for part in done), Counter[str]())
        check_index_options(window, um_per_px, path_pattern, used)
        num_unreadable = sum(part.num_unreadable for part in done)
        if num_unreadable:
            say(f"note: cells whose label cannot be read count as unlabelled: {num_unreadable:,}.")
        classes, results, bad = _name(results, bad, names)
        info = DatasetInfo(
            name=name or name_dataset(root, out),
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
        mine = True  # a damaged manifest may be replaced if the user asks for it
    if not mine:
        raise invalid("DIR", rule, str(root), "fastcell packed it, so it needs no index: use it as it is")
    if not overwrite:
        raise invalid("DIR", rule, str(root), "Give --overwrite to replace the earlier index")
    for name, what in (("verdicts.csv", "verdicts"), (MARKS_FILE, "marks")):
        if (root / name).exists():
            hint = f"Move {name} away: its cell_ids are those of the manifest that is to be replaced"
            raise invalid("DIR", f"without {what}", str(root), hint)


def _clear(root: Path) -> None:
    """Delete the files of an earlier index, dataset.json first."""
    for name in ("dataset.json", "manifest.parquet", "quarantine.parquet", "quality.parquet", "duplicates.parquet"):
        (root / name).unlink(missing_ok=True)
    splits = root / "splits"
    if splits.is_symlink():  # write splits into our own folder, not into the folder that a link points to
        splits.unlink()
    shutil.rmtree(splits, ignore_errors=True)


def _name(
    results: Sequence[ShardResult], bad: pa.Table, names: Sequence[str] | None
) -> tuple[list[str], list[ShardResult], pa.Table]:
    """Return the class names, and the tables with each label replaced by its class name."""
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
    """Return all splits in the order of the results, with exact copies in one subset, and notes for the user."""
    table = pa.concat_tables([result.rows.select(["key", "class", "group"]) for result in results])
    number = {name: index for index, name in enumerate(info.classes)}
    labels = np.array([number.get(name, -1) for name in table.column("class").to_pylist()], dtype=np.int64)
    groups = table.column("group").to_pylist()
    named = groups if any(groups) else None
    keys = table.column("key").to_pylist()
    splits = make_splits(labels, named, options)
    return keep_exact_copies_together(base, results, info, keys, splits, labels, named, options)
