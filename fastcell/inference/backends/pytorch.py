"""A trained network run by torch, on the CPU or a GPU."""

from __future__ import annotations

import os

import numpy as np
import torch

from fastcell.errors import FastcellError
from fastcell.inference.backends.graphed_cells import GraphAnswers, GraphedCells, fits
from fastcell.inference.grey_cells import GreyCells
from fastcell.loading.preprocessing import Preprocessing
from fastcell.models.lightning_module import CellModule

_MOST_AT_ONCE = 256  # images of a batch; activations of larger batches do not fit into the processor's caches


class TorchNetwork:
    """Backend that runs the network of a `CellModule`.

    Args:
        module: module in evaluation mode; it is moved to `device`.
        device: device of the network.
        precision: ``fp32``, or ``bf16`` for torch's automatic mixed precision.
    """

    name = "torch"

    def __init__(self, module: CellModule, device: torch.device, precision: str = "fp32") -> None:
        self.module, self.device, self.precision = module.to(device).eval(), device, precision
        self._features_and_logits = module.shared_features_and_logits()
        self._process = os.getpid()
        preprocessing = Preprocessing.from_dict(dict(module.preprocessing))
        self._graphs: GraphedCells | None = None
        if device.type == "cuda" and fits(preprocessing):
            self._graphs = GraphedCells(self._forward, preprocessing, device)

    def run_cells(self, cells: GreyCells, um_per_px: np.ndarray | None, tta: bool = False) -> GraphAnswers | None:
        """Return images, features and logits of N cells by one CUDA graph; None where there is none.

        Args:
            cells: N cells, at least 1.
            um_per_px: (N,) micrometres per pixel, NaN if unknown; None if it is unknown for all cells.
            tta: run the network on the four flips of the images.

        Raises:
            FastcellError: the process was forked, and the network is on a GPU.
        """
        if self._graphs is None:
            return None
        if os.getpid() != self._process:
            self._adapt_to_fork()
        return self._graphs.run(cells, um_per_px, tta)

    def run(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return logits (B, K) and features (B, F) float32 of images (B, 1, S, S) float32.

        A forked process runs the network in one thread, because it lacks the OpenMP threads of its parent.

        Raises:
            FastcellError: the process was forked, and the network is on a GPU.
        """
        if os.getpid() != self._process:
            self._adapt_to_fork()
        parts = [self._run(images[begin : begin + _MOST_AT_ONCE]) for begin in range(0, len(images), _MOST_AT_ONCE)]
        logits, features = zip(*parts or [self._run(images)], strict=True)
        return np.concatenate(logits), np.concatenate(features)

    def _run(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        with torch.inference_mode():
            features, logits = self._forward(torch.from_numpy(images).to(self.device))
            return logits.cpu().numpy(), features.cpu().numpy()

    def _forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        # Without a cache of weights in bfloat16, which a CUDA graph would not make anew.
        is_half = self.precision == "bf16"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=is_half, cache_enabled=False):
            return self._features_and_logits(images)

    def _adapt_to_fork(self) -> None:
        if self.device.type == "cuda":
            raise FastcellError("a network on a GPU cannot run in a forked process. Start processes with spawn.")
        torch.set_num_threads(1)
        self._process = os.getpid()
