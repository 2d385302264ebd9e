"""Programs of benchmarks/ as modules, with their folder on the path while a test runs."""

import importlib
from pathlib import Path

import pytest

BENCHMARKS_DIR = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def program(monkeypatch):
    """Return a function that imports a program of benchmarks/ by name."""
    monkeypatch.syspath_prepend(str(BENCHMARKS_DIR))
    return importlib.import_module
