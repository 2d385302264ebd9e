"""Cells per second and core from decoded cells in memory, and what decoding once is worth.

All contestants take turns in one run, each on the same single core. Four comparisons, like with like:

* `memory`: square 128 x 128 cells, decoded, in memory, to a batch divided by its mean; no augmentation;
* `memory-affine`: the same with flips and a random affine map (rotation, magnification, shift), bilinear;
* `stream`: JPEG files, ragged, decoded in every epoch;
* `bank`: what a user of each sees in the second epoch: this bank beside the usual decode-every-epoch paths.

FFCV is there where FASTCELL_FFCV_PYTHON names the Python of an environment that has it (benchmarks/peers/README.md).
Before anything is timed, the images of the paths are compared cell by cell.

    python benchmarks/memory.py [--cells 24000] [--rounds 5]
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import tempfile
from pathlib import Path
from typing import Any

import cv2
import loader_ways as usual
import numpy as np
import torch
from dali_index import write_dali_index
from harness import Result, print_rows, time_turns
from loader_ways import AFFINE, BATCH, SIZE, sample, tensor_batches, training_loader
from worker import MALLOC, Worker, WorkerError, write_source

from fastcell.cli.synth import main as synth
from fastcell.dataset.manifest import Manifest
from fastcell.dataset.single_cells import read_cells
from fastcell.loading.loader import BatchLoader
from fastcell.ops.augmentation import draw
from fastcell.ops.cpu.transform import transform_pool
from fastcell.ops.matrices import matrices
from fastcell.packing.pack import pack
from fastcell.splits.make_splits import SplitOptions
from fastcell.system import library_settings

FFCV = "FASTCELL_FFCV_PYTHON"
FFCV_MODES = {
    "FFCV, raw in memory": ("rawfused", "uint8 NDArrayField, the mean taken while reading (Numba)", False),
    "FFCV, raw in memory, affine": ("rawfused", "uint8 NDArrayField, affine and mean while reading (Numba)", True),
    "FFCV, JPEG": ("jpeg", "RGBImageField of JPEG at quality 90, as documented; FFCV has no grey images", False),
    "FFCV, JPEG, one channel": ("jpeggrey", "grey JPEG as stored, one channel resized (Numba): its quickest", False),
}
PEER = Path(__file__).parent / "peers" / "ffcv_worker.py"


def main() -> None:
    """Run the benchmark, print its tables and write its results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=24_000, help="synthetic cells (%(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="timed rounds (%(default)s)")
    parser.add_argument("--data", type=Path, help="where to make and keep the data (a temporary folder)")
    options = parser.parse_args()
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    library_settings.quiet()
    library_settings.raise_malloc_thresholds()
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.data or Path(scratch)
        ragged, square = make_data(folder, options.cells)
        stored = write_source(ragged, folder / "peers")
        peers = start_peers(stored)
        try:
            run(ragged, square, peers, folder, options.rounds)
        finally:
            for peer in peers.values():
                peer.close()


def run(ragged: Manifest, square: Manifest, peers: dict[str, Worker], folder: Path, rounds: int) -> None:
    """Compare outputs, time, write."""
    loaders = {
        "fastcell, bank": training_loader(square.path, "bank"),
        "fastcell, bank, ragged cells": training_loader(ragged.path, "bank"),
        "fastcell, bank, affine": training_loader(square.path, "bank", augmentation=AFFINE),
        "fastcell, stream": training_loader(ragged.path, "stream"),
    }
    pool = torch.from_numpy(np.stack(list(read_cells(square, range(len(square))))))[:, None]
    compare_outputs(ragged, square, loaders["fastcell, bank"], peers, pool)
    absent = {name: f"{FFCV} names no Python that has it" for name in FFCV_MODES if name not in peers}
    what = {
        "fastcell, bank": "square cells, bank + fused",
        "fastcell, bank, ragged cells": "the cells as they were taken, bank + fused: resized in every epoch",
        "fastcell, bank, affine": "square cells, bank + fused",
        "fastcell, stream": "stream + fused, files read",
    }
    contestants: dict[str, tuple[str, Any]] = {name: (what[name], Epochs(loader)) for name, loader in loaders.items()}
    contestants["uint8 tensor"] = ("torch: index, float, divide by mean", lambda: usual.count(tensor_batches(pool)))
    contestants["uint8 tensor, grid_sample"] = (
        "torch: index, float, affine_grid, grid_sample, divide by mean",
        lambda: usual.count(tensor_batches(pool, affine=True)),
    )
    if importlib.util.find_spec("webdataset"):
        contestants["webdataset + OpenCV"] = (
            "torch DataLoader in the process, cv2.imdecode + cv2.resize",
            lambda: usual.count(usual.webdataset_batches(ragged.path, 0)),
        )
    else:
        absent["webdataset + OpenCV"] = "not installed"
    files = write_dali_index(ragged, folder / "index")
    # A pipeline of its own in each round: one that goes on would make its next batches in the others' turns.
    contestants["DALI alone"] = (
        "readers.webdataset, decoders.image, resize, mean on the CPU",
        lambda: usual.count(usual.dali_batches(files, 1)),
    )
    contestants |= {name: (FFCV_MODES[name][1], peer) for name, peer in peers.items()}
    turns = time_turns(contestants, rounds)
    # The reference is the peer to beat: the quicker one where it is there.
    tables = {
        "memory": (
            ["FFCV, raw in memory", "uint8 tensor"],
            ["fastcell, bank", "uint8 tensor", "FFCV, raw in memory", "fastcell, bank, ragged cells"],
        ),
        "memory-affine": (
            ["FFCV, raw in memory, affine", "uint8 tensor, grid_sample"],
            ["fastcell, bank, affine", "uint8 tensor, grid_sample", "FFCV, raw in memory, affine"],
        ),
        "stream": (
            ["FFCV, JPEG"],
            ["fastcell, stream", "FFCV, JPEG", "FFCV, JPEG, one channel"],
        ),
        "bank": (
            ["webdataset + OpenCV"],
            [
                "fastcell, bank, ragged cells",
                "webdataset + OpenCV",
                "DALI alone",
                "FFCV, JPEG",
                "FFCV, JPEG, one channel",
            ],
        ),
    }
    settings: dict[str, object] = {"cells": len(ragged), "batch": BATCH, "size": SIZE, "cores": 1}
    settings |= {
        name if name == "ffcv" else f"{name} (FFCV's)": version
        for peer in list(peers.values())[:1]
        for name, version in peer.packages.items()
    }
    for bench, (references, names) in tables.items():
        there = [name for name in names if name in contestants]
        reference = next((name for name in references if name in there), None)
        if reference is None:
            print(f"{bench}: nothing to compare with, no table")
            continue
        rows = turns.rows(reference, there)
        print(f"\n{bench}")
        print_rows(rows, reference)
        left_out = {name: reason for name, reason in absent.items() if name in names}
        print(f"wrote {Result(bench, 'synthetic cells', settings, rows, absent=left_out).save()}")


class Epochs:
    """A loader as a contestant: every call is another epoch; the first, untimed one fills a bank."""

    def __init__(self, loader: BatchLoader) -> None:
        self.loader, self.epoch = loader, -1

    def __call__(self) -> int:
        self.epoch += 1
        self.loader.set_epoch(self.epoch)
        return usual.count(
            batch.images[batch.weight > 0] if batch.weight.min() == 0 else batch.images for batch in self.loader
        )


def start_peers(source: Path) -> dict[str, Worker]:
    """FFCV in every mode, or none, with the reason."""
    python = os.environ.get(FFCV)
    if not python:
        print(f"without FFCV: {FFCV} does not name a Python that has it (benchmarks/peers/README.md)")
        return {}
    peers: dict[str, Worker] = {}
    for name, (mode, _, augment) in FFCV_MODES.items():
        print(f"starting {name}", flush=True)
        command = [python, PEER, source, mode, "--batch", str(BATCH), "--size", str(SIZE)]
        try:
            peers[name] = Worker([*command, *(["--augment"] if augment else [])], source / f"{mode}.log", 600, MALLOC)
        except WorkerError as error:
            print(f"without {name}: {error}")
    return peers


def make_data(folder: Path, num_cells: int) -> tuple[Manifest, Manifest]:
    """Ragged JPEG cells, and the same cells as square PNG."""
    ragged, square = folder / "ragged", folder / "square"
    if not (ragged / "dataset.json").exists():
        synth([str(ragged), "--cells", str(num_cells), "--seed", "0", "--split", "100/0/0"])
    manifest = Manifest.open(ragged)
    if not (square / "dataset.json").exists():
        images = folder / "images"
        for cell, pixels in enumerate(read_cells(manifest, range(len(manifest)))):
            path = images / str(manifest.labels[cell]) / f"{cell:08d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), cv2.resize(pixels, (SIZE, SIZE), interpolation=cv2.INTER_LINEAR))
        pack(images, square, pattern="{class}/{name}", split=SplitOptions((1.0, 0.0, 0.0)))
    return manifest, Manifest.open(square)


def compare_outputs(
    ragged: Manifest, square: Manifest, loader: BatchLoader, peers: dict[str, Worker], pool: torch.Tensor
) -> None:
    """Stop unless all paths make the same images of the same cells, in grey levels of the cell's mean.

    The bank and the tensor hold the same bytes: 0.01. FFCV decodes with another library and rounds the resized JPEG to
    whole levels: 3 anywhere and 0.5 on average; its documented JPEG path encodes at quality 90 once more and resizes
    by area: its average is printed and may be 6.
    """
    ours = {}
    for batch in loader:
        ours |= dict(zip(batch.cell_ids.tolist(), batch.images, strict=True))
    by_tensor = pool.float() / pool.float().mean((1, 2, 3), keepdim=True)
    worst = max(float((image - by_tensor[cell]).abs().max()) for cell, image in ours.items())
    print(f"bank against the tensor: at most {worst:.1e} of the mean")
    drawn = draw(AFFINE, 1, 2, np.arange(BATCH))
    maps = matrices(np.full(BATCH, SIZE), np.full(BATCH, SIZE), SIZE, draw=drawn)
    by_grid = sample(pool[:BATCH].float(), in_grid_coordinates(maps))
    by_grid /= by_grid.mean((1, 2, 3), keepdim=True)
    zeros = np.zeros(BATCH, np.float32)
    by_twin = transform_pool(
        pool.flatten().numpy(),
        np.arange(BATCH) * SIZE * SIZE,
        *(np.full(BATCH, SIZE, np.int32),) * 2,
        maps,
        np.full(BATCH, np.nan, np.float32),
        zeros,
        zeros,
        np.zeros(BATCH, np.uint64),
        np.empty((BATCH, 1, SIZE, SIZE), np.float32),
    )
    difference = float(np.abs(by_twin - by_grid.numpy()).max())
    print(f"affine against grid_sample with the same maps: at most {difference:.1e} of the mean")
    if worst > 1e-4 or difference > 1e-3:
        raise SystemExit("outputs differ: nothing timed")
    compare_peers(ragged, square, peers, ours)


def in_grid_coordinates(maps: np.ndarray) -> torch.Tensor:
    """(B, 2, 3) maps from pixel centres to pixels as grid_sample wants them: from -1..1 to -1..1."""
    half = SIZE / 2
    linear = maps[:, :, :2]
    offset = (maps[:, :, 2] + linear.sum(2) * half) / half - 1
    return torch.from_numpy(np.concatenate([linear, offset[:, :, None]], axis=2)).float()


def compare_peers(ragged: Manifest, square: Manifest, peers: dict[str, Worker], ours: dict[int, torch.Tensor]) -> None:
    """Hold FFCV's images against ours, cell by cell."""
    row_of = {int(key.rsplit("/", 1)[1].split(".")[0]): cell for cell, key in enumerate(square.column("key"))}
    mean = ragged.column("mean_intensity")
    for name, peer in peers.items():
        if FFCV_MODES[name][2]:
            continue  # random: the sampling itself is compared above
        records = np.load(peer.ask("images 500")["images"])
        grey = [
            np.abs(record["image"] - ours[row_of[int(record["row"])]].numpy()) * mean[record["row"]]
            for record in records
        ]
        worst, average = float(np.max(grey)), float(np.mean(grey))
        print(f"{name} against the bank: at most {worst:.2f}, on average {average:.3f} grey levels")
        lossy = FFCV_MODES[name][0] == "jpeg"
        if average > (6 if lossy else 0.6) or (worst > 5 and not lossy):  # FFCV's fast DCT
            raise SystemExit("outputs differ: nothing timed")


if __name__ == "__main__":
    main()
