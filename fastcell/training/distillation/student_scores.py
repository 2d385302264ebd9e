"""Scores of a student network beside those of its teacher, on the same cells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from fastcell.dataset.corrupt_cells import CorruptCells
from fastcell.dataset.manifest import Manifest
from fastcell.errors import ArgumentError
from fastcell.inference.backends.interface import NetworkBackend
from fastcell.inference.backends.prepare import Preparation
from fastcell.inference.backends.pytorch import TorchNetwork
from fastcell.inference.confidence import Confidence, calibrated
from fastcell.inference.network_answers import features_and_answers
from fastcell.loading.chunk_work import work_on_chunks
from fastcell.loading.preprocessing import Preprocessing
from fastcell.runs.checkpoint import load_classifier, read_checkpoint
from fastcell.runs.open_run import open_run
from fastcell.stats.calibration import error_interval
from fastcell.stats.intervals import Interval
from fastcell.stats.paired_difference import compare_paired
from fastcell.stats.recall_difference import recall_difference
from fastcell.stats.scores import summarize
from fastcell.system import resources

_CHUNK = 256
_SCORES = ("accuracy", "balanced_accuracy")


class NetworkScores(NamedTuple):
    """Scores of one network on the cells of a comparison.

    Attributes:
        name: ``teacher`` or ``student``.
        network: name of the network and its image size.
        backend: program and precision.
        us_per_cell: processor time per cell in one thread, without preprocessing [us]; None if it was not measured.
        accuracy, balanced_accuracy: with intervals, as in metrics.json of a run.
        calibration_error: expected calibration error of the calibrated probabilities.
        difference: accuracy minus that of the teacher on the same cells; None for the teacher.
        balanced_difference: balanced accuracy minus that of the teacher.
        verdict: conclusion from the interval of the difference, in words.
    """

    name: str
    network: str
    backend: str
    us_per_cell: float | None
    accuracy: dict[str, Any]
    balanced_accuracy: dict[str, Any]
    calibration_error: Interval
    difference: Interval | None = None
    balanced_difference: Interval | None = None
    verdict: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return plain types."""
        return {
            name: value.as_json() if isinstance(value, Interval) else value for name, value in self._asdict().items()
        }


@dataclass(frozen=True)
class StudentScores:
    """Teacher and student on the same labelled cells.

    Attributes:
        part: subset of the cells, ``test`` or ``valid``.
        num_cells: number of cells.
        networks: the teacher, then the student in each backend.
    """

    part: str
    num_cells: int
    networks: list[NetworkScores]

    def to_json(self) -> dict[str, Any]:
        """Return plain types, for distillation.json."""
        return {
            "subset": self.part,
            "num_cells": self.num_cells,
            "networks": [network.to_json() for network in self.networks],
        }

    def describe(self) -> str:
        """Return a table for the user."""
        table = [["", "backend", "us a cell", "accuracy", "balanced accuracy", "calibration error"]]
        for one in self.networks:
            time = "" if one.us_per_cell is None else f"{one.us_per_cell:,.1f}"
            scores = [_text(getattr(one, name)) for name in _SCORES]
            table.append([f"{one.name} {one.network}", one.backend, time, *scores, one.calibration_error.describe()])
        widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
        lines = [
            "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in table
        ]
        for one in self.networks:
            if one.difference is not None and one.balanced_difference is not None:
                lines.append(
                    f"{one.backend} minus teacher: accuracy {_points(one.difference)}, balanced "
                    f"{_points(one.balanced_difference)}; {one.verdict}"
                )
        return "\n".join(lines)


def score_student(
    student: Path, teacher: Path, backends: Sequence[tuple[str, str]], trust: Sequence[str] = ()
) -> StudentScores:
    """Classify the test cells of a run (or its validation cells if it has none) with the student and its teacher.

    Args:
        student: run folder.
        teacher: checkpoint of the teacher.
        backends: (program, precision) of the student, scored after ``torch fp32``.
        trust: packages whose code student and teacher may import.

    Raises:
        ArgumentError: the run has neither labelled test nor validation cells.
        FastcellError: a backend cannot be prepared.
    """
    run = open_run(student, trust=trust)
    part = next((name for name in ("test", "valid") if len(run.rows(name))), None)
    if part is None:
        raise ArgumentError(
            f"{run.manifest.place} must have labelled test or validation cells to score the student on."
        )
    rows = run.rows(part)
    labels = run.labels[rows]
    groups = None if run.manifest.groups is None else run.manifest.groups[rows]
    taught = _Network(teacher, trust)
    preparation = Preparation(run.folder / run.checkpoint, trust=trust)
    expected = taught.answers(run.manifest, rows, taught.torch_backend())
    expected = expected[:, [taught.classes.index(name) for name in run.model.classes]]
    found = [_scores("teacher", taught.title, "torch fp32", None, labels, expected, groups, run.model.classes)]
    own = _Network(run.folder / run.checkpoint, trust)
    speed = {(one.program, one.precision): one.us_per_cell for one in preparation.measure(backends)}
    for program, precision in backends:
        answers = own.answers(run.manifest, rows, preparation.open(program, precision, resources.num_cpus()))
        time = speed[program, precision]
        scores = _scores("student", own.title, f"{program} {precision}", time, labels, answers, groups, own.classes)
        found.append(_beside(scores, labels, answers, expected, groups))
    return StudentScores(part, len(rows), found)


class _Network:
    """Network of a checkpoint with preprocessing and temperature."""

    def __init__(self, checkpoint: Path, trust: Sequence[str] = ()) -> None:
        self._model = load_classifier(checkpoint, trust)
        self.classes = self._model.classes
        self._preprocessing = Preprocessing.from_dict(dict(self._model.preprocessing))
        self._loss = "cross_entropy" if self._model.own_loss is not None else str(self._model.hparams["loss"])
        confidence = Confidence.from_checkpoint(read_checkpoint(checkpoint))
        self._temperature = 1.0 if confidence is None else confidence.temperature
        self.title = f"{self._model.network_name}, {self._preprocessing.image_size} px"

    def torch_backend(self) -> NetworkBackend:
        """Return the backend torch, on a GPU if there is one."""
        return TorchNetwork(self._model, torch.device("cuda" if resources.has_gpu() else "cpu"))

    def answers(self, manifest: Manifest, rows: np.ndarray, backend: NetworkBackend) -> np.ndarray:
        """Return calibrated probabilities (N, K) float32 of cells."""
        found = work_on_chunks(
            manifest,
            rows,
            _CHUNK,
            self._preprocessing,
            lambda cells, images: features_and_answers(backend, images, self._loss)[1],
            corrupt_cells=CorruptCells(manifest, "replace"),
            threads=1 if backend.name == "torch" else resources.num_cpus(),
        )
        return calibrated(np.concatenate([one.value for one in found]), self._temperature)


def _scores(
    name: str,
    network: str,
    backend: str,
    us_per_cell: float | None,
    labels: np.ndarray,
    answers: np.ndarray,
    groups: np.ndarray | None,
    classes: list[str],
) -> NetworkScores:
    summary: Any = summarize(labels, answers.argmax(axis=1), classes, groups)
    accuracy, balanced = (summary[each] for each in _SCORES)
    error = error_interval(answers, labels, groups)
    return NetworkScores(name, network, backend, us_per_cell, accuracy, balanced, error)


def _beside(
    scores: NetworkScores, labels: np.ndarray, answers: np.ndarray, expected: np.ndarray, groups: np.ndarray | None
) -> NetworkScores:
    """Return the scores of a student, with the paired differences from its teacher."""
    called, reference = answers.argmax(axis=1), expected.argmax(axis=1)
    paired = compare_paired(called == labels, reference == labels, groups)
    return scores._replace(
        difference=paired.difference,
        balanced_difference=recall_difference(labels, called, reference, groups),
        verdict=paired.verdict("the student is better", "the teacher is better"),
    )


def _text(score: dict[str, Any]) -> str:
    low, high = score.get("low"), score.get("high")
    between = "" if low is None or high is None else f" ({low:.3f} to {high:.3f})"
    return f"{score['value']:.3f}{between}"


def _points(difference: Interval) -> str:
    """Return a difference in points, e.g. ``-0.8 points (-2.1 to +0.5)``."""
    if np.isnan(difference.low):
        return f"{100 * difference.value:+.1f} points"
    return f"{100 * difference.value:+.1f} points ({100 * difference.low:+.1f} to {100 * difference.high:+.1f})"
