"""Stored bytes of cells to pixels on the CPU, as threads do it: JPEG in compiled loops, the rest one by one."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fastcell.dataset.decode import ENCODINGS, decode
from fastcell.dataset.manifest import Manifest
from fastcell.dataset.shard_reader import Stored
from fastcell.errors import BadCell
from fastcell.ops.jpeg import decode_jpegs


class CellDecoder:
    """Decodes cells of one data set; any number of threads may call it.

    Args:
        manifest: of the data set.
        depth: bits of a grey level in the pixels to give, 8 or 16.

    Attributes:
        encodings: (N,) int8, for every row of the manifest its place in `fastcell.dataset.decode.ENCODINGS`, or -1.
    """

    def __init__(self, manifest: Manifest, depth: int) -> None:
        self._depth = depth
        self._heights, self._widths = manifest.column("height"), manifest.column("width")
        levels = manifest.info.window
        self._window = None if levels is None else (levels[0], levels[1])
        encodings = pc.index_in(manifest.table.column("encoding"), value_set=pa.array(ENCODINGS))
        self.encodings = encodings.fill_null(-1).to_numpy().astype(np.int8)

    def decode_into(
        self,
        pixels: np.ndarray,
        starts: np.ndarray,
        stored: Stored,
        taken: np.ndarray,
        heights: np.ndarray,
        widths: np.ndarray,
        slots: np.ndarray,
    ) -> dict[int, str]:
        """Write some cells of a batch of B.

        Args:
            pixels: uint8 or uint16, one dimension, written.
            starts: (B,) int64, first pixel of each cell in it.
            stored: their bytes.
            taken: (B,) int64, place of each in `stored`; -1 for a blank one.
            heights, widths: (B,) int32.
            slots: (n,) int64, which of the B cells.

        Returns:
            By id the reasons of the cells that cannot be decoded; in their places anything may stand.
        """
        found: dict[int, str] = {}
        is_done = np.zeros(len(slots), bool)
        if self._depth == 8:
            real = np.flatnonzero(taken[slots] >= 0)
            some = slots[real]
            places = taken[some]
            is_done[real] = decode_jpegs(
                stored.buffer,
                stored.starts[places],
                stored.sizes[places],
                heights[some],
                widths[some],
                pixels,
                starts[some],
            )
        for slot in slots[~is_done].tolist():
            place, height, width = int(taken[slot]), int(heights[slot]), int(widths[slot])
            to = pixels[starts[slot] : starts[slot] + height * width].reshape(height, width)
            decoded = self.decode(stored, place) if place >= 0 else blank_cell(height, width, self._depth)[:, :, 0]
            if isinstance(decoded, str):
                found[int(stored.cell_ids[place])] = decoded
            else:
                to[:] = decoded
        return found

    def decode(self, stored: Stored, place: int) -> np.ndarray | str:
        """(H, W) pixels of the cell at a place of `stored`, or the reason why there are none."""
        cell_id = int(stored.cell_ids[place])
        try:
            data, encoding = stored.bytes_of(place).tobytes(), ENCODINGS[self.encodings[cell_id]]
            pixels = decode(data, encoding, self._window, self._depth).pixels
        except BadCell as bad:
            return f"cannot be decoded any more: {bad.reason}"
        sides = int(self._heights[cell_id]), int(self._widths[cell_id])
        return pixels if pixels.shape == sides else other_sides(*pixels.shape)


def blank_cell(height: int, width: int, depth: int) -> np.ndarray:
    """(H, W, 1) of one grey level, not black: its mean divides."""
    return np.full((height, width, 1), 128 if depth == 8 else 128 * 257, np.uint8 if depth == 8 else np.uint16)


def other_sides(height: int, width: int) -> str:
    """The reason of a cell whose bytes hold another size than the manifest."""
    return f"is {height} x {width} pixels, which the manifest does not say"
