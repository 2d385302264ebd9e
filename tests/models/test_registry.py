import sys
import types

import pytest
import torch
from torch import nn

from fastcell.errors import ArgumentError
from fastcell.models import registry
from fastcell.models.registry import NETWORKS, create_network


# By hand from Table I: convolutions 11*11*32+32, 6*6*32*64+64, 3*3*64*128+128; batch norm 2*(32+64+128);
# connections 2048*64+64, 64*4+4; the wide variant adds 2048*2048+2048.
# Gao: 7*7*6+6, 4*4*6*16+16, 3*3*16*32+32; 2*(6+16+32); 512*150+150, 150*4+4.
# Residual: 5*5*32+2*32; blocks of a to b maps have 9*a*b + 9*b*b + a*b + 3*2*b; 128*4+4.
@pytest.mark.parametrize(
    ("name", "count"), [("cellnet", 283_396), ("cellnet-wide", 4_479_748), ("gao", 84_154), ("residual", 308_900)]
)
def test_number_of_parameters(name, count):
    assert sum(parameter.numel() for parameter in create_network(name, 4).parameters()) == count


@pytest.mark.parametrize(("name", "flat"), [("cellnet", 2048), ("cellnet-wide", 2048), ("gao", 512)])
def test_flattened_values_are_the_papers(name, flat):
    network = create_network(name, 4)
    assert network.features(torch.zeros(1, 1, 128, 128)).flatten(1).shape == (1, flat)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize(("size", "classes"), [(8, 1), (50, 2), (64, 4), (97, 3), (160, 7)])
def test_any_size_and_number_of_classes(name, size, classes):
    network = create_network(name, classes, size).eval()
    logits = network(torch.rand(2, 1, size, size))
    assert logits.shape == (2, classes)
    assert bool(logits.isfinite().all())


def test_unknown_name_lists_what_there_is(monkeypatch):
    monkeypatch.setattr(registry, "_has_timm", lambda: False)
    with pytest.raises(ArgumentError, match="cellnet, cellnet-wide, gao, residual, student.*; with timm"):
        create_network("resnet18", 4)


def test_timm_network_gets_one_channel(monkeypatch):
    def create_model(name, **arguments):
        if "img_size" in arguments and name == "convnet":
            raise TypeError("unexpected keyword argument 'img_size'")
        calls.append((name, arguments))
        return nn.Flatten()

    calls = []
    timm = types.SimpleNamespace(list_models=lambda: ["convnet", "vit"], create_model=create_model)
    monkeypatch.setitem(sys.modules, "timm", timm)
    monkeypatch.setattr(registry, "_has_timm", lambda: True)
    create_network("convnet", 3, 64)
    create_network("vit", 3, 64)
    assert calls == [
        ("convnet", {"in_chans": 1, "num_classes": 3}),
        ("vit", {"in_chans": 1, "num_classes": 3, "img_size": 64}),
    ]
    with pytest.raises(ArgumentError, match="nearest: convnet"):
        create_network("convnat", 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 128), "num_classes must be at least 1"),
        ((4, 7), "at least 8 pixels"),
        ((4, 64, "zero"), "init must be one of kaiming, torch, paper"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ArgumentError, match=message):
        create_network("cellnet", *arguments)
