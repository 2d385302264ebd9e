"""``quality.parquet``: what quality control found, one row for each cell, and the features that it comes from."""

from __future__ import annotations

from hashlib import blake2b

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from fastcell.dataset.manifest import Manifest
from fastcell.dataset.manifest_checks import check_quality
from fastcell.dataset.parquet import read_parquet, write_parquet
from fastcell.dataset.schema import QUALITY_SCHEMA
from fastcell.errors import DataError
from fastcell.quality.features import FEATURES

FILE_NAME = "quality.parquet"
FEATURES_VERSION = 1
"""Goes up when a feature is measured in another way: stored ones are then measured anew."""

_SCHEMA = pa.schema([*QUALITY_SCHEMA, *((name, pa.float32()) for name in FEATURES)])
_KEY = b"fastcell.features"


def write_quality(
    manifest: Manifest,
    features: npt.NDArray[np.float32],
    scores: npt.NDArray[np.float32],
    reasons: np.ndarray,
    drop: npt.NDArray[np.bool_],
) -> None:
    """Write the sidecar, whole or not at all.

    Args:
        manifest: of the data set, N cells.
        features: (N, F); NaN for a cell that could not be read.
        scores: (N,) 0 good to 1 bad.
        reasons: (N,) str.
        drop: (N,) bool.
    """
    columns = {
        "cell_id": pa.array(np.arange(len(manifest)), pa.int64()),
        "score": pa.array(scores, pa.float32()),
        "reason": pa.array(reasons.tolist(), pa.string()),
        "verdict": pa.array(np.where(drop, "drop", "keep"), pa.string()),
        **{name: pa.array(features[:, place], pa.float32()) for place, name in enumerate(FEATURES)},
    }
    schema = _SCHEMA.with_metadata({_KEY: _mark(manifest).encode()})
    write_parquet(manifest.path / FILE_NAME, pa.table(columns, schema=schema))


def read_features(manifest: Manifest) -> npt.NDArray[np.float32] | None:
    """(N, F) float32 features as they were measured before; None where there are none of these very cells."""
    path = manifest.path / FILE_NAME
    if not path.is_file():
        return None
    try:
        table = read_parquet(path, _SCHEMA, most_rows=len(manifest))
        check_quality(table, len(manifest), path)
        metadata = pq.read_schema(path).metadata or {}
    except (DataError, pa.ArrowException):
        return None
    if metadata.get(_KEY) != _mark(manifest).encode():
        return None
    found = np.stack([table.column(name).to_numpy() for name in FEATURES], 1)
    return None if np.isinf(found).any() else found


def _mark(manifest: Manifest) -> str:
    """What features belong to: the way they are measured, the window, and the stored bytes of every cell."""
    digest = blake2b(digest_size=16)
    for chunk in manifest.table.column("byte_hash").chunks:
        data = chunk.buffers()[1]
        digest.update(memoryview(data)[16 * chunk.offset : 16 * (chunk.offset + len(chunk))])
    return f"{FEATURES_VERSION} {manifest.info.window} {digest.hexdigest()}"
