"""Does the audit find what was planted, and is it silent where nothing was? Simulated sets, and real ones beside them.

Clean sets: the simulator's four classes in one optics for all, so that nothing but the cell depends on the class and
nothing on the recording: half of them with every class in every recording (crossed), half with one class in each
(nested). Any warning or problem is a false alarm. Harmless sets: recordings differ in illumination, focus and cells,
but not with the class; there the recording may be told, and anything else is a false alarm. Planted sets: one thing is
added to a clean set, weak to strong.

    python benchmarks/audit.py [--sets 20] [--cells 1600]
    python benchmarks/audit.py --real DIR       # also the folders jurkat, tcell and atom-samples of real cells in DIR
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from harness import Result

from fastcell.audit.collect import audit
from fastcell.packing.pack import pack
from fastcell.simulator import cell_classes, simulate
from fastcell.simulator.parameter_columns import F
from fastcell.simulator.sample_parameters import draw_rows
from fastcell.splits.make_splits import SplitOptions
from fastcell.stats.proportions import clopper_pearson_interval
from fastcell.system import library_settings

NUM_GROUPS = {"crossed": 4, "nested": 4}
"""Recordings, of each class where they are nested."""
ALARMS = ("problem", "warning")


@dataclass(frozen=True)
class Cell:
    """One simulated cell before it is written: pixels, truth and how it is to be written."""

    pixels: np.ndarray
    row: np.ndarray
    label: int
    group: int
    place: float
    quality: int = cell_classes.JPEG_QUALITY


Plant = Callable[[Cell, np.random.Generator], Cell]


@dataclass
class Row:
    """One kind of set.

    Attributes:
        kind: clean, harmless, planted or real.
        what: what was planted, or which data.
        sets: how many.
        expected: finding that should alarm; empty: none should.
        found: sets in which it did.
        found_low, found_high: 95 % interval of that share (Clopper-Pearson); for clean sets of false alarms.
        other_alarms: alarms beside it, by finding.
        tests: verdicts given in all sets, without those skipped.
        number, chance: mean over the sets of the expected finding's number and chance level.
        seconds: median of an audit.
        details: more.
    """

    kind: str
    what: str
    sets: int
    expected: str
    found: int
    found_low: float
    found_high: float
    other_alarms: dict[str, int]
    tests: int
    number: float | None
    chance: float | None
    seconds: float
    details: dict[str, float]


def make_cells(seed, num, design, spread):
    """Simulated good cells of four classes in the bright optics.

    Args:
        seed: of everything.
        num: cells.
        design: ``crossed`` or ``nested``.
        spread: of the recordings' optics and cells, 1 as in the simulator, 0 for recordings that are all alike.
    """
    rng = np.random.default_rng([seed, 0xC1EA])
    names, per = cell_classes.CLASSES, NUM_GROUPS[design]
    pairs = [(per * k + g if design == "nested" else g, k) for g in range(per) for k in range(len(names))]
    num_groups = 1 + max(group for group, _ in pairs)
    mean, between = cell_classes.optics_of("collection-2", 0), cell_classes.optics_of("collection-2", 1)
    optics = [mean + spread * between * np.clip(rng.standard_normal(len(mean)), -2, 2) for _ in range(num_groups)]
    moved = [np.clip(rng.standard_normal(8), -2, 2) for _ in range(num_groups)]
    step = spread * cell_classes.SPREAD * cell_classes.RECORDING_SPREAD
    offsets = [
        cell_classes.morphology_of(names[k], 0) + step * cell_classes.morphology_of(names[k], 1) * moved[g]
        for g, k in pairs
    ]
    shares = rng.dirichlet(np.full(len(pairs), 12.0))
    rows = np.zeros((num, len(F)))
    draw_rows(
        np.arange(num), np.uint64(seed), 0.0, np.append(np.cumsum(shares)[:-1], 1.0), np.array([k for _, k in pairs]),
        np.zeros(len(pairs)), np.array(offsets),
        np.stack([cell_classes.SPREAD * cell_classes.morphology_of(name, 1) for name in names]),
        np.array([optics[g] for g, _ in pairs]), np.stack([cell_classes.optics_of("collection-2", 2)] * len(pairs)),
        np.array([*cell_classes.MIN_SIZE, *cell_classes.MAX_SIZE], float), np.array(cell_classes.UM_TO_PX), rows,
    )  # fmt: skip
    cells = []
    for index, row in enumerate(rows):
        group, label = pairs[int(row[F.recording])]
        cells.append(Cell(simulate.draw_cell(row), row, label, group, index / num))
    return cells


def write_set(folder, cells, seed, plant=None, flipped=0.0):
    """Write cells as files, group/class/number.jpg, and pack them. `flipped`: share that goes to a wrong class."""
    rng = np.random.default_rng([seed, 0xF11])
    names = cell_classes.CLASSES
    for index, cell in enumerate(cells):
        made = plant(cell, rng) if plant else cell
        label = made.label
        if rng.random() < flipped:
            label = int((label + rng.integers(1, len(names))) % len(names))
        place = folder / "images" / f"run-{made.group:02d}" / names[label]
        place.mkdir(parents=True, exist_ok=True)
        mark = "x" if label != made.label else ""
        cv2.imwrite(str(place / f"{index:06d}{mark}.jpg"), made.pixels, [cv2.IMWRITE_JPEG_QUALITY, made.quality])
    return pack(folder / "images", folder / "set", pattern="{group}/{class}/{name}", split=SplitOptions(), jobs=1)


def background_plant(levels):
    """Adds grey levels to what is well outside of the cells of the second class."""

    def plant(cell, rng):
        if cell.label != 1:
            return cell
        return replace(cell, pixels=_clip(cell.pixels + levels * _outside(cell)))

    return plant


def gradient_plant(levels):
    """Tilts the background of the second class from left to right."""

    def plant(cell, rng):
        if cell.label != 1:
            return cell
        slope = np.linspace(-0.5, 0.5, cell.pixels.shape[1]) * levels
        return replace(cell, pixels=_clip(cell.pixels + slope * _outside(cell)))

    return plant


def size_plant(pixels):
    """Frames of the second class are wider on both sides."""

    def plant(cell, rng):
        if cell.label != 1:
            return cell
        return replace(cell, pixels=cv2.copyMakeBorder(cell.pixels, 0, 0, pixels, pixels, cv2.BORDER_REFLECT_101))

    return plant


def quality_plant(quality):
    """Files of the second class are written with another JPEG quality."""
    return lambda cell, rng: replace(cell, quality=quality) if cell.label == 1 else cell


def drift_plant(share):
    """Light that rises steadily by that share from the first cell of every recording to the last."""
    return lambda cell, rng: replace(cell, pixels=_clip(cell.pixels * (1 + share * (cell.place - 0.5))))


def focus_plant(sigma):
    """Focus that is lost steadily, up to a blur of `sigma` pixels."""

    def plant(cell, rng):
        blur = max(sigma * cell.place, 0.05)
        return replace(cell, pixels=cv2.GaussianBlur(cell.pixels, (0, 0), blur))

    return plant


def _outside(cell):
    """(H, W) 0 or 1: farther from the cell's middle than 1.4 of its half axes."""
    height, width = cell.pixels.shape
    y, x = ((np.arange(height) + 0.5) / height)[:, None], ((np.arange(width) + 0.5) / width)[None]
    row = cell.row
    far = ((x - row[F.center_x]) / row[F.half_width]) ** 2 + ((y - row[F.center_y]) / row[F.half_height]) ** 2
    return (far > 1.4**2).astype(np.float32)


def _clip(values):
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def run(seed, num, design, spread, permutations, plant=None):
    """Make a set, audit it, throw it away."""
    with tempfile.TemporaryDirectory() as folder:
        manifest = write_set(Path(folder), make_cells(seed, num, design, spread), seed, plant)
        return audit(manifest, permutations=permutations, jobs=1)


def summarize(kind, what, audits, expected="", allowed=()):
    """One row; `allowed`: findings that may alarm without being false or expected."""
    other = {}
    found, numbers, chances, tests = 0, [], [], 0
    for one in audits:
        alarms = {finding.key for finding in one.findings if finding.verdict in ALARMS}
        tests += sum(finding.verdict != "skipped" for finding in one.findings)
        wrong = alarms - {expected, *allowed}
        for key in sorted(wrong):
            other[key] = other.get(key, 0) + 1
        found += expected in alarms if expected else bool(wrong)
        for finding in one.findings:
            if finding.key == expected and finding.result is not None:
                numbers.append(finding.result.number)
                chances.append(finding.result.chance)
    low, high = clopper_pearson_interval(found, len(audits))
    row = Row(
        kind, what, len(audits), expected, found, low, high, other, tests, float(np.mean(numbers)) if numbers else None,
        float(np.mean(chances)) if chances else None, float(np.median([one.seconds for one in audits])), {},
    )  # fmt: skip
    print(
        f"{kind:<9} {what:<44} {expected or 'any alarm':<22} {found}/{len(audits)} ({low:.2f}..{high:.2f})"
        f"  other alarms {other or 'none'}  {row.seconds:.0f} s", flush=True,
    )  # fmt: skip
    return row


def label_noise(seed, num, permutations, flipped):
    """A crossed set with wrong labels, and how many of them the candidates are."""
    with tempfile.TemporaryDirectory() as folder:
        manifest = write_set(Path(folder), make_cells(seed, num, "crossed", 0.0), seed, flipped=flipped)
        found = audit(manifest, permutations=permutations, jobs=1)
        assert found.noise is not None
        wrong = np.array([key.split(".")[0].endswith("x") for key in found.sample.keys[found.noise.rows].tolist()])
    chosen = found.noise.candidates()
    hits = int(wrong[chosen].sum())
    return found, {
        "flipped": float(wrong.mean()), "estimated": found.noise.result.number, "candidates": float(len(chosen)),
        "recall": hits / max(int(wrong.sum()), 1), "precision": hits / max(len(chosen), 1),
        "balanced_accuracy": found.noise.balanced_accuracy,
    }  # fmt: skip


PLANTS = [
    ("background of one class + 1 grey level", background_plant(1), "class_from_background", ("class_from_intensity",)),
    (
        "background of one class + 2 grey levels",
        background_plant(2),
        "class_from_background",
        ("class_from_intensity",),
    ),
    (
        "background of one class + 4 grey levels",
        background_plant(4),
        "class_from_background",
        ("class_from_intensity",),
    ),
    (
        "background of one class + 8 grey levels",
        background_plant(8),
        "class_from_background",
        ("class_from_intensity",),
    ),
    ("background of one class with a slope of 4 levels", gradient_plant(4), "class_from_background", ()),
    ("background of one class with a slope of 8 levels", gradient_plant(8), "class_from_background", ()),
    ("frames of one class 8 px wider", size_plant(4), "class_from_size", ("class_from_background",)),
    ("frames of one class 24 px wider", size_plant(12), "class_from_size", ("class_from_background",)),
    ("files of one class at JPEG quality 80, not 75", quality_plant(80), "class_from_file", ("class_from_background",)),
    ("light rises by 2 % over a recording", drift_plant(0.02), "drift", ()),
    ("light rises by 5 % over a recording", drift_plant(0.05), "drift", ()),
    ("focus lost up to a blur of 1 px", focus_plant(1.0), "drift", ()),
]


def main():
    """Make, audit, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", type=int, default=20, help="clean sets (%(default)s)")
    parser.add_argument("--harmless", type=int, default=6, help="harmless sets (%(default)s)")
    parser.add_argument("--planted", type=int, default=3, help="sets with each thing planted (%(default)s)")
    parser.add_argument("--cells", type=int, default=1600, help="in a set (%(default)s)")
    parser.add_argument("--permutations", type=int, default=500, help="(%(default)s)")
    parser.add_argument("--real", type=Path, help="folder with jurkat, tcell and atom-samples")
    parser.add_argument("--bench", default="audit", help="name of the result (%(default)s)")
    options = parser.parse_args()
    library_settings.quiet()
    start, rows = time.monotonic(), []
    settings = {
        "sets": options.sets, "harmless": options.harmless, "planted": options.planted, "cells": options.cells,
        "permutations": options.permutations,
    }  # fmt: skip
    for kind, spread, num, allowed in (
        ("clean", 0.0, options.sets, ()),
        ("harmless", 1.0, options.harmless, ("group_from_image",)),
    ):
        designs = [("crossed", "nested")[index % 2] for index in range(num)]
        for design in ("crossed", "nested"):
            audits = [
                run(index + 1000 * (spread > 0), options.cells, design, spread, options.permutations)
                for index, drawn in enumerate(designs)
                if drawn == design
            ]
            rows.append(
                summarize(kind, f"{design} recordings, {'alike' if spread == 0 else 'differing'}", audits, "", allowed)
            )
    for number, (what, plant, expected, allowed) in enumerate(PLANTS):
        audits = [
            run(2000 + 100 * number + index, options.cells, "crossed", 0.0, options.permutations, plant)
            for index in range(options.planted)
        ]
        rows.append(summarize("planted", what, audits, expected, allowed))
    audits = [run(5000 + i, options.cells, "crossed", 1.0, options.permutations) for i in range(options.planted)]
    rows.append(summarize("planted", "recordings that differ as the simulator's do", audits, "group_from_image"))
    for flipped in (0.05, 0.1):
        made = [label_noise(6000 + i, options.cells, options.permutations, flipped) for i in range(options.planted)]
        row = summarize("planted", f"{flipped:.0%} of the labels wrong", [one for one, _ in made], "label_noise")
        row.details = {key: float(np.mean([details[key] for _, details in made])) for key in made[0][1]}
        print("         ", {key: round(value, 3) for key, value in row.details.items()}, flush=True)
        rows.append(row)
    if options.real:
        rows += real(options.real, options.permutations)
    print(f"{time.monotonic() - start:,.0f} s; wrote {Result(options.bench, 'synthetic cells', settings, rows).save()}")


def real(folder, permutations):
    """Audits of real cells: which findings alarm."""
    rows = []
    for name, pattern, expected in (
        ("atom-samples", "{class}_{name}", "class_from_background"),
        ("tcell", "{group}/{class}/{name}", "group_from_image"),
        ("jurkat", "{class}/{name}", ""),
    ):
        with tempfile.TemporaryDirectory() as place:
            manifest = pack(folder / name, Path(place) / "set", pattern=pattern, jobs=1)
            found = audit(manifest, permutations=permutations, jobs=1)
        row = summarize("real", f"{name}, {len(manifest):,} cells", [found], expected)
        if found.noise is not None:
            row.details = {"wrong labels": found.noise.result.number}
        rows.append(row)
    return rows


if __name__ == "__main__":
    main()
