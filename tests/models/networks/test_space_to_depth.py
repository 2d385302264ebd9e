import pytest
import torch
from torch.nn import functional

from fastcell.models.networks import same_padding
from fastcell.models.networks.cellnet import CellNet
from fastcell.models.networks.same_padding import SameConv2d
from fastcell.models.networks.space_to_depth import convolve_in_depth, depth_weight


@pytest.fixture
def in_depth(monkeypatch):
    """Take the way of a GPU on the CPU, and count its calls."""
    calls = []

    def convolve(*arguments):
        calls.append(arguments[0].shape)
        return convolve_in_depth(*arguments)

    monkeypatch.setattr(same_padding, "_is_on_gpu", lambda images: True)
    monkeypatch.setattr(same_padding, "convolve_in_depth", convolve)
    return calls


@pytest.mark.parametrize(("kernel", "stride", "size"), [(11, 2, 128), (11, 2, 63), (4, 2, 7), (5, 3, 20), (2, 4, 9)])
def test_sums_and_gradients_are_those_of_the_plain_convolution(in_depth, monkeypatch, kernel, stride, size):
    torch.manual_seed(kernel)
    layer = SameConv2d(1, 5, kernel, stride).double()
    images = torch.randn(3, 1, size, size, dtype=torch.float64, requires_grad=True)
    pull = torch.randn(3, 5, -(-size // stride), -(-size // stride), dtype=torch.float64)
    wanted = (images, layer.weight, layer.bias)
    found = layer(images)
    deep = torch.autograd.grad((found * pull).sum(), wanted)
    assert in_depth == [images.shape]
    assert found.is_contiguous(memory_format=torch.channels_last)
    monkeypatch.setattr(same_padding, "_is_on_gpu", lambda images: False)
    expected = layer(images)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    for ours, plain in zip(deep, torch.autograd.grad((expected * pull).sum(), wanted), strict=True):
        torch.testing.assert_close(ours, plain, rtol=1e-12, atol=1e-12)


def test_one_pixel_meets_each_weight_at_its_place():
    """By hand: image 4 x 4 with one 1, kernel 3 x 3 of 1 to 9, stride 2, one row and column before."""
    weight = torch.arange(1.0, 10.0).reshape(1, 1, 3, 3)
    image = torch.zeros(1, 1, 4, 4)
    image[0, 0, 1, 2] = 1
    found = convolve_in_depth(image, weight, None, 2, (1, 1), (2, 2))
    # Output (0, 0) reads pixel (1, 2) at kernel (2, 3), outside; (0, 1) at (2, 1); (1, 1) at (0, 1).
    assert found[0, 0].tolist() == [[0.0, 8.0], [0.0, 2.0]]


@pytest.mark.parametrize(("kernel", "stride"), [(11, 2), (4, 2), (5, 3)])
def test_weights_go_there_and_back_unchanged(kernel, stride):
    weight = torch.randn(6, 1, kernel, kernel)
    deep = depth_weight(weight, stride)
    assert deep.shape == (6, stride**2, -(-kernel // stride), -(-kernel // stride))
    assert torch.equal(functional.pixel_shuffle(deep, stride)[..., :kernel, :kernel], weight)
    assert deep.square().sum() == pytest.approx(float(weight.square().sum()))  # nothing but zeros was added


def test_in_bfloat16_the_difference_is_rounding(in_depth):
    """Against float64 of the same rounded inputs, no worse than the plain convolution in bfloat16."""
    torch.manual_seed(0)
    layer = SameConv2d(1, 32, 11, 2)
    images, weight = torch.rand(4, 1, 64, 64).bfloat16(), layer.weight.detach().bfloat16()
    exact = functional.conv2d(functional.pad(images.double(), (4, 5, 4, 5)), weight.double(), None, 2)
    plain = functional.conv2d(functional.pad(images, (4, 5, 4, 5)), weight, None, 2).double()
    found = convolve_in_depth(images, weight, None, 2, (4, 4), (32, 32)).double()
    size = exact.abs().max()
    assert (found - exact).abs().max() / size < 2**-8
    assert (found - exact).abs().max() <= 2 * (plain - exact).abs().max()


def test_a_network_has_the_same_checkpoint_and_the_same_logits(in_depth, monkeypatch):
    torch.manual_seed(1)
    network = CellNet(4, 32).eval().double()
    names = {name: value.shape for name, value in network.state_dict().items()}
    images = torch.rand(5, 1, 32, 32, dtype=torch.float64)
    found = network(images)
    assert in_depth == [images.shape]  # the first convolution alone
    monkeypatch.setattr(same_padding, "_is_on_gpu", lambda images: False)
    torch.testing.assert_close(found, network(images), rtol=1e-11, atol=1e-11)
    assert {name: value.shape for name, value in network.state_dict().items()} == names
    assert names["features.0.weight"] == (32, 1, 11, 11)
