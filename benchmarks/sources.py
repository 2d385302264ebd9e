"""Cells per second and core from the files of instruments and programs into a data set, and whether memory stays flat.

Contestants are the kinds of file that `pack` reads, written here with cells of the simulator or noise-like ones of the
same size; each round packs all of them anew, on one core, from a warm file cache. `read` is the reader alone, in the
order in which `pack` asks for the cells; `pack` is everything: reading, decoding, hashing, measuring, writing.

Memory is the peak of a process that packs a small file, and one that packs a file of five or ten times the cells. The
folder of JPEG files has images of the size of simulated cells and is packed in the cell layout, all others in blocks.

    python benchmarks/sources.py [--cells 20000] [--rounds 5] [--only .jpg]
"""

from __future__ import annotations

import argparse
import os
import shutil
import struct
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import h5py
import hdf5plugin
import numpy as np
import tifffile
from harness import Result, print_rows, time_turns

from fastcell.packing.pack import pack
from fastcell.packing.shard_layout import block_shards
from fastcell.sources.registry import open_source
from fastcell.splits.make_splits import SplitOptions
from fastcell.system import library_settings

SIDES = (48, 64)  # of a region of interest of common instruments
RTDC_SIDES = (80, 250)
JPG_SIDES = (49, 284)  # of simulated cells
NO_SPLIT = SplitOptions(None)
JPG = "folder of .jpg"
PEAK = """
import sys
from fastcell.packing.pack import pack
from fastcell.splits.make_splits import SplitOptions
pack(sys.argv[1], sys.argv[2], layout=sys.argv[3], jobs=1, split=SplitOptions(None))
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(int(status["VmHWM"].split()[0]) * 1024)  # ru_maxrss would begin with the size of the parent
"""


@dataclass
class PeakRow:
    """Peak memory [MB] of packing `small_cells` and `large_cells`, of `cell_bytes` each."""

    contestant: str
    small_cells: int
    large_cells: int
    cell_bytes: int
    small_mb: float
    large_mb: float
    mb_per_million_cells: float


def make_cells(num, sides, seed=0):
    """(num, H, W) uint8: a blob on a noisy background, compressible as real ones."""
    rng = np.random.default_rng(seed)
    height, width = sides
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    out = np.empty((num, height, width), np.uint8)
    noise = cv2.GaussianBlur(rng.normal(0, 6, (height + 64, width + 64)).astype(np.float32), (3, 3), 0)
    for i in range(num):
        x, y, radius = rng.uniform(0.3, 0.7) * width, rng.uniform(0.3, 0.7) * height, rng.uniform(6, 14)
        top, left = rng.integers(0, 64, 2)
        blob = 60 * np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / radius**2)
        out[i] = 120 + noise[top : top + height, left : left + width] - blob
    return out


def write_rtdc(folder, num):
    """RT-DC: chunks of 1 MiB, zstd level 5, as dclab writes them; 40 features."""
    path = folder / "m.rtdc"
    shape = (max(1, (1 << 20) // (RTDC_SIDES[0] * RTDC_SIDES[1])), *RTDC_SIDES)
    rng = np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        kind = hdf5plugin.Zstd(clevel=5)
        dataset = file.create_dataset("events/image", (num, *RTDC_SIDES), np.uint8, chunks=shape, **kind)
        for first in range(0, num, 2000):
            last = min(num, first + 2000)
            dataset[first:last] = make_cells(last - first, RTDC_SIDES, first)
        for i in range(40):
            file.create_dataset(f"events/f{i}", data=rng.random(num), chunks=(min(num, 10_000),), **kind)
    return path


def write_ifcb(folder, num):
    """An IFCB bin of the new style."""
    name = "D20240101T000000_IFCB001"
    height, width = SIDES
    lines, offset = [], 0
    with open(folder / f"{name}.roi", "wb") as file:
        for first in range(0, num, 2000):
            cells = make_cells(min(2000, num - first), SIDES, first)
            file.write(cells.tobytes())
            for i in range(first, first + len(cells)):
                words = [str(i), *["0.5"] * 12, "10", "10", str(width), str(height), str(offset), *["0.25"] * 6]
                lines.append(",".join(words))
                offset += height * width
    (folder / f"{name}.adc").write_text("\n".join(lines) + "\n")
    return folder / f"{name}.adc"


def write_npy(folder, num):
    """An array, as numpy.save writes it."""
    np.save(folder / "a.npy", make_cells(num, SIDES))
    return folder / "a.npy"


def write_npz(folder, num):
    """An array with labels, as numpy.savez_compressed writes it."""
    np.savez_compressed(folder / "a.npz", images=make_cells(num, SIDES), labels=np.arange(num) % 4)
    return folder / "a.npz"


def write_h5(folder, num):
    """An array in HDF5 with gzip, in the chunks that h5py chooses."""
    with h5py.File(folder / "a.h5", "w") as file:
        file.create_dataset("images", data=make_cells(num, SIDES), compression="gzip", compression_opts=4)
    return folder / "a.h5"


def write_tiff(folder, num):
    """A TIFF of one page per cell, not compressed."""
    tifffile.imwrite(folder / "a.tif", make_cells(num, SIDES), metadata=None)
    return folder / "a.tif"


def write_tiff_deflate(folder, num):
    """A TIFF of one page per cell, deflate."""
    tifffile.imwrite(folder / "a.tif", make_cells(num, SIDES), metadata=None, compression="zlib")
    return folder / "a.tif"


def write_tiff_lzw(folder, num):
    """A TIFF of one page per cell, LZW."""
    tifffile.imwrite(folder / "a.tif", make_cells(num, SIDES), metadata=None, compression="lzw")
    return folder / "a.tif"


def write_tiff_images(folder, num):
    """A folder of TIFF images, one per cell, LZW."""
    (folder / "images" / "A").mkdir(parents=True)
    for number, cell in enumerate(make_cells(num, SIDES)):
        tifffile.imwrite(folder / "images" / "A" / f"{number:06d}.tif", cell, metadata=None, compression="lzw")
    return folder / "images"


def write_jpegs(folder, num):
    """A folder of grey JPEG files of 1.5 to 2.5 kB, one per cell, in the cell layout."""
    (folder / "images" / "A").mkdir(parents=True)
    cells = make_cells(min(num, 2000), JPG_SIDES)
    for number in range(num):
        cell = cells[number % len(cells)] - np.uint8(number // len(cells))  # all different
        cv2.imwrite(str(folder / "images" / "A" / f"{number:06d}.jpg"), cell, [cv2.IMWRITE_JPEG_QUALITY, 90])
    return folder / "images"


def write_mat(folder, num):
    """A MATLAB array of version 6, H x W x N."""
    cells = make_cells(num, SIDES).transpose(0, 2, 1)
    name = b"images".ljust(8, b"\0")
    dims = struct.pack("<IIiiii", 5, 12, SIDES[0], SIDES[1], num, 0)
    body = struct.pack("<IIII", 6, 8, 9, 0) + dims + struct.pack("<II", 1, 6) + name + struct.pack("<II", 2, cells.size)
    with open(folder / "a.mat", "wb") as file:
        file.write(b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM" + struct.pack("<II", 14, len(body) + cells.size))
        file.write(body)
        file.write(cells.tobytes())
    return folder / "a.mat"


KINDS = {
    ".npy": write_npy,
    ".npz, compressed": write_npz,
    ".h5, gzip": write_h5,
    ".mat": write_mat,
    ".tif": write_tiff,
    ".tif, deflate": write_tiff_deflate,
    ".tif, LZW": write_tiff_lzw,
    "folder of .tif": write_tiff_images,
    JPG: write_jpegs,
    "IFCB bin": write_ifcb,
    ".rtdc, zstd": write_rtdc,
}


def main():
    """Run the benchmark, print its tables and write its results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=20_000, help="in each file (%(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="timed rounds (%(default)s)")
    parser.add_argument("--only", default="", help="files whose name contains this, beside .npy")
    parser.add_argument("--keep", action="store_true", help="print, do not write results")
    options = parser.parse_args()
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    library_settings.quiet()
    cv2.setNumThreads(0)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        rows = measure_rates(folder / "rates", options.cells, options.rounds, options.only)
        peaks = measure_peaks(folder / "peaks", options.cells, options.only)
    for read_or_pack in ("read", "pack"):
        print_rows([row for row in rows if row.contestant.startswith(read_or_pack)], f"{read_or_pack} .npy")
    print(f"\n{'peak memory':<20}{'cells':>12}{'MB':>8}{'cells':>12}{'MB':>8}{'MB per million':>16}")
    for peak in peaks:
        print(
            f"{peak.contestant:<20}{peak.small_cells:>12,}{peak.small_mb:>8.0f}{peak.large_cells:>12,}"
            f"{peak.large_mb:>8.0f}{peak.mb_per_million_cells:>16.0f}"
        )
    if options.keep:
        return
    sides = {"sides": SIDES, "rtdc_sides": RTDC_SIDES, "jpg_sides": JPG_SIDES}
    settings = {"cells": options.cells, **sides, "layout": f"block; {JPG}: cell"}
    data = "blobs on noise, written by the benchmark"
    name = f"sources-{options.only.strip('.')}" if options.only else "sources"
    print(f"wrote {Result(name, data, settings, rows).save()}")
    if peaks:
        print(f"wrote {Result(name.replace('sources', 'sources-memory'), data, settings, peaks).save()}")


def measure_rates(folder, num, rounds, only=""):
    """Rows of the readers alone, and of the whole of `pack`, each beside that of `.npy`."""
    contestants = {}
    for name, write in KINDS.items():
        if only not in name and name != ".npy":
            continue
        place = folder / name.replace(" ", "_")
        place.mkdir(parents=True)
        path = write(place, num)
        what = (write.__doc__ or "").strip().splitlines()[0]
        contestants[f"read {name}"] = what, lambda path=path: read(path)
        contestants[f"pack {name}"] = what, partial(pack_anew, path, place / "out", layout_of(name))
    turns = time_turns(contestants, rounds)
    rows = []
    for kind in ("read", "pack"):
        rows += turns.rows(f"{kind} .npy", [name for name in contestants if name.startswith(kind)])
    return rows


def read(path):
    """The listing, and every cell in the order of `pack`."""
    source = open_source(path)
    listing = source.scan()
    sides = np.full(len(listing.items), "")
    for shard in block_shards(listing.items, {"default": sides}, 2500, 256, 0, listing.runs):
        for _, items in shard:
            for item in items:
                source.load(item)
    return len(listing.items)


def layout_of(name):
    return "cell" if name == JPG else "block"


def pack_anew(path, out, layout):
    """The data set, from nothing."""
    shutil.rmtree(out, ignore_errors=True)
    return len(pack(path, out, layout=layout, jobs=1, split=NO_SPLIT))


def measure_peaks(folder, num, only=""):
    """Peak memory of packing by processes of their own."""
    rows = []
    for name in (".npy", ".h5, gzip", "IFCB bin", ".rtdc, zstd", JPG):
        if only not in name:
            continue
        peaks = []
        sizes = (num if name == JPG else num // 2, num * 5)  # compiled loops decode both folders of JPEG
        for size in sizes:
            place = folder / f"{name.replace(' ', '_')}-{size}"
            place.mkdir(parents=True)
            path = KINDS[name](place, size)
            command = [sys.executable, "-c", PEAK, str(path), str(place / "out"), layout_of(name)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            peaks.append(int(done.stdout) / 1e6)
            shutil.rmtree(place)
        sides = RTDC_SIDES if "rtdc" in name else JPG_SIDES if name == JPG else SIDES
        slope = (peaks[1] - peaks[0]) / (sizes[1] - sizes[0]) * 1e6
        rows.append(PeakRow(name, *sizes, sides[0] * sides[1], peaks[0], peaks[1], slope))
    return rows


if __name__ == "__main__":
    main()
