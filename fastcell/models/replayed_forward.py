"""A network replayed as a CUDA graph for batches of one shape, as in the prediction of a data set."""

from __future__ import annotations

import logging
from collections.abc import Callable

import torch

from fastcell.models.replayed_steps import WARM_UP_STEPS, beside, without_cache

logger = logging.getLogger(__name__)

Forward = Callable[[torch.Tensor], tuple[torch.Tensor, ...]]
"""Function from images (B, 1, S, S) to tensors on the same device, without a wait of the host."""


class ReplayedForward:
    """A network whose weights do not change. Images go into the memory of the graph, and the results are copies.

    The first batches are run one by one on the stream of the capture: they choose algorithms and allocate memory.
    Batches of another shape than the captured one are run one by one, and so is every batch on a CPU.

    Args:
        forward: runs the network, without gradients.
        device: device of the network.

    Attributes:
        is_captured: whether batches are replays of a CUDA graph.
    """

    def __init__(self, forward: Forward, device: torch.device) -> None:
        self._forward, self._device = forward, device
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._graph: torch.cuda.CUDAGraph | None = None
        self._images, self._found = torch.empty(0), tuple[torch.Tensor, ...]()
        self._num_done = 0

    @property
    def is_captured(self) -> bool:
        return self._graph is not None

    def __call__(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return what the network gives for images (B, 1, S, S)."""
        if self._stream is None:
            return self._forward(images)
        if self._num_done < WARM_UP_STEPS:
            self._num_done += 1
            with beside(self._stream, self._device):
                return self._forward(images)
        if self._graph is None:
            self._graph = self._capture(images, self._stream)
        if self._graph is None or (images.shape, images.dtype) != (self._images.shape, self._images.dtype):
            return self._forward(images)
        self._images.copy_(images)
        self._graph.replay()
        return tuple(one.clone() for one in self._found)

    def _capture(self, images: torch.Tensor, stream: torch.cuda.Stream) -> torch.cuda.CUDAGraph | None:
        """Return a graph of the network; None, with a message, if a part of it cannot be captured."""
        self._images, graph = images.clone(), torch.cuda.CUDAGraph()
        try:
            # Other threads prepare the next cells meanwhile, so that only this thread must not wait.
            with (
                torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"),
                without_cache(self._device.type),
            ):
                self._found = self._forward(self._images)
        except RuntimeError as error:
            self._stream = None
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            logger.info("batches are run one by one, because no CUDA graph of the network can be made: %s", reason)
            return None
        return graph
