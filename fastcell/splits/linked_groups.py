"""Find cells that must stay in one subset: cells of a group, copies of a cell, and groups linked by copies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fastcell.dataset.rows.cell_groups import CellGroups

Ids = npt.NDArray[np.int64]


class LinkedGroups(NamedTuple):
    """Groups that share copies, and the number of one of the sets that link them."""

    groups: tuple[str, ...]
    example: int


class LinkedCells(NamedTuple):
    """Groups of N cells after linking.

    Attributes:
        groups: group of each cell. Linked groups have one name, `a + b`. A cell without group that is a copy of a cell
            with a group gets the group of that cell.
        units: (N,) int64, number of the set for cells without group; -1 for all other cells.
        links: the groups that were linked.
    """

    groups: CellGroups
    units: Ids
    links: tuple[LinkedGroups, ...]


def link_groups(groups: CellGroups | Sequence[str | None] | np.ndarray | None, sets: Ids) -> LinkedCells:
    """Link groups that hold copies of the same cell, and find the set of copies of each cell without a group.

    Args:
        groups: groups of the cells, or (N,) names, None or empty for a cell without group; None if no cell has a group.
        sets: (N,) int64, number of the set of each cell, -1 for a cell without copies.
    """
    unique, group = CellGroups.of_names(groups, len(sets)).in_natural_order()
    num_sets = int(sets.max(initial=-1)) + 1
    tie = (group >= 0) & (sets >= 0)
    pairs = np.unique(np.stack([group[tie], sets[tie] + len(unique)], axis=1), axis=0)
    component = join_nodes(len(unique) + num_sets, pairs)
    members: dict[int, list[str]] = {}
    for name, one in zip(unique, component.tolist(), strict=False):  # nodes of sets follow the nodes of groups
        members.setdefault(one, []).append(name)
    titles = {one: " + ".join(several) for one, several in members.items()}
    names = sorted(set(titles.values()))
    place = {name: number for number, name in enumerate(names)}
    code = np.full(len(component) + 1, -1, np.min_scalar_type(-len(names) - 1))  # of components; the last one: none
    code[list(titles)] = [place[name] for name in titles.values()]
    node = np.where(group >= 0, group, np.where(sets >= 0, sets + len(unique), -1))
    codes = np.where(node >= 0, code[np.append(component, -1)[node]], code[-1])
    units = np.where(codes >= 0, -1, sets)
    return LinkedCells(CellGroups(codes, names), units, _find_links(members, component, pairs, len(unique)))


def join_nodes(num_nodes: int, links: npt.ArrayLike) -> Ids:
    """Find the connected components of a graph.

    Args:
        num_nodes: the nodes are 0 to num_nodes - 1.
        links: (L, 2) int, pairs of nodes.

    Returns:
        (num_nodes,) int64, component of each node, 0, 1, ... in the order of their first nodes.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    pairs = np.asarray(links, np.int64).reshape(-1, 2)
    if not len(pairs):
        return np.arange(num_nodes)
    graph = coo_array((np.ones(len(pairs), bool), (pairs[:, 0], pairs[:, 1])), shape=(num_nodes, num_nodes))
    _, component = connected_components(graph, directed=False)
    _, first, number = np.unique(component, return_index=True, return_inverse=True)
    order = np.empty(len(first), np.int64)
    order[np.argsort(first)] = np.arange(len(first))
    return order[number.reshape(-1)]


def _find_links(members: dict[int, list[str]], component: Ids, pairs: Ids, num_groups: int) -> tuple[LinkedGroups, ...]:
    several = {one: tuple(names) for one, names in members.items() if len(names) > 1}
    if not several:
        return ()
    sets, counts = np.unique(pairs[:, 1], return_counts=True)
    tying = sets[counts > 1]
    first = {int(component[node]): int(node) - num_groups for node in tying[::-1].tolist()}
    return tuple(LinkedGroups(names, first[one]) for one, names in several.items())
