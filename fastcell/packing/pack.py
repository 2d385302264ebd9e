"""Pack images of a source into shards, manifest and splits.

Every image is read and decoded once, in a seeded global order, one shard for each task. The order, the splits and the
bytes depend on the source and the arguments only, whatever the number of workers.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from hashlib import blake2b
from itertools import chain
from pathlib import Path

import numpy as np
import pyarrow as pa

from fastcell.dataset.decode import BadCell
from fastcell.dataset.manifest import DatasetInfo, Manifest
from fastcell.dataset.open_files import look_again
from fastcell.dataset.schema import FORMAT_VERSION, LAYOUTS, QUARANTINE_SCHEMA
from fastcell.errors import StrictError, invalid
from fastcell.packing.keep_copies_together import keep_exact_copies_together
from fastcell.packing.quarantine import Record, ShardResult
from fastcell.packing.shard_layout import Blocks, block_shards, cell_shards
from fastcell.packing.shard_writer import (
    describe_reasons,
    finish_dataset,
    shard_once,
    write_block_shard,
    write_cell_shard,
)
from fastcell.sources.base import Listing, Source, SourceItem
from fastcell.sources.registry import ReadOptions, open_source
from fastcell.splits.leakproof import Copies, make_leakproof_splits
from fastcell.splits.make_splits import SplitOptions, make_splits
from fastcell.storage.staging import describe_job, open_staging
from fastcell.system.messages import explained, printer
from fastcell.system.progress_line import Progress
from fastcell.system.text import storable
from fastcell.system.worker_processes import check_jobs, run_tasks

MAX_SHARD_CELLS = 10_000
MIN_SHARD_CELLS = 256
_NUM_SHARDS = 8  # small sets get about as many, for several workers and ranks
_ONE_PROCESS_CELLS = 4_000  # starting workers takes longer than packing so few


@dataclass(frozen=True)
class _Task:
    """One shard to write, as it goes to a worker: side and cells of each block (cell layout: one block)."""

    path: str
    blocks: Blocks
    saved_dir: str
    source: Source
    source_name: str
    layout: str
    classes: list[str]
    collection: str | None
    um_per_px: float
    window: tuple[float, float] | None


def pack(
    src: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    pattern: str | None = None,
    read: ReadOptions | None = None,
    layout: str = "cell",
    shard_cells: int | None = None,
    block_cells: int = 256,
    split: SplitOptions | None = None,
    seed: int = 0,
    window: tuple[float, float] | None = None,
    um_per_px: float | None = None,
    collection: str | None = None,
    name: str | None = None,
    jobs: int | None = None,
    strict: bool = False,
    verbose: bool = False,
) -> Manifest:
    """Pack the images of `src` into a new data set `out`.

    A run that was interrupted or killed leaves its finished shards; the same call goes on from there and makes the same
    bytes. Images that were changed since, by size or time, are read again with their shards.

    Shards are written by `joblib.Parallel`: inside `joblib.parallel_config(backend="dask")` (or `"ray"`) the tasks
    spread over machines, which must all see `src` and `out`.

    Args:
        src: file or folder of cells, in one of `fastcell.sources.registry.FORMATS`.
        out: folder to be made; it appears when it is whole.
        pattern: how class, group and collection stand in the paths, see `fastcell.sources.image_folder.Pattern`.
        read: how the source is read: format, tiles, table and so on; None: found by looking.
        layout: `cell` keeps the encoded bytes, one record for each cell; `block` stores raw pixels of `block_cells`
            cells of the same sides in one record.
        shard_cells: cells in a shard; None: 10,000, and fewer in a small set, for about 8 shards.
        block_cells: most cells in a block.
        split: shares, seed and folds; None: 65/15/20.
        seed: of the global order, >= 0.
        window: grey levels (low, high) of 16-bit cells that map to 0 and 255.
        um_per_px: micrometres per pixel of cells whose source does not tell.
        collection: name of the recording for cells whose source does not tell.
        name: of the data set; None: the source's.
        jobs: worker processes; None: those of the surrounding `joblib.parallel_config`, else one for each CPU.
        strict: refuse bad cells.
        verbose: print what is read, rate and time left to stderr.

    Raises:
        ArgumentError: an argument out of its rule, `out` is there already, 16-bit cells without window, or too few
            groups for the split.
        BusyError: another run is making `out`.
        DataError: no usable cell, `out` cannot be written, or a worker process was killed.
        StrictError: bad cells, where `strict`; `out` does not appear then.
    """
    _check(layout, shard_cells, block_cells, seed, window, um_per_px)
    check_jobs(jobs)
    say = printer(verbose)
    source = open_source(src, pattern, read)
    say(f"reading {source.describe()}")
    with explained(f"{out} cannot be written"), open_staging(out, say) as stage:
        with explained(f"{src} cannot be read"):
            listing = source.scan()
        say(f"found {_counted(len(listing.items), 'cell')}, {_counted(len(listing.classes), 'class', 'es')}")
        for note in listing.notes:
            say(f"note: {note}")
        for told in listing.splits:
            say(f"note: the sides that the source tells are the split {told} (fit --data.split_name {told}).")
        options = _possible(listing, split or SplitOptions(), say)
        splits = _sides(listing, options)
        size = shard_cells or max(MIN_SHARD_CELLS, min(MAX_SHARD_CELLS, -(-len(listing.items) // _NUM_SHARDS)))
        if layout == "cell":
            shards = cell_shards(listing.items, size, seed, listing.runs)
        else:
            shards = block_shards(listing.items, splits, size, block_cells, seed, listing.runs)
        pitch = math.nan if um_per_px is None else um_per_px
        common = (source, source.name, layout, listing.classes, collection, pitch, window)
        stage.begin(
            describe_job("pack", FORMAT_VERSION)
            | {"source": source.describe(), "listing": _digest(listing, splits), "seed": seed}
            | {"shard size": [size, block_cells], "arguments": repr(common[1:])}
        )
        saved_dir = str(stage.saved_dir)
        tasks = [
            _Task(str(stage.data_dir / f"shard-{i:06d}.tar"), blocks, saved_dir, *common)
            for i, blocks in enumerate(shards)
        ]
        results = _write_shards(tasks, len(listing.items), jobs, verbose)
        rejected = _rejected(listing, collection)
        if strict:
            _refuse_bad(results, rejected)
        info = DatasetInfo(
            name=name or source.name,
            classes=listing.classes,
            layout=layout,
            window=None if window is None else [float(window[0]), float(window[1])],
            um_per_px=um_per_px,
            seed=seed,
        )
        keys = [storable(item.key) for item in listing.items]
        splits = _keep_copies_together(stage.data_dir, results, info, listing, keys, splits, options, say)
        by_key = {title: dict(zip(keys, sides.tolist(), strict=True)) for title, sides in splits.items()}
        return finish_dataset(stage.data_dir, out, results, info, by_key, rejected, listing.features)


def _check(
    layout: str,
    shard_cells: int | None,
    block_cells: int,
    seed: int,
    window: tuple[float, float] | None,
    um_per_px: float | None,
) -> None:
    if layout not in LAYOUTS:
        raise invalid("--layout", f"one of {', '.join(LAYOUTS)}", layout, "Take cell for tars that other tools read")
    if shard_cells is not None and shard_cells < 1:
        raise invalid("--shard-cells", "a number >= 1", shard_cells, "10,000 suits most sets")
    if not 1 <= block_cells <= 65_536:
        raise invalid("--block-cells", "a number from 1 to 65,536", block_cells, "256 suits most sets")
    if seed < 0:
        raise invalid("--seed", "a number >= 0", seed, "Choose another seed")
    if window is not None and not (np.isfinite(window).all() and 0 <= window[0] < window[1]):
        raise invalid(
            "--window", "two grey levels, the lower one first", tuple(window), "For example --window 400 1400"
        )
    if um_per_px is not None and not (np.isfinite(um_per_px) and um_per_px > 0):
        raise invalid("--um-per-px", "above 0", um_per_px, "Leave it out where it is unknown")


def _possible(listing: Listing, options: SplitOptions, say: Callable[[str], None]) -> SplitOptions:
    """The split that was asked for; none where nothing is labelled and there are fewer groups than sides, which is what
    recordings to be classified are like."""
    groups = {item.group for item in listing.items}
    asked = sum(share > 0 for share in options.shares or ())
    if listing.classes or options.folds or None in groups or len(groups) >= asked:
        return options
    say(f"note: no split, for no cell is labelled and there are {len(groups)} groups for {asked} sides.")
    return replace(options, shares=None)


def _sides(listing: Listing, options: SplitOptions) -> dict[str, np.ndarray]:
    """All splits, (N,) str each, in the order of the listing: ours, and those of the source."""
    splits = make_splits(*_strata(listing), options)
    return splits | {name: np.array(sides, dtype="<U5") for name, sides in listing.splits.items()}


def _strata(listing: Listing) -> tuple[np.ndarray, list[str | None] | None]:
    """Class number and group of each cell of a listing; None where there are no groups."""
    number = {name: i for i, name in enumerate(listing.classes)}
    labels = np.array([number.get(item.class_name or "", -1) for item in listing.items], dtype=np.int64)
    groups = [item.group for item in listing.items]
    return labels, groups if any(groups) else None


def _keep_copies_together(
    base: Path,
    results: list[ShardResult],
    info: DatasetInfo,
    listing: Listing,
    keys: list[str],
    splits: dict[str, np.ndarray],
    options: SplitOptions,
    say: Callable[[str], None],
) -> dict[str, np.ndarray]:
    labels, groups = _strata(listing)

    def remake(copies: Copies) -> tuple[dict[str, np.ndarray], list[str]]:
        return make_leakproof_splits(labels, groups, options, copies, keys.__getitem__)

    given = list(listing.splits)
    splits, notes = keep_exact_copies_together(base, results, info, keys, splits, remake, given)
    for note in notes:
        say(f"note: {note}")
    return splits


def _write_shards(tasks: list[_Task], num_cells: int, jobs: int | None, verbose: bool) -> list[ShardResult]:
    """Results in the order of the tasks."""
    results = []
    few = num_cells <= _ONE_PROCESS_CELLS
    with (
        Progress(num_cells, "cells", show=verbose) as progress,
        closing(run_tasks(_write_shard, tasks, jobs, few)) as done,
    ):
        for result in done:
            results.append(result)
            progress.advance(result.rows.num_rows + result.quarantine.num_rows)
    return results


def _write_shard(task: _Task) -> ShardResult:
    path = Path(task.path)
    return shard_once(path, Path(task.saved_dir), _stamp(task), lambda: _write_anew(task))


def _write_anew(task: _Task) -> ShardResult:
    look_again()
    blocks = ((side, [_record(task, item) for item in items]) for side, items in task.blocks)
    if task.layout == "block":
        return write_block_shard(task.path, blocks, task.window)
    items = chain.from_iterable(part for _, part in task.blocks)
    return write_cell_shard(task.path, (_record(task, item) for item in items), task.window, task.classes)


def _stamp(task: _Task) -> str:
    """Sizes and times of the files of a shard, as one hash; each file of many cells is asked for once."""
    digest = blake2b(digest_size=16)
    of_file: dict[int | str, str] = {}
    for _, items in task.blocks:
        stamps = []
        for item in items:
            if not item.place:
                stamps.append(task.source.stamp(item))
            elif item.place[0] not in of_file:
                of_file[item.place[0]] = task.source.stamp(item)
        digest.update("\n".join(stamps).encode())
    digest.update("\n".join(of_file.values()).encode())
    return digest.hexdigest()


def _digest(listing: Listing, splits: dict[str, np.ndarray]) -> str:
    """Hash of what a scan has found: which cells, and their sides."""
    digest = blake2b(digest_size=16)
    *texts, pitch, _ = zip(*listing.items, strict=True) if listing.items else [(), ()]  # _: places, see `Source.stamp`
    for text in texts:
        digest.update("\0".join([part or "" for part in text]).encode("utf-8", "surrogateescape"))
    digest.update(np.array(pitch, dtype=np.float64).tobytes())
    for name, sides in sorted(splits.items()):
        digest.update(name.encode() + sides.astype("S5").tobytes())
    return digest.hexdigest()


def _record(task: _Task, item: SourceItem) -> Record:
    data: bytes | np.ndarray | BadCell
    try:
        data = task.source.load(item)
    except BadCell as bad:
        data = bad
    except OSError as error:
        data = BadCell(f"cannot be read: {error.strerror}")
    return Record(
        item.key,
        data,
        item.encoding,
        item.class_name,
        item.group,
        item.collection or task.collection,
        task.um_per_px if math.isnan(item.um_per_px) else item.um_per_px,
        task.source_name,
    )


def _rejected(listing: Listing, collection: str | None) -> pa.Table:
    """Rows of `QUARANTINE_SCHEMA` for cells that the scan has refused."""
    rows = [
        {
            "key": storable(item.key),
            "source": source,
            "class": item.class_name,
            "group": item.group,
            "collection": item.collection or collection,
            "reason": reason,
        }
        for item, source, reason in listing.rejected
    ]
    return pa.Table.from_pylist(rows, schema=QUARANTINE_SCHEMA)


def _refuse_bad(results: list[ShardResult], rejected: pa.Table) -> None:
    bad = pa.concat_tables([result.quarantine for result in results] + [rejected])
    if bad.num_rows:
        keys = ", ".join(bad.column("key").slice(0, 3).to_pylist())
        raise StrictError(
            f"--strict refuses {describe_reasons(bad)} (e.g. {keys}). Nothing was made. Mend or remove them, or pack "
            "without --strict."
        )


def _counted(num: int, what: str, plural: str = "s") -> str:
    return f"{num:,} {what}{'' if num == 1 else plural}"
