"""The stream: reads the stored bytes of shards and yields batches of ragged grey cells with their ids, in every epoch.

Order: `fastcell.loading.order.StreamOrder`; any batch can be read without the earlier ones. Reading, hashing and
corrupt cells: `fastcell.loading.stores.reading`. Decoding: `fastcell.loading.decode_choice`.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from fastcell.dataset.corrupt_cells import CorruptCells
from fastcell.dataset.views import View
from fastcell.errors import invalid
from fastcell.loading.decode_choice import choose_decoding, make_decoding
from fastcell.loading.decode_cpu import CellDecoder
from fastcell.loading.order import DEFAULT_SPAN, StreamOrder
from fastcell.loading.ragged_cells import RaggedCells
from fastcell.loading.ranks import Share
from fastcell.loading.stores.pixel_pool import pinned_bytes
from fastcell.loading.stores.reading import PieceReader

_IN_ORDER = 2048  # cells in a span without mixing
_MOST_BYTES = 1 << 28  # bytes in a span


class CellReader:
    """Reader of one rank's share of a view, epoch by epoch.

    Args:
        view: cells to read; rows in stored order, repeats allowed.
        share: share of this rank: its rows of the view and its number of steps (`fastcell.loading.ranks`).
        shuffle: use another order in every epoch; else the stored order.
        seed: seed of the order.
        initial_fill: mixing span in cells; 0 uses 8,192.
        threads: threads of the decoder, >= 1.
        device_id: GPU that DALI decodes on, or None for the CPU.
        depth: bits per grey level of the returned cells, 8 or 16.
        decoder: ``auto``, ``dali`` or ``threads`` (`fastcell.loading.decode_choice.choose_decoding`).
        corrupt_cells: collection that corrupt cells are added to, shared with other readers of the data set; None
            creates one that ends the run at the first corrupt cell.

    Attributes:
        order: order of the cells.
        stored: reader of their stored bytes.

    Raises:
        ArgumentError: `depth` is 16 and the cells are in blocks, which store 8 bits, or `decoder` is unknown.
    """

    def __init__(
        self,
        view: View,
        share: Share,
        *,
        shuffle: bool = False,
        seed: int = 0,
        initial_fill: int = 0,
        threads: int = 1,
        device_id: int | None = None,
        depth: int = 8,
        decoder: str = "auto",
        corrupt_cells: CorruptCells | None = None,
    ) -> None:
        manifest = view.manifest
        if manifest.info.layout == "block" and depth != 8:
            raise invalid("depth", "8 for cells in blocks, which have 8 bits", depth, "Pack with --layout cell")
        self.share = share
        first, last = (share.start, share.stop) if len(share) else (0, 1)  # without rows: one cell as padding
        sizes = manifest.column("bytes")
        mean = sum(int(sizes[rows].sum()) for rows in view.parts(first, last)) / (last - first)
        most = max(1, int(_MOST_BYTES // max(1.0, mean)))
        span = min(initial_fill or DEFAULT_SPAN, most) if shuffle else None
        self.order = StreamOrder(view, share, seed, shuffle, span)
        self._unmixed_span = share.whole_batches(min(_IN_ORDER, most))
        cells = CellDecoder(manifest, depth)
        chosen = choose_decoding(decoder, manifest, view.parts(first, last), cells, device_id)
        if corrupt_cells is None:
            corrupt_cells = CorruptCells(manifest, "error")
        is_raw = chosen == "stored"
        allocate = pinned_bytes if is_raw and device_id is not None else None  # the GPU reads the stored pixels
        self.stored = PieceReader(manifest, corrupt_cells, raw=is_raw, threads=threads, allocate=allocate)
        self._decode = make_decoding(chosen, self.stored, cells, share.batch, threads, device_id)

    def epoch(self, epoch: int, first: int = 0) -> Iterator[RaggedCells]:
        """Read one epoch: `share.steps` batches of `share.batch` cells.

        The first `len(share)` cells are the rows of the share, each as often as it occurs there. They are followed by
        padding: the cells drawn just before, because batch normalisation also uses padding.

        Args:
            epoch: number of the epoch.
            first: first step; the batches from there on equal those of the whole epoch.

        Raises:
            DataError: cells are corrupt and `corrupt_cells` does not allow it; the message names shard and key.
        """
        at_once = self._unmixed_span // self.share.batch
        yield from self._decode(
            self.stored.pieces_of(lambda: self.order.spans(epoch, first, at_once), self.share.batch, self._in_parts())
        )

    def in_order(self) -> Iterator[RaggedCells]:
        """Read the rows in stored order, in pieces of any size, unpadded, with blank cells instead of corrupt ones."""
        order, length = self.order, self._unmixed_span

        def spans() -> Iterator[np.ndarray]:
            for begin in range(order.start, order.start + len(order), length):
                yield order.view.part(begin, min(begin + length, order.start + len(order)))

        yield from self._decode(self.stored.pieces_of(spans, self.share.batch, self._in_parts(), blank=True))

    def _in_parts(self) -> Iterator[np.ndarray]:
        order = self.order
        return order.view.parts(order.start, order.start + len(order))
