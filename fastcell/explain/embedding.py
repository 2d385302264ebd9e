"""What the layers of a network make of cells: their outputs, drawn by t-SNE (the paper's Figure 10).

Meng et al. 2019, doi 10.1109/JBHI.2018.2878878, shows 1,000 cells behind pooling 2, pooling 3 and the full
connections.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from fastcell.errors import invalid
from fastcell.models.networks.gao import ScaledTanh
from fastcell.models.networks.same_padding import SameMaxPool2d

PCA_COMPONENTS = 50  # of the PCA before t-SNE and before neighbours are counted, as van der Maaten recommends
NEIGHBOURS = 10
_LEAST_CELLS = 10


class Tap(NamedTuple):
    """Where a layer's output is read.

    Attributes:
        name: of the layer.
        module: whose output it is, or whose input.
        is_input: take the input.
    """

    name: str
    module: nn.Module
    is_input: bool = False


class Embedding(NamedTuple):
    """Cells of one layer.

    Attributes:
        name: of the layer.
        num_values: of its output per cell.
        points: (N, 2) float32, by t-SNE.
        agreement: mean share of a cell's 10 nearest neighbours in the layer's output that are of its class.
    """

    name: str
    num_values: int
    points: np.ndarray
    agreement: float


def find_taps(network: nn.Module) -> list[Tap]:
    """The last two poolings and all full connections behind their activation; else the last full connection's sides.

    Pooling outputs are taken before the function and the normalisation that follow, as in the paper's naming.
    """
    modules = list(network.modules())
    pools = [module for module in modules if isinstance(module, SameMaxPool2d)]
    connections = [place for place, module in enumerate(modules) if isinstance(module, nn.Linear)]
    if not pools:
        if not connections:
            return []
        last = modules[connections[-1]]
        return [Tap("before the last layer", last, True), Tap("outputs", last)]
    found = [Tap(f"pooling {number}", pool) for number, pool in list(enumerate(pools, start=1))[-2:]]
    for number, place in enumerate(connections, start=1):
        behind = modules[place + 1] if place + 1 < len(modules) else None
        activated = isinstance(behind, nn.ReLU | ScaledTanh)
        found.append(Tap(f"full connection {number}", behind if activated and behind is not None else modules[place]))
    return found


def layer_outputs(network: nn.Module, where: list[Tap], batches: Iterable[torch.Tensor]) -> list[np.ndarray]:
    """(N, D) float32 for each tap, flattened, of all images.

    Args:
        network: in evaluation mode.
        where: the layers.
        batches: images (B, 1, S, S) on the network's device.
    """
    kept: list[list[np.ndarray]] = [[] for _ in where]

    def keep(place: int, value: Any) -> None:
        kept[place].append(value.detach().float().flatten(1).cpu().numpy())

    hooks = []
    for place, tap in enumerate(where):
        if tap.is_input:
            hooks.append(
                tap.module.register_forward_pre_hook(lambda _, inputs, place=place: keep(place, inputs[0]))  # type: ignore[misc]
            )
        else:
            hooks.append(
                tap.module.register_forward_hook(lambda _, inputs, output, place=place: keep(place, output))  # type: ignore[misc]
            )
    try:
        with torch.inference_mode():
            for images in batches:
                network(images)
    finally:
        for hook in hooks:
            hook.remove()
    return [np.concatenate(parts) for parts in kept]


def embed_in_plane(name: str, values: np.ndarray, labels: np.ndarray, seed: int = 0) -> Embedding:
    """Lay cells out in the plane so that near ones stay near.

    PCA to 50, then t-SNE (van der Maaten and Hinton, JMLR 9, 2008) from the first two components, perplexity 30, or a
    quarter of the cells where there are few.

    Args:
        name: of the layer.
        values: (N, D) float32.
        labels: (N,) int, true classes.
        seed: of PCA and t-SNE.

    Raises:
        ArgumentError: fewer than 10 cells.
    """
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    num = len(values)
    if num < _LEAST_CELLS:
        raise invalid("cells to embed", f"at least {_LEAST_CELLS}", num, "Take a data set with more cells")
    values = values - values.mean(axis=0)
    if not values.any():  # a dead layer: all cells lie on one point, which t-SNE's tree cannot be built of
        points = np.zeros((num, 2), np.float32)
        return Embedding(name, values.shape[1], points, neighbour_agreement(values, labels))
    components = min(PCA_COMPONENTS, num, values.shape[1])
    reduced = PCA(components, svd_solver="randomized", random_state=seed).fit_transform(values)
    reduced = reduced / float(reduced[:, 0].std())
    # As its init="pca" does, but for a second component that does not vary, by which that would divide.
    start = np.random.default_rng(seed).normal(0, 1e-6, (num, 2))
    start[:, : reduced.shape[1]] += 1e-4 * reduced[:, :2]
    method = TSNE(2, perplexity=min(30.0, num / 4), init=start.astype(np.float32), random_state=seed)
    points = method.fit_transform(reduced).astype(np.float32)
    return Embedding(name, values.shape[1], points, neighbour_agreement(reduced, labels))


def neighbour_agreement(values: np.ndarray, labels: np.ndarray) -> float:
    """Mean share of each cell's 10 nearest neighbours (Euclidean, itself left out) that are of its own class.

    Args:
        values: (N, D) float.
        labels: (N,) int.
    """
    from sklearn.neighbors import NearestNeighbors

    num = min(NEIGHBOURS, len(values) - 1)
    near = NearestNeighbors(n_neighbors=num).fit(values).kneighbors(return_distance=False)
    return float((labels[near] == labels[:, None]).mean())
