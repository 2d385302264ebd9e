"""Fixtures of all tests: the real data beside the checkout, a private cache folder, and GPU tests only with a GPU."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from fastcell.dataset.manifest import Manifest

pytest_plugins = ["fixtures.audit_sets", "fixtures.figure_checks", "fixtures.studies", "fixtures.tagged_cells"]

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
    from fastcell.system import resources

    if not resources.has_gpu():
        pytest.skip("no NVIDIA GPU usable by torch")
    import torch

    return torch.cuda.get_device_name(0)


@pytest.fixture(autouse=True)
def _gpu_marker(request: pytest.FixtureRequest) -> None:
    if request.node.get_closest_marker("gpu") is not None:
        request.getfixturevalue("gpu")


@pytest.fixture(scope="session")
def trained_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of 200 simulated cells."""
    from fastcell.simulator.synth import synthesize

    path = tmp_path_factory.mktemp("trained") / "cells"
    synthesize(path, 200, seed=0, jobs=1)
    return path


@pytest.fixture(scope="session")
def trained_run(trained_data: Path) -> Path:
    """Run folder of a small network after 40 steps on `trained_data`."""
    from fastcell.training.fit import main

    runs = trained_data.parent / "runs"
    arguments = ["--data.image_size=32", "--data.threads=1", "--trainer.max_steps=40", "--trainer.max_epochs=-1"]
    assert main(["fit", "--preset=fast", f"--data.path={trained_data}", f"--runs={runs}", *arguments]) == 0
    (folder,) = runs.iterdir()
    return folder


@pytest.fixture
def make_set(tmp_path: Path) -> Callable[..., Manifest]:
    """Function that packs unlabelled cells into tmp_path/set: so many, or with these keys."""

    def make(num_cells: int = 0, keys: list[str] | None = None) -> Manifest:
        import numpy as np

        from fastcell.dataset.manifest import DatasetInfo
        from fastcell.packing.finish_dataset import finish_dataset
        from fastcell.packing.records import Record
        from fastcell.packing.shard_writer import write_cell_shard
        from fastcell.storage.staging import staging

        names = keys or [f"cell-{number:03d}" for number in range(num_cells)]
        rng = np.random.default_rng(0)
        records = [Record(name, rng.integers(0, 255, (6, 7)).astype(np.uint8), "raw") for name in names]
        with staging(tmp_path / "set") as folder:
            result = write_cell_shard(folder / "shard-000000.tar", records, None, [])
            sides = {"default": np.full(len(names), "test")}
            return finish_dataset(folder, tmp_path / "set", [result], DatasetInfo("cells"), sides)

    return make
