"""What do the commands say where the data cannot answer, and what do label disagreement and near copies find?

Trap: recordings of one class each go through `pack`, `split`, `fit`, `compare` and `report`, and on with --allow-absent
where a command refuses them; rows are exit codes, and the test accuracy where there is one. Labels: on the Jurkat
cells, the share of confident disagreement as they are, and with labels swapped between two classes that overlap (G1, S)
and two that do not (G1, prophase); rows are the share, and the place of the swapped cells in the list. Copies: what
`split` finds of each kind of planted copy of the Jurkat cells. Growth: the exponent of the time of that search over the
number of simulated cells (4 minutes of one core).

    python benchmarks/answers.py --jurkat DIR [--checkout FOLDER] [--part trap|labels|copies|growth]

`--checkout` measures the package of another checkout, for the numbers before a change (part trap).
"""

from __future__ import annotations

import argparse
import json
import math
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

SWAPPED = ((0.02, "G1", "S_phase"), (0.05, "G1", "S_phase"), (0.02, "G1", "Prophase"), (0.05, "G1", "Prophase"))
SIZES = (2_500, 5_000, 10_000)
CELLS = {
    "all": "recordings of one class each; Jurkat cells; simulated cells",
    "trap": "recordings of one class each",
    "labels": "Jurkat cells",
    "copies": "Jurkat cells",
    "growth": "simulated cells",
}
"""What each part measures."""


@dataclass
class Answer:
    """One number.

    Attributes:
        part: trap, labels, copies or growth.
        case: what was tried.
        measure: what the value is.
        value: the number.
        note: what was said, or how it was made.
    """

    part: str
    case: str
    measure: str
    value: float
    note: str = ""


def main() -> None:
    """Measure, print and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jurkat", type=Path, help="folder of the Jurkat cells")
    parser.add_argument("--checkout", type=Path, help="checkout whose package is measured (part trap)")
    parser.add_argument("--part", choices=("all", "trap", "labels", "copies", "growth"), default="all")
    parser.add_argument("--bench", default="answers", help="name of the result")
    options = parser.parse_args()
    rows: list[Answer] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "recordings"
        folder.mkdir()
        if options.part in ("all", "trap"):
            rows += trap(folder, options.checkout or Path(__file__).resolve().parents[1])
        if options.jurkat is not None and options.part in ("all", "labels"):
            rows += labels(folder, options.jurkat)
        if options.jurkat is not None and options.part in ("all", "copies"):
            rows += copies(folder, options.jurkat)
        if options.part in ("all", "growth"):
            rows += growth(folder)
    for row in rows:
        print(f"{row.part:<8}{row.case:<44}{row.measure:<40}{row.value:>9.3f}  {row.note[:90]}")
    settings = {"checkout": "this" if options.checkout is None else head_of(options.checkout)}
    print(f"wrote {Result(options.bench, CELLS[options.part], settings, rows).save()}")


def head_of(checkout: Path) -> str:
    """Short hash of a checkout's commit."""
    words = ["git", "-C", str(checkout), "rev-parse", "--short", "HEAD"]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()


# -- recordings of one class each


def trap(folder: Path, checkout: Path) -> list[Answer]:
    """Exit codes of the commands on two recordings of one class each, and the score that comes out."""
    source = write_recordings(folder / "images")
    rows = []

    def run(case: str, *words: str) -> int:
        environment = {**os.environ, "PYTHONPATH": str(checkout)}
        done = subprocess.run(
            [sys.executable, "-m", "fastcell", *words], cwd=folder, env=environment, capture_output=True, text=True
        )
        said = [line.replace(f"{folder}/", "") for line in done.stderr.splitlines() if "error" in line]
        rows.append(Answer("trap", case, "exit code", done.returncode, said[-1] if said else ""))
        return done.returncode

    pattern = ("--pattern", "{class}/{group}_{name}", "--jobs", "1")
    run("pack --split 50/25/25", "pack", str(source), "thirds", *pattern, "--split", "50/25/25")
    if run("pack --split 50/0/50", "pack", str(source), "cells", *pattern, "--split", "50/0/50") != 0:
        run("pack --split none", "pack", str(source), "cells", *pattern, "--split", "none")
    divide = ("split", "cells", "--group-by", "none", "--no-near", "--split", "50/0/50", "--name", "mine")
    if run("split --group-by none", *divide) != 0:
        run("split --group-by none --allow-absent", *divide, "--allow-absent")
    train = ("fit", "--data.path", "cells", "--preset", "fast", "--data.split_name", "mine", "--data.image_size", "16")
    train += ("--trainer.max_epochs", "3", "--runs", "runs")
    trained = "fit"
    if run(trained, *train) != 0:
        trained = "fit --allow_absent"
        run(trained, *train, "--allow_absent", "true")
    study = ("--methods", "knn", "--seeds", "1", "--volumes", "1", "--splits", "mine")
    run("compare", "compare", "cells", "--out", "study", *study)
    for run_folder in sorted((folder / "runs").glob("*")) if (folder / "runs").is_dir() else []:
        metrics = json.loads((run_folder / "metrics.json").read_text())
        accuracy = metrics.get("test", {}).get("accuracy", {})
        rows.append(
            Answer("trap", trained, "test accuracy", accuracy.get("value", math.nan), "cells of the known recordings")
        )
        run("report", "report", str(run_folder), "--no-explain", "--cells", "4")
    return rows


def write_recordings(folder: Path, num: int = 60) -> Path:
    """Images of two classes that look alike, of one recording each; the recordings differ in brightness."""
    rng = np.random.default_rng(0)
    for name, recording, level in (("alive", "rec1", 80), ("dead", "rec2", 110)):
        (folder / name).mkdir(parents=True)
        for number in range(num):
            image = rng.normal(level, 6, (28, 30)).clip(0, 255).astype(np.uint8)
            cv2.circle(image, (15, 14), int(rng.integers(5, 9)), int(rng.integers(140, 170)), -1)
            cv2.imwrite(str(folder / name / f"{recording}_{number:03d}.png"), image)
    return folder


# -- labels


def labels(folder: Path, jurkat: Path) -> list[Answer]:
    """Share of confident disagreement on the Jurkat cells, as they are and with swapped labels."""
    from fastcell.audit.confounds import image_features
    from fastcell.audit.label_noise import find_label_noise
    from fastcell.audit.sample import choose_rows, read_sample
    from fastcell.dataset.manifest import Manifest

    manifest = Manifest.open(pack_jurkat(folder, jurkat))
    sample = read_sample(manifest, choose_rows(manifest, 20_000, 0), 2)
    features, names = image_features(sample, 0), manifest.info.classes
    cases: list[tuple[str, np.ndarray, np.ndarray]] = [("as they are", sample.labels, np.zeros(0, np.int64))]
    for share, one, other in SWAPPED:
        cases.append(
            (
                f"{share:.0%} of {one} and {other} swapped",
                *swap(sample.labels, names.index(one), names.index(other), share),
            )
        )
    rows = []
    for case, given, planted in cases:
        found = find_label_noise(features, given, 20, np.random.default_rng(0))
        assert found is not None
        rows.append(
            Answer("labels", case, "share of confident disagreement", found.result.number, f"{len(planted)} planted")
        )
        rows.append(Answer("labels", case, "p of the model's fit", found.p_fit))
        if len(planted):
            place = np.searchsorted(found.rows, planted)
            bad = np.zeros(len(found.rows), bool)
            bad[place] = True
            order = np.argsort(found.p_given - found.p_called, kind="stable")
            rank = np.empty(len(order))
            rank[order] = np.arange(len(order))
            rows.append(
                Answer(
                    "labels", case, "mean rank of the planted (0 first, 1 last)", float(rank[bad].mean() / len(order))
                )
            )
            first = found.candidates()[: len(planted)]
            rows.append(
                Answer(
                    "labels", case, "planted among as many first of the list", float(bad[first].sum() / len(planted))
                )
            )
    return rows


def swap(given: np.ndarray, one: int, other: int, share: float) -> tuple[np.ndarray, np.ndarray]:
    """Labels with a share of two classes swapped, and the cells whose labels are wrong."""
    rng, swapped = np.random.default_rng(1), given.copy()
    planted = []
    for here, there in ((one, other), (other, one)):
        members = np.flatnonzero(given == here)
        chosen = rng.permutation(members)[: round(share * len(members))]
        swapped[chosen] = there
        planted.append(chosen)
    return swapped, np.sort(np.concatenate(planted))


def pack_jurkat(folder: Path, jurkat: Path) -> Path:
    """The Jurkat cells as a data set, without a split."""
    from fastcell.packing.pack import pack
    from fastcell.splits.make_splits import SplitOptions

    out = folder / "jurkat"
    if not out.exists():
        pack(jurkat, out, split=SplitOptions(None), jobs=1)
    return out


# -- copies


def copies(folder: Path, jurkat: Path) -> list[Answer]:
    """Recall by kind of planted copy on all Jurkat cells, the cells called copies, and the time of the search."""
    from fastcell.dataset.manifest import Manifest
    from fastcell.splits.copies.near import near_copies

    jurkat_cells = Manifest.open(pack_jurkat(folder, jurkat))
    near_copies(jurkat_cells, np.arange(100), jobs=1)  # compiles the kernels
    start = time.process_time()
    found = near_copies(jurkat_cells, jobs=1)
    seconds = time.process_time() - start
    assert found.near is not None
    name = "share found of planted copies"
    rows = [
        Answer("copies", item.kind, name, item.found / max(item.planted, 1), f"of {item.planted}")
        for item in found.near.recall
    ]
    called = float((found.kinds == "near").sum()) / len(jurkat_cells)
    about = f"bounds {found.near.correlation:.3f}, details {found.near.detail:.3f}"
    rows.append(Answer("copies", "cells as recorded", "share called near copies", called, about))
    note = f"{found.near.num_pairs:,} pairs registered"
    rows.append(Answer("copies", f"{len(jurkat_cells):,} cells", "CPU seconds of the search", seconds, note))
    return rows


def growth(folder: Path) -> list[Answer]:
    """CPU time of the search on simulated cells, and its exponent over their number."""
    from fastcell.simulator.synth import synthesize
    from fastcell.splits.copies.near import near_copies

    rows: list[Answer] = []
    simulated = synthesize(folder / "simulated", max(SIZES), jobs=1)
    order, seconds = np.random.default_rng(0).permutation(len(simulated)), []
    near_copies(simulated, np.sort(order[:100]), jobs=1)  # compiles the kernels
    for size in SIZES:
        start = time.process_time()
        near_copies(simulated, np.sort(order[:size]), jobs=1)
        seconds.append(time.process_time() - start)
        rows.append(Answer("growth", f"simulated, {size:,} cells", "CPU seconds of the search", seconds[-1]))
    slope = float(np.polyfit(np.log(SIZES), np.log(seconds), 1)[0])
    case = f"simulated, {SIZES[0]:,} to {SIZES[-1]:,} cells"
    rows.append(Answer("growth", case, "exponent of the time over the cells", slope))
    return rows


if __name__ == "__main__":
    main()
