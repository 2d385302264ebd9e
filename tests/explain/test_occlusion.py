"""Occlusion maps: low exactly where a network looks, and the same whichever way they are computed."""

import numpy as np
import pytest
import torch
from torch import nn

from fastcell.errors import ArgumentError
from fastcell.explain.occlusion import Mask, covered_images, occlusion_maps
from fastcell.models.registry import create_network


class Corner(nn.Module):
    """Says class 1 with logit 5 x (the mean of the upper left corner of 8 x 8 pixels)."""

    def forward(self, images):
        corner = images[:, 0, :8, :8].mean(dim=(1, 2))
        return torch.stack([torch.zeros_like(corner), 5 * corner], dim=1)


def bright_corner(size=32):
    image = torch.zeros(1, 1, size, size)
    image[..., :8, :8] = 1
    return image


def test_a_network_that_looks_at_one_corner_is_disturbed_there_alone():
    maps = occlusion_maps(Corner(), bright_corner(), torch.tensor([1]), positions=8, patch=4)
    whole = 1 / (1 + np.exp(-5))
    assert maps.plain == pytest.approx([whole])
    quarter_hidden = 1 / (1 + np.exp(-5 * 0.75))  # 4 x 4 of 8 x 8 pixels become the border's grey, 0
    expected = np.full((8, 8), whole)
    expected[:2, :2] = quarter_hidden
    np.testing.assert_allclose(maps.covered[0], expected, rtol=1e-6)


def test_the_map_is_of_the_class_asked_for():
    images = bright_corner().repeat(2, 1, 1, 1)
    maps = occlusion_maps(Corner(), images, torch.tensor([0, 1]), positions=4)
    np.testing.assert_allclose(maps.covered[0] + maps.covered[1], 1, rtol=1e-6)
    sigmoid = occlusion_maps(Corner(), images[:1], torch.tensor([1]), "sigmoid", positions=4)
    odds = (1 / (1 + np.exp(-5))) / 0.5
    assert sigmoid.plain == pytest.approx([odds / (1 + odds)])


def test_squares_are_cut_off_at_the_edge():
    mask = Mask(np.array([-1, 2]), 3, 5)
    covered = torch.cat(list(covered_images(torch.zeros(1, 1, 5, 5), mask, 1.0, batch=3)))[:, 0]
    assert covered.shape == (4, 5, 5)
    assert covered.sum(dim=(1, 2)).tolist() == [4, 6, 6, 9]
    assert covered[1, :2, 2:].all()
    assert not covered[1, 2:].any()


def settled(name, size, input_norm):
    """A network with weights and batch statistics of no special value."""
    torch.manual_seed(size)
    network = create_network(name, 3, size)
    if input_norm:
        network = nn.Sequential(nn.BatchNorm2d(1, affine=False), network)
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.normal_(std=0.2)
            layer.running_var.uniform_(0.5, 2)
    with torch.no_grad():
        for layer in network.modules():
            if isinstance(layer, nn.Linear):
                layer.weight *= 0.3  # far from saturation, where everything would agree
    return network


@pytest.mark.parametrize(
    ("name", "size", "positions", "patch", "input_norm"),
    [
        ("cellnet", 32, 8, None, True),
        ("cellnet", 37, 9, 5, False),
        ("cellnet", 64, 5, 1, False),
        ("cellnet-wide", 32, 4, 32, False),
        ("gao", 33, 7, 6, True),
        ("gao", 16, 16, 3, False),
    ],
)
def test_only_what_changes_gives_what_the_whole_gives(name, size, positions, patch, input_norm):
    network = settled(name, size, input_norm)
    images, labels = torch.rand(2, 1, size, size) * 2, torch.tensor([0, 2])
    quick = occlusion_maps(network, images, labels, positions=positions, patch=patch)
    whole = occlusion_maps(network, images, labels, positions=positions, patch=patch, by_parts=False)
    assert whole.covered.std() > 1e-4
    np.testing.assert_allclose(quick.covered, whole.covered, atol=1e-5)
    assert np.array_equal(quick.plain, whole.plain)


def test_little_memory_changes_nothing(monkeypatch):
    from fastcell.explain import occlusion

    network = settled("cellnet", 32, False)
    images, labels = torch.rand(1, 1, 32, 32), torch.tensor([1])
    at_once = occlusion_maps(network, images, labels, positions=6)
    monkeypatch.setattr(occlusion, "_WINDOW_BYTES", 1)
    row_by_row = occlusion_maps(network, images, labels, positions=6)
    np.testing.assert_allclose(row_by_row.covered, at_once.covered, atol=1e-6)


def test_training_mode_is_given_back():
    network = settled("cellnet", 16, False).train()
    occlusion_maps(network, torch.rand(1, 1, 16, 16), torch.tensor([0]), positions=2)
    assert network.training


def test_arguments():
    image, label = torch.rand(1, 1, 16, 16), torch.tensor([0])
    with pytest.raises(ArgumentError, match="patch must be from 1 to the image's side of 16 pixels, got 17"):
        occlusion_maps(Corner(), image, label, positions=2, patch=17)
    with pytest.raises(ArgumentError, match="positions must be from 1 to the image's side of 16 pixels, got 0"):
        occlusion_maps(Corner(), image, label, positions=0)
