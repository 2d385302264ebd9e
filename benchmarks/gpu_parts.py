"""Parts of `gpu_all`: which programs it runs, in order of importance, in two sizes with a time limit each."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

BENCHMARKS_DIR = Path(__file__).resolve().parent
REPO_DIR = BENCHMARKS_DIR.parent


@dataclass(frozen=True)
class Part:
    """One program.

    Attributes:
        name: of the part.
        what: it is for, in a line.
        command: program, relative to the checkout, and its arguments.
        small: arguments of the smaller size; None where there is none.
        limit_s, small_limit_s: time limits of both [s].
    """

    name: str
    what: str
    command: tuple[str, ...]
    small: tuple[str, ...] | None
    limit_s: float
    small_limit_s: float


def benchmark(name, what, limit_s, full, small_limit_s, small, program=""):
    """A program of this folder."""
    path = f"benchmarks/{program or name}.py"
    return Part(name, what, (path, *full.split()), tuple(small.split()), limit_s, small_limit_s)


# In order of worth.
PARTS = (
    benchmark("smoke", "each kernel, DALI's decoder and training, once and by value", 60, "", 60, ""),
    benchmark("kernel", "each kernel against torch, DALI and a copy", 80, "--rounds 3", 60, "--quick"),
    benchmark(
        "train",
        "loaders beside a batch that is there: stall and cells/s at two batches",
        130,
        "--part steps --cells 20000 --rows 400000 --round-cells 400000 --only bank"  # and planned steps from it
        " --settings cellnet:bf16-mixed:1300,cellnet:bf16-mixed:4096",
        60,
        "--part steps --cells 1000 --rounds 1 --round-cells 512 --only bank --settings cellnet:32-true:128",
    ),
    benchmark(
        "paper",
        "the paper's 3,000 iterations of 1,300 cells",
        70,
        "--part paper --cells 20000",
        60,
        "--part paper --cells 1500 --iterations 1",
        "train",
    ),
    benchmark(
        "predict",
        "cells to a file, from tars, blocks and the bank",
        130,
        "--cells 20000 --rows 2000000 --rounds 1",
        60,
        "--cells 1000 --rounds 1",
    ),
    benchmark("loader", "cells to batches, beside peers", 90, "--threads 16 --rounds 3", 60, "--cells 1000 --rounds 1"),
    benchmark("latency", "one cell to a class", 60, "--part latency", 40, "--part latency --calls 200", "predict"),
    Part("tests", "every test that is marked gpu", ("-m", "pytest"), None, 150, 150),
    benchmark(
        "ranks",
        "two processes on one device over gloo end at one network",
        60,
        "",
        60,
        "--cells 600 --batch 64 --epochs 1 --size 32",
        "two_ranks",
    ),
    benchmark(
        "accuracy",
        "time to 99 % on a million synthetic cells",
        150,
        "--part accuracy --cells 1000000 --seeds 1 --checks 10",
        60,
        "--part accuracy --cells 1000 --seeds 1 --epochs 1 --batch 64",
        "train",
    ),
    benchmark("step", "a training step and what is added to it", 60, "", 45, "--cells 1000 --steps 4 --rounds 2"),
    benchmark(
        "scale",
        "what grows with the manifest",
        90,
        "--max-rows 1000000 --rounds 1",
        60,
        "--max-rows 100000 --stored 10000 --rounds 1",
    ),
    benchmark(
        "baselines",
        "kNN and SVM by library",
        90,
        "--cells 1000,3000,8000",
        60,
        "--cells 500,1000 --features 16 --rounds 2",
    ),
)
