"""DALI's image decoder, fed ahead batch by batch, and built anew after a failure, which ends a pipeline of DALI."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np
from nvidia.dali import fn, types
from nvidia.dali.backend import TensorCPU, TensorListCPU
from nvidia.dali.pipeline import Pipeline

from fastcell.system.library_settings import quiet_dali


class DaliDecoder:
    """Turns encoded images into (H, W, 1) uint8 grey pixels, batch after batch.

    Each batch that is under way has a pipeline of its own: one with a queue wants to be fed twice before its first run.

    Args:
        batch: most images in a batch.
        threads: of the decoder, >= 1.
        device_id: GPU, or None for the CPU.
    """

    def __init__(self, batch: int, threads: int, device_id: int | None) -> None:
        self._batch, self._threads, self._device_id = batch, threads, device_id
        self._resting: list[Pipeline] = []
        self._running: deque[tuple[Pipeline, TensorListCPU]] = deque()

    def feed(self, images: Sequence[np.ndarray]) -> None:
        """Begin with a batch: (bytes,) uint8 each, contiguous, not copied; they must not change until it is taken."""
        pipeline = self._resting.pop() if self._resting else self._build()
        data = TensorListCPU([TensorCPU(image) for image in images])
        pipeline.feed_input("data", data)
        pipeline.schedule_run()
        self._running.append((pipeline, data))

    def take(self) -> Any:
        """The pixels of the batch fed first, as DALI's tensor list on the CPU or the GPU.

        Raises:
            RuntimeError: an image of this batch cannot be decoded. All that was fed is forgotten then.
        """
        pipeline, _ = self._running.popleft()
        try:
            (pixels,) = pipeline.outputs()
        except RuntimeError:
            self.forget()
            raise
        self._resting.append(pipeline)
        return pixels

    def forget(self) -> None:
        """Drop what was fed and not taken."""
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


def pixel_addresses(cells: Any) -> np.ndarray:
    """(B,) int64, address of the first byte of each sample of a TensorListCPU (0.5 us each)."""
    return np.array([tensor.data_ptr() for tensor in cells], dtype=np.int64)


def sides_of(cells: Any) -> tuple[np.ndarray, np.ndarray]:
    """Heights and widths, (B,) int32 each, of a TensorList of (H, W, 1)."""
    shapes = np.array(cells.shape(), dtype=np.int32)
    return np.ascontiguousarray(shapes[:, 0]), np.ascontiguousarray(shapes[:, 1])
