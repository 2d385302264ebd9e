import numpy as np
import pytest
import torch

from fastcell.models.networks.same_padding import SameConv2d, SameMaxPool2d, same_padding, same_size


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "expected"),
    # From TensorFlow's rule: out = ceil(n / s), total = max((out - 1) s + k - n, 0), the larger half after.
    [
        (128, 11, 2, (4, 5)),
        (32, 6, 2, (2, 2)),
        (8, 3, 1, (1, 1)),
        (128, 7, 1, (3, 3)),
        (64, 4, 2, (1, 1)),
        (63, 4, 2, (1, 2)),
        (7, 2, 2, (0, 1)),
        (5, 1, 3, (0, 0)),
        (4, 3, 3, (1, 1)),
    ],
)
def test_padding_follows_tensorflow_rule(size, kernel, stride, expected):
    assert same_padding(size, kernel, stride) == expected
    assert (size + sum(expected) - kernel) // stride + 1 == same_size(size, stride)


def test_even_kernel_reads_one_pixel_further_after_than_before():
    # kernel 2, stride 1 on three pixels: TensorFlow pads (0, 1), so output i = x[i] * w0 + x[i + 1] * w1.
    layer = SameConv2d(1, 1, 2)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[[[1.0, 10.0], [0.0, 0.0]]]]))
        layer.bias.zero_()
        found = layer(torch.tensor([[[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 9.0]]]]))
    assert found[0, 0].tolist() == [[21.0, 32.0, 3.0], [54.0, 65.0, 6.0], [87.0, 98.0, 9.0]]


@pytest.mark.parametrize(("kernel", "stride", "size"), [(11, 2, 16), (6, 2, 9), (3, 1, 5), (4, 2, 7)])
def test_convolution_equals_direct_sum(kernel, stride, size):
    generator = np.random.default_rng(3)
    image = generator.normal(size=(size, size))
    layer = SameConv2d(1, 1, kernel, stride).double()
    weight = layer.weight.detach().numpy()[0, 0]
    out = -(-size // stride)
    before = max((out - 1) * stride + kernel - size, 0) // 2
    expected = np.full((out, out), float(layer.bias.detach()))
    for row in range(out):
        for column in range(out):
            for i in range(kernel):
                for j in range(kernel):
                    y, x = row * stride + i - before, column * stride + j - before
                    if 0 <= y < size and 0 <= x < size:
                        expected[row, column] += weight[i, j] * image[y, x]
    found = layer(torch.from_numpy(image)[None, None]).detach().numpy()[0, 0]
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


def test_pool_of_an_odd_side_pads_after_and_never_wins_with_padding():
    image = -torch.arange(1.0, 8.0).repeat(7, 1)[None, None]  # all negative: zero padding would win
    pooled = SameMaxPool2d(2)(image)
    assert pooled.shape == (1, 1, 4, 4)
    assert pooled[0, 0, 0].tolist() == [-1.0, -3.0, -5.0, -7.0]


def test_pool_of_three_with_remainder_one_pads_both_sides():
    pooled = SameMaxPool2d(3)(torch.tensor([5.0, 4.0, 3.0, 2.0]).repeat(4, 1)[None, None])
    assert pooled[0, 0, 0].tolist() == [5.0, 3.0]  # windows (-inf, 5, 4) and (3, 2, -inf)
