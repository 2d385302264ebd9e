"""Small runs that the tests of this room share; not to be changed."""

import pytest
from fixtures.stopped_runs import CONSTANT, fit, pack_cells


@pytest.fixture(scope="module", autouse=True)
def _quick_figures(quick_figures): ...


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    return pack_cells(tmp_path_factory.mktemp("stopped"))


@pytest.fixture(scope="session")
def whole(data, tmp_path_factory):
    """Run folder of an unbroken run with the settings of FIT alone; not to be changed."""
    return fit(data, tmp_path_factory.mktemp("whole"))


@pytest.fixture(scope="session")
def long_run(data, tmp_path_factory):
    """Run folder of 3 epochs at a constant learning rate; not to be changed."""
    return fit(data, tmp_path_factory.mktemp("long"), *CONSTANT, "--trainer.max_epochs=3")
