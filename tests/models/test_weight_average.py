"""The average is torch's to the bit, rises as it says, goes on as it was saved, and reads nothing from the device."""

import copy

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils._python_dispatch import TorchDispatchMode

from fastcell.models.weight_average import WeightAverage


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(12, 2))


def train(model, seed):
    """Change all weights and statistics."""
    torch.manual_seed(seed)
    model.train()(torch.rand(5, 1, 4, 4)).sum().backward()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter))


def values(average):
    return [*average.module.parameters(), *average.module.buffers()]


def test_a_constant_decay_is_that_of_torch():
    model = network()
    ours, torchs = (
        WeightAverage(model, 0.9),
        AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9), use_buffers=True),
    )
    ours.decay_rises = False
    for seed in range(4):
        train(model, seed)
        ours.update_parameters(model)
        torchs.update_parameters(model)
        assert all(torch.equal(a, b) for a, b in zip(values(ours), values(torchs), strict=True))
    assert list(ours.state_dict()) == list(torchs.state_dict())
    assert int(ours.n_averaged) == 4
    assert not any(parameter.requires_grad for parameter in ours.parameters())


def averages(decay, weights):
    """The averaged bias of a layer that had these weights in turn."""
    layer = nn.Linear(1, 1)
    average, found = WeightAverage(layer, decay), []
    for weight in weights:
        with torch.no_grad():
            layer.bias.fill_(weight)
        average.update_parameters(layer)
        found.append(float(average.module.bias))
    return found


def test_the_decay_rises_to_its_value():
    assert averages(0.75, [1.0, 5.0]) == pytest.approx([1.0, (2 * 1 + 9 * 5) / 11])
    # Without a rise, the last one would be 1 + 4 * (1 - 0.999**100) = 1.38.
    assert 4.99 < averages(0.999, [1.0] + [5.0] * 100)[-1] < 5.0
    assert averages(0.5, [1.0] * 50 + [2.0])[-1] == pytest.approx(1.5)


def test_a_saved_average_goes_on():
    model = network()
    average = WeightAverage(model, 0.9)
    for seed in range(3):
        train(model, seed)
        average.update_parameters(model)
    again = WeightAverage(network(), 0.9)
    again.load_state_dict(copy.deepcopy(average.state_dict()))
    train(model, 3)
    for one in (average, again):
        one.update_parameters(model)
    assert all(torch.equal(a, b) for a, b in zip(values(average), values(again), strict=True))


class NoReading(TorchDispatchMode):
    """Fails where a value is read from a tensor, which waits for the device."""

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        assert function not in (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.is_nonzero.default)
        return function(*arguments, **(options or {}))


def test_an_update_reads_nothing_from_the_device():
    model = network()
    ours, torchs = WeightAverage(model, 0.9), AveragedModel(model, use_buffers=True)
    with NoReading():
        for _ in range(3):
            ours.update_parameters(model)
        with pytest.raises(AssertionError):
            torchs.update_parameters(model)
