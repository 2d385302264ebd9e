"""Results of the finished tasks of a study: one small file per task, with a hash of everything that it depends on.

Files are written atomically. It holds the predicted class of every cell of the training, validation and test subsets.
Scores, intervals and comparisons are computed from the files, so that nothing is fitted twice.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fastcell import __version__
from fastcell.dataset.parquet import write_parquet

PARTS = ("train", "valid", "test")
FORMAT = 1
_SCHEMA = pa.schema([("cell_id", pa.int64()), ("part", pa.int8()), ("predicted", pa.int16())])
_META = b"fastcell"


@dataclass(frozen=True)
class Task:
    """One task of a study: a method on one split, volume, seed and image size.

    Attributes:
        method: Name of the method in the tables.
        scheme: Name of the scheme, see `fastcell.compare.split_schemes.Scheme`.
        split: Name of a split of the scheme.
        volume: Share of the training cells, in (0, 1].
        seed: Random seed of subsample, network and baseline.
        image_size: Side of the images [px].
    """

    method: str
    scheme: str
    split: str
    volume: float
    seed: int
    image_size: int

    @property
    def name(self) -> str:
        """Stem of the task's file name."""
        return f"{self.method}-{self.image_size}px-{self.scheme}-{self.split}-{self.volume:g}-seed{self.seed}"


@dataclass(frozen=True)
class TaskResult:
    """Result of a task.

    Attributes:
        task: The task.
        rows: (R,) int64, cell_ids of all subsets.
        part: (R,) int8, subset of each cell as an index of `PARTS`.
        predicted: (R,) int16, predicted classes.
        fit_s: Time to fit, including choice of parameters or validation [s].
        predict_us: Time to classify one preprocessed test cell [us].
        details: Backend, parameters, steps.
    """

    task: Task
    rows: np.ndarray
    part: np.ndarray
    predicted: np.ndarray
    fit_s: float
    predict_us: float
    details: dict[str, Any] = field(default_factory=dict)

    def of(self, part: str) -> tuple[np.ndarray, np.ndarray]:
        """Return cell_ids and predicted classes of a subset."""
        mine = self.part == PARTS.index(part)
        return self.rows[mine], self.predicted[mine]


def make_result(
    task: Task,
    parts: Mapping[str, np.ndarray],
    predicted: Mapping[str, np.ndarray],
    fit_s: float,
    predict_s: float,
    details: dict[str, Any],
) -> TaskResult:
    """Combine rows and predicted classes of the subsets into a result.

    Args:
        task: The task.
        parts: cell_ids by subset.
        predicted: Predicted classes by subset, in the order of `parts`.
        fit_s: Time to fit [s].
        predict_s: Time to classify the test subset [s].
        details: Backend, parameters, steps.
    """
    return TaskResult(
        task,
        np.concatenate([parts[part] for part in PARTS]).astype(np.int64),
        np.repeat(np.arange(len(PARTS), dtype=np.int8), [len(parts[part]) for part in PARTS]),
        np.concatenate([predicted[part] for part in PARTS]).astype(np.int16),
        fit_s,
        1e6 * predict_s / max(len(parts["test"]), 1),
        details,
    )


def make_key(task: Task, parts: Mapping[str, np.ndarray], settings: Mapping[str, Any]) -> str:
    """Return a hash of a task and of everything that its result depends on.

    Args:
        task: The task.
        parts: Rows of the manifest by subset.
        settings: All other settings that the result depends on; must be serializable as JSON.
    """
    digest = blake2b(digest_size=16)
    digest.update(json.dumps([FORMAT, __version__, asdict(task), settings], sort_keys=True).encode())
    for part in PARTS:
        digest.update(part.encode() + np.asarray(parts[part], np.int64).tobytes())
    return digest.hexdigest()


def save_result(folder: Path, key: str, result: TaskResult) -> None:
    """Write the file of a task atomically."""
    meta = {
        "key": key,
        "task": asdict(result.task),
        "fit_s": result.fit_s,
        "predict_us": result.predict_us,
        "details": result.details,
    }
    meta["digest"] = _digest(meta, result.rows, result.part, result.predicted)
    columns = {"cell_id": result.rows, "part": result.part, "predicted": result.predicted}
    table = pa.table(columns, schema=_SCHEMA.with_metadata({_META: json.dumps(meta).encode()}))
    write_parquet(folder / f"{result.task.name}.parquet", table)


def load_result(folder: Path, key: str, task: Task) -> TaskResult | None:
    """Return the saved result of a task, or None if there is no valid file with this key."""
    path = folder / f"{task.name}.parquet"
    try:
        table = pq.read_table(path, page_checksum_verification=True)
        meta = json.loads(table.schema.metadata[_META])
        if meta["key"] != key or not table.schema.equals(_SCHEMA):
            return None
        rows, part, predicted = (table.column(name).to_numpy() for name in _SCHEMA.names)
        if meta.pop("digest", None) != _digest(meta, rows, part, predicted):
            return None
        times = float(meta["fit_s"]), float(meta["predict_us"])
        return TaskResult(task, rows, part, predicted, times[0], times[1], dict(meta["details"]))
    except (OSError, pa.ArrowException, AttributeError, KeyError, TypeError, ValueError):
        return None  # missing, incomplete or foreign file: compute again


def _digest(meta: Mapping[str, Any], *columns: np.ndarray) -> str:
    """Return a hash of the task's description in a file, and of its columns."""
    as_read = json.loads(json.dumps(meta))
    digest = blake2b(json.dumps(as_read, sort_keys=True).encode(), digest_size=16)
    for column in columns:
        digest.update(np.ascontiguousarray(column).tobytes())
    return digest.hexdigest()
