"""Prepare backends of a run: write the network files, compare with torch on validation cells, time, and choose.

Preparation needs torch and the data set of the run, and takes some seconds. It is done once for each checkpoint.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from fastcell.errors import DataError, FastcellError
from fastcell.inference.backends.agreement import Agreement, compare
from fastcell.inference.backends.choice import (
    Choice,
    Compared,
    is_prepared,
    open_prepared,
    read_choice,
    write_choice,
)
from fastcell.inference.backends.interface import NetworkBackend
from fastcell.inference.backends.network_files import NETWORK_FILE, NetworkFiles
from fastcell.inference.backends.programs import OFFERED, can_run, check_installed
from fastcell.inference.backends.quantization import NUM_CALIBRATION_CELLS, quantise
from fastcell.inference.backends.write_network import write_network
from fastcell.loading.chunk_work import work_on_chunks
from fastcell.loading.preprocessing import Preprocessing
from fastcell.runs.checkpoint import load_classifier
from fastcell.runs.open_run import FinishedRun, open_run
from fastcell.runs.shared_model import is_shared_model
from fastcell.system.cpu_features import HAS_BF16, cpu_features

MOST_COMPARED_CELLS = 3_000
_CHUNK = 256
_ROUNDS = 5

Say = Callable[[str], None]


class Preparation:
    """Preparation of the backends of one checkpoint.

    Args:
        checkpoint: checkpoint of a run.
        data_path: data set of the run; None for the path stored in the run.
        say: function that receives a line for the user before each slow step.
        trust: packages whose code the network may import.
    """

    def __init__(
        self,
        checkpoint: Path,
        data_path: str | None = None,
        say: Say = lambda line: None,
        trust: Sequence[str] = (),
    ) -> None:
        self.files, self._data_path, self._say, self._trust = NetworkFiles(checkpoint), data_path, say, trust
        self._run: FinishedRun | None = None
        self._images: dict[str, tuple[np.ndarray, np.ndarray]] = {}

    @property
    def run(self) -> FinishedRun:
        """The run with its data set.

        Raises:
            FastcellError: the checkpoint is in no run folder, or the data set of the run is missing.
        """
        if self._run is None:
            if is_shared_model(self.files.checkpoint):
                raise FastcellError(
                    f"{self.files.checkpoint.parent} is a shared model, which names no data set to choose or quantise "
                    "a backend with. Name one in 32 bits, such as --backend openvino --precision fp32."
                )
            self._run = open_run(self.files.checkpoint, self._data_path, self._trust)
        return self._run

    def prepare(self, program: str, precision: str) -> None:
        """Write the files of a backend other than torch if they are missing.

        Raises:
            DataError: the network cannot be written as ONNX, or there are no training cells for int8.
            FastcellError: a package is missing, or the folder of the run cannot be written.
        """
        if is_prepared(self.files, program, precision):
            return
        check_installed(program, precision, False)
        if not self.files.is_writable():
            raise FastcellError(
                f"{self.files.folder} must be writable: it holds the network for --backend {program}. "
                "Copy the run to another place, or take --backend torch."
            )
        if not self.files.has(NETWORK_FILE):
            self._say("writing the network as ONNX, once for these weights")
            write_network(self.files, self._trust)
        if precision == "int8":
            images, _ = self.images_of("train", NUM_CALIBRATION_CELLS)
            if not len(images):
                raise DataError(
                    f"{self.run.manifest.place} has no training cell of the run, which int8 needs for the range of "
                    "each activation. Take --precision fp32."
                )
            self._say(f"quantising it for {program}, with the activations of {len(images):,} training cells")
            quantise(self.files, program, images)

    def images_of(self, part: str, most: int) -> tuple[np.ndarray, np.ndarray]:
        """Return images (n, 1, S, S) of labelled cells of a subset, at most `most` of them, and their cell_ids (n,)."""
        if part not in self._images:
            rows = self.run.rows(part)
            if len(rows) > most:
                rows = rows[np.linspace(0, len(rows) - 1, most).round().astype(np.int64)]
            preprocessing = Preprocessing.from_dict(dict(self.run.model.preprocessing))
            found = list(
                work_on_chunks(self.run.manifest, rows, _CHUNK, preprocessing, lambda cells, images: images)
                if len(rows)
                else ()
            )
            size = preprocessing.image_size
            images = np.concatenate([one.value for one in found]) if found else np.empty((0, 1, size, size), np.float32)
            self._images[part] = images, rows
        return self._images[part]

    def torch_backend(self, precision: str = "fp32") -> NetworkBackend:
        """Return the backend torch on the CPU."""
        import torch

        from fastcell.inference.backends.pytorch import TorchNetwork

        return TorchNetwork(load_classifier(self.files.checkpoint, self._trust), torch.device("cpu"), precision)

    def open(self, program: str, precision: str, threads: int = 1) -> NetworkBackend:
        """Return a backend, after preparing it if needed."""
        if program == "torch":
            return self.torch_backend(precision)
        self.prepare(program, precision)
        return open_prepared(self.files, program, precision, threads)[0]

    def measure(self, backends: Sequence[tuple[str, str]]) -> list[Compared]:
        """Measure backends in alternation, in one thread, on validation cells, or without these on training cells.

        Processor time is measured, because other programs on the machine disturb it least.
        """
        import torch

        images, _ = self.images_of("valid", MOST_COMPARED_CELLS)
        if not len(images):
            images, _ = self.images_of("train", NUM_CALIBRATION_CELLS)
        images = images[: min(_CHUNK, len(images))]
        opened = {key: self.open(*key) for key in backends}
        before = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            seconds: dict[tuple[str, str], list[float]] = {key: [] for key in opened}
            for turn in range(_ROUNDS + 1):
                for key, backend in opened.items():
                    begun = time.process_time()
                    backend.run(images)
                    if turn:  # the first call compiles
                        seconds[key].append(time.process_time() - begun)
        finally:
            torch.set_num_threads(before)
        return [Compared(*key, 1e6 * min(times) / len(images)) for key, times in seconds.items()]

    def agreement(self, program: str, precision: str) -> Agreement | None:
        """Compare a backend with torch in 32 bits on the validation cells; None if the run has no such cells."""
        images, rows = self.images_of("valid", MOST_COMPARED_CELLS)
        if not len(images):
            return None
        if "expected" not in self.__dict__:
            self.expected = self.torch_backend().run(images)[0]
        found = self.open(program, precision).run(images)[0]
        groups = self.run.manifest.groups
        return compare(self.run.labels[rows], self.expected, found, None if groups is None else groups[rows])


def choose(preparation: Preparation, program: str = "auto", precision: str = "auto") -> Choice:
    """Measure the backends that are installed, and choose the fastest one that agrees with torch. Record the results.

    Later commands use a recorded choice only if it was made among all programs and precisions.

    Args:
        preparation: preparation of the checkpoint.
        program: one of `PROGRAMS`, or ``auto`` for all of them.
        precision: one precision, or ``auto`` for all that the program offers.

    Returns:
        The record, sorted by speed. If no backend agrees with torch, the choice is torch fp32, or fp32 of `program`.

    Raises:
        FastcellError: the run or its data set is missing.
    """
    last = ("torch" if program == "auto" else program, "fp32")
    wanted = [
        (name, each)
        for name, offered in OFFERED.items()
        for each in offered
        if program in ("auto", name) and precision in ("auto", each) and _is_useful(name, each)
    ]
    if last not in wanted:
        wanted.append(last)
    chosen: tuple[str, str] | None = None
    compared = []
    for one in sorted(preparation.measure(wanted), key=lambda one: one.us_per_cell):
        agreement = None
        if chosen is None and (one.program, one.precision) != ("torch", "fp32"):
            agreement = preparation.agreement(one.program, one.precision)
        if chosen is None and ((one.program, one.precision) == last or (agreement is not None and agreement.agrees)):
            chosen = one.program, one.precision
        compared.append(Compared(one.program, one.precision, one.us_per_cell, agreement))
    choice = Choice(chosen or last, compared)
    known = read_choice(preparation.files) or Choice(None, [])
    for one in reversed(compared):
        known = known.with_compared(one)
    whole = program == "auto" and precision == "auto"
    write_choice(preparation.files, Choice(choice.chosen, compared) if whole else known)
    return choice


def _is_useful(program: str, precision: str) -> bool:
    if precision == "bf16" and not any(name in cpu_features() for name in HAS_BF16):
        return False
    return program == "torch" or can_run(program, precision, False)
