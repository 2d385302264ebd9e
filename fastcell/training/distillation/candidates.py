"""Choose the student network and image size that a time budget allows on this machine."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from fastcell.errors import ArgumentError, invalid
from fastcell.inference.backends.fixed_batches import batch_size
from fastcell.inference.backends.interface import NetworkBackend
from fastcell.inference.backends.programs import can_run
from fastcell.inference.backends.pytorch import TorchNetwork
from fastcell.inference.backends.quantization import quantise_network
from fastcell.inference.backends.write_network import export_network
from fastcell.loading.preprocessing import Preprocessing
from fastcell.models.lightning_module import CellModule
from fastcell.storage.whole_files import scratch_folder
from fastcell.system.optional_packages import require

CANDIDATES = (
    ("student", 24),
    ("student-small", 32),
    ("student", 32),
    ("student-wide", 32),
    ("student", 48),
    ("student-wide", 48),
)
"""Networks and image sizes [px] from which the student is chosen."""

_ROUNDS, _CELLS = 7, 512
_UNITS = {"ns": 1e-3, "us": 1.0, "µs": 1.0, "ms": 1e3, "s": 1e6, "": 1.0}


class TimedCandidate(NamedTuple):
    """A student network and its time per cell, measured with random weights.

    Attributes:
        network: name in `fastcell.models.registry`.
        image_size: side of the images [px].
        program, precision: backend of the measurement.
        us_per_cell: processor time per cell in one thread, without preprocessing [us].
    """

    network: str
    image_size: int
    program: str
    precision: str
    us_per_cell: float


def read_budget(text: str) -> float:
    """Return the time per cell in microseconds from a text: ``10us``, ``0.01ms``, or ``10`` for microseconds.

    Raises:
        ArgumentError: the text has another form, or the time is not above 0.
    """
    match = re.fullmatch(r"(\d+(?:\.\d*)?|\.\d+)\s*(ns|us|µs|ms|s|)", text.strip())
    value = float(match[1]) * _UNITS[match[2]] if match else 0.0
    if not 0 < value <= 1e9:
        raise invalid("--budget", "a time a cell, such as 10us", text, "Write for example --budget 10us")
    return value


def choose_candidate(timed: Sequence[TimedCandidate], budget_us: float) -> TimedCandidate:
    """Return the slowest candidate within a budget, which is the largest network.

    Args:
        timed: one or more candidates.
        budget_us: time per cell [us].

    Raises:
        ArgumentError: no candidate is within the budget.
    """
    fitting = [one for one in timed if one.us_per_cell <= budget_us]
    if not fitting:
        fastest = min(timed, key=lambda one: one.us_per_cell)
        how = f"{fastest.network} takes here ({fastest.program} {fastest.precision})"
        rule = f"at least {fastest.us_per_cell:.1f} us, which {how}"
        raise invalid("--budget", rule, f"{budget_us:g} us", "Give a larger one")
    return max(fitting, key=lambda one: one.us_per_cell)


def fastest_program() -> tuple[str, str]:
    """Return the installed program and precision with the fastest small convolutions on a CPU."""
    for program, precision in (("openvino", "int8"), ("onnxruntime", "fp32")):
        if can_run(program, precision, False):
            return program, precision
    return "torch", "fp32"


def time_candidates(
    preprocessing: Preprocessing,
    num_classes: int,
    candidates: Sequence[tuple[str, int]] = CANDIDATES,
    program: str | None = None,
) -> list[TimedCandidate]:
    """Measure student networks with random weights in alternation, in one thread.

    Args:
        preprocessing: preprocessing of the teacher; its image size is replaced by those of the candidates.
        num_classes: K.
        candidates: networks and image sizes [px].
        program: backend of the measurement, in 32 bits; None for `fastest_program`.
    """
    program, precision = fastest_program() if program is None else (program, "fp32")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with scratch_folder() as scratch:
            opened = {one: _open(*one, preprocessing, num_classes, program, precision, scratch) for one in candidates}
            seconds = _time_in_turns(opened)
    finally:
        torch.set_num_threads(before)
    return [TimedCandidate(*one, program, precision, 1e6 * found / _CELLS) for one, found in seconds.items()]


def _time_in_turns(opened: Mapping[tuple[str, int], NetworkBackend]) -> dict[tuple[str, int], float]:
    """Return the least processor time [s] of each network for `_CELLS` images."""
    drawn = np.random.default_rng(0)
    images = {one: drawn.random((_CELLS, 1, one[1], one[1]), np.float32) for one in opened}
    found: dict[tuple[str, int], list[float]] = {one: [] for one in opened}
    for turn in range(_ROUNDS + 1):
        for one, backend in opened.items():
            begun = time.process_time()
            backend.run(images[one])
            if turn:  # the first call compiles
                found[one].append(time.process_time() - begun)
    return {one: min(times) for one, times in found.items()}


def _open(
    network: str,
    size: int,
    preprocessing: Preprocessing,
    num_classes: int,
    program: str,
    precision: str,
    scratch: Path,
) -> NetworkBackend:
    """Return a network with random weights in a backend."""
    values = replace(preprocessing, image_size=size).to_dict()
    model = CellModule(network, input_norm=True, classes=[str(i) for i in range(num_classes)], preprocessing=values)
    model.eval()
    if program == "torch":
        return TorchNetwork(model, torch.device("cpu"), precision)
    path = scratch / f"{network}-{size}.onnx"
    features = int(model.features_and_logits(torch.zeros(1, 1, size, size))[0].shape[1])
    require("onnx", "onnx").save_model(export_network(model, size), str(path))
    if precision == "int8":
        images = np.random.default_rng(0).random((batch_size(size), 1, size, size), np.float32)
        out = path.with_suffix(".xml" if program == "openvino" else ".int8.onnx")
        quantise_network(program, path, images, out, search=False)
        path = out
    if program == "openvino":
        from fastcell.inference.backends.openvino_network import OpenVinoNetwork

        return OpenVinoNetwork(path, precision, size, features)
    from fastcell.inference.backends.onnxruntime_network import OnnxRuntimeNetwork

    return OnnxRuntimeNetwork(path, precision, size, features)


def check_candidate(preprocessing: Preprocessing) -> None:
    """Check that the preprocessing of a teacher can be used with another image size.

    Raises:
        ArgumentError: its images keep the pixel size of the raw image, so a smaller image would show only a part of the
            cell.
    """
    if preprocessing.fit == "scale" and preprocessing.scale_um_per_px is None:
        raise ArgumentError(
            "the teacher must have been trained with --data.fit stretch or contain, or with --data.scale_um_per_px, "
            "but it keeps the pixels of the raw image, of which a smaller image shows a part. Train it with another "
            "fit."
        )
