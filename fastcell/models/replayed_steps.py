"""Training steps replayed as a CUDA graph: from the indices of cells to new weights, without any work of the host.

A step makes the images of its cells (one launch), runs the network forward and backward, changes the weights with a
fused optimizer, and adds to the average of the weights and to the sums of the scores. Everything that differs between
two steps lies in device memory: the cells, their positions, and the learning rates, of which a counter on the device
selects the row. The first steps of a run are made one by one on the stream of the capture. They choose algorithms and
allocate memory. Then one step is captured, and later steps are replays of it. On a CPU every step is made one by one.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch

from fastcell.loading.batch import Batch, PlannedSteps
from fastcell.models.metrics import batch_sums
from fastcell.models.weight_average import WeightAverage

logger = logging.getLogger(__name__)

WARM_UP_STEPS = 3  # as torch's documentation of CUDA graphs advises

Images = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
"""Function from indices (B,), positions (B,) and clock (2,), all int64, to images (B, 1, S, S)."""

Loss = Callable[[Batch, torch.Tensor, Callable[..., None]], torch.Tensor]
"""Function from a batch, the number of its cells that count and the function that takes its scores, to the loss ()."""


class ReplayedSteps:
    """The steps of one training.

    Args:
        plan: a first group of steps; later ones have batches of the same size.
        group: largest number of steps in a group.
        num_classes: K.
        images: makes the images of a batch. The memory that it reads must not move.
        loss: computes the loss.
        optimizer: fused optimizer of torch. Its learning rates are those given to `run`, not those of its groups.
        average: running average of the network, and the network; None without an average.

    Attributes:
        images: as given.
        sums: sums over the steps since they were last read, by the names of `fastcell.models.metrics.batch_sums`.
        is_captured: whether steps are replays of a CUDA graph.
    """

    def __init__(
        self,
        plan: PlannedSteps,
        group: int,
        num_classes: int,
        images: Images,
        loss: Loss,
        optimizer: torch.optim.Optimizer,
        average: tuple[WeightAverage, torch.nn.Module] | None = None,
    ) -> None:
        self.images, self._loss, self._optimizer, self._average = images, loss, optimizer, average
        self._device = plan.cells.device
        self._columns = [column.new_zeros((group, *column.shape[1:])) for column in plan[:-1]]
        self._clock = torch.zeros_like(plan.clock)
        # Torch's fused optimizers read a learning rate in float32 from a GPU; on a CPU they take it as it is.
        kind = torch.float64 if self._device.type == "cpu" else torch.float32
        self._rates = torch.zeros((group, len(optimizer.param_groups)), dtype=kind, device=self._device)
        self._shares = torch.zeros(group, dtype=torch.float32, device=self._device)
        self._cursor = torch.zeros(1, dtype=torch.int64, device=self._device)
        self.sums = {
            "confusion": torch.zeros((num_classes, num_classes), dtype=torch.int64, device=self._device),
            "loss_sum": torch.zeros((), dtype=torch.float64, device=self._device),
            "weight_sum": torch.zeros((), dtype=torch.float64, device=self._device),
        }
        self._graph: torch.cuda.CUDAGraph | None = None
        self._stream = torch.cuda.Stream(self._device) if self._device.type == "cuda" else None
        self._num_done, self._cannot_capture = 0, False

    @property
    def is_captured(self) -> bool:
        return self._graph is not None

    def run(self, plan: PlannedSteps, rates: Sequence[Sequence[float]]) -> None:
        """Make the first ``len(rates)`` steps of a group; the host does not wait for them.

        Args:
            plan: the steps.
            rates: learning rate of each group of parameters, for each step.
        """
        num = len(rates)
        for column, new in zip(self._columns, plan, strict=False):
            column[:num].copy_(new[:num])
        self._clock.copy_(plan.clock)
        self._rates[:num].copy_(_sent(torch.tensor(rates, dtype=self._rates.dtype), self._device))
        if self._average is not None:
            average = self._average[0]
            shares = torch.tensor(average.shares_of_next(num), dtype=torch.float32)
            self._shares[:num].copy_(_sent(shares, self._device))
            average.count(num)
        self._cursor.zero_()
        for _ in range(num):
            self._make_one()

    def take_sums(self) -> dict[str, torch.Tensor]:
        """Return the sums since the last call, and set them to 0."""
        taken = {name: value.clone() for name, value in self.sums.items()}
        for value in self.sums.values():
            value.zero_()
        return taken

    def _make_one(self) -> None:
        if self._stream is None or self._cannot_capture:
            self._step()
        elif self._num_done < WARM_UP_STEPS:
            with beside(self._stream, self._device):
                self._step()
        else:
            if self._graph is None:
                self._graph = self._capture(self._stream)
            if self._graph is None:
                self._step()
            else:
                self._graph.replay()
        self._num_done += 1

    def _capture(self, stream: torch.cuda.Stream) -> torch.cuda.CUDAGraph | None:
        """Return a graph of one step; None, with a message, if a part of the step cannot be captured."""
        self._optimizer.zero_grad()  # gradients of the graph lie in its own memory
        graph = torch.cuda.CUDAGraph()
        try:
            # Other threads prepare the next cells meanwhile, so that only this thread must not wait.
            with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
                self._step()
        except RuntimeError as error:
            self._cannot_capture = True
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            logger.info("training steps are made one by one, because no CUDA graph of a step can be made: %s", reason)
            return None
        return graph

    def _step(self) -> None:
        index, positions, labels, cell_ids, weight, total, rates = (
            column.index_select(0, self._cursor)[0] for column in (*self._columns, self._rates)
        )
        images = self.images(index, positions, self._clock)
        with without_cache(self._device.type):
            loss = self._loss(Batch(images, labels, cell_ids, weight), total, self._add_scores)
            self._optimizer.zero_grad()
            loss.backward()
        with _learning_rates(self._optimizer, rates):
            self._optimizer.step()
        if self._average is not None:
            average, network = self._average
            average.mix(network, self._shares.index_select(0, self._cursor)[0])
        self._cursor += 1

    def _add_scores(self, *scored: torch.Tensor) -> None:
        for name, value in batch_sums(*scored).items():
            self.sums[name] += value


def _sent(values: torch.Tensor, device: torch.device) -> torch.Tensor:
    return values if device.type != "cuda" else values.pin_memory().to(device, non_blocking=True)


@contextmanager
def beside(stream: torch.cuda.Stream, device: torch.device) -> Any:
    """Run work on a stream, after that of the current stream and before its later work."""
    current = torch.cuda.current_stream(device)
    stream.wait_stream(current)
    with torch.cuda.stream(stream):
        yield
    current.wait_stream(stream)


def without_cache(device_type: str) -> Any:
    """Keep the autocast of the trainer, without its cache: a replay must convert the present weights."""
    if not torch.is_autocast_enabled(device_type):
        return nullcontext()
    return torch.autocast(device_type, torch.get_autocast_dtype(device_type), cache_enabled=False)


@contextmanager
def _learning_rates(optimizer: torch.optim.Optimizer, rates: torch.Tensor) -> Any:
    """Give an optimizer the learning rates (G,) as device tensors, and restore the numbers at the end."""
    groups = optimizer.param_groups
    before = [(group["lr"], group["capturable"]) for group in groups]
    try:
        for group, rate in zip(groups, rates.unbind(), strict=True):
            group["lr"], group["capturable"] = rate, rates.is_cuda
        yield
    finally:
        for group, (rate, capturable) in zip(groups, before, strict=True):
            group["lr"], group["capturable"] = rate, capturable
