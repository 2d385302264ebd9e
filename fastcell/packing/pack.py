"""Pack the images of a source into shards, a manifest and splits.

Every image is read and decoded once, in a seeded order over the whole source, with one task per shard. The order, the
splits and the bytes depend only on the source and the arguments, not on the number of workers.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from hashlib import blake2b

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fastcell.dataset.dataset_info import DatasetInfo
from fastcell.dataset.manifest import Manifest
from fastcell.dataset.schema import FORMAT_VERSION
from fastcell.errors import BadCell, StrictError, invalid
from fastcell.packing.dataset_name import name_dataset
from fastcell.packing.finish_dataset import finish_dataset
from fastcell.packing.keep_copies_together import keep_exact_copies_together
from fastcell.packing.option_effects import (
    check_block_cells,
    check_listing_options,
    check_split_seed_used,
    check_window_used,
)
from fastcell.packing.pack_command import pack_command
from fastcell.packing.quarantine import describe_reasons, rejected_cells
from fastcell.packing.records import Record, ShardResult, check_levels
from fastcell.packing.shard_layout import (
    BLOCK_CELLS,
    Blocks,
    block_shards,
    cell_shards,
    check_layout,
    choose_shard_cells,
)
from fastcell.packing.split_check import SplitCheck, columns_of, counted, make_subsets, possible_options, strata_of
from fastcell.packing.unify_names import similar_names, unify_names
from fastcell.packing.write_shards import write_shards
from fastcell.sources.base import Listing, Source, SourceItem
from fastcell.sources.listings.item_columns import SomeItems
from fastcell.sources.registry import ReadOptions, open_source
from fastcell.splits.make_splits import SplitOptions
from fastcell.storage.staging import describe_job, open_staging
from fastcell.system.messages import explained, printer
from fastcell.system.text import one_name
from fastcell.system.worker_processes import check_jobs

_ONE_PROCESS_CELLS = 4_000  # starting workers takes longer than packing this many cells


@dataclass(frozen=True)
class SourceRecords:
    """Records of a source's cells, made in the workers.

    Implements `fastcell.packing.write_shards.RecordSource`.

    Attributes:
        source: source that reads the cells.
        collection: collection of cells for which the source gives none.
        um_per_px: micrometres per pixel of cells for which the source gives no value; NaN if unknown.
    """

    source: Source
    collection: str | None = None
    um_per_px: float = math.nan

    def stamp(self, blocks: Blocks[SourceItem]) -> str:
        """Hash the sizes and modification times of a shard's files; a file of many cells is checked once."""
        digest = blake2b(digest_size=16)
        of_file: dict[int | str, str] = {}
        for _, items in blocks:
            stamps = []
            for item in items:
                if not item.place:
                    stamps.append(self.source.stamp(item))
                elif item.place[0] not in of_file:
                    of_file[item.place[0]] = self.source.stamp(item)
            digest.update("\n".join(stamps).encode())
        digest.update("\n".join(of_file.values()).encode())
        return digest.hexdigest()

    def records(self, items: Iterable[SourceItem]) -> Iterator[Record]:
        """Yield the records of cells, in their order; an unreadable cell becomes a record with its `BadCell`."""
        name = self.source.name  # looks at the disk
        return (self._record(item, name) for item in items)

    def _record(self, item: SourceItem, name: str) -> Record:
        data: bytes | np.ndarray | BadCell
        try:
            data = self.source.load(item)
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
            item.collection or self.collection,
            self.um_per_px if math.isnan(item.um_per_px) else item.um_per_px,
            name,
        )


def pack(
    src: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    pattern: str | None = None,
    read: ReadOptions | None = None,
    layout: str = "cell",
    shard_cells: int | None = None,
    block_cells: int | None = None,
    split: SplitOptions | None = None,
    allow_absent: bool = False,
    seed: int = 0,
    window: tuple[float, float] | None = None,
    um_per_px: float | None = None,
    collection: str | None = None,
    name: str | None = None,
    origin: str = "",
    licence: str = "",
    jobs: int | None = None,
    strict: bool = False,
    verbose: bool = False,
) -> Manifest:
    """Pack the images of `src` into a new data set `out`.

    If a run is interrupted or killed, its finished shards are kept. The same call resumes from them and writes the same
    bytes. Images whose size or modification time has changed since are read again with their shards.

    Shards are written by `joblib.Parallel`. Inside `joblib.parallel_config(backend="dask")` (or `"ray"`) the tasks are
    distributed over several machines; all of them need access to `src` and `out`.

    Args:
        src: file or folder of cells, in one of `fastcell.sources.registry.FORMATS`.
        out: new folder for the data set; it appears only when it is complete.
        pattern: position of class, group and collection in the paths, see `fastcell.sources.image_folder.Pattern`.
        read: options for reading the source: format, tiles, table and so on; None to detect the format.
        layout: `cell` keeps the encoded bytes, one record per cell; `block` stores raw pixels, with up to `block_cells`
            cells of the same subsets in one record.
        shard_cells: cells per shard; None for 10,000, or fewer in a small set, so that there are about 8 shards.
        block_cells: maximum number of cells in a block, for the layout `block`; None for 256.
        split: shares, seed and folds; None for 65/15/20.
        allow_absent: continue even if class and recording cannot be told apart, or a subset lacks a class.
        seed: seed of the global order, >= 0.
        window: grey levels (low, high) of 16-bit cells that map to 0 and 255.
        um_per_px: micrometres per pixel of cells for which the source gives no value.
        collection: name of the recording, for cells for which the source gives none.
        name: name of the data set; None for `fastcell.packing.dataset_name.name_dataset`.
        origin: where the cells come from, for the data card: publication, address, laboratory.
        licence: licence of the cells, for the data card.
        jobs: number of worker processes; None for the number set by the surrounding `joblib.parallel_config`, else one
            per CPU.
        strict: raise an error if any cell is unusable.
        verbose: print the source, notes, rate and remaining time to stderr.

    Returns:
        The manifest of the new data set.

    Raises:
        ArgumentError: If an argument is invalid or has no effect on these cells, `out` exists already, there are 16-bit
            cells and no window, there are too few groups for the split, or the scores of the split would be meaningless
            (see `fastcell.splits.obstacles`).
        BusyError: If another run is writing `out`.
        DataError: If no cell is usable, `out` cannot be written, or a worker process was killed.
        StrictError: If `strict` is set and any cell is unusable; `out` is not created then.
    """
    check_block_cells(layout, block_cells)
    check_split_seed_used(split)
    command = pack_command(
        src,
        replace(read or ReadOptions(), pattern=pattern),
        split or SplitOptions(),
        {
            "layout": layout if layout != "cell" else None,
            "shard_cells": shard_cells,
            "block_cells": block_cells,
            "seed": seed or None,
            "window": window,
            "um_per_px": um_per_px,
            "collection": collection,
            "name": name,
            "source": origin,
            "licence": licence,
            "allow_absent": allow_absent,
        },
    )
    block_cells = block_cells or BLOCK_CELLS
    _check(layout, shard_cells, block_cells, seed, window, um_per_px)
    check_jobs(jobs)
    say = printer(verbose)
    source = open_source(src, pattern, read)
    say(f"reading {source.describe()}")
    with explained(f"{out} cannot be written"), open_staging(out, say) as stage:
        with explained(f"{src} cannot be read"):
            listing = unify_names(source.scan())
        check_listing_options(listing, um_per_px, collection)
        say(f"found {counted(len(listing.items), 'cell')}, {counted(len(listing.classes), 'class', 'es')}")
        for note in [*listing.notes, *similar_names(listing)]:
            say(f"note: {note}")
        for told in listing.splits:
            say(f"note: the subsets of the source are the split {told} (fit --data.split_name {told}).")
        options = possible_options(listing, split or SplitOptions(), say)
        check = SplitCheck.of(listing, options, collection, f"the split of {src}", allow_absent)
        check.recordings()
        splits = make_subsets(listing, options)
        check.splits(splits)
        for note in check.given(splits):
            say(f"note: {note}")
        size = shard_cells or choose_shard_cells(len(listing.items))
        if layout == "cell":
            shards = cell_shards(listing.items, size, seed, listing.runs)
        else:
            shards = block_shards(listing.items, splits, size, block_cells, seed, listing.runs)
        pitch = math.nan if um_per_px is None else um_per_px
        arguments = (source.name, layout, listing.classes, collection, pitch, window)
        stage.begin(
            describe_job("pack", FORMAT_VERSION)
            | {"source": source.describe(), "listing": _digest(listing, splits), "seed": seed}
            | {"shard size": [size, block_cells], "arguments": repr(arguments)}
        )
        results = write_shards(
            stage,
            shards,
            SourceRecords(source, collection, pitch),
            layout,
            listing.classes,
            window,
            jobs=jobs,
            one_process_cells=_ONE_PROCESS_CELLS,
            verbose=verbose,
        )
        check_window_used(window, results)
        rejected = rejected_cells(listing, collection)
        if strict:
            _refuse_bad(results, rejected)
        info = DatasetInfo(
            name=name or name_dataset(src, out),
            classes=listing.classes,
            layout=layout,
            window=None if window is None else [float(window[0]), float(window[1])],
            um_per_px=um_per_px,
            seed=seed,
            source=one_name(origin),
            licence=one_name(licence),
            command=one_name(command),
        )
        places = _stored_places(shards, results)
        splits, notes = keep_exact_copies_together(
            stage.data_dir,
            results,
            info,
            partial(_stored_key, listing.items),
            places,
            splits,
            *strata_of(listing),
            options,
            list(listing.splits),
        )
        for note in notes:
            say(f"note: {note}")
        check.splits(splits)  # again, for copies that are kept together
        stored = {title: subsets[places] for title, subsets in splits.items()}
        features = listing.features
        del listing, check, splits, shards  # not needed any more, tens of bytes for each cell
        return finish_dataset(stage.data_dir, out, results, info, stored, rejected, features)


def _check(
    layout: str,
    shard_cells: int | None,
    block_cells: int,
    seed: int,
    window: tuple[float, float] | None,
    um_per_px: float | None,
) -> None:
    check_layout(layout, shard_cells, block_cells)
    if seed < 0:
        raise invalid("--seed", "a number >= 0", seed, "Choose another seed")
    check_levels(window, um_per_px)


def _stored_key(items: Sequence[SourceItem], place: int) -> str:
    return str(one_name(items[place].key))


def _stored_places(shards: Sequence[Blocks[SourceItem]], results: Sequence[ShardResult]) -> np.ndarray:
    """Return the place in the listing of each cell that was stored, in the order of the results, (M,) int64."""
    found = [np.empty(0, np.int64)]
    for blocks, result in zip(shards, results, strict=True):
        rows = np.concatenate([items.rows for _, items in blocks if isinstance(items, SomeItems)])
        if result.rows.num_rows < len(rows):
            keys = pa.array([one_name(item.key) for _, items in blocks for item in items], pa.string())
            rows = rows[pc.index_in(result.rows.column("key"), value_set=keys).to_numpy()]
        found.append(rows)
    return np.concatenate(found, dtype=np.int64)


def _digest(listing: Listing, splits: dict[str, np.ndarray]) -> str:
    """Hash the result of a scan: the cells and their subsets."""
    digest, columns = blake2b(digest_size=16), columns_of(listing)
    columns.update(digest)  # without places, see `Source.stamp`
    for name, subsets in sorted(splits.items()):
        digest.update(name.encode() + subsets.tobytes())
    return digest.hexdigest()


def _refuse_bad(results: list[ShardResult], rejected: pa.Table) -> None:
    bad = pa.concat_tables([result.quarantine for result in results] + [rejected])
    if bad.num_rows:
        keys = ", ".join(bad.column("key").slice(0, 3).to_pylist())
        raise StrictError(
            f"--strict refuses {describe_reasons(bad)} (e.g. {keys}). Nothing was written. Repair or remove them, or "
            "pack without --strict."
        )
