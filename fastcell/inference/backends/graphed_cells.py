"""Transform and network of a few cells as one CUDA graph: grey pixels in, images, features and logits out.

For one cell, the host needs longer to start a hundred kernels than a GPU needs to run them. A graph starts all of them
at once. There is one graph for each of a few batch sizes; a batch is filled up with cells of one pixel. The kernel
reads the cells' sides on the device, so that a graph serves cells of all sizes, up to a number of pixels.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from fastcell.inference.grey_cells import GreyCells
from fastcell.inference.network_answers import FLIPS
from fastcell.loading.preprocessing import Preprocessing
from fastcell.ops.constants import GPU_IMAGE_SIZES
from fastcell.ops.transform import CellPool, make_clock, transform

BATCHES = (1, 16, 256)
"""Batch sizes for which there is a graph."""
_PIXELS_OF_ONE = 1 << 16
_PIXELS_OF_EACH = 1 << 14
_WARM_UP = 3

Forward = Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]
"""Function from images (B, 1, S, S) float32 to features (B, F) and logits (B, K), both float32."""


class GraphAnswers(NamedTuple):
    """Answers for N cells, float32 in host memory.

    Attributes:
        images: (N, 1, S, S).
        features: (N, F), of the images without flips.
        logits: (N, K) for each flip: one array, or four.
    """

    images: np.ndarray
    features: np.ndarray
    logits: tuple[np.ndarray, ...]


class GraphedCells:
    """The graphs of one network and one preprocessing. Several threads may call it; they take turns.

    Args:
        forward: runs the network, in inference mode.
        preprocessing: of the run, with an image size of the kernel (`fits`).
        device: GPU; on a CPU the same work is done without a graph.
    """

    def __init__(self, forward: Forward, preprocessing: Preprocessing, device: torch.device) -> None:
        self._forward, self._preprocessing, self._device = forward, preprocessing, device
        self._lock = threading.Lock()
        self._batches: dict[tuple[int, bool], _Batch] = {}

    def run(self, cells: GreyCells, um_per_px: np.ndarray | None, tta: bool = False) -> GraphAnswers | None:
        """Return the answers for N cells; None if they are too many or too large for a graph.

        Args:
            cells: N cells, at least 1.
            um_per_px: (N,) micrometres per pixel, NaN if unknown; None if it is unknown for all cells.
            tta: run the network on the four flips of the images, in the same graph.
        """
        batch = next((size for size in BATCHES if size >= len(cells)), None)
        if batch is None or len(cells.pixels) + batch > capacity(batch):
            return None
        with self._lock:
            if (batch, tta) not in self._batches:
                dtype = torch.uint8 if cells.pixels.dtype == np.uint8 else torch.uint16
                made = _Batch(
                    batch, dtype, self._forward, self._preprocessing, self._device, FLIPS if tta else FLIPS[:1]
                )
                self._batches[batch, tta] = made
            return self._batches[batch, tta].run(cells, um_per_px)


def fits(preprocessing: Preprocessing) -> bool:
    """Return whether the kernel makes images of this size."""
    return preprocessing.image_size in GPU_IMAGE_SIZES


def capacity(batch: int) -> int:
    """Return the pixels that the graph of a batch has room for."""
    return _PIXELS_OF_ONE if batch == 1 else batch * _PIXELS_OF_EACH


class _Batch:
    """Memory of one batch size on host and device, and its graph."""

    def __init__(
        self,
        size: int,
        dtype: torch.dtype,
        forward: Forward,
        preprocessing: Preprocessing,
        device: torch.device,
        flips: Sequence[tuple[int, ...]] = FLIPS[:1],
    ) -> None:
        self._size, self._forward, self._preprocessing, self._device = size, forward, preprocessing, device
        self._flips = flips
        scaled = preprocessing.fit == "scale"
        shapes = {
            "pixels": ((capacity(size),), dtype),
            "offset": ((size,), torch.int64),
            "height": ((size,), torch.int32),
            "width": ((size,), torch.int32),
            "border": (None if preprocessing.fit == "stretch" else (size,), torch.float32),
            "um_per_px": ((size,) if scaled else None, torch.float32),
        }
        on_gpu = device.type == "cuda"
        self._host = {
            name: torch.zeros(shape, dtype=kind, pin_memory=on_gpu)
            for name, (shape, kind) in shapes.items()
            if shape is not None
        }
        self._there = {name: values.to(device, copy=True) for name, values in self._host.items()}
        self._index = torch.arange(size, device=device)
        self._clock = make_clock(0, 0).to(device)
        self._answers: tuple[torch.Tensor, ...] | None = None
        self._graph: torch.cuda.CUDAGraph | None = None

    def run(self, cells: GreyCells, um_per_px: np.ndarray | None) -> GraphAnswers:
        num, used = len(cells), len(cells.pixels)
        sizes = cells.heights.astype(np.int64) * cells.widths
        given: dict[str, Any] = {"offset": np.cumsum(sizes) - sizes, "height": cells.heights, "width": cells.widths}
        given |= {"border": cells.border, "um_per_px": np.nan if um_per_px is None else um_per_px}
        self._host["pixels"].numpy()[:used] = cells.pixels
        for name, empty in (("offset", used), ("height", 1), ("width", 1), ("border", 0), ("um_per_px", np.nan)):
            if name in self._host:
                values = self._host[name].numpy()
                values[:num], values[num:] = given[name], empty
        if self._answers is None:
            self._begin()
        elif self._graph is not None:
            self._graph.replay()
        else:
            self._work()
        if self._device.type == "cuda":
            torch.cuda.current_stream(self._device).synchronize()
        assert self._answers is not None
        images, features, *logits = (values[:num].numpy().copy() for values in self._answers)
        return GraphAnswers(images, features, tuple(logits))

    def _begin(self) -> None:
        """Do the work, which allocates memory and chooses algorithms, and on a GPU capture it and do it again."""
        if self._device.type != "cuda":
            self._work()
            return
        stream, current = torch.cuda.Stream(self._device), torch.cuda.current_stream(self._device)
        stream.wait_stream(current)
        with torch.cuda.stream(stream):
            for _ in range(_WARM_UP):
                self._work()
        current.wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
            self._work()
        self._graph = graph
        graph.replay()

    def _work(self) -> None:
        """Copy the cells to the device, make images, run the network, copy the answers back; the host does not wait."""
        values = self._preprocessing
        for name, there in self._there.items():
            there.copy_(self._host[name], non_blocking=True)
        pool = CellPool(*(self._there.get(name) for name in CellPool._fields))  # type: ignore[arg-type]
        with torch.inference_mode():
            images = transform(
                pool,
                self._index,
                self._index,
                self._clock,
                image_size=values.image_size,
                fit=values.fit,
                mode=values.normalization,
                scale_um_per_px=values.scale_um_per_px,
                antialias=values.antialias,
            )
            features, logits = self._forward(images)
            flipped = [self._forward(images.flip(axes))[1] for axes in self._flips[1:]]
            found = (images, features, logits, *flipped)
            if self._answers is None:
                on_gpu = self._device.type == "cuda"
                self._answers = tuple(torch.empty(one.shape, dtype=one.dtype, pin_memory=on_gpu) for one in found)
            for answer, one in zip(self._answers, found, strict=True):
                answer.copy_(one, non_blocking=True)
