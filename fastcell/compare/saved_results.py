"""Finished cells of a study's table: one small file each, whole, with a hash of all that it depends on.

A file holds the class that the method calls for every cell of the training, validation and test part, so scores,
intervals and comparisons are computed from the files, and nothing is fitted twice.
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
    """One cell of a table: a method on one split, volume, seed and image size.

    Attributes:
        method: its name in the tables.
        scheme: `fastcell.compare.split_schemes.Scheme.name`.
        split: one of the scheme's.
        volume: share of the training cells, in (0, 1].
        seed: of subsample, network and baseline.
        image_size: side of the images [px].
    """

    method: str
    scheme: str
    split: str
    volume: float
    seed: int
    image_size: int

    @property
    def name(self) -> str:
        """Stem of its file."""
        return f"{self.method}-{self.image_size}px-{self.scheme}-{self.split}-{self.volume:g}-seed{self.seed}"


@dataclass(frozen=True)
class TaskResult:
    """What a task gave.

    Attributes:
        task: which.
        rows: (R,) int64 cell_ids of all parts.
        part: (R,) int8, index of `PARTS`.
        predicted: (R,) int16, the called classes.
        fit_s: time to fit, choice of parameters or validation included [s].
        predict_us: time to classify one preprocessed test cell [us].
        details: backend, parameters, steps.
    """

    task: Task
    rows: np.ndarray
    part: np.ndarray
    predicted: np.ndarray
    fit_s: float
    predict_us: float
    details: dict[str, Any] = field(default_factory=dict)

    def of(self, part: str) -> tuple[np.ndarray, np.ndarray]:
        """Cell_ids and called classes of a part."""
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
    """Put together the parts' rows and called classes; `predict_s` is that of the test part [s]."""
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
    """Hash of a task, the rows of its parts, and all settings that its result depends on."""
    digest = blake2b(digest_size=16)
    digest.update(json.dumps([FORMAT, __version__, asdict(task), settings], sort_keys=True).encode())
    for part in PARTS:
        digest.update(part.encode() + np.asarray(parts[part], np.int64).tobytes())
    return digest.hexdigest()


def save_result(folder: Path, key: str, result: TaskResult) -> None:
    """Write the file of a task, whole or not at all."""
    meta = {
        "key": key,
        "task": asdict(result.task),
        "fit_s": result.fit_s,
        "predict_us": result.predict_us,
        "details": result.details,
    }
    columns = {"cell_id": result.rows, "part": result.part, "predicted": result.predicted}
    table = pa.table(columns, schema=_SCHEMA.with_metadata({_META: json.dumps(meta).encode()}))
    write_parquet(folder / f"{result.task.name}.parquet", table)


def load_result(folder: Path, key: str, task: Task) -> TaskResult | None:
    """What was saved of a task under this key; None where there is nothing, or something else."""
    path = folder / f"{task.name}.parquet"
    try:
        table = pq.read_table(path)
        meta = json.loads(table.schema.metadata[_META])
        if meta["key"] != key or not table.schema.equals(_SCHEMA):
            return None
        rows, part, predicted = (table.column(name).to_numpy() for name in _SCHEMA.names)
        times = float(meta["fit_s"]), float(meta["predict_us"])
        return TaskResult(task, rows, part, predicted, times[0], times[1], dict(meta["details"]))
    except (FileNotFoundError, IsADirectoryError, pa.ArrowException, KeyError, TypeError, ValueError):
        return None  # not there, or torn, or of somebody else: it is made anew
