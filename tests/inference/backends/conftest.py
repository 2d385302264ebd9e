"""A run whose network files are prepared once, for all tests of the room."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from fastcell.inference.backends.network_files import NetworkFiles
from fastcell.runs.run_folder import find_checkpoint

PREPARED = [("openvino", "fp32"), ("openvino", "int8"), ("onnxruntime", "int8")]


@pytest.fixture(scope="session")
def prepared_run(trained_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copy of `trained_run` with the files of `PREPARED`."""
    for package in ("openvino", "nncf", "onnxruntime", "onnxscript"):
        pytest.importorskip(package)
    from fastcell.inference.backends.prepare import Preparation

    run = tmp_path_factory.mktemp("prepared") / "run"
    shutil.copytree(trained_run, run)
    preparation = Preparation(find_checkpoint(run))
    for key in PREPARED:
        preparation.prepare(*key)
    return run


@pytest.fixture(scope="session")
def prepared_files(prepared_run: Path) -> NetworkFiles:
    """Network files of `prepared_run`."""
    return NetworkFiles(find_checkpoint(prepared_run))
