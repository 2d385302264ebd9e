"""SPDL, LitData, MosaicML Streaming, webshart, torchvision's ImageFolder and hand-written threads as contestants.

They live in an environment of their own (see README.md in this folder): LitData and Streaming ask for packages that do
not go with the engine's. SOURCE is a folder with `cells.bin`, all JPEG files one behind the other, and `cells.npy`,
int64 (n, 5): offset, bytes, height, width, label. The protocol is that of `../serve.py`.

    PYTHON streaming_worker.py SOURCE MODE [--threads N] [--batch 256] [--size 128]

Every mode shuffles, decodes in every epoch, and ends in the same batch: (B, 1, size, size) float32, the whole cell
stretched to the square and divided by the image's own mean. The cell's number travels with it, in the label's place.

    spdl        its `DataLoader` with `spdl.io` in its thread pool, as its guides "Building High-Performance
                DataLoaders" and "Design and best practices" have it, and what makes it quicker on these small images:
                a task decodes 32 cells instead of one, the format is told, and OpenCV resizes, as a filter of FFmpeg
                for each image costs more than the decoding (with a task and a filter for each image: 900 us of CPU
                time a cell instead of 380 on the same busy core)
    litdata     its README: `optimize` writes chunks of 64 MB, `StreamingDataset(shuffle=True)` with a `transform`,
                `StreamingDataLoader`. The items hold the files' bytes, which OpenCV decodes as grey: its own JPEG
                serializer decodes RGB by torchvision and costs more
    mosaic      its quick start: `MDSWriter`, a `StreamingDataset(shuffle=True, batch_size=...)` whose `__getitem__`
                transforms, `StreamingDataLoader`. The column is of its type "bytes", decoded by OpenCV; its type "jpeg"
                is decoded by Pillow, which costs more
    folder      torchvision's `ImageFolder` over one file for each cell, Pillow as its loader, then as its "Transforms
                v2" advise for speed: uint8 tensor, resize, float; torch DataLoader
    litdata-remote, mosaic-remote
                the same files in the bucket that $FASTCELL_BENCHMARK_BUCKET names (s3://NAME; $AWS_ENDPOINT_URL is the
                server), every epoch with an empty local cache; no order of their own is asked for
    webshart    its README: tars with an index of offsets (JSON) beside each, `discover_dataset`, `TarDataLoader` with
                `batch_size`; reads in stored order. It decodes nothing: OpenCV does. Beside folders it reads only from
                the Hugging Face hub
    threads     written by hand: the files mapped, `simplejpeg.decode_jpeg` as grey, `cv2.resize`, one part of the batch
                for each thread
"""

from __future__ import annotations

import io
import json
import os
import shutil
import sys
import tarfile
import tempfile
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import distributions
from pathlib import Path

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader

sys.path.append(str(Path(__file__).resolve().parents[1]))

from serve import Way, serve

CHUNK_BYTES = 64_000_000


class Files(Way):
    """What all modes share: the files of SOURCE."""

    packages: tuple[str, ...] = ("torch", "numpy", "opencv-python-headless")

    def __init__(self, options):
        super().__init__(options)
        self.cells = np.load(options.source / "cells.npy")
        self.bytes = np.memmap(options.source / "cells.bin", np.uint8, "r")

    def file(self, row):
        """(n,) uint8, a view of the mapped file."""
        offset, num_bytes = self.cells[row, :2]
        return self.bytes[offset : offset + num_bytes]

    def own_folder(self, name, write):
        """A folder of files of its own, made by `write` unless one from these cells and this environment is there.

        What LitData writes depends on what else is installed: chunks of another environment could not be read.
        """
        folder, whole = self.options.folder / name, self.options.folder / f"{name}.json"
        installed = sorted(f"{each.name} {each.version}" for each in distributions())
        stamp = [len(self.cells), int(self.cells[:, :2].sum()), *map(int, self.cells[-1]), sys.version, *installed]
        if whole.exists() and json.loads(whole.read_text()) == stamp:
            return folder
        shutil.rmtree(folder, ignore_errors=True)
        write(folder)
        whole.write_text(json.dumps(stamp))
        return folder


def upload(folder, name):
    """Copy the files of a folder into the benchmark's bucket; return their address."""
    import boto3

    bucket = os.environ["FASTCELL_BENCHMARK_BUCKET"].removeprefix("s3://")
    client = boto3.client("s3")
    for path in folder.rglob("*"):
        if path.is_file():
            client.upload_file(str(path), bucket, f"{name}/{path.relative_to(folder)}")
    return f"s3://{bucket}/{name}"


def to_image(stored, size):
    """A JPEG file decoded as grey, resized, divided by its mean; (1, size, size) float32."""
    image = cv2.imdecode(np.frombuffer(stored, np.uint8), cv2.IMREAD_GRAYSCALE)
    image = cv2.resize(image, (size, size), interpolation=cv2.INTER_LINEAR).astype(np.float32)
    return (image / image.mean())[None]


class Spdl(Files):
    """SPDL's DataLoader: threads that read and decode without the interpreter's lock."""

    packages = ("spdl", *Files.packages)
    modules = ("spdl.io", "spdl.dataloader")
    task = 32  # cells

    def open(self):
        """What the files are, so that nobody guesses."""
        import spdl.io

        self.format = spdl.io.demux_config(format="jpeg_pipe", buffer_size=4096)

    def decode(self, rows):
        """Some files to (n, 1, size, size) uint8."""
        import spdl.io

        size = self.options.size
        images = np.empty((len(rows), 1, size, size), np.uint8)
        for image, row in zip(images, rows, strict=True):
            packets = spdl.io.demux_image(self.file(row).tobytes(), demux_config=self.format)
            frame = spdl.io.convert_frames(spdl.io.decode_packets(packets, filter_desc=None))
            cv2.resize(spdl.io.to_numpy(frame)[:, :, 0], (size, size), image[0], interpolation=cv2.INTER_LINEAR)
        return images, rows

    def collate(self, items):
        """Parts to a batch."""
        images = torch.from_numpy(np.concatenate([images for images, _ in items])).float()
        return images / images.mean((1, 2, 3), keepdim=True), np.concatenate([rows for _, rows in items])

    def epoch(self, number):
        """Rows in random order through the pipeline."""
        from spdl.dataloader import DataLoader as SpdlLoader

        task = min(self.task, self.options.batch)
        order = np.random.default_rng(number).permutation(len(self.cells))
        yield from SpdlLoader(
            np.split(order, range(task, len(order), task)),
            preprocessor=self.decode,
            batch_size=max(1, self.options.batch // task),
            aggregator=self.collate,
            num_threads=self.options.threads,
        )


class LitData(Files):
    """LitData's optimized chunks on the local disk."""

    packages = ("litdata", *Files.packages)
    modules = ("litdata",)

    def prepare(self):
        """Write the chunks."""
        self.chunks = self.own_folder("litdata", self._write)

    def _write(self, folder):
        import litdata

        litdata.optimize(
            fn=_LitDataItem(self.options.source),
            inputs=list(range(len(self.cells))),
            output_dir=str(folder),
            chunk_bytes=CHUNK_BYTES,
            num_workers=1,
            verbose=False,
        )

    def open(self):
        """Dataset and loader."""
        import litdata

        dataset = litdata.StreamingDataset(
            str(self.chunks), shuffle=True, drop_last=False, transform=_Decode(self.options.size)
        )
        self.loader = litdata.StreamingDataLoader(
            dataset,
            batch_size=self.options.batch,
            num_workers=self.options.workers,
            persistent_workers=self.options.workers > 0,
            pin_memory=self.options.device.type == "cuda",
        )

    def epoch(self, number):
        """The loader counts its epochs itself."""
        for batch in self.loader:
            yield batch["image"], batch["row"].numpy()


class LitDataRemote(LitData):
    """LitData's chunks in a bucket."""

    def prepare(self):
        """Write the chunks, and upload them.

        LitData's store takes no address without TLS, whatever the storage options are: it builds the options of its
        HTTP client from a constant.
        """
        from litdata.streaming import downloader

        super().prepare()
        self.address = upload(self.chunks, "litdata")
        downloader._OBSTORE_CLIENT_OPTIONS["allow_http"] = True

    def open(self):
        """Each epoch opens the data anew."""

    def epoch(self, number):
        """Dataset with an empty cache."""
        import litdata

        with tempfile.TemporaryDirectory() as cache:
            dataset = litdata.StreamingDataset(
                self.address,
                cache_dir=cache,
                drop_last=False,
                transform=_Decode(self.options.size),
                storage_options={"endpoint_url": os.environ["AWS_ENDPOINT_URL"]},
            )
            loader = litdata.StreamingDataLoader(
                dataset, batch_size=self.options.batch, num_workers=self.options.workers
            )
            for batch in loader:
                yield batch["image"], batch["row"].numpy()


class _LitDataItem:
    """What `optimize` stores of a cell; sent to its process, so it opens the files there."""

    def __init__(self, source):
        self.source = source

    def __call__(self, row):
        offset, num_bytes = np.load(self.source / "cells.npy", mmap_mode="r")[row, :2].tolist()
        stored = np.fromfile(self.source / "cells.bin", np.uint8, num_bytes, offset=offset)
        return {"image": stored.tobytes(), "row": row}


class _Decode:
    """Decode an item's bytes; a class, so that it travels to worker processes."""

    def __init__(self, size):
        self.size = size

    def __call__(self, item, *_, **__):
        return {"image": to_image(item["image"], self.size), "row": item["row"]}


class Mosaic(Files):
    """MosaicML Streaming's shards on the local disk."""

    packages = ("mosaicml-streaming", *Files.packages)
    modules = ("streaming", "streaming.base.util")

    def prepare(self):
        """Write the shards; import, which needs torchvision to be importable."""
        declare_torchvision_operators()
        self.shards = self.own_folder("mosaic", self._write)

    def _write(self, folder):
        from streaming import MDSWriter

        with MDSWriter(out=str(folder), columns={"image": "bytes", "row": "int"}) as out:
            for row in range(len(self.cells)):
                out.write({"image": self.file(row).tobytes(), "row": row})

    def open(self):
        """Dataset and loader."""
        self.loader = self.make_loader(local=str(self.shards), shuffle=True)

    def make_loader(self, **where):
        """Return a loader of the data at `where`."""
        from streaming import StreamingDataLoader, StreamingDataset
        from streaming.base.util import clean_stale_shared_memory

        size = self.options.size

        class Cells(StreamingDataset):
            def __getitem__(self, at):
                item = super().__getitem__(at)
                return to_image(item["image"], size), item["row"]

        clean_stale_shared_memory()
        return StreamingDataLoader(
            Cells(batch_size=self.options.batch, **where),
            batch_size=self.options.batch,
            num_workers=self.options.workers,
            persistent_workers=self.options.workers > 0,
            pin_memory=self.options.device.type == "cuda",
        )

    def epoch(self, number):
        """The loader counts its epochs itself."""
        for images, rows in self.loader:
            yield torch.as_tensor(images), np.asarray(rows)


class MosaicRemote(Mosaic):
    """MosaicML Streaming's shards in a bucket."""

    def prepare(self):
        """Write the shards, and upload them."""
        super().prepare()
        self.address = upload(self.shards, "mosaic")
        os.environ["S3_ENDPOINT_URL"] = os.environ["AWS_ENDPOINT_URL"]

    def open(self):
        """Each epoch opens the data anew."""

    def epoch(self, number):
        """Loader with an empty cache."""
        with tempfile.TemporaryDirectory() as cache:
            for images, rows in self.make_loader(remote=self.address, local=cache, shuffle=False):
                yield torch.as_tensor(images), np.asarray(rows)


class Webshart(Files):
    """webshart's reader of tars with an index."""

    packages = ("webshart", *Files.packages)
    modules = ("webshart",)
    shard_cells = 2_000

    def prepare(self):
        """Write the tars and their indices."""
        self.tars = self.own_folder("webshart", self._write)

    def _write(self, folder):
        folder.mkdir(parents=True)
        for first in range(0, len(self.cells), self.shard_cells):
            path = folder / f"shard-{first // self.shard_cells:06d}.tar"
            with tarfile.open(path, "w") as tar:
                for row in range(first, min(first + self.shard_cells, len(self.cells))):
                    stored = self.file(row).tobytes()
                    member = tarfile.TarInfo(f"{row:08d}.jpg")
                    member.size = len(stored)
                    tar.addfile(member, io.BytesIO(stored))
            with tarfile.open(path) as tar:
                files = {member.name: {"offset": member.offset_data, "length": member.size} for member in tar}
            about = {"path": path.name, "filesize": path.stat().st_size, "files": files}
            path.with_suffix(".json").write_text(json.dumps(about))

    def open(self):
        """Data set and loader."""
        import webshart

        self.loader = webshart.TarDataLoader(
            webshart.discover_dataset(source=str(self.tars)), batch_size=self.options.batch
        )
        self.pool = ThreadPoolExecutor(self.options.threads)

    def epoch(self, number):
        """Batches of files in stored order; the threads decode them."""
        size = self.options.size
        self.loader.reset()
        for entries in self.loader.iter_batches():
            stored = [entry.data for entry in entries]
            images = list(self.pool.map(lambda data: to_image(data, size), stored))
            yield torch.from_numpy(np.stack(images)), np.array([int(entry.path[:8]) for entry in entries])


class Folder(Files):
    """torchvision's ImageFolder."""

    packages = ("torchvision", "pillow", *Files.packages)
    modules = ("torchvision.datasets", "torchvision.transforms.v2")

    def prepare(self):
        """One file for each cell, a folder for each class."""
        declare_torchvision_operators()
        self.images = self.own_folder("folder", self._write)

    def _write(self, folder):
        for row, label in enumerate(self.cells[:, 4].tolist()):
            path = folder / str(label) / f"{row:08d}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(self.file(row).tobytes())

    def open(self):
        """Dataset and loader."""
        from PIL import Image
        from torchvision.datasets import ImageFolder
        from torchvision.transforms import v2

        def load(path):
            with open(path, "rb") as file:
                return Image.open(file).convert("L")

        size = [self.options.size] * 2
        bilinear = v2.InterpolationMode.BILINEAR
        steps = [v2.PILToTensor(), v2.Resize(size, bilinear, antialias=False), v2.ToDtype(torch.float32), _by_mean]
        dataset = ImageFolder(str(self.images), transform=v2.Compose(steps), loader=load)
        # The number in the label's place; files are called by it, in eight digits.
        dataset.samples = [(path, int(path[-12:-4])) for path, _ in dataset.samples]
        self.loader = DataLoader(
            dataset,
            batch_size=self.options.batch,
            shuffle=True,
            num_workers=self.options.workers,
            persistent_workers=self.options.workers > 0,
            pin_memory=self.options.device.type == "cuda",
        )

    def epoch(self, number):
        """As torch's tutorial has it."""
        for images, rows in self.loader:
            yield images, rows.numpy()


def _by_mean(image):
    return image / image.mean()


class Threads(Files):
    """Threads, each with its part of a batch; the next batch is made while this one is used."""

    packages = ("simplejpeg", *Files.packages)
    modules = ("simplejpeg",)

    def open(self):
        """The threads."""
        self.pool = ThreadPoolExecutor(self.options.threads)

    def fill(self, out, rows):
        """Images of some cells into (n, 1, size, size)."""
        import simplejpeg

        size = self.options.size
        for image, row in zip(out, rows.tolist(), strict=True):
            grey = simplejpeg.decode_jpeg(self.file(row), colorspace="GRAY")[:, :, 0]
            square = cv2.resize(grey, (size, size), interpolation=cv2.INTER_LINEAR)
            np.multiply(square, np.float32(size * size / square.sum(dtype=np.int64)), out=image[0])

    def start(self, rows):
        """Ask the threads for a batch."""
        size, threads = self.options.size, self.options.threads
        images = torch.empty((len(rows), 1, size, size), pin_memory=self.options.device.type == "cuda")
        parts = zip(np.array_split(images.numpy(), threads), np.array_split(rows, threads), strict=True)
        return images, rows, [self.pool.submit(self.fill, *part) for part in parts]

    def epoch(self, number):
        """Batches in random order, one ahead."""
        order = np.random.default_rng(number).permutation(len(self.cells))
        batches = np.split(order, range(self.options.batch, len(order), self.options.batch))
        ahead = self.start(batches[0])
        for after in [*batches[1:], None]:
            (images, rows, jobs), ahead = ahead, self.start(after) if after is not None else ahead
            for job in jobs:
                job.result()
            yield images, rows


def declare_torchvision_operators():
    """Let torchvision be imported beside a CPU build of torch.

    The package index serves a CUDA build of torchvision, whose compiled part cannot be loaded there; then its import
    stops at two operators that are not declared. They are declared here and never called: all that is used of it,
    `ImageFolder` and the transforms, is Python. Streaming imports torchvision, too.
    """
    if torch.version.cuda is None:
        library = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _KEPT.append(library)


_KEPT = []  # an operator is gone with its library


WAYS = {
    "spdl": Spdl,
    "litdata": LitData,
    "litdata-remote": LitDataRemote,
    "mosaic": Mosaic,
    "mosaic-remote": MosaicRemote,
    "webshart": Webshart,
    "folder": Folder,
    "threads": Threads,
}


if __name__ == "__main__":
    cv2.setNumThreads(1)
    serve(WAYS, __doc__ or "")
