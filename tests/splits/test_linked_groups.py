"""Groups and sets of copies become what must stay together."""

import numpy as np

from fastcell.splits.linked_groups import join_nodes, link_groups


def test_components_are_numbered_by_their_first_nodes():
    assert join_nodes(6, [(4, 5), (1, 3)]).tolist() == [0, 1, 2, 1, 3, 3]
    assert join_nodes(3, []).tolist() == [0, 1, 2]


def test_a_copy_ties_two_groups_and_takes_loose_cells_along():
    linked = link_groups(["a", "a", "b", "c", "", ""], np.array([-1, 0, 0, -1, 0, 1]))
    assert linked.groups[:].tolist() == ["a + b", "a + b", "a + b", "c", "a + b", ""]
    assert linked.units.tolist() == [-1, -1, -1, -1, -1, 1]
    assert [(link.groups, link.example) for link in linked.links] == [(("a", "b"), 0)]


def test_chains_of_copies_tie_many_groups():
    linked = link_groups(["a", "b", "b", "c", "d"], np.array([0, 0, 1, 1, -1]))
    assert set(linked.groups[:4].tolist()) == {"a + b + c"}
    assert [link.groups for link in linked.links] == [("a", "b", "c")]


def test_without_groups_sets_are_the_units():
    linked = link_groups(None, np.array([-1, 2, 2]))
    assert linked.groups[:].tolist() == ["", "", ""]
    assert linked.units.tolist() == [-1, 2, 2]
