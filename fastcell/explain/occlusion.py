"""Occlusion maps: the probability of the true class while a small square of the image is covered, place by place.

The maps reproduce Figure 9 of Meng et al. 2019, doi 10.1109/JBHI.2018.2878878, where they are called reverse
probability hotmaps. The method is by Zeiler and Fergus (ECCV 2014).

A covered square changes the output of a convolution only near the square. If a network consists of "same"
convolutions, poolings and elementwise functions, only the changed values are computed: each layer works on one window
per place. The unchanged surroundings of the window are taken from the map of the uncovered image.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from fastcell.errors import invalid
from fastcell.inference.backend_torch import TorchBackend
from fastcell.models.networks.cellnet import CellNet
from fastcell.models.networks.gao import GaoNet, ScaledTanh
from fastcell.models.networks.same_padding import SameConv2d, SameMaxPool2d, same_padding, same_size

POSITIONS = 32
_BATCH = 256  # covered images per batch if the network needs whole images
_WINDOW_BYTES = 256 << 20
_POINTWISE = (nn.ReLU, nn.BatchNorm2d, ScaledTanh)


class OcclusionMaps(NamedTuple):
    """Probabilities of the true class with and without a covered square.

    Attributes:
        covered: (N, G, G) float32, probability with a square around each place covered.
        plain: (N,) float32, probability with nothing covered.
    """

    covered: np.ndarray
    plain: np.ndarray


def occlusion_maps(
    network: nn.Module,
    images: torch.Tensor,
    labels: torch.Tensor,
    loss: str = "cross_entropy",
    positions: int = POSITIONS,
    patch: int | None = None,
    by_parts: bool = True,
) -> OcclusionMaps:
    """Compute occlusion maps with a grid of `positions` x `positions` covered squares.

    The centres of the squares are spread evenly. A square that extends beyond the image's edge is cut off there. The
    square gets the median grey level of the outermost frame of pixels, so that no new object appears.

    Args:
        network: Network that maps images (B, 1, S, S) to logits (B, K); used in evaluation mode.
        images: (N, 1, S, S) float32, preprocessed, on the network's device.
        labels: (N,) int64, true classes.
        loss: Loss that the network was trained with; it decides how logits become probabilities.
        positions: G, number of places along each axis.
        patch: Side of the square [px]; None for an eighth of S.
        by_parts: Compute only the changed values, if the network's structure allows it. Otherwise evaluate each covered
            image as a whole.

    Returns:
        Maps of the N images, as NumPy arrays.

    Raises:
        ArgumentError: `positions` or `patch` is not from 1 to S.
    """
    size = images.shape[-1]
    patch = max(1, size // 8) if patch is None else patch
    if not 1 <= patch <= size:
        raise invalid("patch", f"from 1 to the image's side of {size} pixels", patch, "Leave it out for an eighth")
    if not 1 <= positions <= size:
        raise invalid("positions", f"from 1 to the image's side of {size} pixels", positions, "A usual value is 32")
    begins = ((np.arange(positions) + 0.5) * size / positions - patch / 2 + 0.5).astype(np.int64)
    mask = Mask(begins, patch, size)
    parts = _parts(network) if by_parts else None
    plans = None if parts is None else _plans(parts[0], mask, images.device)
    was_training = network.training
    network.eval()
    whole = TorchBackend.of_logits(network, loss)
    maps, plain = [], []
    try:
        for image, label in zip(images.float().split(1), labels.tolist(), strict=True):
            fill = _border_grey(image[0, 0])
            if parts is None or plans is None:
                chunks = (whole.probabilities(covered) for covered in covered_images(image, mask, fill, _BATCH))
            else:
                changes = TorchBackend.of_logits(partial(_changed_logits, parts, image, fill), loss)
                chunks = (changes.probabilities(plan) for plan in plans)
            of_label = torch.cat([chunk[:, label] for chunk in chunks])
            maps.append(of_label.view(positions, positions).cpu().numpy())
            uncovered = image.contiguous(memory_format=torch.channels_last)
            plain.append(float(whole.probabilities(uncovered)[0, label]))
    finally:
        network.train(was_training)
    covered = np.stack(maps) if maps else np.empty((0, positions, positions), np.float32)
    return OcclusionMaps(covered, np.array(plain, np.float32))


class Mask(NamedTuple):
    """Covered squares along one axis; both axes use the same values.

    Attributes:
        begins: (G,) int64, first covered pixel of each place; negative if the square is cut off at the edge.
        patch: Side of the square [px].
        size: Side of the image [px].
    """

    begins: np.ndarray
    patch: int
    size: int


def covered_images(image: torch.Tensor, mask: Mask, fill: float, batch: int) -> Iterable[torch.Tensor]:
    """Yield images (b, 1, S, S) with one covered square each, place by place in row-major order.

    Args:
        image: (1, 1, S, S).
        mask: The squares.
        fill: Grey level of the square.
        batch: Maximum number of images yielded at once.
    """
    num = len(mask.begins)
    pixel = torch.arange(mask.size, device=image.device)
    begins = torch.from_numpy(mask.begins).to(image.device)[:, None]
    hidden = (pixel >= begins) & (pixel < begins + mask.patch)  # (G, S)
    for places in torch.arange(num * num, device=image.device).split(batch):
        square = hidden[places // num][:, :, None] & hidden[places % num][:, None, :]
        yield torch.where(square[:, None], fill, image).contiguous(memory_format=torch.channels_last)


class _Windows(NamedTuple):
    """Region of a layer's map that differs from the map of the uncovered image: one window per place, all of one width.

    Attributes:
        begins: (G,) int64, first element of each window along an axis.
        width: Number of elements along an axis.
        size: Side of the whole map.
    """

    begins: np.ndarray
    width: int
    size: int


class _Plan(NamedTuple):
    """Indices that compute the changed values for P places (whole rows of places).

    Attributes:
        first: (P, w, w) int64, flat pixel indices of the window of each place, and (P, w, w) bool, True for covered
            pixels.
        gathers: One (P, n, n) int64 array for each convolution and pooling, and one for the whole map after them. The
            values index the input's elements: first the map of the uncovered image, then the windows, then the padding.
    """

    first: tuple[torch.Tensor, torch.Tensor]
    gathers: list[torch.Tensor]


def _parts(network: nn.Module) -> tuple[list[nn.Module], nn.Module] | None:
    """Return the layers that output maps, and the classifier after them; None if the network is of another type."""
    before: list[nn.Module] = []
    if isinstance(network, nn.Sequential) and len(network) == 2 and isinstance(network[0], nn.BatchNorm2d):
        before, network = [network[0]], network[1]
    if not isinstance(network, CellNet | GaoNet):
        return None
    return [*before, *network.features], network.classifier


def _plans(layers: list[nn.Module], mask: Mask, device: torch.device) -> list[_Plan]:
    width = min(mask.patch, mask.size)
    windows = _Windows(np.clip(mask.begins, 0, mask.size - width), width, mask.size)
    steps: list[tuple[_Windows, np.ndarray]] = []
    largest = 1
    for layer in layers:
        if isinstance(layer, SameConv2d | SameMaxPool2d):
            kernel, stride = _sides(layer)
            after = _after(windows, kernel, stride)
            reach = (after.width - 1) * stride + kernel
            begins = after.begins * stride - same_padding(windows.size, kernel, stride)[0]
            steps.append((windows, begins[:, None] + np.arange(reach)))
            largest = max(largest, reach**2 * 4 * getattr(layer, "in_channels", 64), after.width**2 * 4 * 64)
            windows = after
    steps.append((windows, np.broadcast_to(np.arange(windows.size), (len(mask.begins), windows.size))))
    num = len(mask.begins)
    rows = max(1, min(num, _WINDOW_BYTES // (num * largest)))
    return [_plan(mask, steps, np.arange(num)[at : at + rows], device) for at in range(0, num, rows)]


def _plan(mask: Mask, steps: list[tuple[_Windows, np.ndarray]], rows: np.ndarray, device: torch.device) -> _Plan:
    """Return the plan for the places in some rows, in all columns."""
    row, column = (places.ravel() for places in np.meshgrid(rows, np.arange(len(mask.begins)), indexing="ij"))
    windows = steps[0][0]
    offset = np.arange(windows.width)
    y, x = (windows.begins[places][:, None] + offset for places in (row, column))
    first = y[:, :, None] * mask.size + x[:, None, :]
    hidden = [
        (pixel >= mask.begins[places][:, None]) & (pixel < mask.begins[places][:, None] + mask.patch)
        for pixel, places in ((y, row), (x, column))
    ]
    covered = hidden[0][:, :, None] & hidden[1][:, None, :]
    gathers = [_gather(windows, needed[row], needed[column], row, column) for windows, needed in steps]
    to = [torch.from_numpy(np.ascontiguousarray(values)).to(device) for values in (first, covered, *gathers)]
    return _Plan((to[0], to[1]), to[2:])


def _gather(windows: _Windows, y: np.ndarray, x: np.ndarray, row: np.ndarray, column: np.ndarray) -> np.ndarray:
    """Return indices (P, n, n) int64, see `_Plan.gathers`, of elements y (P, n) by x (P, n), on or off the map."""
    size, width, num = windows.size, windows.width, len(row)
    dy, dx = y - windows.begins[row][:, None], x - windows.begins[column][:, None]
    in_window = ((dy >= 0) & (dy < width))[:, :, None] & ((dx >= 0) & (dx < width))[:, None, :]
    on_map = ((y >= 0) & (y < size))[:, :, None] & ((x >= 0) & (x < size))[:, None, :]
    place = np.arange(num)[:, None, None]
    of_window = size * size + (place * width + dy[:, :, None]) * width + dx[:, None, :]
    of_map = y[:, :, None] * size + x[:, None, :]
    padding = size * size + num * width * width
    return np.where(in_window, of_window, np.where(on_map, of_map, padding))


def _sides(layer: Any) -> tuple[int, int]:
    """Return kernel size and stride of a layer."""
    if isinstance(layer, SameMaxPool2d):
        return layer.kernel, layer.kernel
    return layer.kernel_size[0], layer.stride[0]


def _after(windows: _Windows, kernel: int, stride: int) -> _Windows:
    """Return the windows of a layer's output that depend on the windows of its input."""
    before = same_padding(windows.size, kernel, stride)[0]
    size = same_size(windows.size, stride)
    first = np.maximum(-(-(windows.begins + before - kernel + 1) // stride), 0)
    last = np.minimum((windows.begins + windows.width - 1 + before) // stride, size - 1)
    width = int((last - first).max()) + 1
    return _Windows(np.minimum(first, size - width), width, size)


def _changed_logits(
    parts: tuple[list[nn.Module], nn.Module], image: torch.Tensor, fill: float, plan: _Plan
) -> torch.Tensor:
    """Return logits (P, K) for the P places of a plan."""
    return parts[1](_changed(parts[0], plan, image, fill))


def _changed(layers: list[nn.Module], plan: _Plan, image: torch.Tensor, fill: float) -> torch.Tensor:
    """Return the maps (P, C, n, n) after the last layer for the P places of a plan."""
    index, hidden = plan.first
    windows = torch.where(hidden, fill, image.reshape(-1)[index])[:, None]
    whole, gathers = image, iter(plan.gathers)
    for layer in layers:
        if isinstance(layer, SameConv2d):
            windows = functional.conv2d(
                _cut(whole, windows, next(gathers), 0.0), layer.weight, layer.bias, layer.stride
            )
        elif isinstance(layer, SameMaxPool2d):
            windows = functional.max_pool2d(_cut(whole, windows, next(gathers), float("-inf")), layer.kernel)
        else:
            assert isinstance(layer, _POINTWISE)
            windows = layer(windows)
        whole = layer(whole)
    return _cut(whole, windows, next(gathers), 0.0)


def _cut(whole: torch.Tensor, windows: torch.Tensor, index: torch.Tensor, padding: float) -> torch.Tensor:
    """Return the layer input (P, C, n, n), channels last, whose elements `index` selects."""
    channels = whole.shape[1]
    elements = [values.permute(0, 2, 3, 1).reshape(-1, channels) for values in (whole, windows)]
    source = torch.cat([*elements, whole.new_full((1, channels), padding)])
    cut = source.index_select(0, index.reshape(-1))
    return cut.view(*index.shape, channels).permute(0, 3, 1, 2)


def _border_grey(image: torch.Tensor) -> float:
    """Return the median grey level of the outermost frame of pixels of (S, S), computed on the image's device.

    `fastcell.ops.border.border_median` takes integer pixels on the CPU; here the pixels are normalised float32.
    """
    frame = torch.cat([image[0], image[-1], image[1:-1, 0], image[1:-1, -1]])
    return float(frame.quantile(0.5))
