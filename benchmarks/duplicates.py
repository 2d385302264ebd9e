"""What does the search for copies find, and how often does it err?

Found: copies are planted in synthetic cells and stored with them, exact ones (flips and quarter turns) and near ones
of every kind, and looked for as `fastcell split` does. Errs: sets of different seeds with nothing planted; and, where
their folders are given, real cells: Jurkat, which has no exact pair, and T cells of four donors. With ``--before`` only
copies that an earlier checkout missed are planted in Jurkat cells, and both searches look for them.

    python benchmarks/duplicates.py [--jurkat DIR] [--tcell DIR]
    python benchmarks/duplicates.py --jurkat DIR --before CHECKOUT
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from harness import Result
from refusals import HERE, head_of
from unlike_cells import zoomed

from fastcell.dataset.dataset_info import DatasetInfo
from fastcell.dataset.single_cells import read_cells
from fastcell.packing import pack as packing
from fastcell.packing.finish_dataset import finish_dataset
from fastcell.packing.records import Record
from fastcell.packing.shard_writer import write_cell_shard
from fastcell.simulator.synth import synthesize
from fastcell.splits.copies.exact import exact_sets
from fastcell.splits.copies.near import near_copies
from fastcell.splits.copies.planting import PLANTED_KINDS, STRONG_JPEG, plant
from fastcell.splits.make_splits import SplitOptions
from fastcell.splits.resplit import resplit
from fastcell.stats.proportions import wilson_interval
from fastcell.storage.staging import staging

EXACT = "exact: quarter turns and flips"
EARLIER_KINDS = {
    "enlarged by 1.1": lambda cell: zoomed(cell, 1.1),
    "saved as JPEG of quality 50": lambda cell: plant(cell, STRONG_JPEG, np.random.default_rng(0)),
}
SEARCH = """
import json, sys
from pathlib import Path
from fastcell.packing.pack import pack
from fastcell.splits.copies.near import near_copies
from fastcell.splits.make_splits import SplitOptions
if __name__ == "__main__":
    manifest = pack(Path(sys.argv[1]), Path(sys.argv[2]), split=SplitOptions(None), jobs=1)
    keys = [key.rpartition(".")[0] or key for key in manifest.table.column("key").to_pylist()]
    print(json.dumps([[keys[cell] for cell in members] for members in near_copies(manifest, jobs=1).members()]))
"""
"""Program that runs with the package of either checkout: sets of copies by key."""


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


def main():
    """Measure, print and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jurkat", type=Path, help="folder of the Jurkat cells")
    parser.add_argument("--tcell", type=Path, help="folder of the T cells")
    parser.add_argument("--cells", type=int, default=3_000, help="synthetic cells that copies are planted in")
    parser.add_argument("--sets", type=int, default=20, help="clean sets")
    parser.add_argument("--set-cells", type=int, default=1_000, help="cells in each of them")
    parser.add_argument("--before", type=Path, help="an earlier checkout")
    options = parser.parse_args()
    name, data, settings = "duplicates", "synthetic cells with planted copies", {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if options.before is not None:
            name, data = "duplicates-before", "Jurkat cells with planted copies"
            rows = before(folder, options.jurkat, options.before.resolve())
        else:
            rows = planted(folder, options.cells)
            rows += clean(folder, options.sets, options.set_cells)
            rows += real(folder, options.jurkat, options.tcell)
            settings = {"cells": options.cells, "clean sets": options.sets, "cells in each": options.set_cells}
    for row in rows:
        print(f"{row.data:<46}{row.copies:<44}{row.found:>6} of {row.of:<6}{row.low:.4f}..{row.high:.4f}")
    print(f"wrote {Result(name, data, settings, rows).save()}")


def count(data, copies, found, of):
    """A finding with its interval."""
    return Finding(data, copies, int(found), int(of), *wilson_interval(int(found), int(of)))


# -- what is found


def planted(folder, num_cells, seed=7):
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


def store_with_copies(source, out, per_kind, rng):
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


def turned(image, rng):
    """One of the seven turned or mirrored images."""
    which = int(rng.integers(1, 8))
    return np.rot90(image[:, ::-1] if which >= 4 else image, which % 4)


def joined(found, origin, cells):
    """How many of `cells` are in one set with the very cell they were made of or with another copy of it."""
    sets = found.of_cells(len(origin))
    num = 0
    for cell in cells.tolist():
        others = np.flatnonzero((origin == origin[cell]) & (np.arange(len(origin)) != cell))
        num += sets[cell] >= 0 and bool((sets[others] == sets[cell]).any())
    return num


def clean(folder, num_sets, num_cells):
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


def real(folder, jurkat, tcell):
    """Alarms among the real cells, recall on copies of them, and donors on two sides."""
    rows = []
    for name, source, pattern in (("Jurkat", jurkat, None), ("T cells", tcell, "{group}/{class}/{name}")):
        if source is None:
            continue
        manifest = packing.pack(source, folder / name, pattern=pattern)
        shares, folds = ((0.8, 0.0, 0.2), "groups") if pattern else ((0.65, 0.15, 0.2), 5)
        made = resplit(manifest.path, SplitOptions(shares, folds=folds))
        found = made.duplicates
        data = f"{name}, {len(manifest):,} cells"
        rows.append(count(data, "exact copies: cells", (found.kinds == "exact").sum(), len(manifest)))
        rows.append(count(data, "near copies: cells", (found.kinds == "near").sum(), len(manifest)))
        if found.near is not None:
            rows += [count(data, f"recall, {item.kind}", item.found, item.planted) for item in found.near.recall]
        if manifest.groups is not None:
            for split, sides in made.splits.items():
                donors = set(manifest.groups[:].tolist())
                torn = sum(len(set(sides[manifest.groups[:] == donor])) > 1 for donor in donors)
                rows.append(count(data, f"donors in two subsets of {split}", torn, len(donors)))
    return rows


# -- an earlier search


def before(folder, jurkat, checkout):
    """Copies of Jurkat cells that the search of an earlier checkout finds, and this one."""
    images, names = folder / "images", {}
    paths = sorted(path for path in jurkat.glob("*/*") if path.suffix.lower() in (".jpg", ".png", ".tif", ".tiff"))
    for number, path in enumerate(paths):
        names[path] = f"{path.parent.name}/{number:05d}"
    rng = np.random.default_rng(0)
    planted_keys = {}
    for kind, change in EARLIER_KINDS.items():
        for place in rng.permutation(len(paths))[:100].tolist():
            cell = cv2.imread(str(paths[place]), cv2.IMREAD_GRAYSCALE)
            key = f"{names[paths[place]]}-{kind.split()[0]}"
            write_png(images / f"{key}.png", change(cell))
            planted_keys.setdefault(kind, []).append(key)
    for path, name in names.items():
        write_png(images / f"{name}.png", cv2.imread(str(path), cv2.IMREAD_GRAYSCALE))
    rows = []
    for title, place in ((f"commit {head_of(checkout)}", checkout), ("now", HERE)):
        words = [sys.executable, "-c", SEARCH, str(images), str(folder / title)]
        environment = {**os.environ, "PYTHONPATH": str(place)}
        done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, check=True)
        sets = [set(members) for members in json.loads(done.stdout.splitlines()[-1])]
        for kind, keys in planted_keys.items():
            found = sum(any({key, key.rpartition("-")[0]} <= members for members in sets) for key in keys)
            rows.append(count(f"Jurkat, {len(paths):,} cells", f"{kind}, {title}", found, len(keys)))
    return rows


def write_png(path, image):
    """Write an image and the folder that it is in."""
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), image)


if __name__ == "__main__":
    main()
