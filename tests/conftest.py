"""Fixtures of all tests: the real data beside the checkout, a private cache folder, and GPU tests only with a GPU."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

REPO_DIR = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of real cells: $FASTCELL_REAL_DATA, else ../shared/data beside the checkout."""
    path = Path(os.environ.get("FASTCELL_REAL_DATA") or REPO_DIR.parent / "shared" / "data")
    if not path.is_dir():
        pytest.skip("no real data: set FASTCELL_REAL_DATA to a folder that holds jurkat/, tcell/ and atom-samples/")
    return path


@pytest.fixture
def tmp_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Point fastcell's cache folder to a fresh place for one test, subprocesses included."""
    path = tmp_path / "cache"
    monkeypatch.setenv("FASTCELL_CACHE_DIR", str(path))
    return path


@pytest.fixture(scope="session")
def gpu() -> str:
    """Name of the first GPU; the test is skipped where there is none."""
    from fastcell import environment

    if not environment.has_gpu():
        pytest.skip("no NVIDIA GPU usable by torch")
    import torch

    return torch.cuda.get_device_name(0)


@pytest.fixture(autouse=True)
def _gpu_marker(request: pytest.FixtureRequest) -> None:
    if request.node.get_closest_marker("gpu") is not None:
        request.getfixturevalue("gpu")
