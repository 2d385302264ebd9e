"""Tables of the simulator: every class and collection has its numbers."""

import numpy as np
import pytest

from fastcell.simulator.cell_classes import CLASSES, MEASURED, MORPHOLOGY, OPTICS, STRATA, morphology_of, optics_of


def test_every_class_and_collection_has_its_strata():
    assert sum(cells for _, _, cells, _ in STRATA) == 1_005_447
    assert {name for _, name, _, _ in STRATA} == set(CLASSES)
    assert {collection for collection, *_ in STRATA} == set(MEASURED) == set(OPTICS)


@pytest.mark.parametrize("name", CLASSES)
def test_morphology_by_class(name):
    means, spreads = morphology_of(name, 0), morphology_of(name, 1)
    assert means.shape == spreads.shape == (len(MORPHOLOGY),)
    assert (spreads > 0).all()
    assert means[0] == MORPHOLOGY["ln_diameter_um"][CLASSES.index(name)][0]


def test_cells_of_blood_are_smaller_than_those_of_tumours():
    size = {name: np.exp(morphology_of(name, 0)[0]) for name in CLASSES}
    assert size["PBMC"] < size["THP1"] < size["MB231"] < size["MCF7"]


def test_optics_by_collection():
    for name, values in OPTICS.items():
        assert optics_of(name, 0).tolist() == [mean for mean, _, _ in values.values()]
        assert (optics_of(name, 2) >= 0).all()
    assert list(OPTICS["collection-1"]) == list(OPTICS["collection-2"])
