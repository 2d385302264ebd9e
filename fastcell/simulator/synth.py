"""Make a data set of simulated cells (:mod:`fastcell.simulator.simulate`) with a table of their true parameters.

``truth.parquet``, beside the manifest, has one row per cell: ``cell_id``, ``key``, ``index`` (number in the simulator's
series), ``defect``, and every parameter of the simulator by name. Classes, groups and collections are in the manifest,
as in any data set.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fastcell.dataset.dataset_info import DatasetInfo
from fastcell.dataset.manifest import Manifest
from fastcell.dataset.parquet import write_parquet
from fastcell.dataset.schema import FORMAT_VERSION
from fastcell.errors import BusyError, DataError, invalid
from fastcell.packing.finish_dataset import finish_dataset
from fastcell.packing.keep_copies_together import keep_exact_copies_together
from fastcell.packing.option_effects import check_block_cells, check_split_seed_used
from fastcell.packing.records import Record, ShardResult
from fastcell.packing.shard_layout import (
    BLOCK_CELLS,
    Blocks,
    cell_shards,
    check_layout,
    choose_shard_cells,
    even_block_shards,
)
from fastcell.packing.write_shards import write_shards
from fastcell.simulator import cell_classes, parameter_columns
from fastcell.splits.make_splits import SplitOptions, make_splits
from fastcell.storage.staging import describe_job, open_staging
from fastcell.system.messages import explained, printer
from fastcell.system.resources import cache_dir
from fastcell.system.worker_processes import check_jobs

MOST_CELLS = 2**31 - 1
DEFAULT_CELLS = 8_000
DEFAULT_NAME = "Synthetic ATOM cells"
DEFAULT_DEFECTS = 0.05
_ONE_PROCESS_CELLS = 3_000  # starting workers takes longer than drawing this many cells
_CHUNK = 65_536
_POLL_S = 0.5


@dataclass(frozen=True)
class SimulatedRecords:
    """Records of simulated cells, by cell number.

    Implements `fastcell.packing.write_shards.RecordSource`.

    Attributes:
        seed: seed of the series.
        defects: share of frames with a defect, 0 to 1.
    """

    seed: int
    defects: float

    def stamp(self, blocks: Blocks[int]) -> str:
        """Return an empty text: the cells are determined by the arguments of the run."""
        return ""

    def records(self, items: Iterable[int]) -> Iterator[Record]:
        """Yield the records of simulated cells, in their order."""
        from fastcell.simulator.simulate import GENERATOR, make_cells

        source = f"{GENERATOR}, seed {self.seed}"
        for cell in make_cells(items, self.seed, self.defects):
            yield Record(cell.key, cell.encode(), "jpg", cell.class_name, cell.group, cell.collection, source=source)


def synthesize(
    out: str | os.PathLike[str],
    num_cells: int = DEFAULT_CELLS,
    seed: int = 0,
    *,
    defects: float = DEFAULT_DEFECTS,
    layout: str = "cell",
    shard_cells: int | None = None,
    block_cells: int | None = None,
    split: SplitOptions | None = None,
    name: str | None = None,
    jobs: int | None = None,
    verbose: bool = False,
) -> Manifest:
    """Simulate cells 0 to num_cells - 1 of the series `seed` and pack them in shuffled order as a new data set.

    The same arguments give the same bytes for any number of workers, provided that the version of OpenCV, which encodes
    the images, is the same. If a run is interrupted or killed, its finished shards are kept, and the same call resumes
    from them.

    Args:
        out: new folder for the data set; it appears only when it is complete.
        num_cells: 1 to 2^31 - 1.
        seed: seed of the cells and of their order, 0 to 2**63 - 1.
        defects: share of empty, cut, defocused, ghost and doublet frames, in equal parts, 0 to 1.
        layout: `cell` or `block`, as in `fastcell.packing.pack`.
        shard_cells: cells per shard; None for 10,000, or fewer in a small set, so that there are about 8 shards.
        block_cells: maximum number of cells in a block, for the layout `block`; None for 256.
        split: shares, seed and folds; None for 65/15/20 by recording.
        name: name of the data set; None for `DEFAULT_NAME`.
        jobs: number of worker processes; None for the number set by the surrounding `joblib.parallel_config`, else one
            per CPU.
        verbose: print rate and remaining time to stderr.

    Returns:
        The manifest of the new data set.

    Raises:
        ArgumentError: If an argument is invalid, `out` exists already, or there are too few recordings for the split.
        BusyError: If another run is writing `out`.
        DataError: If `out` cannot be written, or a worker process was killed.
    """
    check_block_cells(layout, block_cells)
    check_split_seed_used(split)
    block_cells = block_cells or BLOCK_CELLS
    _check(num_cells, layout, shard_cells, block_cells, jobs)
    say = printer(verbose)
    from fastcell.simulator import simulate as simulator

    recordings = _recordings(num_cells, seed, defects)
    next(simulator.simulate(1, seed))  # compiles the loops; the workers then find them in numba's cache
    made = simulator.recordings(seed)
    # Balance the subsets over class and collection, not over class alone, so that each subset has a class in both
    # collections.
    _, strata = np.unique(np.char.add(made.collections, made.class_index.astype(str)), return_inverse=True)
    with explained(f"{out} cannot be written"), open_staging(out, say) as stage:
        groups = np.array(made.groups)[recordings]
        splits = make_splits(strata[recordings], groups, split or SplitOptions())
        size = shard_cells or choose_shard_cells(num_cells)
        if layout == "cell":
            shards = cell_shards(range(num_cells), size, seed)
        else:
            shards = even_block_shards(range(num_cells), splits, size, block_cells, seed)
        stage.begin(
            describe_job("synth", FORMAT_VERSION)
            | {"generator": simulator.GENERATOR, "seed": seed, "cells": num_cells, "defects": defects}
            | {"layout": layout, "shard size": [size, block_cells], "split": repr(split or SplitOptions())}
        )
        results = write_shards(
            stage,
            shards,
            SimulatedRecords(seed, defects),
            layout,
            cell_classes.CLASSES,
            jobs=jobs,
            one_process_cells=_ONE_PROCESS_CELLS,
            verbose=verbose,
        )
        order = np.array([index for blocks in shards for _, indices in blocks for index in indices])
        if sum(result.rows.num_rows for result in results) != num_cells:
            raise DataError(f"{out}: a simulated cell could not be read back. OpenCV's JPEG encoder is at fault.")
        _write_truth(stage.data_dir / "truth.parquet", order, results, seed, defects)
        info = DatasetInfo(
            name=name or DEFAULT_NAME,
            classes=list(cell_classes.CLASSES),
            layout=layout,
            synthetic=True,
            generator=simulator.GENERATOR,
            seed=seed,
        )
        by_place = {name: subsets[order] for name, subsets in splits.items()}
        keys = pa.concat_tables([result.rows.select(["key"]) for result in results]).column("key").to_pylist()
        by_place, notes = keep_exact_copies_together(
            stage.data_dir,
            results,
            info,
            keys.__getitem__,
            np.arange(num_cells),
            by_place,
            strata[recordings][order],
            groups[order],
            split or SplitOptions(),
        )
        for note in notes:
            say(f"note: {note}")
        return finish_dataset(stage.data_dir, out, results, info, by_place)


def make_default_dataset(cache: str | os.PathLike[str] | None = None, verbose: bool = False) -> Path:
    """Return the folder of the default set (8,000 cells, seed 0, 5 % defects), and make the set on first use.

    If another process is making the set, wait for it.

    Args:
        cache: folder that holds the set; None for the user's cache folder. The name of the set's folder contains the
            versions of simulator and format, so that a new version makes a new set.
        verbose: print rate and remaining time to stderr while the set is made.

    Returns:
        The folder of the set.

    Raises:
        DataError: If the cache folder cannot be written.
    """
    from fastcell.simulator.simulate import GENERATOR

    name = f"{GENERATOR.replace(' ', '-')}-{DEFAULT_CELLS}-cells-seed-0-format-{FORMAT_VERSION}"
    folder = Path(cache_dir() if cache is None else cache) / name
    say, told = printer(verbose), False
    while not (folder / "dataset.json").exists():
        try:
            synthesize(folder, verbose=verbose)
        except BusyError as busy:  # usually other processes of the same run
            if not told:
                say(f"waiting: {busy}")
            told = True
            time.sleep(_POLL_S)
        except (DataError, ValueError):
            # Another process may have put the same set there in the meantime.
            if not (folder / "dataset.json").exists():
                raise
    return folder


def _check(num_cells: int, layout: str, shard_cells: int | None, block_cells: int, jobs: int | None) -> None:
    if not 1 <= num_cells <= MOST_CELLS:
        rule = f"a number >= 1 and <= {MOST_CELLS:,}"
        raise invalid("--cells", rule, num_cells, f"The default is {DEFAULT_CELLS:,}")
    check_layout(layout, shard_cells, block_cells)
    check_jobs(jobs)


def _recordings(num_cells: int, seed: int, defects: float) -> npt.NDArray[np.int64]:
    """Return the recording of cells 0 to num_cells - 1, (N,) int64."""
    from fastcell.simulator import simulate as simulator

    recordings = np.empty(num_cells, np.int64)
    for start in range(0, num_cells, _CHUNK):
        stop = min(start + _CHUNK, num_cells)
        rows = simulator.draw_parameters(np.arange(start, stop), seed, defects)
        recordings[start:stop] = rows[:, parameter_columns.F.recording]
    return recordings


def _write_truth(
    path: Path, order: npt.NDArray[np.int64], results: Sequence[ShardResult], seed: int, defects: float
) -> None:
    from fastcell.simulator import simulate as simulator

    keys = pa.chunked_array([chunk for result in results for chunk in result.rows.column("key").chunks], pa.string())
    parts = []
    for start in range(0, len(order), _CHUNK):
        chosen = order[start : start + _CHUNK]
        rows = simulator.draw_parameters(chosen, seed, defects)
        columns = {
            "cell_id": pa.array(np.arange(start, start + len(chosen)), pa.int64()),
            "key": keys.slice(start, len(chosen)).combine_chunks(),
            "index": pa.array(chosen, pa.int64()),
            "defect": pa.array(np.array(cell_classes.DEFECTS)[rows[:, parameter_columns.F.defect].astype(int)]),
        }
        for field in parameter_columns.F:
            if field.name not in ("class_index", "recording", "defect"):
                columns[field.name] = pa.array(rows[:, field], pa.float32())
        parts.append(pa.table(columns))
    write_parquet(path, pa.concat_tables(parts))
