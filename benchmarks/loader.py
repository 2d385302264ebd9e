"""Cells per second from JPEG tars to a normalised (B, 1, 128, 128) batch, against the path a user would write.

Contestants take turns in one run over the same synthetic shards, on the same cores:

* fastcell: DALI reads and decodes, one fused pass resizes and normalises (``stream + fused``);
* fastcell, DALI operators: the same with DALI's own warp (``stream + dali``);
* webdataset + OpenCV: torch DataLoader over webdataset, cv2.imdecode, cv2.resize, NumPy mean; one worker per core;
* DALI alone: readers.webdataset, decoders.image, resize, and the mean by DALI's reduction;
* two limits: reading alone (DALI's reader, nothing decoded) and decoding alone (cv2.imdecode of bytes in memory).

Before anything is timed, the batches of all paths are compared cell by cell.

    python benchmarks/loader.py [--cells 20000] [--rounds 5] [--threads N]
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import torch
import webdataset
from dali_index import write_dali_index
from harness import Result, print_rows, time_turns

from fastcell import environment
from fastcell.data.manifest import Manifest
from fastcell.data.module import CellDataModule
from fastcell.data.synthetic import main as synth

SIZE = 128
BATCH = 256
REFERENCE = "webdataset + OpenCV"


def main() -> None:
    """Run the benchmark, print its table and write its result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=20_000, help="synthetic cells (%(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="timed rounds (%(default)s)")
    parser.add_argument("--threads", type=int, default=environment.num_cpus(), help="cores used (%(default)s)")
    options = parser.parse_args()
    environment.quiet()
    torch.set_num_threads(options.threads)
    cv2.setNumThreads(0)
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "synthetic"
        synth([str(data), "--cells", str(options.cells), "--seed", "0", "--split", "100/0/0"])
        manifest = Manifest.open(data)
        compare_outputs(manifest, options.threads)
        files = write_dali_index(manifest, Path(folder) / "index")
        contestants = {
            "fastcell": (
                "stream + fused",
                lambda: count(fastcell_batches(data, options.threads, "fused")),
            ),
            "fastcell, DALI operators": (
                "stream + dali",
                lambda: count(fastcell_batches(data, options.threads, "dali")),
            ),
            REFERENCE: (
                f"torch DataLoader, {options.threads} workers, cv2.imdecode + cv2.resize",
                lambda: count(webdataset_batches(data, options.threads)),
            ),
            "DALI alone": (
                "readers.webdataset, decoders.image, resize, mean",
                lambda: count(dali_batches(files, options.threads)),
            ),
            "limit: reading": ("DALI's reader alone", lambda: read_alone(files, len(manifest), options.threads)),
            "limit: decoding": ("cv2.imdecode alone, bytes in memory", DecodeAlone(manifest, options.threads)),
        }
        rows = time_turns(contestants, options.rounds).rows(REFERENCE)
    print_rows(rows, REFERENCE)
    settings = {"cells": options.cells, "batch": BATCH, "size": SIZE, "threads": options.threads}
    print(f"wrote {Result('loader', f'synthetic, {options.cells} ragged JPEG cells', settings, rows).save()}")


def count(batches: Iterator[torch.Tensor]) -> int:
    """Number of images, each batch touched once so that nothing lazy is left undone."""
    total = 0
    for images in batches:
        assert torch.isfinite(images[:, 0, 0, 0].float().sum())
        total += len(images)
    return total


def fastcell_batches(data: Path, threads: int, transform: str) -> Iterator[torch.Tensor]:
    """One training epoch without augmentation, shuffled."""
    for batch in fastcell_module(data, threads, transform).train_dataloader():
        yield batch.images[batch.weight > 0] if batch.weight.min() == 0 else batch.images


def fastcell_module(data: Path, threads: int, transform: str) -> CellDataModule:
    """The module as a user would set it up, augmentation off."""
    module = CellDataModule(
        str(data), batch_size=BATCH, store="stream", transform=transform, threads=threads, augment=False
    )
    module.setup("fit")
    return module


def to_image(jpeg: bytes) -> np.ndarray:
    """What a user would write: decode, resize, divide by the mean; (1, 128, 128) float32."""
    image = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_GRAYSCALE)
    image = cv2.resize(image, (SIZE, SIZE), interpolation=cv2.INTER_LINEAR).astype(np.float32)
    return (image / image.mean())[None]


def webdataset_batches(data: Path, workers: int) -> Iterator[torch.Tensor]:
    """Webdataset through torch's DataLoader, shuffled, as its documentation advises."""
    shards = sorted(str(path) for path in data.glob("*.tar"))
    source = (
        webdataset.WebDataset(shards, shardshuffle=len(shards), workersplitter=webdataset.split_by_worker)
        .shuffle(1000)
        .to_tuple("jpg")
        .map_tuple(to_image)
        .batched(BATCH)
    )
    loader = webdataset.WebLoader(source, batch_size=None, num_workers=workers, prefetch_factor=4 if workers else None)
    for (images,) in loader:
        yield torch.as_tensor(np.asarray(images))


def dali_batches(files: dict[str, list[str]], threads: int) -> Iterator[torch.Tensor]:
    """DALI's own operators end to end, as in its documentation."""
    from nvidia.dali import fn, pipeline_def, types
    from nvidia.dali.plugin.pytorch import DALIGenericIterator, LastBatchPolicy

    @pipeline_def(batch_size=BATCH, num_threads=threads, device_id=None)
    def graph():
        jpeg = fn.readers.webdataset(**files, ext=["img"], random_shuffle=True, initial_fill=1024, name="reader")
        image = fn.decoders.image(jpeg, output_type=types.GRAY)
        image = fn.resize(image, size=(SIZE, SIZE), interp_type=types.INTERP_LINEAR, antialias=False, dtype=types.FLOAT)
        image = image / fn.reductions.mean(image)
        return fn.transpose(image, perm=[2, 0, 1])

    with environment.quiet_dali():
        iterator = DALIGenericIterator(
            graph(), ["images"], reader_name="reader", last_batch_policy=LastBatchPolicy.PARTIAL
        )
        for batch in iterator:
            yield batch[0]["images"]


def read_alone(files: dict[str, list[str]], num_cells: int, threads: int) -> int:
    """DALI's reader with nothing behind it."""
    from nvidia.dali import fn, pipeline_def

    @pipeline_def(batch_size=BATCH, num_threads=threads, device_id=None)
    def graph():
        return fn.readers.webdataset(**files, ext=["img"], random_shuffle=True, initial_fill=1024, name="reader")

    pipe = graph()
    pipe.build()
    rounds = num_cells // BATCH
    for _ in range(rounds):
        pipe.run()
    return rounds * BATCH


class DecodeAlone:
    """cv2.imdecode of every cell, bytes already in memory, one thread per core."""

    def __init__(self, manifest: Manifest, threads: int) -> None:
        self.threads = threads
        tars = {shard["name"]: (manifest.path / shard["name"]).read_bytes() for shard in manifest.info.shards}
        columns = (manifest.column(name) for name in ("shard", "offset", "bytes"))
        self.cells = [tars[shard][offset : offset + size] for shard, offset, size in zip(*columns, strict=True)]

    def __call__(self) -> int:
        parts = [self.cells[start :: self.threads] for start in range(self.threads)]
        with ThreadPoolExecutor(self.threads) as pool:
            return sum(pool.map(self._decode, parts))

    @staticmethod
    def _decode(cells: list[bytes]) -> int:
        for jpeg in cells:
            cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_GRAYSCALE)
        return len(cells)


def compare_outputs(manifest: Manifest, threads: int) -> None:
    """Stop unless fastcell and the user's path make the same images of the same cells.

    Decoders may differ by a grey level or two in a JPEG, and OpenCV resizes 8-bit images in fixed point; so the bound
    is 3 of 255 grey levels anywhere, and 0.5 on average.
    """
    ours: dict[int, np.ndarray] = {}
    for transform in ("fused", "dali"):
        worst, mean = 0.0, 0.0
        for batch in fastcell_module(manifest.path, threads, transform).train_dataloader():
            for cell, image in zip(batch.cell_ids.tolist(), batch.images.numpy(), strict=True):
                ours[cell] = image
            if len(ours) >= 1024:
                break
        offsets = manifest.column("offset")
        for cell, image in ours.items():
            with open(manifest.path / manifest.column("shard")[cell], "rb") as tar:
                tar.seek(offsets[cell])
                theirs = to_image(tar.read(manifest.column("bytes")[cell]))
            grey = np.abs(image - theirs) * manifest.column("mean_intensity")[cell]
            worst, mean = max(worst, float(grey.max())), mean + float(grey.mean()) / len(ours)
        print(f"fastcell ({transform}) against the user's path: at most {worst:.2f}, on average {mean:.3f} grey levels")
        if worst > 3 or mean > 0.5:
            raise SystemExit("outputs differ: nothing timed")
        ours.clear()


if __name__ == "__main__":
    main()
