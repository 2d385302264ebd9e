"""Read the outputs of a network's layers and embed them in the plane with t-SNE (the paper's Figure 10).

The figure of Meng et al. 2019, doi 10.1109/JBHI.2018.2878878, shows 1,000 cells after pooling 2, pooling 3 and the
full connections.
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

PCA_COMPONENTS = 50  # kept before t-SNE and before neighbours are counted, as van der Maaten recommends
NEIGHBOURS = 10
_LEAST_CELLS = 10


class Tap(NamedTuple):
    """A place in the network where activations are read.

    Attributes:
        name: Name of the layer.
        module: Module whose output (or input) is read.
        is_input: Read the input of `module` instead of its output.
    """

    name: str
    module: nn.Module
    is_input: bool = False


class Embedding(NamedTuple):
    """Two-dimensional embedding of the outputs of one layer.

    Attributes:
        name: Name of the layer.
        num_values: Number of output values per cell.
        points: (N, 2) float32, t-SNE coordinates, without unit.
        agreement: Mean share, 0 to 1, of a cell's 10 nearest neighbours in the layer's output that have the same class.
    """

    name: str
    num_values: int
    points: np.ndarray
    agreement: float


def find_taps(network: nn.Module) -> list[Tap]:
    """Return the places to read: the last two poolings and every full connection.

    The output of a full connection is read after its activation. The output of a pooling is read before the activation
    and the normalisation that follow, as the paper names it. A network without `SameMaxPool2d` gives the input and the
    output of its last full connection; without a full connection the list is empty.
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
    """Return the flattened outputs of all images, one (N, D) float32 array per tap.

    Args:
        network: Network in evaluation mode.
        where: Places to read.
        batches: Images (B, 1, S, S) on the network's device.
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
    """Embed cells in the plane so that near neighbours stay near.

    The values are reduced by PCA to at most 50 components. t-SNE (van der Maaten and Hinton, JMLR 9, 2008) starts from
    the first two of them. The perplexity is 30, or a quarter of the number of cells if that is smaller.

    Args:
        name: Name of the layer.
        values: (N, D) float32, outputs of the layer.
        labels: (N,) int, true classes.
        seed: Random seed of PCA and t-SNE.

    Raises:
        ArgumentError: There are fewer than 10 cells.
    """
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    num = len(values)
    if num < _LEAST_CELLS:
        raise invalid("cells to embed", f"at least {_LEAST_CELLS}", num, "Take a data set with more cells")
    values = values - values.mean(axis=0)
    if not values.any():  # dead layer: t-SNE cannot build its tree if all cells lie on one point
        points = np.zeros((num, 2), np.float32)
        return Embedding(name, values.shape[1], points, neighbour_agreement(values, labels))
    components = min(PCA_COMPONENTS, num, values.shape[1])
    reduced = PCA(components, svd_solver="randomized", random_state=seed).fit_transform(values)
    reduced = reduced / float(reduced[:, 0].std())
    # The start of TSNE(init="pca"), plus noise: without noise a constant second component would keep all cells on one
    # line. TSNE(init="pca") also fails if there is only one component.
    start = np.random.default_rng(seed).normal(0, 1e-6, (num, 2))
    start[:, : reduced.shape[1]] += 1e-4 * reduced[:, :2]
    method = TSNE(2, perplexity=min(30.0, num / 4), init=start.astype(np.float32), random_state=seed)
    points = method.fit_transform(reduced).astype(np.float32)
    return Embedding(name, values.shape[1], points, neighbour_agreement(reduced, labels))


def neighbour_agreement(values: np.ndarray, labels: np.ndarray) -> float:
    """Return the mean share, 0 to 1, of each cell's 10 nearest neighbours that have the cell's own class.

    Distances are Euclidean. A cell is not its own neighbour.

    Args:
        values: (N, D) float.
        labels: (N,) int, true classes.
    """
    from sklearn.neighbors import NearestNeighbors

    num = min(NEIGHBOURS, len(values) - 1)
    near = NearestNeighbors(n_neighbors=num).fit(values).kneighbors(return_distance=False)
    return float((labels[near] == labels[:, None]).mean())
