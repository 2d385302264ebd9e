from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn
from torch.nn import functional

from fastcell.models.lightning_module import CellModule
from fastcell.models.penultimate import SharedPenultimate, features_and_logits

IMAGES = torch.rand(5, 1, 16, 16, generator=torch.Generator().manual_seed(0))


def module(**settings):
    torch.manual_seed(0)
    return CellModule(classes=["a", "b", "c"], preprocessing={"image_size": 16}, **settings).eval()


@pytest.mark.parametrize(("network", "units"), [("cellnet", 64), ("gao", 150), ("residual", 128)])
@pytest.mark.parametrize("settings", [{}, {"input_norm": True}, {"ema_decay": 0.9}, {"channels_last": False}])
def test_the_last_layer_of_the_features_gives_the_logits(network, units, settings):
    model = module(network=network, **settings)
    if model.average is not None:
        with torch.no_grad():
            [layer for layer in model.average.module.modules() if isinstance(layer, nn.Linear)][-1].bias += 1
    with torch.inference_mode():
        features, logits = model.features_and_logits(IMAGES)
        evaluated = model.network if model.average is None else model.average.module
        last = [layer for layer in evaluated.modules() if isinstance(layer, nn.Linear)][-1]
        assert features.shape == (5, units)
        assert torch.equal(last(features), logits)
        assert torch.equal(logits, model(IMAGES))
    assert not any(layer._forward_hooks for layer in model.modules())


def test_half_precision_gives_float32():
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
        features, logits = module().features_and_logits(IMAGES)
    assert features.dtype == logits.dtype == torch.float32


def test_the_layer_that_ran_last_counts_not_the_one_registered_last():
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.head, self.body = nn.Linear(7, 3), nn.Linear(256, 7)

        def forward(self, images):
            return self.head(functional.relu(self.body(images.flatten(1))))

    own = Own()
    features, logits = features_and_logits(own, IMAGES)
    assert torch.equal(features, functional.relu(own.body(IMAGES.flatten(1))))
    assert torch.equal(own.head(features), logits)


def test_a_network_that_scales_its_outputs_has_features_and_one_without_a_layer_has_none():
    class Scaled(nn.Sequential):
        def forward(self, images):
            return super().forward(images) / 2

    scaled = Scaled(nn.Flatten(), nn.Linear(256, 6), nn.Linear(6, 3))
    features, logits = features_and_logits(scaled, IMAGES)
    assert torch.equal(scaled[2](features) / 2, logits)
    pooled = nn.Sequential(nn.Conv2d(1, 3, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    features, logits = features_and_logits(pooled, IMAGES)
    assert features.shape == (5, 0)
    assert torch.equal(logits, pooled(IMAGES))


def test_a_failing_network_keeps_no_hooks():
    network = nn.Sequential(nn.Flatten(), nn.Linear(9, 3))
    with pytest.raises(RuntimeError):
        features_and_logits(network, IMAGES)
    assert not network[1]._forward_hooks


class Doubled(nn.Module):
    """A network whose logits are not the output of its last layer itself."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(64, 5), nn.Linear(5, 3))

    def forward(self, images):
        return 2 * self.layers(images)


def test_threads_share_a_network():
    network = Doubled().eval()
    shared = SharedPenultimate(network)
    images = [torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(number)) for number in range(8)]
    with torch.inference_mode():
        expected = [features_and_logits(network, batch) for batch in images]

        def run(number):
            with torch.inference_mode():
                return [shared(images[number]) for _ in range(20)]

        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(run, range(8)))
    for many, (features, logits) in zip(found, expected, strict=True):
        for one in many:
            assert torch.equal(one[0], features)
            assert torch.equal(one[1], logits)
