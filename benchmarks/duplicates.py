"""What does the search for copies find, how often does it err, and what does it cost?

Found: copies are planted in synthetic cells and stored with them, exact ones (flips and quarter turns) and near ones
of every kind, and looked for as `fastcell split` does. Errs: sets of different seeds with nothing planted; and, where
their folders are given, real cells: Jurkat, which has no exact pair, and T cells of four donors. Cost: exact search in
100,000 cells, near search in 20,000, and `fastcell pack` of 24,000 images with and without the exact search, in turns.

    python benchmarks/duplicates.py [--jurkat DIR] [--tcell DIR] [--part found|cost]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from harness import Result, time_turns

from fastcell.dataset.manifest import DatasetInfo, Manifest
from fastcell.dataset.single_cells import read_cells
from fastcell.packing import keep_copies_together
from fastcell.packing import pack as packing
from fastcell.packing.finish_dataset import finish_dataset
from fastcell.packing.records import Record
from fastcell.packing.shard_writer import write_cell_shard
from fastcell.simulator.synth import synthesize
from fastcell.splits.copies.exact import Duplicates, exact_sets
from fastcell.splits.copies.near import near_copies
from fastcell.splits.copies.planting import PLANTED_KINDS, plant
from fastcell.splits.make_splits import SplitOptions
from fastcell.splits.resplit import resplit
from fastcell.stats.proportions import wilson_interval
from fastcell.storage.staging import staging

EXACT = "exact: quarter turns and flips"


@dataclass
class Finding:
    """One count.

    Attributes:
        data: what was searched.
        copies: what was counted.
        found: how many.
        of: of how many.
        low, high: 95 % Wilson interval of the share.
    """

    data: str
    copies: str
    found: int
    of: int
    low: float
    high: float


def main() -> None:
    """Measure, print and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jurkat", type=Path, help="folder of the Jurkat cells")
    parser.add_argument("--tcell", type=Path, help="folder of the T cells")
    parser.add_argument("--cells", type=int, default=3_000, help="synthetic cells that copies are planted in")
    parser.add_argument("--sets", type=int, default=20, help="clean sets")
    parser.add_argument("--set-cells", type=int, default=1_000, help="cells in each of them")
    parser.add_argument("--rounds", type=int, default=5, help="of packing")
    parser.add_argument("--part", choices=("all", "found", "cost"), default="all")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if options.part in ("all", "found"):
            rows = planted(folder, options.cells)
            rows += clean(folder, options.sets, options.set_cells)
            rows += real(folder, options.jurkat, options.tcell)
            for row in rows:
                print(f"{row.data:<46}{row.copies:<44}{row.found:>6} of {row.of:<6}{row.low:.4f}..{row.high:.4f}")
            settings = {"cells": options.cells, "clean sets": options.sets, "cells in each": options.set_cells}
            print(f"wrote {Result('duplicates', 'synthetic cells with planted copies', settings, rows).save()}")
        if options.part in ("all", "cost"):
            cost(folder, options.rounds)


def count(data: str, copies: str, found: int, of: int) -> Finding:
    """A finding with its interval."""
    return Finding(data, copies, int(found), int(of), *wilson_interval(int(found), int(of)))


# -- what is found


def planted(folder: Path, num_cells: int, seed: int = 7) -> list[Finding]:
    """Copies of 300 cells for exact ones and for each kind of near ones, stored among the cells they were made of."""
    clean_set = synthesize(folder / "origin", num_cells, seed, defects=0.0)
    rng = np.random.default_rng(seed)
    manifest, origin, kind = store_with_copies(clean_set, folder / "planted", 300, rng)
    start = time.perf_counter()
    exact = exact_sets(manifest)
    print(f"exact: {time.perf_counter() - start:.1f} s, {exact.num_read:,} cells read", flush=True)
    start = time.perf_counter()
    found = near_copies(manifest, exact=exact)
    print(f"near: {time.perf_counter() - start:.1f} s", flush=True)
    data = f"synthetic, {num_cells:,} cells"
    rows = [count(data, EXACT, joined(exact, origin, np.flatnonzero(kind == 0)), (kind == 0).sum())]
    for number, name in enumerate(PLANTED_KINDS):
        mine = np.flatnonzero(kind == number + 1)
        rows.append(count(data, f"near: {name}", joined(found, origin, mine), len(mine)))
    wrong = len({int(cell) for members in found.members() if len(set(origin[members])) > 1 for cell in members})
    return [*rows, count(data, "cells in a set with other cells' copies", wrong, len(manifest))]


def store_with_copies(
    source: Manifest, out: Path, per_kind: int, rng: np.random.Generator
) -> tuple[Manifest, np.ndarray, np.ndarray]:
    """The cells of `source` and copies of some of them, mixed: data set, origin (N,) of each cell, and kind (N,):
    -1 itself, 0 exact copy, then `PLANTED_KINDS`."""
    images = list(read_cells(source, range(len(source))))
    cells = [(image, origin, -1) for origin, image in enumerate(images)]
    for kind in range(len(PLANTED_KINDS) + 1):
        for origin in rng.permutation(len(images))[:per_kind].tolist():
            copy = turned(images[origin], rng) if kind == 0 else plant(images[origin], PLANTED_KINDS[kind - 1], rng)
            cells.append((copy, origin, kind))
    cells = [cells[place] for place in rng.permutation(len(cells)).tolist()]
    columns = source.table.select(["class", "group", "collection"]).to_pylist()
    records = [
        Record(f"{number}", np.ascontiguousarray(image), "raw", *columns[origin].values())
        for number, (image, origin, _) in enumerate(cells)
    ]
    with staging(out) as stage:
        shard = write_cell_shard(stage / "shard-000000.tar", records, None, source.info.classes)
        manifest = finish_dataset(stage, out, [shard], DatasetInfo("planted", source.info.classes))
    return manifest, *(np.array([cell[place] for cell in cells]) for place in (1, 2))


def turned(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One of the seven turned or mirrored images."""
    which = int(rng.integers(1, 8))
    return np.rot90(image[:, ::-1] if which >= 4 else image, which % 4)


def joined(found: Duplicates, origin: np.ndarray, cells: np.ndarray) -> int:
    """How many of `cells` are in one set with the very cell they were made of or with another copy of it."""
    sets = found.of_cells(len(origin))
    num = 0
    for cell in cells.tolist():
        others = np.flatnonzero((origin == origin[cell]) & (np.arange(len(origin)) != cell))
        num += sets[cell] >= 0 and bool((sets[others] == sets[cell]).any())
    return num


def clean(folder: Path, num_sets: int, num_cells: int) -> list[Finding]:
    """Sets and cells with an alarm where nothing was planted."""
    alarms, cells = 0, 0
    for seed in range(100, 100 + num_sets):
        found = near_copies(synthesize(folder / f"clean-{seed}", num_cells, seed))
        alarms += len(found) > 0
        cells += len(found.cell_ids)
        print(f"clean set {seed}: {len(found)} sets, {len(found.cell_ids)} cells", flush=True)
    data = f"synthetic, {num_sets} clean sets of {num_cells:,}"
    return [
        count(data, "false alarms: sets with any", alarms, num_sets),
        count(data, "false alarms: cells", cells, num_sets * num_cells),
    ]


def real(folder: Path, jurkat: Path | None, tcell: Path | None) -> list[Finding]:
    """Alarms among the real cells, recall on copies of them, and donors on two sides."""
    rows = []
    for name, source, pattern in (("Jurkat", jurkat, None), ("T cells", tcell, "{group}/{class}/{name}")):
        if source is None:
            continue
        manifest = packing.pack(source, folder / name, pattern=pattern)
        shares, folds = ((0.8, 0.0, 0.2), "groups") if pattern else ((0.65, 0.15, 0.2), 5)
        made = resplit(manifest.path, SplitOptions(shares, folds=folds))  # type: ignore[arg-type]
        found = made.duplicates
        data = f"{name}, {len(manifest):,} cells"
        rows.append(count(data, "exact copies: cells", (found.kinds == "exact").sum(), len(manifest)))
        rows.append(count(data, "near copies: cells", (found.kinds == "near").sum(), len(manifest)))
        if found.near is not None:
            rows += [count(data, f"recall, {item.kind}", item.found, item.planted) for item in found.near.recall]
        if manifest.groups is not None:
            for split, sides in made.splits.items():
                donors = set(manifest.groups.tolist())
                torn = sum(len(set(sides[manifest.groups == donor])) > 1 for donor in donors)
                rows.append(count(data, f"donors on two sides of {split}", torn, len(donors)))
    return rows


# -- what it costs


def cost(folder: Path, num_rounds: int) -> None:
    """Rates of the searches, and of packing with and without the exact one."""
    large = synthesize(folder / "large", 100_000, 1)
    same_size = write_same_size(folder / "same-size", 100_000)
    middle = synthesize(folder / "middle", 20_000, 2)
    images = write_images(folder / "images", 24_000)
    outs = (folder / f"out-{number}" for number in range(10_000))
    contestants: dict[str, tuple[str, Callable[[], int]]] = {
        "pack": ("24,000 images, one process", lambda: len(packing.pack(images, next(outs), jobs=1))),
        "pack, no search": ("the same without", lambda: pack_without(images, next(outs))),
        "exact, ragged": ("100,000 synthetic cells", lambda: exact_sets(large).num_cells),
        "exact, one size": ("100,000 cells of 40 x 40", lambda: exact_sets(same_size).num_cells),
    }
    turns = time_turns(contestants, num_rounds)
    rows = turns.rows("pack, no search")
    near = time_turns({"near": ("20,000 synthetic cells", lambda: near_copies(middle).num_cells)}, 2, 0)
    rows += near.rows("near")
    for row in rows:
        interval = f"{row.ratio:.3f} ({row.ratio_low:.3f}..{row.ratio_high:.3f})"
        print(f"{row.contestant:<20}{row.cells_per_s:>12,.0f} cells/s  {interval}")
    settings = {
        "read of the ragged cells": exact_sets(large).num_read,
        "read of those of one size": exact_sets(same_size).num_read,
    }
    print(f"wrote {Result('duplicates-cost', 'synthetic cells', settings, rows).save()}")


def write_images(folder: Path, num: int) -> Path:
    """A folder of synthetic JPEG cells in class folders."""
    from fastcell.simulator.simulate import make_cells

    for cell in make_cells(np.arange(num), 5, 0.0):
        path = folder / cell.class_name / f"{cell.key.rpartition('/')[2]}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(cell.encode())
    return folder


def write_same_size(out: Path, num: int) -> Manifest:
    """Smooth blobs with noise, 40 x 40 each: many agree in mean and border, so many must be read."""
    rng = np.random.default_rng(3)
    blobs = [cv2.GaussianBlur(rng.normal(0, 400, (40, 40)).astype(np.float32), (0, 0), 3) for _ in range(500)]

    def records() -> Iterator[Record]:
        for number in range(num):
            noise = rng.normal(100, 8, (40, 40))
            yield Record(f"{number}", np.clip(blobs[number % 500] + noise, 0, 255).astype(np.uint8), "raw", "A")

    with staging(out) as stage:
        shard = write_cell_shard(stage / "shard-000000.tar", records(), None, ["A"])
        return finish_dataset(stage, out, [shard], DatasetInfo("one size", ["A"]))


@contextmanager
def no_search() -> Iterator[None]:
    """`pack` without its search for exact copies."""
    before = keep_copies_together.keep_exact_copies_together
    keep_copies_together.keep_exact_copies_together = lambda base, results, info, keys, splits, *rest: (splits, [])
    try:
        yield
    finally:
        keep_copies_together.keep_exact_copies_together = before


def pack_without(images: Path, out: Path) -> int:
    with no_search():
        return len(packing.pack(images, out, jobs=1))


if __name__ == "__main__":
    main()
