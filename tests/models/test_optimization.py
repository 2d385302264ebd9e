import math

import pytest
import torch
from torch import nn

from fastcell.errors import ArgumentError
from fastcell.models.optimization import check_optimization, create_optimizer, parameter_groups, rate_function

SETTINGS = {
    "optimizer": "adam",
    "learning_rate": 1e-2,
    "weight_decay": 0.1,
    "betas": [0.8, 0.9],
    "schedule": "exponential",
    "warmup": 0.0,
    "final_learning_rate": 1e-4,
    "part_learning_rates": None,
}


def make_network():
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 3))


def test_matrices_decay_and_vectors_do_not():
    network = make_network()
    network[0].weight.requires_grad_(False)
    groups = parameter_groups(network, None, 3, SETTINGS)
    assert [(group["lr"], group["weight_decay"]) for group in groups] == [(1e-2, 0.1), (1e-2, 0.0)]
    assert [id(p) for p in groups[0]["params"]] == [id(network[2].weight)]
    assert [tuple(p.shape) for p in groups[1]["params"]] == [(4,), (4,), (4,), (3,)]


def test_parts_have_their_own_rate_and_an_own_loss_the_peak_rate():
    network, loss = make_network(), nn.Linear(2, 2, bias=False)
    groups = parameter_groups(network, loss, 3, {**SETTINGS, "part_learning_rates": {"head": 1e-3}})
    found = [(group["lr"], group["weight_decay"], [tuple(p.shape) for p in group["params"]]) for group in groups]
    assert found == [
        (1e-2, 0.1, [(4, 1, 3, 3), (2, 2)]),
        (1e-2, 0.0, [(4,), (4,), (4,)]),
        (1e-3, 0.1, [(3, 4)]),
        (1e-3, 0.0, [(3,)]),
    ]


@pytest.mark.parametrize(("name", "kind"), [("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW)])
def test_optimizer_by_name(name, kind):
    settings = {**SETTINGS, "optimizer": name}
    optimizer = create_optimizer(parameter_groups(make_network(), None, 3, settings), settings, fused=True)
    assert type(optimizer) is kind
    assert optimizer.defaults["betas"] == (0.8, 0.9)
    assert optimizer.defaults["fused"]


def test_rate_by_hand():
    rate = rate_function(SETTINGS, lambda: 10.0)
    assert [rate(step) for step in (0, 5, 10)] == pytest.approx([1.0, 0.1, 0.01])


def test_only_schedules_with_an_end_ask_for_the_number_of_steps():
    rate = rate_function({**SETTINGS, "schedule": "constant"}, lambda: pytest.fail("not needed"))
    assert rate(10**9) == 1.0
    for settings in (SETTINGS, {**SETTINGS, "schedule": "constant", "warmup": 0.1}):
        with pytest.raises(ArgumentError, match="schedule must be constant in a run without an end"):
            rate_function(settings, lambda: math.inf)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"optimizer": "sgd"}, "optimizer must be one of adam, adamw, got 'sgd'"),
        ({"schedule": "step"}, "schedule must be one of constant, cosine, one_cycle, exponential, got 'step'"),
        ({"learning_rate": math.nan}, "learning_rate must be above 0, got nan"),
        ({"betas": [0.9, 1.0]}, "betas must be two numbers"),
        ({"warmup": -0.1}, "warmup must be in"),
        ({"part_learning_rates": {"head": 0.0}}, "part_learning_rates of head must be above 0"),
    ],
)
def test_settings_outside_their_range(arguments, message):
    check_optimization(**SETTINGS)
    with pytest.raises(ArgumentError, match=message):
        check_optimization(**{**SETTINGS, **arguments})
