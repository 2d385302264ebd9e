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
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fastcell import __version__
from fastcell.dataset.dataset_info import DatasetInfo, read_info
from fastcell.dataset.grey_window import Window
from fastcell.dataset.manifest import Manifest
from fastcell.dataset.marks.journal import MARKS_FILE
from fastcell.dataset.rows.cell_groups import CellGroups
from fastcell.dataset.schema import FORMAT_VERSION
from fastcell.errors import DataError, StrictError, invalid
from fastcell.packing.dataset_name import name_dataset
from fastcell.packing.finish_dataset import write_sidecars
from fastcell.packing.keep_copies_together import keep_exact_copies_together
from fastcell.packing.option_effects import check_index_options, check_split_seed_used
from fastcell.packing.quarantine import describe_reasons
from fastcell.packing.read_tars import read_tars, replace_column
from fastcell.packing.records import ShardResult, check_levels
from fastcell.packing.tar_sources import FoundTars, find_tar_sources
from fastcell.remote.addresses import scheme_of
from fastcell.remote.remote_dataset import RemoteDataset
from fastcell.remote.uploads import make_dataset_at
from fastcell.sources.image_folder import Pattern
from fastcell.sources.webdataset_samples import name_classes
from fastcell.splits.make_splits import SplitOptions, make_splits
from fastcell.storage.staging import describe_job, open_staging, open_staging_in, put_in_place
from fastcell.system.messages import explained, printer
from fastcell.system.worker_processes import check_jobs

_CREATOR = " index"


def index(
    tars: str | os.PathLike[str],
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
    """Write the manifest of WebDataset tars.

    Progress is saved in parts of 2,000 cells of one tar. If a run is interrupted or killed, the same call resumes from
    these parts. Tars whose size or modification time has changed since are read again. Tars at an address are
    downloaded to the cache of `fastcell.remote`.

    Args:
        tars: folder with `*.tar` in it and in its subfolders; its address; or names of tars in webdataset's notation,
            see `fastcell.packing.tar_sources`. A file `classes.txt` or `labels.txt` in the folder names the classes,
            one per line, class 0 first.
        out: new folder, or its address, for the manifest and sidecars; None writes them beside the tars. The output of
            commands (`pipe:`) is saved there, too.
        pattern: position of class, group and collection in the names inside the tars, see
            `fastcell.sources.image_folder.Pattern`. It supplies the values that `.cls` and `.json` do not contain.
        split: shares, seed and folds; None for 65/15/20.
        window: grey levels (low, high) of 16-bit cells that map to 0 and 255.
        um_per_px: micrometres per pixel of cells whose `.json` does not give the value.
        name: name of the data set; None for `fastcell.packing.dataset_name.name_dataset`.
        jobs: number of worker processes; None for the number set by the surrounding `joblib.parallel_config`, else one
            per CPU.
        strict: raise an error if any cell is unusable.
        overwrite: replace a manifest written by an earlier `fastcell index`, in a folder of this machine.
        verbose: print notes, rate and remaining time to stderr.

    Returns:
        The manifest.

    Raises:
        ArgumentError: If an argument is invalid, a manifest exists already, or there are 16-bit cells and no window.
        BusyError: If another run indexes the same folder.
        DataError: If there is no tar, a tar or the class file cannot be read, a command fails, a label has no class
            name, no cell is usable, or a store cannot be reached.
        FastcellError: If the package for an address is not installed.
        StrictError: If `strict` is set and any cell is unusable; nothing is written then.
    """
    check_levels(window, um_per_px)
    check_split_seed_used(split)
    check_jobs(jobs)
    request = _Request(pattern, split or SplitOptions(), window, um_per_px, name, jobs, strict, verbose)
    found = find_tar_sources(os.fspath(tars))
    target = os.fspath(found.place if out is None else out)
    if not target:
        raise invalid("--out", "given for the output of commands", None, "Name a folder for the tars and the manifest")
    if scheme_of(target) is None:
        return _index_here(found, None if out is None else Path(out), request, overwrite)
    if overwrite:
        raise invalid("--overwrite", "left out for an address", target, "Remove the data set there first")
    job = repr((os.fspath(tars), request))

    def make(folder: str) -> None:
        if not (Path(folder) / "dataset.json").exists():  # else its upload was interrupted
            _index_here(found, Path(folder), request, at=target)

    make_dataset_at(target, job, make, verbose)
    return Manifest.open(target)


@dataclass(frozen=True)
class _Request:
    """Arguments of `index` that do not depend on the place."""

    pattern: str | None
    split: SplitOptions
    window: Window
    um_per_px: float | None
    name: str | None
    jobs: int | None
    strict: bool
    verbose: bool


def _index_here(
    found: FoundTars, out: Path | None, request: _Request, overwrite: bool = False, at: str | None = None
) -> Manifest:
    """Write the manifest into a folder of this machine.

    Args:
        found: the tars.
        out: new folder; None for that of the tars.
        request: the other arguments.
        overwrite: replace an earlier index.
        at: address that the folder will be uploaded to; names of tars below it are relative to it.
    """
    if out is None and not os.access(found.place, os.W_OK):
        raise invalid("TARS", "writable", found.place, "Name a folder for the manifest with --out")
    names = found.class_names()
    base = Path(found.place if out is None else out).resolve()
    say = printer(request.verbose)
    path_pattern = None if request.pattern is None else Pattern(request.pattern)
    window, um_per_px = request.window, request.um_per_px
    common = (window, math.nan if um_per_px is None else um_per_px, path_pattern)
    opened = open_staging_in(base, say) if out is None else open_staging(out, say, "part")
    with explained(f"{found} cannot be indexed"), opened as stage:
        if out is None:
            _check_place(Path(found.place), overwrite)
        job = {"tars": found.identity, "arguments": repr((*common[:2], request.pattern))}
        stage.begin(describe_job("index", FORMAT_VERSION) | job)
        sources = found.sources(base, stage)
        done, results = read_tars(sources, stage.saved_dir, common, request.jobs, request.verbose)
        bad = pa.concat_tables([result.quarantine for result in results])
        results = [result for result in results if result.rows.num_rows]
        if not results:
            raise DataError(f"{found} has no usable cell: {describe_reasons(bad)}. Check the tars.")
        if request.strict and bad.num_rows:
            raise StrictError(f"--strict refuses {describe_reasons(bad)}. Repair the tars, or index without --strict.")
        used = sum((Counter(part.used) for part in done), Counter[str]())
        check_index_options(window, um_per_px, path_pattern, used)
        num_unreadable = sum(part.num_unreadable for part in done)
        if num_unreadable:
            say(f"note: cells whose label cannot be read count as unlabelled: {num_unreadable:,}.")
        classes, results, bad = _name(results, bad, names)
        info = DatasetInfo(
            name=request.name or name_dataset(found.place or base, at or out),
            classes=classes,
            window=None if window is None else [float(window[0]), float(window[1])],
            um_per_px=um_per_px,
            seed=request.split.seed,
            created_by=f"fastcell {__version__}{_CREATOR}",
            shards_at=None if found.address == at else found.address,
        )
        place = stage.data_dir if found.commands else base
        splits, notes = _subsets(place, results, info, request.split, found.shards(stage.data_dir))
        for note in notes:
            say(f"note: {note}")
        write_sidecars(stage.data_dir, results, info, splits, bad)
        if out is None:
            _clear(base)
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
        raise invalid("TARS", rule, str(root), "fastcell packed it, so it needs no index: use it as it is")
    if not overwrite:
        raise invalid("TARS", rule, str(root), "Give --overwrite to replace the earlier index")
    for name, what in (("verdicts.csv", "verdicts"), (MARKS_FILE, "marks")):
        if (root / name).exists():
            hint = f"Move {name} away: its cell_ids are those of the manifest that is to be replaced"
            raise invalid("TARS", f"without {what}", str(root), hint)


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
    base: Path,
    results: Sequence[ShardResult],
    info: DatasetInfo,
    options: SplitOptions,
    remote: RemoteDataset | None,
) -> tuple[dict[str, np.ndarray], list[str]]:
    """Return all splits in the order of the results, with exact copies in one subset, and notes for the user."""
    table = pa.concat_tables([result.rows.select(["key", "class", "group"]) for result in results])
    index = pc.index_in(table.column("class"), pa.array(info.classes, pa.string()), skip_nulls=True)
    labels = index.fill_null(-1).to_numpy().astype(np.int64)
    named = CellGroups.of(table.column("group"))
    keys = table.column("key")
    splits = make_splits(labels, named, options)
    return keep_exact_copies_together(
        base,
        results,
        info,
        lambda cell: keys[cell].as_py(),
        np.arange(len(keys)),
        splits,
        labels,
        named,
        options,
        remote=remote,
    )
