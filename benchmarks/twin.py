"""Cells per second and core of the CPU's fused pass, stage by stage, beside writing the batch and nothing else.

All cases take turns in one run on one core, through `fastcell.ops.transform_cells.transform_pool`, its checks included.
Ragged cells are 20 to 60 pixels high and 60 to 440 wide, as ATOM cells are; square ones 128 x 128.

    python benchmarks/twin.py [--size 128] [--rounds 9]
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable

import numpy as np
from harness import Result, Work, print_rows, time_turns

from fastcell import environment
from fastcell.ops.augmentation import Augmentation, draw, matrices
from fastcell.ops.transform_cells import transform_pool

BATCH, BATCHES = 256, 24
LIMIT = "limit: write"
AFFINE = Augmentation(blur_sigma=0.0, noise_std=0.0)
CASES = {
    "plain": Augmentation.none(),
    "affine": AFFINE,
    "blur": Augmentation(False, False, 0.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0),
    "noise": Augmentation(False, False, 0.0, 0.0, 0.0, 0.0, 0.0, 6.0, 1.0),
    "affine, blur and noise on every cell": Augmentation(blur_probability=1.0, noise_probability=1.0),
}


def main() -> None:
    """Run the benchmark, print its table and write its result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=128, help="side of the images (%(default)s)")
    parser.add_argument("--rounds", type=int, default=9, help="timed rounds (%(default)s)")
    options = parser.parse_args()
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    environment.raise_malloc_thresholds()
    out = np.empty((BATCH, 1, options.size, options.size), np.float32)
    contestants: dict[str, tuple[str, Work]] = {LIMIT: ("one constant into the batch", writing(out))}
    for name, augmentation in CASES.items():
        for shape in ("ragged", "square"):
            contestants[f"{shape}, {name}"] = ("divided by the mean", case(shape, augmentation, out))
    rows = time_turns(contestants, options.rounds).rows(LIMIT)
    print_rows(rows, LIMIT)
    settings: dict[str, object] = {"batch": BATCH, "size": options.size, "cores": 1}
    print(f"wrote {Result('twin', 'white noise', settings, rows).save()}")


def writing(out: np.ndarray) -> Callable[[], int]:
    """Fill the batch."""

    def work() -> int:
        for number in range(BATCHES):
            out.fill(number)
        return BATCH * BATCHES

    return work


def case(shape: str, augmentation: Augmentation, out: np.ndarray) -> Callable[[], int]:
    """Batches of cells of a shape; what is drawn is drawn before."""
    rng = np.random.default_rng(0)
    ragged = shape == "ragged"
    heights = (rng.integers(20, 61, BATCH) if ragged else np.full(BATCH, 128)).astype(np.int32)
    widths = (rng.integers(60, 441, BATCH) if ragged else np.full(BATCH, 128)).astype(np.int32)
    sizes = heights.astype(np.int64) * widths
    drawn = draw(augmentation, 0, 0, np.arange(BATCH))
    columns = (
        rng.integers(0, 256, int(sizes.sum()), np.uint8),
        np.cumsum(sizes) - sizes,
        heights,
        widths,
        matrices(heights, widths, out.shape[2], draw=None if augmentation.is_none else drawn),
        np.full(BATCH, np.nan, np.float32),
        drawn.blur_sigma,
        drawn.noise_std,
        drawn.noise_seed,
    )

    def work() -> int:
        for _ in range(BATCHES):
            transform_pool(*columns, out)
        return BATCH * BATCHES

    return work


if __name__ == "__main__":
    main()
