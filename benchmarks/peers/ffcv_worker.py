"""FFCV as a contestant: a process that loads cells an epoch at a time, on request.

FFCV lives in an environment of its own (see README.md in this folder), so it takes its turns as a process that speaks
JSON lines. SOURCE is a folder with `cells.bin`, all cells one behind the other, and `cells.npy`, int64 (n, 5): offset,
bytes, height, width, label. A cell is a JPEG file, or height x width grey bytes.

    PYTHON ffcv_worker.py SOURCE MODE [--threads N] [--batch 256] [--size 128] [--augment] [--order random]

Every mode ends in the same batch: (B, 1, size, size) float32, the whole cell stretched to the square and divided by the
image's own mean. What is stored in FFCV's file, and what is left to do in an epoch:

    jpeg        RGBImageField, write_mode="jpg" at FFCV's default quality of 90; FFCV decodes and resizes (its own
                `cv::resize`, INTER_AREA) in a decoder that crops nothing; FFCV knows no grey images, so all is RGB
    jpegstored  the same decoder, but the JPEG files are kept as they came: grey, so there is less to decode
    jpeggrey    as jpegstored; one channel is resized bilinearly in a Numba decoder, which touches a third of the bytes
    raw         RGBImageField, write_mode="raw", cells resized to the square when written
    rawgrey     NDArrayField uint8 (1, size, size), resized when written: what costs FFCV least
    rawfused    as rawgrey, and the decoder divides by the mean as it reads: no copy of the bytes in between

`--augment` adds random flips and a random affine map (rotation, magnification, shift) with bilinear sampling, one
Numba operation. `os_cache=True`: the file is mapped, and in the page cache after the first epoch.

Lines on standard input, and the answers, one JSON object a line, on standard output:

    (start)     {"ready": true, "cells": n, "first_batch_s": f, ...}    file written, code compiled, one epoch run
    go          {"cells": n, "seconds": s, "cpu_seconds": c, "first_batch_s": f}
    images K    {"images": path, "cells": k}        a .npy file of records (row, label, image) of a shuffled epoch
    quit

FFCV's own output goes to standard error.
"""

import argparse
import json
import math
import os
import sys
import time
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import cv2
import numba
import numpy as np
import torch
from ffcv.fields import IntField, NDArrayField, RGBImageField
from ffcv.fields.decoders import IntDecoder, NDArrayDecoder, SimpleRGBImageDecoder
from ffcv.fields.rgb_image import IMAGE_MODES, ResizedCropRGBImageDecoder
from ffcv.libffcv import imdecode
from ffcv.loader import Loader, OrderOption
from ffcv.pipeline.allocation_query import AllocationQuery
from ffcv.pipeline.compiler import Compiler
from ffcv.pipeline.operation import Operation
from ffcv.transforms import Squeeze, ToTensor
from ffcv.writer import DatasetWriter

MODES = ("jpeg", "jpegstored", "jpeggrey", "raw", "rawgrey", "rawfused")
ROTATION = math.radians(10.0)  # uniform in +- this
SHIFT = 0.05  # share of the side, uniform in +- this
MAGNIFY = 0.1  # uniform in 1 / (1 + this) .. 1 + this


class Source:
    """The cells as `DatasetWriter` asks for them: a record of the image in a mode's form, and the label."""

    def __init__(self, folder, mode, size):
        self.path, self.mode, self.size = folder / "cells.bin", mode, size
        self.cells = np.load(folder / "cells.npy")

    def __len__(self):
        return len(self.cells)

    def __getitem__(self, row):
        offset, num_bytes, height, width, label = self.cells[row].tolist()
        stored = np.fromfile(self.path, np.uint8, num_bytes, offset=offset)
        is_jpeg = stored[:3].tobytes() == b"\xff\xd8\xff"
        if self.mode in ("jpegstored", "jpeggrey"):
            if not is_jpeg:
                raise SystemExit(f"{self.mode} needs JPEG files in {self.path}: cell {row} is none. Take jpeg instead.")
            return (stored, height, width), label
        grey = cv2.imdecode(stored, cv2.IMREAD_GRAYSCALE) if is_jpeg else stored.reshape(height, width)
        if self.mode != "jpeg":
            grey = cv2.resize(grey, (self.size, self.size), interpolation=cv2.INTER_LINEAR)
        if self.mode in ("rawgrey", "rawfused"):
            return grey[None], label
        return np.repeat(grey[:, :, None], 3, axis=2), label


class StoredJpegField(RGBImageField):
    """An `RGBImageField` that keeps JPEG files as they are instead of encoding pixels once more."""

    def encode(self, destination, image, malloc):
        """Write one file; `image` is (bytes, height, width)."""
        stored, destination["height"], destination["width"] = image
        destination["mode"] = IMAGE_MODES["jpg"]
        destination["data_ptr"], storage = malloc(stored.nbytes)
        storage[:] = stored


class WholeImageDecoder(ResizedCropRGBImageDecoder):
    """FFCV's decoder for images of all sizes, with a crop that takes everything."""

    scale = ratio = None

    @property
    def get_crop_generator(self):
        """The crop (top, left, height, width)."""

        def whole(height, width, scale, ratio):
            return 0, 0, height, width

        return whole


class GreyDecoder(ResizedCropRGBImageDecoder):
    """FFCV's JPEG decoder, then one channel resized bilinearly to uint8 (1, size, size)."""

    get_crop_generator = None

    def declare_state_and_memory(self, previous_state):
        """Grey result; room for the decoded RGB image beside it."""
        state, (_, decoded) = super().declare_state_and_memory(previous_state)
        shape = (1, *self.output_size)
        return replace(state, shape=shape), (AllocationQuery(shape, np.dtype("u1")), decoded)

    def generate_code(self):
        """Numba code for a batch."""
        read, span, decode_jpeg = self.memory_read, Compiler.get_iterator(), Compiler.compile(imdecode)
        size, resize = self.output_size[0], Compiler.compile(resize_first_channel)

        def decode(batch_indices, memory, metadata, storage_state):
            results, decoded = memory
            for i in span(len(batch_indices)):
                field = metadata[batch_indices[i]]
                height, width = np.uint32(field["height"]), np.uint32(field["width"])
                stored, image = read(field["data_ptr"], storage_state), decoded[i]
                decode_jpeg(stored, image, height, width, height, width, 0, 0, 1, 1, False, False)
                resize(image, int(height), int(width), size, results[i, 0])
            return results[: len(batch_indices)]

        decode.is_parallel = True
        return decode


class DivideByMean(Operation):
    """uint8 images, grey (1, size, size) or RGB (size, size, 3), to float32 (1, size, size) with mean 1."""

    def declare_state_and_memory(self, previous_state):
        """Float result of its own."""
        shape = previous_state.shape
        self.size, self.step = shape[1], shape[2] if shape[2] == 3 else 1
        result = (1, self.size, self.size)
        dtype = np.dtype("f4")
        return replace(previous_state, jit_mode=True, shape=result, dtype=dtype), AllocationQuery(result, dtype)

    def generate_code(self):
        """Numba code for a batch."""
        span, divide, step = Compiler.get_iterator(), Compiler.compile(divide_by_mean), self.step

        def convert(images, results):
            for i in span(len(images)):
                divide(images[i].reshape(-1), step, results[i].reshape(-1))
            return results[: len(images)]

        convert.is_parallel = True
        return convert


class RandomAffine(DivideByMean):
    """Random flips, rotation, magnification and shift with bilinear sampling, clamped at the border; then as above."""

    def generate_code(self):
        """Numba code for a batch."""
        span, warp, step, size = Compiler.get_iterator(), Compiler.compile(random_affine), self.step, self.size

        def convert(images, results):
            for i in span(len(images)):
                warp(images[i].reshape(-1), step, size, results[i].reshape(-1))
            return results[: len(images)]

        convert.is_parallel = True
        return convert


class FusedDecoder(NDArrayDecoder):
    """Stored uint8 (1, size, size) straight to the final float32 image, without FFCV's copy of the bytes."""

    def __init__(self, augment):
        super().__init__()
        self.augment = augment

    def declare_state_and_memory(self, previous_state):
        """Float result."""
        shape, dtype = tuple(self.field.shape), np.dtype("f4")
        return replace(previous_state, jit_mode=True, shape=shape, dtype=dtype), AllocationQuery(shape, dtype)

    def generate_code(self):
        """Numba code for a batch."""
        read, span, size, augment = self.memory_read, Compiler.get_iterator(), int(self.field.shape[1]), self.augment
        divide, warp = Compiler.compile(divide_by_mean), Compiler.compile(random_affine)

        def decode(batch_indices, results, metadata, storage_state):
            for i in span(len(batch_indices)):
                image = read(metadata[batch_indices[i]], storage_state)
                if augment:
                    warp(image, 1, size, results[i].reshape(-1))
                else:
                    divide(image, 1, results[i].reshape(-1))
            return results[: len(batch_indices)]

        decode.is_parallel = True
        return decode


def resize_first_channel(image, height, width, size, result):
    """First channel of a flat RGB image to uint8 (size, size), bilinearly: every row across, then down; compiled."""
    left, right, weight = np.empty(size, np.uint32), np.empty(size, np.uint32), np.empty(size, np.float32)
    for x in range(size):
        at = min(max((x + 0.5) * width / size - 0.5, 0.0), width - 1.0)
        column = int(at)
        left[x], right[x] = 3 * column, 3 * min(column + 1, width - 1)
        weight[x] = at - column
    rows = np.empty((height, size), np.float32)
    for y in range(height):
        line, row = image[3 * width * y : 3 * width * (y + 1)], rows[y]
        for x in range(size):
            near = np.float32(line[left[x]])
            row[x] = near + weight[x] * (np.float32(line[right[x]]) - near)
    for y in range(size):
        at = min(max((y + 0.5) * height / size - 0.5, 0.0), height - 1.0)
        first = int(at)
        upper, lower, down = rows[first], rows[min(first + 1, height - 1)], np.float32(at - first)
        for x in range(size):
            result[y, x] = np.uint8(np.int32(upper[x] + down * (lower[x] - upper[x]) + np.float32(0.5)))


def divide_by_mean(image, step, result):
    """Every `step`-th byte of a flat image, divided by the mean of those; compiled."""
    total = np.uint32(0)
    for p in range(result.size):
        total += image[p * step]
    factor = np.float32(result.size / max(float(total), 1e-6 * result.size))
    for p in range(result.size):
        result[p] = image[p * step] * factor


def random_affine(image, step, size, result):
    """Draw a map, sample the flat image bilinearly, divide by the mean of the result; compiled."""
    angle = np.random.uniform(-ROTATION, ROTATION)  # noqa: NPY002 - Numba's generator, one per thread
    magnify = np.random.uniform(1.0 / (1.0 + MAGNIFY), 1.0 + MAGNIFY)  # noqa: NPY002
    shift_x = np.random.uniform(-SHIFT, SHIFT) * size  # noqa: NPY002
    shift_y = np.random.uniform(-SHIFT, SHIFT) * size  # noqa: NPY002
    mirror_x = (1.0 if np.random.random() < 0.5 else -1.0) / magnify  # noqa: NPY002
    mirror_y = (1.0 if np.random.random() < 0.5 else -1.0) / magnify  # noqa: NPY002
    xx, xy = np.float32(mirror_x * math.cos(angle)), np.float32(-mirror_x * math.sin(angle))
    yx, yy = np.float32(mirror_y * math.sin(angle)), np.float32(mirror_y * math.cos(angle))
    centre = 0.5 * (size - 1)
    start_x, start_y = np.float32(-centre - shift_x), np.float32(-centre - shift_y)
    # A copy as float32, its last row and column twice: the four neighbours need no bounds of their own.
    side = size + 1
    copy = np.empty(side * side, np.float32)
    for y in range(side):
        row = min(y, size - 1) * size
        for x in range(size):
            copy[y * side + x] = image[(row + x) * step]
        copy[y * side + size] = copy[y * side + size - 1]
    last, zero, total = np.float32(size - 1), np.float32(0.0), np.float32(0.0)
    for y in range(size):
        row_x = np.float32(np.float32(centre) + xy * (start_y + np.float32(y)) + xx * start_x)
        row_y = np.float32(np.float32(centre) + yy * (start_y + np.float32(y)) + yx * start_x)
        out = result[y * size : (y + 1) * size]
        for x in range(size):
            at_x = min(max(row_x + xx * np.float32(x), zero), last)
            at_y = min(max(row_y + yx * np.float32(x), zero), last)
            left, top = np.int32(at_x), np.int32(at_y)
            across, down = at_x - np.float32(left), at_y - np.float32(top)
            at = np.uint32(top * np.int32(side) + left)
            upper, lower = copy[at], copy[at + np.uint32(side)]
            upper += across * (copy[at + np.uint32(1)] - upper)
            lower += across * (copy[at + np.uint32(side + 1)] - lower)
            value = upper + down * (lower - upper)
            out[x] = value
            total += value
    factor = np.float32(result.size) / max(total, np.float32(1e-6 * result.size))
    for p in range(result.size):
        result[p] *= factor


def write_beton(source, folder, mode, size):
    """Write FFCV's file unless one that is newer than the source lies there; return its path."""
    stored_form = {"jpeggrey": "jpegstored", "rawfused": "rawgrey"}.get(mode, mode)
    path = folder / f"{stored_form}-{size}.beton"
    if path.exists() and path.stat().st_mtime > (source / "cells.npy").stat().st_mtime:
        return path
    image_field = {
        "jpeg": RGBImageField(write_mode="jpg"),
        "jpegstored": StoredJpegField(),
        "raw": RGBImageField(write_mode="raw"),
        "rawgrey": NDArrayField(np.dtype("u1"), (1, size, size)),
    }[stored_form]
    unfinished = path.with_suffix(f".{os.getpid()}")
    writer = DatasetWriter(
        str(unfinished), {"image": image_field, "label": IntField()}, num_workers=len(os.sched_getaffinity(0))
    )
    writer.from_indexed_dataset(Source(source, mode, size))
    return unfinished.replace(path)


def make_loader(path, options):
    """FFCV's loader with the pipeline of a mode."""
    decoder, square = (
        {
            "jpeg": lambda: WholeImageDecoder((options.size, options.size)),
            "jpegstored": lambda: WholeImageDecoder((options.size, options.size)),
            "jpeggrey": lambda: GreyDecoder((options.size, options.size)),
            "raw": SimpleRGBImageDecoder,
            "rawgrey": NDArrayDecoder,
            "rawfused": lambda: FusedDecoder(options.augment),
        }[options.mode],
        [RandomAffine() if options.augment else DivideByMean()],
    )
    if options.mode == "rawfused":
        square = []
    return Loader(
        str(path),
        batch_size=options.batch,
        num_workers=options.threads,
        os_cache=True,
        order=OrderOption[options.order.upper()],
        seed=options.seed,
        drop_last=False,
        pipelines={
            "image": [decoder(), *square, ToTensor()],
            "label": [IntDecoder(), ToTensor(), Squeeze()],
        },
        custom_fields={"image": StoredJpegField} if options.mode in ("jpegstored", "jpeggrey") else {},
    )


def run_epoch(loader):
    """One epoch; each batch is touched."""
    num_cells, start, before, first = 0, time.perf_counter(), time.process_time(), 0.0
    for images, labels in loader:
        first = first or time.perf_counter() - start
        assert len(labels) == len(images)
        assert torch.isfinite(images[:, 0, 0, 0].sum())
        num_cells += len(images)
    return {
        "cells": num_cells,
        "seconds": time.perf_counter() - start,
        "cpu_seconds": time.process_time() - before,
        "first_batch_s": first,
    }


def save_images(loader, count, path, size):
    """Write the first `count` cells of one more epoch, and which cells they were."""
    rows = loader.next_traversal_order()  # decided by the seed and the epoch's number: those of the next epoch
    count = min(count, len(rows))
    out = np.zeros(count, [("row", "i8"), ("label", "i8"), ("image", "f4", (1, size, size))])
    out["row"] = rows[:count]
    filled = 0
    for images, labels in loader:  # to its end, as a loader is used
        here = out[filled : filled + len(images)]
        here["image"], here["label"] = images[: len(here)].numpy(), labels[: len(here)].numpy()
        filled += len(here)
    np.save(path, out)
    return {"images": str(path), "cells": count}


def main():
    """Write the file, compile, then answer lines until `quit` or the end of the input."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="folder with cells.bin and cells.npy")
    parser.add_argument("mode", choices=MODES)
    parser.add_argument("--threads", type=int, default=1, help="FFCV's num_workers (%(default)s)")
    parser.add_argument("--batch", type=int, default=256, help="cells in a batch (%(default)s)")
    parser.add_argument("--size", type=int, default=128, help="side of the square (%(default)s)")
    parser.add_argument("--augment", action="store_true", help="flips and a random affine map")
    parser.add_argument("--order", choices=("random", "sequential"), default="random")
    parser.add_argument("--seed", type=int, default=0, help="of the order (%(default)s)")
    parser.add_argument("--folder", type=Path, help="where FFCV's files go (default: SOURCE)")
    options = parser.parse_args()
    folder = options.folder or options.source
    folder.mkdir(parents=True, exist_ok=True)
    answers, sys.stdout = sys.stdout, sys.stderr  # FFCV prints

    def answer(**values):
        print(json.dumps(values), file=answers, flush=True)

    cv2.setNumThreads(1)
    if "NUMBA_THREADING_LAYER" not in os.environ:
        numba.config.THREADING_LAYER = "workqueue"  # comes with Numba; OpenMP's took half as much CPU time again
    path = write_beton(options.source, folder, options.mode, options.size)
    begun = time.perf_counter()
    loader = make_loader(path, options)
    opened = time.perf_counter() - begun
    cold = run_epoch(loader)
    first = opened + cold["first_batch_s"]
    packages = {name: version(name) for name in ("ffcv", "torch", "numba", "numpy", "opencv-python-headless")}
    told = {"cells": cold["cells"], "first_batch_s": first, "file_bytes": path.stat().st_size}
    answer(ready=True, **told, packages=packages)
    for line in sys.stdin:
        match line.split():
            case ["go"]:
                answer(**run_epoch(loader))
            case ["images", count]:
                out = folder / f"images-{options.mode}-{os.getpid()}.npy"
                answer(**save_images(loader, int(count), out, options.size))
            case ["quit"]:
                break
            case _:
                answer(error=f"not understood: {line.strip()!r}; say go, images K or quit")
    sys.stderr.flush()
    os._exit(0)  # after an ordinary end the process can hang in its libraries' destructors, Python being gone


if __name__ == "__main__":
    main()
