"""Simulated cells of this room: their measured features and true defects; not to be changed."""

import numpy as np
import pyarrow.parquet as pq
import pytest

from fastcell.quality.features import measure_cells


@pytest.fixture(scope="session")
def measured(synthetic):
    return measure_cells(synthetic)


@pytest.fixture(scope="session")
def defects(synthetic):
    return np.array(pq.read_table(synthetic.path / "truth.parquet").column("defect").to_pylist())
