"""Write the shards of a data set in worker processes, one task each; keep finished shards of an earlier run.

`fastcell.packing.shard_layout` assigns the cells to shards, and `fastcell.packing.shard_writer` writes one shard. A
record source supplies the cells: `fastcell pack` reads them from files, `fastcell synth` draws them with the simulator.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Generic, Protocol

from fastcell.dataset.grey_window import Window
from fastcell.dataset.open_files import look_again
from fastcell.packing.quick_jpegs import FEWEST_CELLS
from fastcell.packing.records import Record, ShardResult
from fastcell.packing.shard_layout import Blocks, Item
from fastcell.packing.shard_writer import write_block_shard, write_cell_shard
from fastcell.storage.saved_pieces import load_pieces, map_pieces, save_pieces
from fastcell.storage.staging import Staging
from fastcell.storage.whole_files import file_crc32
from fastcell.system.progress_line import Progress
from fastcell.system.worker_processes import num_workers, run_tasks


class RecordSource(Protocol[Item]):
    """Protocol of an object that supplies the records of cells; it is pickled and sent to the workers."""

    def stamp(self, blocks: Blocks[Item]) -> str:
        """Return a text that changes whenever the stored bytes of a shard's cells change."""

    def records(self, items: Iterable[Item]) -> Iterator[Record]:
        """Yield the records of cells, in their order."""


@dataclass(frozen=True)
class ShardTask(Generic[Item]):
    """One shard to write, as sent to a worker.

    Attributes:
        path: path of the tar.
        saved_dir: `Staging.saved_dir`.
        blocks: subset and cells of each block; a single block in the cell layout.
        source: source of the records.
        layout: `cell` or `block`.
        classes: class names in the order of their numbers.
        window: grey levels (low, high) of 16-bit cells that map to 0 and 255.
        quick: decode with compiled loops, which are worth loading.
    """

    path: str
    saved_dir: str
    blocks: Blocks[Item]
    source: RecordSource[Item]
    layout: str
    classes: Sequence[str]
    window: Window = None
    quick: bool = False


def write_shards(
    stage: Staging,
    shards: Sequence[Blocks[Item]],
    source: RecordSource[Item],
    layout: str,
    classes: Sequence[str],
    window: Window = None,
    *,
    jobs: int | None,
    one_process_cells: int,
    verbose: bool,
) -> list[ShardResult]:
    """Write `shard-000000.tar`, ... into the staging folder of a run.

    Args:
        stage: staging folder of the run, after `begin`.
        shards: subset and cells of each block, for each shard.
        source, layout, classes, window: see `ShardTask`.
        jobs: number of worker processes; None for the number set by the surrounding `joblib.parallel_config`, else one
            per CPU.
        one_process_cells: if `jobs` is None, up to this many cells are written without workers.
        verbose: print rate and remaining time to stderr.

    Returns:
        One result per shard, in the order of `shards`.

    Raises:
        ArgumentError: If there are 16-bit cells and no window, or a class is not in `classes`.
        OSError: If a file cannot be written.
    """
    num_cells = sum(len(items) for blocks in shards for _, items in blocks)
    few = num_cells <= one_process_cells
    quick = num_cells >= FEWEST_CELLS * num_workers(jobs, few)
    tasks = [
        ShardTask(
            str(stage.data_dir / f"shard-{number:06d}.tar"),
            str(stage.saved_dir),
            blocks,
            source,
            layout,
            classes,
            window,
            quick,
        )
        for number, blocks in enumerate(shards)
    ]
    results = []
    finished = [_saved_path(Path(task.path), Path(task.saved_dir)).exists() for task in tasks]
    with (
        Progress(num_cells, "cells", show=verbose, warmup=num_workers(jobs, few)) as progress,
        closing(run_tasks(write_shard, tasks, jobs, few)) as done,
    ):
        for task, result, reused in zip(tasks, done, finished, strict=True):
            results.append(_mapped(result, Path(task.saved_dir)))
            progress.advance(result.rows.num_rows + result.quarantine.num_rows, reused)
    return results


def write_shard(task: ShardTask[Item]) -> ShardResult:
    """Write a shard, or keep a finished one of an earlier run if its stamp is the same.

    Returns:
        Contents of the shard.

    Raises:
        ArgumentError: If there are 16-bit cells and no window, or a class is not in the classes of the task.
        OSError: If the file cannot be written.
    """
    stamp = task.source.stamp(task.blocks)
    return _once(Path(task.path), Path(task.saved_dir), stamp, lambda: _write_anew(task))


def _write_anew(task: ShardTask[Item]) -> ShardResult:
    look_again()
    if task.layout == "block":
        blocks = ((subset, list(task.source.records(items))) for subset, items in task.blocks)
        return write_block_shard(task.path, blocks, task.window)
    items = chain.from_iterable(items for _, items in task.blocks)
    return write_cell_shard(task.path, task.source.records(items), task.window, task.classes, task.quick)


def _once(path: Path, saved_dir: Path, stamp: str, write: Callable[[], ShardResult]) -> ShardResult:
    """Return the result of shard `path`: the saved one if its `stamp` and the CRC-32 of the shard are correct, else
    that of `write`.
    """
    saved_path = _saved_path(path, saved_dir)
    saved = load_pieces(saved_path, stamp)
    if saved is not None and path.exists() and file_crc32(path) == saved.facts.get("crc32"):
        rows, quarantine, *blocks = saved.tables
        return ShardResult(
            path.name,
            saved.facts["bytes"],
            rows,
            quarantine,
            blocks[0] if blocks else None,
            saved.facts["crc32"],
            saved.facts["num_deep"],
        )
    saved_path.unlink(missing_ok=True)
    path.unlink(missing_ok=True)
    result = write()
    tables = [table for table in (result.rows, result.quarantine, result.blocks) if table is not None]
    save_pieces(
        saved_path, {"stamp": stamp, "bytes": result.bytes, "crc32": result.crc32, "num_deep": result.num_deep}, tables
    )
    return result


def _mapped(result: ShardResult, saved_dir: Path) -> ShardResult:
    """Return a result with the tables of its saved file, mapped, so that they take no memory of this process."""
    tables = map_pieces(_saved_path(Path(result.name), saved_dir))
    if tables is None:
        return result
    rows, quarantine, *blocks = tables
    return result._replace(rows=rows, quarantine=quarantine, blocks=blocks[0] if blocks else None)


def _saved_path(path: Path, saved_dir: Path) -> Path:
    return saved_dir / f"{path.name}.saved"
