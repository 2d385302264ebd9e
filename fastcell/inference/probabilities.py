"""Class probabilities of cells: one function for every program that can run a network.

A backend runs the network (`fastcell.inference.backend_torch`). The network's model applies the flips of `tta` and
converts logits to probabilities. This module does not need torch.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pyarrow as pa

from fastcell.dataset.parquet import read_parquet
from fastcell.errors import DIVERGED_HINT, DataError, DivergedError
from fastcell.runs.run_folder import PREDICTIONS_FILE

logger = logging.getLogger(__name__)

if TYPE_CHECKING:
    from fastcell.runs.open_run import FinishedRun


class ProbabilityBackend(Protocol):
    """A network on a program and a device."""

    def probabilities(self, images: Any) -> Any:
        """Return class probabilities (B, K) float32 of images (B, 1, S, S), on the device that computed them."""

    def to_host(self, values: Any) -> np.ndarray:
        """Return the result of `probabilities` in host memory."""


def class_probabilities(backend: ProbabilityBackend, batches: Iterable[Any]) -> np.ndarray:
    """Return class probabilities (N, K) float32 of all cells of some batches, in their order.

    Args:
        backend: backend that runs the network.
        batches: at least one batch; preprocessed images (B, 1, S, S) of a type that the backend accepts.
    """
    return np.concatenate([backend.to_host(backend.probabilities(images)) for images in batches])


@dataclass(frozen=True)
class Outputs:
    """Class probabilities of labelled cells.

    Attributes:
        cell_ids: (N,) int64, increasing.
        labels: (N,) int64, true classes as indices into the network's classes.
        probabilities: (N, K) float32.
        groups: (N,) str, or None if no cell has a group.
    """

    cell_ids: np.ndarray
    labels: np.ndarray
    probabilities: np.ndarray
    groups: np.ndarray | None

    def __len__(self) -> int:
        return len(self.cell_ids)


def part_outputs(run: FinishedRun, part: str) -> Outputs | None:
    """Return the probabilities of the labelled cells of a subset of a run's split; None if it has none.

    They are computed once and cached in the run object. Cells with a probability that is NaN or infinite are left out.

    Args:
        run: run whose network and data set are used.
        part: ``train``, ``valid`` or ``test``.

    Raises:
        DivergedError: no cell has finite probabilities.
    """
    if part not in run.outputs:
        run.outputs[part] = _classify_part(run, part)
    return run.outputs[part]


def _classify_part(run: FinishedRun, part: str) -> Outputs | None:
    from fastcell.inference.backend_torch import TorchBackend

    rows = run.rows(part)
    if not len(rows):
        return None
    counted: list[np.ndarray] = []
    cell_ids: list[np.ndarray] = []

    def images() -> Iterator[Any]:
        for batch in run.batches(rows):
            counts = batch.weight > 0
            counted.append(counts.cpu().numpy())
            cell_ids.append(batch.cell_ids[counts].cpu().numpy())
            yield batch.images

    probabilities = class_probabilities(TorchBackend.of_module(run.model), images())[np.concatenate(counted)]
    finite = np.isfinite(probabilities).all(axis=1)
    if len(finite) and not finite.any():
        raise DivergedError(f"the network of {run.folder} gives no finite probability. {DIVERGED_HINT}.")
    if not finite.all():
        num = int((~finite).sum())
        logger.warning("%d cells are left out, because the network gives them no finite probability", num)
    probabilities = probabilities[finite]
    ids, groups = np.concatenate(cell_ids)[finite], run.manifest.groups
    return Outputs(ids, run.labels[ids], probabilities, None if groups is None else groups[ids])


def num_called_otherwise(run: FinishedRun, outputs: Outputs) -> int:
    """Return the number of cells whose class in predictions.parquet of the run differs.

    The number is above 0 if the data or the version have changed. Cells that only one of the two has are ignored; if
    the file is missing or damaged, the number is 0.
    """
    schema = pa.schema([("key", pa.string()), ("class", pa.string())])
    try:
        table = read_parquet(run.folder / PREDICTIONS_FILE, schema)
    except DataError:
        return 0
    before = dict(zip(table.column("key").to_pylist(), table.column("class").to_pylist(), strict=True))
    keys = run.manifest.select_cells(["key"], outputs.cell_ids).column("key").to_pylist()
    now = np.array(run.model.classes)[outputs.probabilities.argmax(axis=1)]
    return sum(before.get(key, name) not in (name, None) for key, name in zip(keys, now.tolist(), strict=True))
