"""Settings of a loader (threads, device, prefetch, decoder, dtype) and the checks of user-supplied values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch

from fastcell.dataset.corrupt_cells import ON_BAD_CELL
from fastcell.errors import invalid
from fastcell.loading.decode_choice import DECODERS
from fastcell.loading.stores.placement import STORES
from fastcell.loading.transforms import TRANSFORMS
from fastcell.system.resources import num_cpus

if TYPE_CHECKING:
    import pytorch_lightning as pl

DtypeName = Literal["auto", "float32", "bfloat16", "float16"]
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}

_OF_PRECISION = {"bf16": torch.bfloat16, "16": torch.float16}
_CPU = torch.device("cpu")


@dataclass(frozen=True)
class LoaderSettings:
    """Settings of a loader. Apart from rounding, only `seed` and `initial_fill` affect the batches.

    Attributes:
        seed: seed of order and augmentation.
        transform: ``auto``, ``fused`` or ``dali`` (`fastcell.loading.transforms`).
        decoder: ``auto``, ``dali`` or ``threads`` (`fastcell.loading.decode_choice`).
        dtype: dtype of the images.
        device: device of the batches.
        threads: threads of decoder and transform, >= 1.
        initial_fill: mixing span in cells; 0 for `fastcell.loading.order.DEFAULT_SPAN`.
        num_ahead: number of batches to prefetch.
    """

    seed: int = 0
    transform: str = "auto"
    decoder: str = "auto"
    dtype: torch.dtype = torch.float32
    device: torch.device = _CPU
    threads: int = 1
    initial_fill: int = 0
    num_ahead: int = 2

    @property
    def device_id(self) -> int | None:
        """Index of the GPU, or None for the CPU."""
        return self.device.index or 0 if self.device.type == "cuda" else None


EVALUATION_BATCH = 256
"""Cells of an evaluation batch on a CPU, and of networks of any size."""
_LARGEST_EVALUATION_BATCH = 4096
_BYTES_PER_PIXEL = 96  # of an image: itself and the float32 maps of a first stage of 32 maps of half its side
MOST_BATCH = 1 << 20
MOST_THREADS = 1024


def check_settings(values: Mapping[str, Any]) -> None:
    """Check the loading arguments of `fastcell.loading.datamodule.CellDataModule`.

    Args:
        values: arguments by name; other names are ignored.

    Raises:
        ArgumentError: a value breaks its rule.
    """
    for name in ("batch_size", "eval_batch_size"):
        value = values[name]
        if value is None and name == "eval_batch_size":
            continue
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise invalid(name, "a positive whole number", value, "256 suits most machines")
        if value > MOST_BATCH:
            raise invalid(name, f"at most {MOST_BATCH:,}", value, "256 suits most machines")
    if values["dtype"] not in ("auto", *DTYPES):
        raise invalid("dtype", f"auto or one of {', '.join(DTYPES)}", values["dtype"], "Leave it at auto")
    for name, choices in (("transform", TRANSFORMS), ("decoder", DECODERS), ("store", STORES)):
        if values[name] not in choices:
            raise invalid(name, f"one of {', '.join(choices)}", values[name], "Leave it at auto")
    if values["bank_gib"] is not None and not values["bank_gib"] >= 0:
        raise invalid("bank_gib", "0 or more", values["bank_gib"], "Leave it out for half of what is free")
    if values["on_bad_cell"] not in ON_BAD_CELL:
        raise invalid("on_bad_cell", f"one of {', '.join(ON_BAD_CELL)}", values["on_bad_cell"], "Leave it at replace")
    for name in ("threads", "initial_fill"):
        if values[name] < 0:
            raise invalid(name, "0 or more", values[name], "0 chooses for you")
    seed = values["seed"]
    if seed is not None and not 0 <= seed < 2**63:
        raise invalid("seed", "a whole number from 0 to 2^63 - 1", seed, "Leave it out for that of seed_everything")
    if values["threads"] > MOST_THREADS:
        raise invalid("threads", f"at most {MOST_THREADS:,}", values["threads"], "0 chooses for you")


def evaluation_batch(device: torch.device, image_size: int) -> int:
    """Return the cells of an evaluation batch for a small network: 256 on a CPU, 256 to 4096 on a GPU.

    A GPU needs thousands of tiny images at a time to be busy. Their activations take at most an eighth of its memory.

    Args:
        device: device of the network.
        image_size: height and width of the images [px].
    """
    if device.type != "cuda":
        return EVALUATION_BATCH
    memory = torch.cuda.get_device_properties(device).total_memory
    fitting = memory // 8 // (_BYTES_PER_PIXEL * image_size**2)
    return max(EVALUATION_BATCH, min(_LARGEST_EVALUATION_BATCH, 1 << max(fitting.bit_length() - 1, 0)))


def num_local_processes(trainer: pl.Trainer | None) -> int:
    """Return the number of processes of a trainer on this machine; 1 without a trainer."""
    return 1 if trainer is None else max(trainer.num_devices, 1)


def settings_on(trainer: pl.Trainer | None, seed: int, given: Mapping[str, Any]) -> LoaderSettings:
    """Return the settings of a loader on the device of a trainer; on the CPU without a trainer.

    Args:
        trainer: decides device, dtype and the share of the CPUs.
        seed: seed of order and augmentation.
        given: arguments dtype, threads, transform, decoder and initial_fill by name.
    """
    device = _CPU if trainer is None else trainer.strategy.root_device
    if device.type != "cuda":
        device = _CPU
    precision = "32-true" if trainer is None else str(trainer.precision)
    return LoaderSettings(
        dtype=image_dtype(given["dtype"], precision, device),
        device=device,
        threads=given["threads"] or max(num_cpus() // num_local_processes(trainer), 1),
        seed=seed,
        **{name: given[name] for name in ("transform", "decoder", "initial_fill")},
    )


def image_dtype(dtype: str, precision: str, device: torch.device) -> torch.dtype:
    """Return the dtype of the images.

    Args:
        dtype: a key of `DTYPES`, or ``auto`` for the dtype to which the model's first layer would convert the images;
            mixed precision on a CPU uses float32.
        precision: precision of the trainer, e.g. ``32-true`` or ``bf16-mixed``.
        device: device of the batches.
    """
    if dtype in DTYPES:
        return DTYPES[dtype]
    kind, _, how = precision.partition("-")
    return _OF_PRECISION.get(kind, torch.float32) if device.type == "cuda" or how == "true" else torch.float32
