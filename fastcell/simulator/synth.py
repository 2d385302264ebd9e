"""Simulated cells (:mod:`fastcell.simulator.simulate`) as a data set, with the truth beside the manifest.

``truth.parquet`` has one row per cell: ``cell_id``, ``key``, ``index`` (number in the simulator's series), ``defect``,
and every latent parameter of the simulator by name. Classes, groups and collections are in the manifest as for any
data set.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fastcell.dataset.manifest import DatasetInfo, Manifest, write_table
from fastcell.dataset.schema import FORMAT_VERSION, LAYOUTS
from fastcell.errors import BusyError, DataError, invalid
from fastcell.packing.keep_copies_together import keep_exact_copies_together
from fastcell.packing.pack import MAX_SHARD_CELLS, MIN_SHARD_CELLS
from fastcell.packing.quarantine import Record, ShardResult
from fastcell.packing.shard_writer import finish_dataset, shard_once, write_block_shard, write_cell_shard
from fastcell.simulator import parameter_columns
from fastcell.splits.leakproof import make_leakproof_splits
from fastcell.splits.make_splits import SplitOptions, make_splits
from fastcell.storage.staging import describe_job, open_staging
from fastcell.system.messages import explained, printer
from fastcell.system.progress_line import Progress
from fastcell.system.resources import cache_dir
from fastcell.system.worker_processes import check_jobs, run_tasks

DEFAULT_CELLS = 8_000
DEFAULT_DEFECTS = 0.05
_ONE_PROCESS_CELLS = 3_000  # starting workers takes longer than drawing so few
_NUM_SHARDS = 8
_CHUNK = 65_536
_POLL_S = 0.5

Blocks = list[tuple[str, npt.NDArray[np.int64]]]


@dataclass(frozen=True)
class _Task:
    """One shard to write, as it goes to a worker: side and cell numbers of each block (cell layout: one block)."""

    path: str
    saved_dir: str
    blocks: Blocks
    layout: str
    seed: int
    defects: float


def synthesize(
    out: str | os.PathLike[str],
    num_cells: int = DEFAULT_CELLS,
    seed: int = 0,
    *,
    defects: float = DEFAULT_DEFECTS,
    layout: str = "cell",
    shard_cells: int | None = None,
    block_cells: int = 256,
    split: SplitOptions | None = None,
    jobs: int | None = None,
    verbose: bool = False,
) -> Manifest:
    """Simulate cells 0 to num_cells - 1 of the series `seed` and pack them, shuffled, as a new data set.

    The same arguments give the same bytes, whatever the number of workers (given one version of OpenCV, which encodes).
    A run that was interrupted or killed leaves its finished shards, and the same call goes on from there.

    Args:
        out: folder to be made; it appears when it is whole.
        num_cells: >= 1.
        seed: of the cells and of their order, 0 to 2**63 - 1.
        defects: share of empty, cut, defocused, ghost and doublet frames, in equal parts, 0 to 1.
        layout: `cell` or `block`, as in `fastcell.packing.pack`.
        shard_cells: cells in a shard; None: 10,000, and fewer in a small set, for about 8 shards.
        block_cells: most cells in a block.
        split: shares, seed and folds; None: 65/15/20 by recording.
        jobs: worker processes; None: those of the surrounding `joblib.parallel_config`, else one for each CPU.
        verbose: print rate and time left to stderr.

    Raises:
        ArgumentError: an argument out of its rule, `out` is there already, or too few recordings for the split.
        BusyError: another run is making `out`.
        DataError: `out` cannot be written, or a worker process was killed.
    """
    _check(num_cells, layout, shard_cells, block_cells, jobs)
    say = printer(verbose)
    from fastcell.simulator import simulate as simulator

    recordings = _recordings(num_cells, seed, defects)
    next(simulator.simulate(1, seed))  # compiles what the workers then find in numba's cache
    made = simulator.recordings(seed)
    # Sides balanced over class and collection, not class alone: each side then meets a class in both collections.
    _, strata = np.unique(np.char.add(made.collections, made.class_index.astype(str)), return_inverse=True)
    with explained(f"{out} cannot be written"), open_staging(out, say) as stage:
        groups = np.array(made.groups)[recordings]
        splits = make_splits(strata[recordings], groups, split or SplitOptions())
        size = shard_cells or max(MIN_SHARD_CELLS, min(MAX_SHARD_CELLS, -(-num_cells // _NUM_SHARDS)))
        if layout == "cell":
            shards = _cell_shards(num_cells, size, seed)
        else:
            shards = _block_shards(splits, num_cells, size, block_cells, seed)
        stage.begin(
            describe_job("synth", FORMAT_VERSION)
            | {"generator": simulator.GENERATOR, "seed": seed, "cells": num_cells, "defects": defects}
            | {"layout": layout, "shard size": [size, block_cells], "split": repr(split or SplitOptions())}
        )
        saved_dir = str(stage.saved_dir)
        tasks = [
            _Task(str(stage.data_dir / f"shard-{number:06d}.tar"), saved_dir, blocks, layout, seed, defects)
            for number, blocks in enumerate(shards)
        ]
        results = _write_shards(tasks, num_cells, jobs, verbose)
        order = np.concatenate([indices for blocks in shards for _, indices in blocks])
        if sum(result.rows.num_rows for result in results) != num_cells:
            raise DataError(f"{out}: a simulated cell could not be read back. OpenCV's JPEG encoder is at fault.")
        _write_truth(stage.data_dir / "truth.parquet", order, results, seed, defects)
        info = DatasetInfo(
            name="Synthetic ATOM cells",
            classes=list(simulator.CLASSES),
            layout=layout,
            synthetic=True,
            generator=simulator.GENERATOR,
            seed=seed,
        )
        by_place = {name: sides[order] for name, sides in splits.items()}
        keys = pa.concat_tables([result.rows.select(["key"]) for result in results]).column("key").to_pylist()
        by_place, notes = keep_exact_copies_together(
            stage.data_dir,
            results,
            info,
            keys,
            by_place,
            lambda copies: make_leakproof_splits(
                strata[recordings][order], groups[order], split or SplitOptions(), copies, keys.__getitem__
            ),
        )
        for note in notes:
            say(f"note: {note}")
        return finish_dataset(stage.data_dir, out, results, info, by_place)


def make_default_dataset(cache: str | os.PathLike[str] | None = None, verbose: bool = False) -> Path:
    """Folder of the default set (8,000 cells, seed 0, 5 % defects), made once; waits where another process makes it.

    Args:
        cache: folder to keep it in; None: the user's cache folder. The name of the set's folder tells the versions of
            simulator and format, so that a new version makes a new set.
        verbose: print rate and time left to stderr while it is made.

    Raises:
        DataError: the cache folder cannot be written.
    """
    from fastcell.simulator.simulate import GENERATOR

    name = f"{GENERATOR.replace(' ', '-')}-{DEFAULT_CELLS}-cells-seed-0-format-{FORMAT_VERSION}"
    folder = Path(cache_dir() if cache is None else cache) / name
    say, told = printer(verbose), False
    while not (folder / "dataset.json").exists():
        try:
            synthesize(folder, verbose=verbose)
        except BusyError as busy:  # other processes of the same run, most often
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
    if num_cells < 1:
        raise invalid("--cells", "a number >= 1", num_cells, f"The default is {DEFAULT_CELLS:,}")
    if layout not in LAYOUTS:
        raise invalid("--layout", f"one of {', '.join(LAYOUTS)}", layout, "Take cell for tars that other tools read")
    if shard_cells is not None and shard_cells < 1:
        raise invalid("--shard-cells", "a number >= 1", shard_cells, "10,000 suits most sets")
    if not 1 <= block_cells <= 65_536:
        raise invalid("--block-cells", "a number from 1 to 65,536", block_cells, "256 suits most sets")
    check_jobs(jobs)


def _recordings(num_cells: int, seed: int, defects: float) -> npt.NDArray[np.int64]:
    """Recording of cells 0 to num_cells - 1, (N,) int64."""
    from fastcell.simulator import simulate as simulator

    recordings = np.empty(num_cells, np.int64)
    for start in range(0, num_cells, _CHUNK):
        stop = min(start + _CHUNK, num_cells)
        rows = simulator.draw_parameters(np.arange(start, stop), seed, defects)
        recordings[start:stop] = rows[:, parameter_columns.F.recording]
    return recordings


def _cell_shards(num_cells: int, shard_cells: int, seed: int) -> list[Blocks]:
    order = np.random.default_rng([seed, 0xCE11]).permutation(num_cells)
    return [[("", order[start : start + shard_cells])] for start in range(0, num_cells, shard_cells)]


def _block_shards(
    splits: dict[str, np.ndarray], num_cells: int, shard_cells: int, block_cells: int, seed: int
) -> list[Blocks]:
    """Blocks in a seeded order; the cells of a block share their side in every split."""
    rng = np.random.default_rng([seed, 0xB10C])
    code = np.zeros(num_cells, dtype=np.int64)
    for sides in splits.values():
        _, side = np.unique(sides, return_inverse=True)
        _, code = np.unique(code * 4 + side.reshape(-1), return_inverse=True)
    blocks: Blocks = []
    for value in np.unique(code):
        rows = rng.permutation(np.flatnonzero(code == value))
        side_name = str(splits["default"][rows[0]])
        blocks += [(side_name, part) for part in np.array_split(rows, -(-len(rows) // block_cells))]
    per_shard = -(-shard_cells // block_cells)
    shuffled = [blocks[i] for i in rng.permutation(len(blocks))]
    return [shuffled[start : start + per_shard] for start in range(0, len(shuffled), per_shard)]


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
            progress.advance(result.rows.num_rows)
    return results


def _write_shard(task: _Task) -> ShardResult:
    return shard_once(Path(task.path), Path(task.saved_dir), "", lambda: _write_anew(task))


def _write_anew(task: _Task) -> ShardResult:
    from fastcell.simulator.simulate import CLASSES

    if task.layout == "block":
        return write_block_shard(task.path, ((side, list(_records(task, part))) for side, part in task.blocks))
    (_, indices), *_ = task.blocks
    return write_cell_shard(task.path, _records(task, indices), None, CLASSES)


def _records(task: _Task, indices: npt.NDArray[np.int64]) -> Iterator[Record]:
    from fastcell.simulator.simulate import GENERATOR, make_cells

    for cell in make_cells(indices, task.seed, task.defects):
        source = f"{GENERATOR}, seed {task.seed}"
        yield Record(cell.key, cell.encode(), "jpg", cell.class_name, cell.group, cell.collection, source=source)


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
            "defect": pa.array(np.array(simulator.DEFECTS)[rows[:, parameter_columns.F.defect].astype(int)]),
        }
        for field in parameter_columns.F:
            if field.name not in ("class_index", "recording", "defect"):
                columns[field.name] = pa.array(rows[:, field], pa.float32())
        parts.append(pa.table(columns))
    write_table(path, pa.concat_tables(parts))
