"""Quality control: cells per second and core, and what it finds among simulated cells it has not learned from.

Speed, on one core, stages in turns: decoding alone (the reference), features alone, and the whole command on both
layouts (read, decode, measure, score, write the sidecar). Cells are simulated ATOM frames, ragged, JPEG.

What is found: simulated series of other seeds than the model's, half of the cells with a fault. The threshold is set
where 95 % of the good cells are kept; recall by kind, and the share found at the command's own threshold. `milder`
faults go beyond what the model has seen: 5 to 25 % of the cell cut off instead of 25 to 65, a third to all of the
least blur, ghosts of 20 to 40 % of the contrast instead of 8 to 20, doublets that overlap by up to a half.

Real cells: what the command would drop of each set in DIR, and from which class most.

    python benchmarks/quality.py [--cells 4096] [--rounds 5] [--found-cells 20000]
    python benchmarks/quality.py --real DIR                   # DIR/jurkat, tcell, atom-samples
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from harness import Result, print_rows, time_turns

from fastcell.dataset.decode import decode
from fastcell.dataset.manifest import Manifest
from fastcell.packing.pack import pack
from fastcell.quality.assessment import assess
from fastcell.quality.drop_threshold import EVEN
from fastcell.quality.features import FEATURES, cell_features, measure_cells
from fastcell.quality.quality_table import write_quality
from fastcell.quality.simulated_model import GOOD, features_of, load_model
from fastcell.simulator import cell_classes, parameter_columns, simulate
from fastcell.simulator.synth import synthesize
from fastcell.splits.make_splits import SplitOptions
from fastcell.stats.proportions import clopper_pearson_interval
from fastcell.system import library_settings

DECODE = "decode"
SEED = 404
KEPT = 0.95
REAL = {"atom-samples": "{class}_{name}", "jurkat": None, "tcell": "{group}/{class}/{name}"}
"""Sets of real cells, and the pattern of their paths."""


@dataclass
class Found:
    """How many faults of one kind are found.

    Attributes:
        kind: of `fastcell.simulator.cell_classes.DEFECTS`; for good cells what is dropped wrongly.
        faults: ``as learned`` or ``milder``.
        num: cells.
        recall, low, high: share found where 95 % of good cells are kept, with its 95 % interval.
        found_even, even_low, even_high: likewise at the command's threshold.
    """

    kind: str
    faults: str
    num: int
    recall: float
    low: float
    high: float
    found_even: float
    even_low: float
    even_high: float


@dataclass
class Dropped:
    """What quality control would drop of a set of real cells.

    Attributes:
        real: name of the set.
        num_cells: its cells.
        scored_by: ``simulated faults``, or ``outliers`` for cells that do not resemble the simulated ones.
        dropped: number of cells.
        reasons: the likeliest fault, with the number of cells.
        most: the class that loses the largest share, with cells dropped and cells.
    """

    real: str
    num_cells: int
    scored_by: str
    dropped: int
    reasons: str
    most: str


def main():
    """Run the parts, print their tables and write their results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=4096, help="cells in one round (%(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="timed rounds (%(default)s)")
    parser.add_argument("--found-cells", type=int, default=20_000, help="cells for the recall (%(default)s)")
    parser.add_argument("--real", type=Path, help="folder of real sets: those are measured alone")
    options = parser.parse_args()
    if options.real is not None:
        rows = [drop(options.real / name) for name in REAL if (options.real / name).is_dir()]
        print(f"wrote {Result('quality-real', 'real cells', {}, rows).save()}")
        return
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    library_settings.raise_malloc_thresholds()
    found = [row for milder in (False, True) for row in find(options.found_cells, milder)]
    print(f"{'kind':<10} {'faults':<11} {'cells':>6}  recall at {KEPT:.0%} of good cells kept    at the threshold")
    for row in found:
        at_even = f"{row.found_even:.4f} ({row.even_low:.4f}..{row.even_high:.4f})"
        print(
            f"{row.kind:<10} {row.faults:<11} {row.num:>6}  {row.recall:.4f} ({row.low:.4f}..{row.high:.4f})  {at_even}"
        )
    settings = {"cells": options.found_cells, "seed": SEED, "kept": KEPT}
    print(f"wrote {Result('quality-found', 'simulated cells, half of them with a fault', settings, found).save()}")
    with tempfile.TemporaryDirectory() as folder:
        rows = time_turns(stages(Path(folder), options.cells), options.rounds).rows(DECODE)
    print_rows(rows, DECODE)
    settings = {"cells": options.cells, "cores": 1}
    print(f"wrote {Result('quality', 'simulated ATOM frames', settings, rows).save()}")


def drop(source):
    """Pack a set of real cells and assess it."""
    with tempfile.TemporaryDirectory() as folder:
        manifest = pack(source, Path(folder) / "cells", pattern=REAL[source.name], split=SplitOptions(None), jobs=1)
        found = assess(manifest, measure_cells(manifest, jobs=1))
        labels, classes = manifest.labels, manifest.info.classes
    is_alike = not any("does not resemble" in note for note in found.notes)
    counts = Counter(found.reasons[found.drop].tolist())
    losses = [(int(found.drop[labels == label].sum()), int((labels == label).sum())) for label in range(len(classes))]
    label = max(range(len(classes)), key=lambda label: losses[label][0] / max(losses[label][1], 1))
    row = Dropped(
        source.name,
        len(manifest),
        "simulated faults" if is_alike else "outliers",
        int(found.drop.sum()),
        ", ".join(f"{name} {count}" for name, count in counts.most_common()) or "-",
        f"{classes[label]}: {losses[label][0]} of {losses[label][1]}",
    )
    print(row)
    return row


def find(num_cells, milder):
    """Score simulated cells and count what is found, by kind."""
    rows = simulate.draw_parameters(np.arange(num_cells), SEED + milder, 0.5)
    if milder:
        weaken(rows)
    kinds = np.array(cell_classes.DEFECTS)[rows[:, parameter_columns.F.defect].astype(int)]
    model = load_model()
    scores = np.concatenate([1 - model.predict(measured)[:, model.kinds.index(GOOD)] for measured in drawn(rows)])
    threshold = float(np.quantile(scores[kinds == GOOD], KEPT))
    found = []
    for kind in cell_classes.DEFECTS:
        mine = scores[kinds == kind]
        counts = [int((mine >= level).sum()) for level in (threshold, EVEN)]
        (low, high), (even_low, even_high) = (clopper_pearson_interval(count, len(mine)) for count in counts)
        shares = [count / len(mine) for count in counts]
        faults = "milder" if milder else "as learned"
        found.append(Found(kind, faults, len(mine), shares[0], low, high, shares[1], even_low, even_high))
    return found


def drawn(rows):
    """Features of cells with these parameters, stored as JPEG, some hundred at a time."""
    import cv2

    quality = [cv2.IMWRITE_JPEG_QUALITY, cell_classes.JPEG_QUALITY]
    parts = []
    for begin in range(0, len(rows), 512):
        files = [cv2.imencode(".jpg", simulate.draw_cell(row), quality)[1] for row in rows[begin : begin + 512]]
        parts.append(features_of([decode(file.tobytes(), "jpg").pixels for file in files]))
    return parts


def weaken(rows):
    """Make the faults milder, in place."""
    fields = parameter_columns.F
    share = np.random.default_rng(SEED).random(len(rows))
    for row, part in zip(rows, share, strict=True):
        kind, strength = cell_classes.DEFECTS[int(row[fields.defect])], row[fields.defect_strength]
        if kind == "cut":
            outside = 0.05 + 0.2 * part
            row[fields.defect_strength] = outside
            for center, half in ((fields.center_x, fields.half_width), (fields.center_y, fields.half_height)):
                if np.isclose(row[center], (1 - 2 * strength) * row[half]):
                    row[center] = (1 - 2 * outside) * row[half]
                elif np.isclose(row[center], 1 - (1 - 2 * strength) * row[half]):
                    row[center] = 1 - (1 - 2 * outside) * row[half]
        elif kind == "defocused":
            row[fields.defect_strength] = (0.008 + 0.014 * part) * (1.5 if row[fields.relief] > 0.5 else 1.0)
        elif kind == "ghost":
            row[fields.defect_strength] = 0.2 + 0.2 * part
        elif kind == "doublet":
            for one, other in ((fields.center_x, fields.partner_x), (fields.center_y, fields.partner_y)):
                middle, half = (row[one] + row[other]) / 2, (row[other] - row[one]) / 2 * (0.5 + 0.5 * part)
                row[one], row[other] = middle - half, middle + half


def stages(folder, num_cells):
    """What is timed."""
    sets = {layout: synthesize(folder / layout, num_cells, 1, layout=layout, jobs=1) for layout in ("cell", "block")}
    files = [cell.encode() for cell in simulate.simulate(num_cells, 1)]
    cells = [decode(file, "jpg").pixels for file in files]
    heights, widths = (np.array([cell.shape[axis] for cell in cells], np.int32) for axis in (0, 1))
    area = heights.astype(np.int64) * widths
    pool, offsets = np.concatenate([cell.ravel() for cell in cells]), np.cumsum(area) - area
    mean = f"{np.mean(area):,.0f} pixels a cell on average"

    def decoding():
        for file in files:
            decode(file, "jpg")
        return num_cells

    def measuring():
        cell_features(pool, offsets, heights, widths)
        return num_cells

    def whole(path):
        def work():
            manifest = Manifest.open(path)
            features = measure_cells(manifest, jobs=1)
            found = assess(manifest, features)
            write_quality(manifest, features, found.scores, found.reasons, found.drop)
            return num_cells

        return work

    return {
        DECODE: ("grey JPEG with its checks, nothing else", decoding),
        "features": (f"{len(FEATURES)} features of decoded cells, {mean}", measuring),
        "command, cell layout": ("read, decode, measure, score, write", whole(sets["cell"].path)),
        "command, block layout": ("read, measure, score, write", whole(sets["block"].path)),
    }


if __name__ == "__main__":
    main()
