"""``fastcell predict`` in several processes with a backend other than torch: the same bytes as from one process."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fastcell.cli.options import packages_of
from fastcell.cli.quick_predict import describe_backend
from fastcell.errors import invalid
from fastcell.inference.backends.choice import open_prepared, resolve
from fastcell.inference.backends.fixed_batches import batch_size
from fastcell.inference.backends.network_files import NetworkFiles
from fastcell.inference.network_answers import features_and_answers
from fastcell.models.lightning_module import CellModule
from fastcell.system import resources
from fastcell.system.messages import print_line
from fastcell.training.trainer import is_rank_zero


def use_backend(config: Any, model: CellModule) -> None:
    """Run the network of a model with the backend given in the options, and adapt the options of the trainer to it.

    Args:
        config: options of the command. For a backend other than torch, the accelerator is set to ``cpu``; for torch,
            the precision of the trainer is set to that of the backend.
        model: model of the checkpoint.

    Raises:
        ArgumentError: the options of backend and trainer contradict each other.
        FastcellError: the backend cannot be prepared.
    """
    trainer = config.trainer
    if config.engine is not None or config.scheduler is not None:
        hint = "Add --backend openvino or onnxruntime, and leave options of the trainer out"
        raise invalid("--engine", "given with a backend other than torch", config.engine, hint)
    if config.backend is None and config.precision == "auto" and _is_on_gpu(trainer):
        return
    checkpoint = Path(config.ckpt_path)
    say = print_line if is_rank_zero() else lambda line: None
    trust = packages_of(config.trust)
    program, precision = resolve(checkpoint, config.backend, config.precision, config.data.path, say, trust)
    if program == "torch":
        if precision == "bf16" and trainer.precision is None:
            trainer.precision = "bf16-mixed"
        return
    if trainer.accelerator not in ("auto", "cpu"):
        raise invalid("--trainer.accelerator", f"cpu with --backend {program}", trainer.accelerator, "Leave it out")
    trainer.accelerator = "cpu"
    files = NetworkFiles(checkpoint)
    if is_rank_zero():
        print_line(describe_backend(files, program, precision))
    threads = config.data.threads or max(1, resources.num_cpus() // _num_processes(trainer))
    backend, network = open_prepared(files, program, precision, threads)
    step = batch_size(network.preprocessing.image_size)
    pool = ThreadPoolExecutor(threads, "fastcell-network")

    def outputs(images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        pixels = images.float().numpy()
        if len(pixels) == 1:  # a batch of one uses a separately compiled network with different rounding
            pixels = np.concatenate([pixels, np.zeros_like(pixels)])
        parts = [pixels[begin : begin + step] for begin in range(0, len(pixels), step)]
        if len(parts) > 1 and len(parts[-1]) == 1:
            parts[-2:] = [np.concatenate(parts[-2:])]
        found = list(pool.map(lambda part: features_and_answers(backend, part, network.loss, config.tta), parts))
        features, answers = (np.concatenate(column)[: len(images)] for column in zip(*found, strict=True))
        return torch.from_numpy(features), torch.from_numpy(answers)

    model.features_and_probabilities = outputs  # type: ignore[method-assign]
    model.predict_probabilities = lambda images: outputs(images)[1]  # type: ignore[method-assign]


def _is_on_gpu(trainer: Any) -> bool:
    return trainer.accelerator in ("gpu", "cuda") or (trainer.accelerator == "auto" and resources.has_gpu())


def _num_processes(trainer: Any) -> int:
    devices = str(trainer.devices)
    return int(devices) if devices.isdecimal() else 1
