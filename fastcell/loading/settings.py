"""Settings of a loader: threads, device, prefetch, decoder."""

from __future__ import annotations

from dataclasses import dataclass

import torch

_CPU = torch.device("cpu")


@dataclass(frozen=True)
class LoaderSettings:
    """How a loader works; what it gives does not depend on it, but for `seed`, `initial_fill` and rounding.

    Attributes:
        seed: of order and augmentation.
        transform: ``auto``, ``fused`` or ``dali`` (`fastcell.loading.transforms`).
        decoder: ``auto``, ``dali`` or ``threads`` (`fastcell.loading.stores.stream`).
        dtype: of the images.
        device: that the batches are on.
        threads: of decoder and transform, >= 1.
        initial_fill: cells in the shuffle buffer; 0 for the default of `fastcell.loading.stores.stream`.
        depth: batches made ahead.
    """

    seed: int = 0
    transform: str = "auto"
    decoder: str = "auto"
    dtype: torch.dtype = torch.float32
    device: torch.device = _CPU
    threads: int = 1
    initial_fill: int = 0
    depth: int = 2

    @property
    def reader_decoder(self) -> str:
        """`decoder`, where DALI goes with its own operators if nothing else is asked for."""
        return "dali" if self.decoder == "auto" and self.transform == "dali" else self.decoder

    @property
    def device_id(self) -> int | None:
        """Number of the GPU, or None for the CPU."""
        return self.device.index or 0 if self.device.type == "cuda" else None
