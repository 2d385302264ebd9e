"""Small data sets of simulated cells."""

from __future__ import annotations

from pathlib import Path

import pytest

from fastcell.data.manifest import Manifest
from fastcell.data.synthetic import synthesize


@pytest.fixture(scope="session")
def synthetic(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """600 simulated cells, 30 % of them with a fault; not to be changed."""
    return synthesize(tmp_path_factory.mktemp("quality") / "set", 600, 11, defects=0.3, jobs=1)


@pytest.fixture
def fresh(tmp_path: Path) -> Manifest:
    """80 simulated cells, half of them with a fault, in a folder of the test's own."""
    return synthesize(tmp_path / "set", 80, 12, defects=0.5, jobs=1)
