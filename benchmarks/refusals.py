"""What do the commands do with a data set whose classes were recorded one by one, which no split can score?

Two recordings of one class each go through `pack`, `split`, `fit`, `compare` and `report`; where a command refuses
them (exit code 2), the next ones get a set or a run that `--allow-absent` made. The set is simulated cells, or with
``--tcell DIR`` real T cells: the quiescent ones of donor 1 and the activated ones of donor 4.

``--before CHECKOUT`` repeats the commands with the package of an earlier checkout (its working tree).

    python benchmarks/refusals.py [--tcell DIR] [--before CHECKOUT]
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from harness import Result

HERE = Path(__file__).resolve().parents[1]


@dataclass
class Step:
    """One command.

    Attributes:
        command: the command and the options that matter.
        exit_code: its exit code; 2 refuses.
        exit_code_before: the same of the earlier checkout; None if it was not run.
        test_accuracy: test accuracy of a training that was not refused.
        test_accuracy_before: the same of the earlier checkout.
    """

    command: str
    exit_code: int | None = None
    exit_code_before: int | None = None
    test_accuracy: float | None = None
    test_accuracy_before: float | None = None


def main():
    """Run the commands of both checkouts, print and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tcell", type=Path, help="folder of the T cells, DONOR/CLASS/IMAGE")
    parser.add_argument("--before", type=Path, help="an earlier checkout")
    options = parser.parse_args()
    steps = {}
    for checkout in [HERE, *([options.before.resolve()] if options.before else [])]:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            if options.tcell is None:
                write_recordings(folder / "images")
            else:
                copy_donors(options.tcell, folder / "images")
            num = sum(1 for _ in folder.glob("images/*/*"))
            for command, code, accuracy in run_commands(folder, checkout):
                step = steps.setdefault(command, Step(command))
                if checkout == HERE:
                    step.exit_code, step.test_accuracy = code, accuracy
                else:
                    step.exit_code_before, step.test_accuracy_before = code, accuracy
    for step in steps.values():
        print(f"{step.command:<44}{step.exit_code_before!s:>6}{step.exit_code!s:>6}")
    settings = {} if options.before is None else {"before": head_of(options.before)}
    data = f"{num} {'simulated cells' if options.tcell is None else 'T cells'}, 2 recordings of one class each"
    saved = Result(
        "refusals" if options.tcell is None else "refusals-tcell", data, settings, list(steps.values())
    ).save()
    print(f"wrote {saved}")


def head_of(checkout):
    """Return the short hash of a checkout's commit."""
    words = ["git", "-C", str(checkout), "rev-parse", "--short", "HEAD"]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()


def run_commands(folder, checkout):
    """Run all commands in a folder with ``images/CLASS/RECORDING_NAME``: each with its exit code and test accuracy."""
    found = []

    def run(command, *words):
        environment = {**os.environ, "PYTHONPATH": str(checkout)}
        done = subprocess.run([sys.executable, "-m", "fastcell", *words], cwd=folder, env=environment, check=False)
        runs = sorted(folder.glob("runs/*/metrics.json")) if words[0] == "fit" and done.returncode == 0 else []
        scores = json.loads(runs[-1].read_text())["test"]["accuracy"]["value"] if runs else None
        found.append((command, done.returncode, scores))
        return done.returncode

    pattern = ("--pattern", "{class}/{group}_{name}", "--jobs", "1")
    run("pack --split 50/25/25", "pack", "images", "thirds", *pattern, "--split", "50/25/25")
    run("pack --split 50/0/50", "pack", "images", "halves", *pattern, "--split", "50/0/50")
    run("pack --split none", "pack", "images", "cells", *pattern, "--split", "none")
    divide = ("split", "cells", "--group-by", "none", "--no-near", "--split", "50/0/50", "--name", "mine")
    if run("split --group-by none", *divide) != 0:
        run("split --group-by none --allow-absent", *divide, "--allow-absent")
    train = ("fit", "--data.path", "cells", "--preset", "fast", "--data.split_name", "mine", "--data.image_size", "16")
    train += ("--trainer.max_epochs", "3", "--runs", "runs")
    if run("fit", *train) != 0:
        run("fit --allow_absent", *train, "--allow_absent", "true")
    study = ("--methods", "knn", "--seeds", "1", "--volumes", "1", "--splits", "mine")
    if run("compare", "compare", "cells", "--out", "study", *study) != 0:
        run("compare --allow-absent", "compare", "cells", "--out", "study", *study, "--allow-absent")
    (run_folder,) = folder.glob("runs/*")
    report = ("report", str(run_folder), "--no-explain", "--cells", "4")
    if run("report", *report) != 0:
        run("report --allow-absent", *report, "--allow-absent")
    return found


def write_recordings(folder, num=60):
    """Write images of two classes that look alike, of one recording each; the recordings differ in brightness."""
    rng = np.random.default_rng(0)
    for name, recording, level in (("alive", "rec1", 80), ("dead", "rec2", 110)):
        (folder / name).mkdir(parents=True)
        for number in range(num):
            image = rng.normal(level, 6, (28, 30)).clip(0, 255).astype(np.uint8)
            cv2.circle(image, (15, 14), int(rng.integers(5, 9)), int(rng.integers(140, 170)), -1)
            cv2.imwrite(str(folder / name / f"{recording}_{number:03d}.png"), image)


def copy_donors(cells, folder):
    """Copy the quiescent cells of donor 1 and the activated cells of donor 4."""
    for name, donor in (("quiescent", "donor_1"), ("activated", "donor_4")):
        (folder / name).mkdir(parents=True)
        for path in sorted((cells / donor / name).iterdir()):
            shutil.copy(path, folder / name / f"{donor.replace('_', '')}_{path.name}")


if __name__ == "__main__":
    main()
