"""Decode stored 8-bit JPEG and PNG cells with DALI's image decoder, on the CPU or a GPU.

Batches are fed to the decoder ahead of their use. A failure ends a DALI pipeline, so the decoder is then rebuilt.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from nvidia.dali import fn, types
from nvidia.dali.backend import TensorCPU, TensorListCPU
from nvidia.dali.pipeline import Pipeline

from fastcell.dataset.cell_hashes import wrong_bytes
from fastcell.dataset.corrupt_cells import blank_cell
from fastcell.dataset.integrity import CHANGED, REASONS
from fastcell.errors import DataError
from fastcell.loading.decode_cpu import CellDecoder, other_sides
from fastcell.loading.ragged_cells import RaggedCells
from fastcell.loading.stores.reading import Piece, PieceReader
from fastcell.system.library_settings import quiet_dali

if TYPE_CHECKING:
    import torch


class DaliDecoder:
    """Decoder of encoded images to (H, W, 1) uint8 grey pixels, batch after batch.

    Each batch in progress has its own pipeline, because a pipeline with a queue must be fed twice before its first run.

    Args:
        batch: maximum number of images in a batch.
        threads: threads of the decoder, >= 1.
        device_id: GPU, or None for the CPU.
    """

    def __init__(self, batch: int, threads: int, device_id: int | None) -> None:
        self._batch, self._threads, self._device_id = batch, threads, device_id
        self._resting: list[Pipeline] = []
        self._running: deque[tuple[Pipeline, TensorListCPU]] = deque()
        self._lent: deque[tuple[torch.cuda.Event, TensorListCPU]] = deque()

    def feed(self, images: Sequence[np.ndarray]) -> None:
        """Start decoding images, each (bytes,) uint8, contiguous; not copied, so keep them unchanged until `take`."""
        pipeline = self._resting.pop() if self._resting else self._build()
        data = TensorListCPU([TensorCPU(image) for image in images])
        pipeline.feed_input("data", data)
        pipeline.schedule_run()
        self._running.append((pipeline, data))

    def take(self) -> Any:
        """Return the pixels of the oldest batch fed to the decoder, as DALI's tensor list on the CPU or the GPU.

        On a GPU, the pixels belong to the current stream. This stream waits for the decoder, but the host does not.

        Raises:
            RuntimeError: an image of this batch cannot be decoded. All batches that were fed are then discarded.
        """
        pipeline, data = self._running.popleft()
        try:
            pixels = self._outputs_of(pipeline, data)
        except RuntimeError:
            self.forget()
            raise
        self._resting.append(pipeline)
        return pixels

    def _outputs_of(self, pipeline: Pipeline, data: TensorListCPU) -> Any:
        if self._device_id is None:
            (pixels,) = pipeline.outputs()
            return pixels
        import torch  # the path without a GPU needs no stream

        stream = torch.cuda.current_stream(self._device_id)
        (pixels,) = pipeline.outputs(cuda_stream=stream.cuda_stream)
        while self._lent and self._lent[0][0].query():
            self._lent.popleft()
        self._lent.append((stream.record_event(), data))  # the decoder may still copy from it
        return pixels

    def forget(self) -> None:
        """Discard all batches that were fed and not yet taken."""
        self._running.clear()

    def _build(self) -> Pipeline:
        pipeline = Pipeline(
            batch_size=self._batch, num_threads=self._threads, device_id=self._device_id, prefetch_queue_depth=1
        )
        with pipeline:
            data = fn.external_source(name="data", ndim=1, dtype=types.UINT8, no_copy=True)
            device = "cpu" if self._device_id is None else "mixed"
            pipeline.set_outputs(fn.decoders.image(data, device=device, output_type=types.GRAY))
        with quiet_dali():
            pipeline.build()
        return pipeline


class DaliDecoding:
    """Decoder of pieces that uses DALI, one piece ahead of the one returned.

    Args:
        reader: source of the pieces.
        cells: CPU decoder of the same data set; it finds the reason if a cell stops DALI.
        batch: maximum number of cells in a piece.
        threads: threads of the decoder, >= 1.
        device_id: GPU, or None for the CPU.
    """

    def __init__(
        self, reader: PieceReader, cells: CellDecoder, batch: int, threads: int, device_id: int | None
    ) -> None:
        self._reader, self._cells = reader, cells
        self._batch, self._threads, self._device_id = batch, threads, device_id
        self._idle: DaliDecoder | None = None

    def __call__(self, pieces: Iterator[Piece]) -> Iterator[RaggedCells]:
        """Decode pieces; if DALI cannot decode a cell of a piece, decode the piece again with stand-ins.

        Raises:
            DataError: DALI failed on cells that are as they were packed, or a cell is corrupt and corrupt cells are not
                allowed.
        """
        decoder, self._idle = self._idle or DaliDecoder(self._batch, self._threads, self._device_id), None
        waiting: deque[Piece] = deque()
        try:
            for piece in pieces:
                self._feed(decoder, piece)
                waiting.append(piece)
                if len(waiting) == 2:
                    yield self._take(decoder, waiting)
            while waiting:
                yield self._take(decoder, waiting)
        finally:
            decoder.forget()
            self._idle = decoder

    def _feed(self, decoder: DaliDecoder, piece: Piece) -> None:
        buffer, starts = piece.stored.buffer, piece.of(piece.stored.starts)
        ends = starts + piece.of(piece.stored.sizes)
        images = [buffer[start:end] for start, end in zip(starts.tolist(), ends.tolist(), strict=True)]
        for slot in np.flatnonzero(piece.places < 0).tolist():
            images[slot] = _blank_png(int(piece.heights[slot]), int(piece.widths[slot]))
        decoder.feed(images)

    def _take(self, decoder: DaliDecoder, waiting: deque[Piece]) -> RaggedCells:
        """Remove the first waiting piece and return its cells, with stand-ins for corrupt cells."""
        while True:
            try:
                pixels = decoder.take()
                sides = sides_of(pixels)
                found = _of_other_sides(waiting[0], *sides)
            except RuntimeError as error:
                found = self._undecodable(waiting, error)
            if not found:
                piece = waiting.popleft()
                addresses = pixel_addresses(pixels) if self._device_id is None else None
                return RaggedCells(piece.cell_ids, *sides, pixels, addresses, good=piece.good_unless_all)
            self._reader.corrupt_cells.add(found)
            decoder.forget()
            for _ in range(len(waiting)):
                waiting.append(self._reader.again(waiting.popleft()))
                self._feed(decoder, waiting[-1])

    def _undecodable(self, waiting: Sequence[Piece], error: Exception) -> dict[int, str]:
        """Return the cells that stopped DALI, with reasons; DALI's message does not always name them.

        Raises:
            DataError: no such cell was found.
        """
        found: dict[int, str] = {}
        alone = DaliDecoder(1, 1, self._device_id)
        for piece in waiting:
            places = np.unique(piece.places[piece.places >= 0])
            wrong = wrong_bytes(self._reader.hashes, piece.stored, places)
            found |= dict.fromkeys(piece.stored.cell_ids[places[wrong]].tolist(), REASONS[CHANGED])
            for place in places[~wrong].tolist():
                cell_id, decoded = int(piece.stored.cell_ids[place]), self._cells.decode(piece.stored, place)
                if isinstance(decoded, str):
                    found[cell_id] = decoded
                elif not _decodes(alone, piece.stored.bytes_of(place)):
                    found[cell_id] = "DALI cannot decode it; saved as PNG it could"
        if not found:
            raise DataError(
                f"reading {self._reader.manifest.place} failed, though every cell is as it was packed: "
                f"{_first_line(error)}. Look at the machine (memory, disk); `fastcell doctor` prints what is installed."
            ) from None
        return found | self._reader.check_shards(list(found))


def pixel_addresses(cells: Any) -> np.ndarray:
    """Return the address of the first byte of each sample of a TensorListCPU, (B,) int64 (0.5 us per sample)."""
    return np.array([tensor.data_ptr() for tensor in cells], dtype=np.int64)


def sides_of(cells: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return heights and widths, (B,) int32 each, of a TensorList of samples (H, W, 1)."""
    shapes = np.array(cells.shape(), dtype=np.int32)
    return np.ascontiguousarray(shapes[:, 0]), np.ascontiguousarray(shapes[:, 1])


def _of_other_sides(piece: Piece, heights: np.ndarray, widths: np.ndarray) -> dict[int, str]:
    """Return reasons for cells whose decoded size differs from the manifest: their memory must not be read."""
    wrong = np.flatnonzero((heights != piece.heights) | (widths != piece.widths))
    return {int(piece.cell_ids[slot]): other_sides(int(heights[slot]), int(widths[slot])) for slot in wrong.tolist()}


def _blank_png(height: int, width: int) -> np.ndarray:
    return np.ascontiguousarray(cv2.imencode(".png", blank_cell(height, width, 8))[1]).reshape(-1)


def _decodes(decoder: DaliDecoder, image: np.ndarray) -> bool:
    try:
        decoder.feed([image])
        decoder.take()
    except RuntimeError:
        return False
    return True


def _first_line(error: Exception) -> str:
    """Return the most informative line of DALI's message."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if "rror" in line and not line.startswith(("Error in", "Error when", "Current"))]
    return (telling or lines or [type(error).__name__])[0][:300].rstrip(".")
