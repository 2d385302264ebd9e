"""Methods have names, units are groups or cells, and a finished study is written as a report and as JSON."""

from types import SimpleNamespace

import pytest

from fastcell.compare.runner import check_methods, is_network, method_name, units_of
from fastcell.dataset.rows.cell_groups import CellGroups
from fastcell.errors import ArgumentError


def test_methods_are_known_and_named():
    assert check_methods(" svm,knn ,svm,frame,cellnet") == ["svm", "knn", "frame", "cellnet"]
    assert [method_name(name) for name in ("cnn", "frame", "resnet18")] == ["CNN", "frame alone (kNN)", "resnet18"]
    assert [is_network(name) for name in ("cnn", "cellnet", "svm", "frame")] == [True, True, False, False]
    with pytest.raises(ArgumentError, match="--methods must be among cnn, gao, svm, knn, frame"):
        check_methods("svm,forest")
    with pytest.raises(ArgumentError, match="got 'smv'. Did you mean svm"):
        check_methods("cnn,smv")
    with pytest.raises(ArgumentError, match="--methods must be at least one name"):
        check_methods(" , ")


def test_units_are_groups_and_loose_cells_each_their_own():
    class Cells(SimpleNamespace):
        def __len__(self):
            return 5

    units, word = units_of(Cells(groups=CellGroups.of_names(["b", "a", "", "b", ""], 5)))
    assert word == "group"
    assert len(set(units.tolist())) == 4
    assert units[0] == units[3]
    units, word = units_of(Cells(groups=None))
    assert (units.tolist(), word) == ([0, 1, 2, 3, 4], "cell")
