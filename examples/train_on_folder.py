"""Pack a folder of images, train on it, and write answers for new images: the commands of the README, from Python.

    python examples/train_on_folder.py images/ new_images/ --pattern '{group}/{class}/{name}'

Every part of the pattern that is a group (donor, run, slide) stays in one subset.
"""

import argparse
import subprocess
import sys
from pathlib import Path

import fastcell


def train(images: str, new_images: str, pattern: str, out: Path, **settings: object) -> Path:
    """Return the run folder; the answers for the new images stand in ``out/answers.csv``."""
    cells = out / "cells"
    words = ["pack", images, str(cells), "--pattern", pattern]
    subprocess.run([sys.executable, "-m", "fastcell", *words], check=True)
    result = fastcell.fit(cells, preset="fast", out=out / "runs", settings=settings)
    accuracy = result.scores["test"]["accuracy"]
    print(f"accuracy {accuracy['value']:.3f} ({accuracy['low']:.3f} to {accuracy['high']:.3f}, by {accuracy['by']})")

    answers = fastcell.load(result.run).predict(new_images)
    with open(out / "answers.csv", "w", encoding="utf-8") as file:
        print("image,class,confidence", file=file)
        for key, label, confidence in zip(answers.keys, answers.labels, answers.confidence, strict=True):
            print(f"{key},{label},{confidence:.3f}", file=file)
    return result.run


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", help="folder of labelled images")
    parser.add_argument("new_images", help="folder of images to classify")
    parser.add_argument("--pattern", default="{class}/{name}", help="where a path has the class and the group")
    parser.add_argument("--out", type=Path, default=Path("example"), help="folder of everything that is written")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    print(train(options.images, options.new_images, options.pattern, options.out))
