"""Which decoder is faster on a GPU machine, timed on cells of the data set: its CPU threads, or DALI on the GPU.

Tiny images leave nvJPEG little to do at a time, and a CPU thread decodes about 100,000 of them in a second, so the
answer depends on the number of cores and on the size of the cells. Reading the files is not timed, since both need it.
The clock runs until the pixels of the last cell are in a pool on the device.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import numpy as np
import torch

from fastcell.dataset.corrupt_cells import CorruptCells
from fastcell.dataset.manifest import Manifest
from fastcell.loading.decode_choice import Decoding, make_decoding
from fastcell.loading.decode_cpu import CellDecoder
from fastcell.loading.stores.pixel_pool import PoolWriter, empty_pool
from fastcell.loading.stores.reading import Piece, PieceReader

FEWEST_CELLS = 20_000  # threads decode fewer of them in less time than a comparison takes
SECONDS = 0.5  # of each decoder
_SAMPLE = 2048


class DecoderTiming(NamedTuple):
    """The faster decoder.

    Attributes:
        choice: ``threads`` or ``dali``.
        rates: cells per second of each; empty if nothing was timed.
        threads: number of threads.
    """

    choice: str
    rates: dict[str, float]
    threads: int

    def describe(self) -> str:
        """Return one line about the choice."""
        if not self.rates:
            return f"decoder {self.choice}: fewer than {FEWEST_CELLS:,} cells, not timed"
        names = {"threads": f"{self.threads} thread{'s' * (self.threads != 1)}", "dali": "DALI"}
        found = ", ".join(f"{names[name]} {rate:,.0f} cells/s" for name, rate in self.rates.items())
        return f"decoder {self.choice}: {found}"


def faster_decoder(
    manifest: Manifest, batch: int, threads: int, device: torch.device, clock: Callable[[], float] = time.perf_counter
) -> DecoderTiming:
    """Time both decoders on cells of a data set that both can decode.

    Args:
        manifest: manifest of the data set.
        batch: cells of a batch.
        threads: threads of the decoders, >= 1.
        device: GPU that DALI decodes on and that gets the pixels; a CPU for both on the CPU.
        clock: returns the time [s].

    Raises:
        DataError: the cells cannot be read.
    """
    num = len(manifest)
    if num < FEWEST_CELLS:
        return DecoderTiming("threads", {}, threads)
    rows = np.unique(np.linspace(0, num - 1, min(num, _SAMPLE)).astype(np.int64))
    cells = CellDecoder(manifest, 8)
    reader = PieceReader(manifest, CorruptCells(manifest, "replace"), raw=False, threads=threads)
    edges = np.append(np.arange(0, len(rows), batch), len(rows))
    pieces = list(reader.pieces(rows, edges, len(edges)))
    device_id = device.index or 0 if device.type == "cuda" else None
    sizes = manifest.column("height")[rows].astype(np.int64) * manifest.column("width")[rows]
    pool = empty_pool(int(sizes.sum()), 8, "gpu" if device_id is not None else "host", device)
    ways = {
        name: _pass(make_decoding(name, reader, cells, batch, threads, device_id), pieces, pool, device)
        for name in ("threads", "dali")
    }
    rates = time_ways(ways, clock)
    return DecoderTiming(max(rates, key=lambda name: rates[name]), rates, threads)


def time_ways(ways: Mapping[str, Callable[[], int]], clock: Callable[[], float]) -> dict[str, float]:
    """Return cells per second of each way, over at least `SECONDS` each; its first pass is not timed.

    Args:
        ways: functions that make one pass and return its number of cells.
        clock: returns the time [s].
    """
    rates = {}
    for name, run in ways.items():
        run()  # starts threads, builds pipelines, compiles loops
        begin, cells = clock(), 0
        while (spent := clock() - begin) < SECONDS:
            cells += run()
        rates[name] = cells / spent
    return rates


def _pass(decode: Decoding, pieces: list[Piece], pool: torch.Tensor, device: torch.device) -> Callable[[], int]:
    def run() -> int:
        writer, place, num = PoolWriter(pool, device), 0, 0
        for cells in decode(_each(pieces)):
            size = int(cells.num_bytes.sum())
            if place + size <= len(pool):  # a stand-in for a corrupt cell may be larger
                writer.write(cells, place)
            place, num = place + size, num + len(cells)
        writer.finish()
        return num

    return run


def _each(pieces: list[Piece]) -> Iterator[Piece]:
    yield from pieces
