"""The small run of all tests as a classifier, and the cells that it learnt from."""

import pytest

import fastcell
from fastcell.dataset.manifest import Manifest
from fastcell.dataset.single_cells import read_cells


@pytest.fixture(scope="module")
def classifier(trained_run):
    return fastcell.load(trained_run)


@pytest.fixture(scope="module")
def cells(trained_data):
    manifest = Manifest.open(trained_data)
    return list(read_cells(manifest, range(len(manifest))))
