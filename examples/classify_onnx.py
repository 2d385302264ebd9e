"""Classify the images of a folder with a file of ``fastcell export RUN cells.onnx``, by ONNX Runtime alone.

The graph holds the preprocessing: it takes raw cells of any size, and cells of one size together in one call. This
program needs neither fastcell nor torch::

    pip install onnxruntime opencv-python-headless
    python classify_onnx.py cells.onnx images/ > predictions.csv
"""

import csv
import json
import sys
from collections import defaultdict
from pathlib import Path

import cv2
import numpy as np
import onnxruntime

BATCH = 256  # cells of one call


def read_cell(path: Path) -> np.ndarray:
    """Return an image as (H, W) uint8 grey levels."""
    cell = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if cell is None or cell.ndim != 2 or cell.dtype != np.uint8:
        raise SystemExit(f"{path} must be a grey image of 8 bits")
    return cell


def classify(model: str, cells: list[np.ndarray]) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Return the class names, and the probabilities (N, K) and features (N, F) of cells of any sizes."""
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    classes = json.loads(session.get_modelmeta().custom_metadata_map["classes"])
    by_size = defaultdict(list)
    for number, cell in enumerate(cells):
        by_size[cell.shape].append(number)
    found: dict[int, tuple[np.ndarray, np.ndarray]] = {}
    for numbers in by_size.values():
        for begin in range(0, len(numbers), BATCH):
            some = numbers[begin : begin + BATCH]
            batch = np.stack([cells[number] for number in some])[:, None]  # (n, 1, H, W)
            probabilities, features = session.run(["probabilities", "features"], {"cell": batch})
            found |= dict(zip(some, zip(probabilities, features, strict=True), strict=True))
    rows = [found[number] for number in range(len(cells))]
    return classes, np.stack([row[0] for row in rows]), np.stack([row[1] for row in rows])


def main(model: str, folder: str) -> None:
    """Write a row for each image of the folder: its name, its class and the probability of each class."""
    paths = sorted(path for path in Path(folder).iterdir() if path.suffix.lower() in (".png", ".jpg", ".tif"))
    if not paths:
        raise SystemExit(f"{folder} has no images that end in .png, .jpg or .tif")
    classes, probabilities, _ = classify(model, [read_cell(path) for path in paths])
    table = csv.writer(sys.stdout)
    table.writerow(["key", "class", *(f"p_{name}" for name in classes)])
    for path, row in zip(paths, probabilities, strict=True):
        table.writerow([path.name, classes[row.argmax()], *(f"{value:.6f}" for value in row)])


if __name__ == "__main__":
    main(*sys.argv[1:])
