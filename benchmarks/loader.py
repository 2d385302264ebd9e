"""Cells per second from stored cells to a normalised (B, 1, 128, 128) batch, against the ways a user has.

Five parts, each a run of its own in which contestants take turns on the same cores, like with like:

* decode (result `loader`): ragged JPEG files, decoded in every epoch. fastcell's stream with both transforms;
  webdataset with OpenCV and with Pillow; DALI's own operators; FFCV; SPDL; LitData; MosaicML Streaming;
  torchvision's ImageFolder; threads with simplejpeg;
* tars (`loader-tars`): readers of local tars: fastcell's stream, webdataset, webshart;
* memory (`loader-memory`, with random affine maps `loader-memory-affine`): cells of 128 x 128 that lie decoded in
  memory. fastcell's bank with both transforms; a uint8 tensor, with grid_sample for the maps; torch's DataLoader over
  a memory map; FFCV's raw arrays;
* threads (`loader-threads`): some of decode's contestants with 1, 2, 4, ... logical cores, each held to as many, in
  ratio to webdataset on one;
* formats (`loader-formats`): what fastcell makes of JPEG, PNG and raw records, one cell or a block in each, ragged and
  square, by store and transform.

The limits stand in the same tables: reading alone, decoding alone, copying alone, writing the batch alone.

Every contestant is a process of its own (`loader_ways.py`, `peers/`), stopped while it is not its turn. Its first
epoch, whose rate does not count, gives the time to the first batch in a fresh process and the peak of its memory. Then
its images are compared with a reference, cell by cell, in grey levels of the cell's mean; who differs by more than its
bound is not timed. A peer that is not installed is named in the result with the reason; peers/README.md says how to
install them.

    python benchmarks/loader.py [--part decode] [--cells 10000] [--rounds 5] [--threads 1] [--data DIR]
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import io
import os
import signal
import sys
import tarfile
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from harness import Contestant, Result, print_rows, time_turns
from worker import MALLOC, Worker, WorkerError, write_source

from fastcell.dataset.manifest import Manifest
from fastcell.dataset.single_cells import read_cells
from fastcell.packing.pack import pack
from fastcell.simulator.synth import synthesize
from fastcell.splits.make_splits import SplitOptions
from fastcell.system import library_settings, resources

BENCHMARKS_DIR = Path(__file__).resolve().parent
SIZE, BATCH, COMPARED = 128, 256, 300
LIMIT = "limit: "
_MOST_CORES = 16  # of the part `threads`
# Programs of the contestants, and the variables that name the Python of the peers' environments.
OWN, PEERS, FFCV = "loader_ways.py", "peers/streaming_worker.py", "peers/ffcv_worker.py"
PYTHONS = {PEERS: "FASTCELL_PEERS_PYTHON", FFCV: "FASTCELL_FFCV_PYTHON"}
MODULES = {"spdl": "spdl", "litdata": "litdata", "mosaic": "streaming", "folder": "torchvision"}
MODULES |= {"litdata-remote": "litdata", "mosaic-remote": "streaming", "webshart": "webshart"}
MODULES |= {"threads": "simplejpeg", "jpeg": "ffcv", "jpeggrey": "ffcv", "rawfused": "ffcv"}


@dataclass(frozen=True)
class Entry:
    """Who takes part.

    Attributes:
        what: what it does, in one line.
        mode: of the program.
        data: key of `DATA`; peers get the files of its JPEG set.
        program: OWN, PEERS or FFCV.
        worst, average: bounds of the difference from the reference [grey levels].
        augment: random affine maps, whose images cannot be compared.
        threads: cores that it is held to; 0 for those that all are.
    """

    what: str
    mode: str
    data: str = "jpeg"
    program: str = OWN
    worst: float = 3.0
    average: float = 0.5
    augment: bool = False
    threads: int = 0


# OpenCV resizes 8-bit images in fixed point, and JPEG decoders differ by a grey level or two: hence 3 and 0.5 (above).
_EXACT = {"worst": 0.05, "average": 0.01}  # the same decoded bytes, nothing resized
DATA = {
    "jpeg": "ragged, JPEG",
    "png": "ragged, PNG",
    "raw": "ragged, raw",
    "block": "ragged, raw in blocks",
    "square": "128 x 128, raw in blocks",
    "square-jpeg": "128 x 128, JPEG",
}
REFERENCES = {
    "loader": ["webdataset + OpenCV"],
    "loader-tars": ["webdataset + OpenCV"],
    "loader-memory": ["FFCV, raw in memory", "uint8 tensor"],
    "loader-memory-affine": ["FFCV, raw in memory, affine", "uint8 tensor, grid_sample"],
    "loader-formats": ["stream + fused, ragged JPEG"],
    "loader-threads": ["webdataset + OpenCV, 1 core"],
}
PARTS = {
    "decode": {
        "loader": {
            "fastcell, stream + fused": Entry("as `fit` sets it up; one pass after the decoder", "stream-fused"),
            "fastcell, stream + fused, DALI decodes": Entry("the same behind DALI's decoder", "stream-fused-dali"),
            "fastcell, stream + fused, threads decode": Entry("the same on the CPU's cores", "stream-fused-threads"),
            "fastcell, stream + dali": Entry("DALI's decoder and operators", "stream-dali"),
            "webdataset + OpenCV": Entry("DataLoader, cv2.imdecode, cv2.resize", "webdataset-opencv"),
            "webdataset + Pillow": Entry("DataLoader, Pillow, cv2.resize", "webdataset-pillow"),
            "DALI alone": Entry("readers.webdataset, decoders.image, resize, mean", "dali"),
            "FFCV, JPEG": Entry(
                "RGBImageField, JPEG at quality 90, as documented; no grey images, resize by area",
                "jpeg",
                program=FFCV,
                worst=np.inf,
                average=6.0,
            ),
            "FFCV, JPEG, one channel": Entry(
                "grey JPEG as stored, one channel resized (Numba)", "jpeggrey", program=FFCV, worst=5.0, average=0.6
            ),
            "SPDL": Entry("DataLoader of threads, FFmpeg decodes, cv2.resize", "spdl", program=PEERS),
            "LitData": Entry("StreamingDataLoader, cv2.imdecode, cv2.resize", "litdata", program=PEERS),
            "MosaicML Streaming": Entry("StreamingDataLoader, cv2.imdecode, cv2.resize", "mosaic", program=PEERS),
            "torchvision ImageFolder": Entry("DataLoader, Pillow, transforms v2 on tensors", "folder", program=PEERS),
            "threads + simplejpeg": Entry("by hand: memory map, simplejpeg, cv2.resize", "threads", program=PEERS),
            LIMIT + "read": Entry("bytes of the tars, from the page cache", "limit-read"),
            LIMIT + "decode": Entry("cv2.imdecode, bytes in memory", "limit-decode"),
            LIMIT + "decode, own": Entry("fastcell's loops for grey JPEG, bytes in memory", "limit-decode-own"),
            LIMIT + "copy": Entry("decoded pixels gathered into a batch", "limit-copy"),
            LIMIT + "write": Entry("a constant written into the float32 batch", "limit-write"),
        }
    },
    "tars": {
        "loader-tars": {
            "fastcell, stream + fused": Entry("as `fit` sets it up; one pass after the decoder", "stream-fused"),
            "webdataset + OpenCV": Entry("DataLoader, cv2.imdecode, cv2.resize", "webdataset-opencv"),
            "webshart": Entry("TarDataLoader in stored order, cv2.imdecode, cv2.resize", "webshart", program=PEERS),
        }
    },
    "memory": {
        "loader-memory": {
            "fastcell, bank + fused": Entry(
                "gathered and divided in one compiled pass", "bank-fused", "square", **_EXACT
            ),
            "fastcell, bank + dali": Entry("the same with DALI's operators", "bank-dali", "square", **_EXACT),
            "fastcell, bank + fused, ragged": Entry(
                "cells in their original sizes, resized in every epoch", "bank-fused", "block"
            ),
            "uint8 tensor": Entry("torch: index, float, divide by mean", "tensor", "square", **_EXACT),
            "memory map + DataLoader": Entry("numpy.memmap, batch divided", "memmap", "square", **_EXACT),
            "FFCV, raw in memory": Entry(
                "uint8 NDArrayField, divided while reading (Numba)", "rawfused", "square", FFCV, **_EXACT
            ),
            LIMIT + "copy": Entry("decoded pixels gathered into a batch", "limit-copy", "square"),
            LIMIT + "write": Entry("a constant written into the float32 batch", "limit-write", "square"),
        },
        "loader-memory-affine": {
            "fastcell, bank + fused, affine": Entry(
                "one compiled pass with flips and a map", "bank-fused", "square", augment=True
            ),
            "uint8 tensor, grid_sample": Entry(
                "torch: index, affine_grid, grid_sample", "tensor", "square", augment=True
            ),
            "FFCV, raw in memory, affine": Entry(
                "uint8 NDArrayField, map and division while reading (Numba)", "rawfused", "square", FFCV, augment=True
            ),
        },
    },
    "formats": {
        "loader-formats": {
            "stream + fused, ragged JPEG": Entry("one file for each cell", "stream-fused", "jpeg"),
            "stream + dali, ragged JPEG": Entry("one file for each cell", "stream-dali", "jpeg"),
            "stream + fused, ragged PNG": Entry("one file for each cell", "stream-fused", "png"),
            "stream + fused, ragged raw": Entry("one .npy for each cell", "stream-fused", "raw"),
            "stream + fused, ragged blocks": Entry("raw pixels, 256 cells in a record", "stream-fused", "block"),
            "stream + dali, ragged blocks": Entry("raw pixels, 256 cells in a record", "stream-dali", "block"),
            "stream + fused, square JPEG": Entry(
                "one file for each cell", "stream-fused", "square-jpeg", worst=8.0, average=1.5
            ),
            "stream + fused, square blocks": Entry("raw pixels, 256 in a record", "stream-fused", "square", **_EXACT),
            "bank + fused, ragged": Entry("cells in memory, as taken", "bank-fused", "block"),
            "bank + dali, ragged": Entry("cells in memory, as taken", "bank-dali", "block"),
            "bank + fused, square": Entry("cells in memory, 128 x 128", "bank-fused", "square", **_EXACT),
            LIMIT + "decode JPEG": Entry("cv2.imdecode, bytes in memory", "limit-decode", "jpeg"),
            LIMIT + "decode PNG": Entry("cv2.imdecode, bytes in memory", "limit-decode", "png"),
            LIMIT + "copy": Entry("decoded pixels gathered into a batch", "limit-copy", "block"),
            LIMIT + "write": Entry("a constant written into the float32 batch", "limit-write", "block"),
        }
    },
}


def by_threads(most):
    """The part `threads`: contestants of `decode` with 1, 2, 4, ... logical cores. All live at once: not too many."""
    decoding = PARTS["decode"]["loader"]
    names = ("fastcell, stream + fused", "webdataset + OpenCV", "DALI alone", "FFCV, JPEG", "threads + simplejpeg")
    entries = {name: decoding[name] for name in names}
    counts = [2**power for power in range(min(most, _MOST_CORES).bit_length())]
    return {
        "loader-threads": {
            f"{name}, {count} core{'s' * (count > 1)}": replace(entry, threads=count)
            for name, entry in entries.items()
            for count in counts
        }
    }


def main():
    """Run the parts, print their tables and write their results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=(*PARTS, "threads", "all"), default="decode", help="(%(default)s)")
    parser.add_argument("--cells", type=int, default=10_000, help="synthetic cells (%(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="timed rounds (%(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="cores that all are held to (%(default)s)")
    parser.add_argument("--data", type=Path, help="where to make and keep the data (a temporary folder)")
    parser.add_argument("--device", default="cuda:0" if resources.has_gpu() else "cpu", help="(%(default)s)")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="contestants whose names begin so, and the limits")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # workers are closed on the way out
    library_settings.limit_spinning()
    cores = sorted(os.sched_getaffinity(0))
    if not 0 < options.threads <= len(cores):
        raise SystemExit(f"--threads must be from 1 to {len(cores)}, got {options.threads}.")
    with tempfile.TemporaryDirectory() as scratch:
        data = Data(options.data or Path(scratch), options.cells)
        data.manifest("jpeg")
        for part in (*PARTS, "threads") if options.part == "all" else [options.part]:
            if part == "threads":
                os.sched_setaffinity(0, cores)
                run(by_threads(len(cores)), data, options)
            else:
                os.sched_setaffinity(0, cores[-options.threads :])
                run(PARTS[part], data, options)


class Data:
    """The same cells in every form that is asked for, made when it is.

    Args:
        folder: where they are kept.
        num_cells: of the synthetic set.
    """

    def __init__(self, folder, num_cells):
        self.folder, self.num_cells = folder / f"cells-{num_cells}", num_cells

    def manifest(self, form):
        """The packed set of a form, a key of `DATA`."""
        path = self.folder / form
        if not (path / "dataset.json").exists():
            print(f"making {form}", flush=True)
            self._make(form, path)
        return Manifest.open(path)

    def source(self):
        """The JPEG files as peers take them."""
        folder = self.folder / "source"
        if not (folder / "cells.npy").exists():
            write_source(self.manifest("jpeg"), folder)
        return folder

    def _make(self, form, path):
        whole = SplitOptions((1.0, 0.0, 0.0))
        if form == "jpeg":
            synthesize(path, self.num_cells, split=whole)
            return
        tar = self.folder / f"{form}.tar"
        with tarfile.open(tar, "w") as out:
            jpeg = self.manifest("jpeg")
            for row, cell in enumerate(read_cells(jpeg, range(len(jpeg)))):
                name, stored = ENCODERS[form](cell)
                for suffix, content in ((name, stored), ("cls", str(jpeg.labels[row]).encode())):
                    member = tarfile.TarInfo(f"{row:08d}.{suffix}")
                    member.size = len(content)
                    out.addfile(member, io.BytesIO(content))
        pack(tar, path, layout="block" if form in ("block", "square") else "cell", split=whole)
        tar.unlink()

    def references(self, rows):
        """What images of JPEG rows must be, (n, 1, 128, 128) float32: decoded, resized, divided by the mean."""
        jpeg = self.manifest("jpeg")
        images = [resize(cell).astype(np.float32) for cell in read_cells(jpeg, rows)]
        return np.stack([image / image.mean() for image in images])[:, None]

    def jpeg_rows(self, form):
        """(N,) the row in the JPEG set of every cell of a form."""
        manifest = self.manifest(form)
        if form == "jpeg":
            return np.arange(len(manifest))
        return np.array([int(Path(key).stem) for key in manifest.column("key")])


def resize(cell):
    """(H, W) uint8 to (128, 128) uint8."""
    return cv2.resize(cell, (SIZE, SIZE), interpolation=cv2.INTER_LINEAR)


def _npy(cell):
    out = io.BytesIO()
    np.save(out, cell)
    return "npy", out.getvalue()


ENCODERS = {
    "png": lambda cell: ("png", cv2.imencode(".png", cell)[1].tobytes()),
    "raw": _npy,
    "block": _npy,
    "square": lambda cell: _npy(resize(cell)),
    "square-jpeg": lambda cell: (
        "jpg",
        cv2.imencode(".jpg", resize(cell), [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes(),
    ),
}


def run(tables, data, options):
    """One part: start, compare, time in turns, write one result for each table."""
    asked = tuple(options.only or [""])
    entries = {
        name: entry for table in tables.values() for name, entry in table.items() if name.startswith((*asked, LIMIT))
    }
    # There it is what `auto` takes: once is enough.
    usual = "stream-fused-threads" if options.device == "cpu" else "stream-fused-dali"
    entries = {name: entry for name, entry in entries.items() if entry.mode != usual}
    workers = {}
    absent = {}
    try:
        for name, entry in entries.items():
            try:
                workers[name] = start(name, entry, data, options)
            except WorkerError as error:
                absent[name] = str(error)
                print(f"without {name}: {error}", flush=True)
        contestants = {name: contestant(name, entries[name], worker, options) for name, worker in workers.items()}
        turns = time_turns(contestants, options.rounds, warm_up=0)
    finally:
        for worker in workers.values():
            worker.close()
    cores = max(entry.threads or options.threads for entry in entries.values())
    settings = {"cells": options.cells, "batch": BATCH, "size": SIZE, "cores": cores}
    packages = versions(entries, workers)
    for bench, table in tables.items():
        names = [name for name in table if name in workers]
        reference = next((name for name in [*REFERENCES[bench], *names] if name in names), None)
        if reference is None or reference.startswith(LIMIT):
            print(f"{bench}: nobody takes part")
            continue
        rows = turns.rows(reference, names)
        print(f"\n{bench}")
        print_rows(rows, reference)
        left_out = {name: reason for name, reason in absent.items() if name in table}
        result = Result(bench, TITLES[bench], settings, rows, absent=left_out, packages=packages)
        print(f"wrote {result.save()}")


def versions(entries, workers):
    """Of the peers' packages, and of what else their environments have in another version than this one."""
    found = {}
    for name, worker in workers.items():
        program = entries[name].program
        for package, version in worker.packages.items():
            if program != OWN and version == installed(package):
                continue
            peer = program == OWN or package in PINNED
            found[package if peer else f"{package} (of {Path(program).stem})"] = version
    return found


def installed(package):
    """Its version in this environment."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


PINNED = ("ffcv", "spdl", "litdata", "mosaicml-streaming", "webshart", "simplejpeg", "torchvision")
TITLES = {
    "loader": "synthetic cells, ragged JPEG, decoded in every epoch",
    "loader-tars": "synthetic cells, ragged JPEG in local tars, decoded in every epoch",
    "loader-memory": "synthetic cells, decoded in memory",
    "loader-memory-affine": "synthetic cells, decoded in memory, random affine maps",
    "loader-formats": "synthetic cells by format, layout, store and transform",
    "loader-threads": "synthetic cells, ragged JPEG, by cores",
}


def start(name, entry, data, options):
    """A contestant that has run its first epoch and whose images are right.

    Raises:
        WorkerError: it is not installed, does not start, loses cells, or makes other images.
    """
    python = find_python(entry)
    if options.device != "cpu" and entry.program == FFCV:
        raise WorkerError("its worker ends on the CPU")
    source = data.manifest(entry.data).path if entry.program == OWN else data.source()
    folder = data.folder / "own" / f"{Path(entry.program).stem}-{entry.data}"
    folder.mkdir(parents=True, exist_ok=True)
    command = [python, BENCHMARKS_DIR / entry.program, source, entry.mode, "--folder", folder]
    threads = entry.threads or options.threads
    command += ["--threads", threads, "--batch", BATCH, "--size", SIZE]
    command += [] if entry.program == FFCV else ["--device", options.device]
    command += ["--augment"] if entry.augment else []
    print(f"starting {name}", flush=True)
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(cores)[-threads:])  # a child has what its parent had
    try:
        worker = Worker(command, folder / f"{entry.mode}{'-affine' * entry.augment}-{threads}.log", 600, MALLOC)
    finally:
        os.sched_setaffinity(0, cores)
    try:
        done = worker.first_epoch()
        if not name.startswith(LIMIT):
            if done.cells != options.cells:
                raise WorkerError(f"gave {done.cells} of {options.cells} cells")
            if not entry.augment:
                compare(name, entry, worker, data)
    except BaseException:
        worker.close()
        raise
    return worker


def find_python(entry):
    """The Python that has what an entry needs: the one named for its program, or this one.

    Raises:
        WorkerError: no variable names one, and this one lacks it.
    """
    if entry.program == OWN:
        return sys.executable
    named = os.environ.get(PYTHONS[entry.program])
    if named:
        return named
    if importlib.util.find_spec(MODULES[entry.mode]) is None:
        variable = PYTHONS[entry.program]
        raise WorkerError(
            f"not installed here, and {variable} names no Python that has it (benchmarks/peers/README.md)"
        )
    return sys.executable


def compare(name, entry, worker, data):
    """Hold images of a contestant against the reference, cell by cell.

    Raises:
        WorkerError: they differ by more than its bounds.
    """
    records = np.load(worker.ask(f"images {COMPARED}")["images"])
    rows = records["row"] if entry.program != OWN else data.jpeg_rows(entry.data)[records["row"]]
    mean = data.manifest("jpeg").column("mean_intensity")[rows]
    difference = np.abs(records["image"] - data.references(rows)) * mean[:, None, None, None]
    worst, average = float(difference.max()), float(difference.mean())
    bounds = f"bounds {entry.worst:g} and {entry.average:g}"
    print(
        f"  {name}: at most {worst:.2f}, on average {average:.3f} grey levels from the reference; {bounds}", flush=True
    )
    if worst > entry.worst or average > entry.average:
        raise WorkerError(f"its images differ by up to {worst:.2f}, on average {average:.3f} grey levels; {bounds}")


def contestant(name, entry, worker, options):
    """How it takes its turns; a limit has no first batch, and its memory says nothing."""
    limit = name.startswith(LIMIT)
    return Contestant(
        entry.what,
        (lambda: worker()._replace(peak_rss_mb=None, gpu_memory_mb=None, first_batch_s=None)) if limit else worker,
        data=DATA[entry.data],
        size=SIZE,
        batch=BATCH,
        dtype="float32",
        device=options.device,
        threads=entry.threads or options.threads,
        first_batch_cold_s=None if limit else worker.first_batch_cold_s,
    )


if __name__ == "__main__":
    main()
