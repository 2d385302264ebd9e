"""The stream: stored bytes of the shards in, ragged grey cells with their ids out, batch by batch, in every epoch.

Order: `fastcell.loading.order.StreamOrder`; any batch can be had without those before it. Reading, hashing and corrupt
cells: `fastcell.loading.stores.reading`. Decoding: `fastcell.loading.decode_choice`.
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
from fastcell.loading.stores.reading import PieceReader

_IN_ORDER = 2048  # cells of a span that is not mixed
_MOST_BYTES = 1 << 28  # of a span


class CellReader:
    """Reads one rank's share of a view, epoch by epoch.

    Args:
        view: which cells; rows in stored order, repeats allowed.
        share: which of its rows and in how many steps (`fastcell.loading.ranks`).
        shuffle: another order in every epoch; else the stored order.
        seed: of the order.
        initial_fill: cells that are mixed at a time; 0 takes 8,192.
        threads: of the decoder, >= 1.
        device_id: GPU that DALI decodes on, or None for the CPU.
        depth: bits of a grey level in the cells to give, 8 or 16.
        decoder: ``auto``, ``dali`` or ``threads`` (`fastcell.loading.decode_choice.choose_decoding`).
        corrupt_cells: that corrupt cells are added to, shared with other readers of the data set; None for its own,
            which ends the run at the first.

    Attributes:
        order: of the cells.
        stored: reader of their stored bytes.

    Raises:
        ArgumentError: 16 bits asked of blocks, which store 8, or a decoder of another name.
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
            raise invalid("depth", "8 for cells in blocks, which are stored so", depth, "Pack with --layout cell")
        self.share = share
        rows = view.rows[share.start : share.stop]
        if len(rows) == 0:  # more ranks than rows: read a cell to pad with
            rows = view.rows[:1]
        most = max(1, int(_MOST_BYTES // max(1.0, float(manifest.column("bytes")[rows].mean()))))
        span = min(initial_fill or DEFAULT_SPAN, most) if shuffle else None
        self.order = StreamOrder(rows, manifest.shard_index[rows], share, seed, shuffle, span)
        self._unmixed_span = share.whole_batches(min(_IN_ORDER, most))
        cells = CellDecoder(manifest, depth)
        chosen = choose_decoding(decoder, manifest, rows, cells, device_id)
        if corrupt_cells is None:
            corrupt_cells = CorruptCells(manifest, "error")
        self.stored = PieceReader(manifest, corrupt_cells, raw=chosen == "stored")
        self._decode = make_decoding(chosen, self.stored, cells, share.batch, threads, device_id)

    def epoch(self, epoch: int, first: int = 0) -> Iterator[RaggedCells]:
        """Read one epoch: `share.steps` batches of `share.batch` cells.

        The first `len(share)` cells are the share's rows, each as often as it stands there; behind them comes padding
        by the cells drawn just before: a batch norm sees it too.

        Args:
            epoch: number.
            first: step to begin with: the batches from there on are those of the whole epoch.

        Raises:
            DataError: cells are corrupt and `corrupt_cells` does not let that pass; shard and key are named.
        """
        share, span = self.share, self.order.span
        edges = np.arange(first, share.steps + 1) * share.batch
        at_once = (self._unmixed_span if span is None else share.whole_batches(span)) // share.batch
        yield from self._decode(self.stored.pieces(self.order.padded(epoch), edges, at_once))

    def in_order(self) -> Iterator[RaggedCells]:
        """Read the rows in stored order, in pieces of any size, unpadded; blank cells stand in for corrupt ones."""
        rows, batch = self.order.rows, self.share.batch
        edges = np.append(np.arange(0, len(rows), batch), len(rows))
        yield from self._decode(self.stored.pieces(rows, edges, self._unmixed_span // batch, blank=True))
