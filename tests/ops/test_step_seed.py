"""Seeds of a step: the same for the same step, and others for every other one."""

import random

import numpy as np
import torch

from fastcell.ops.step_seed import own_draws, step_seed


def test_seeds_differ_with_each_argument():
    base = ("network", 0, 1, 2, 0)
    others = [("loss", 0, 1, 2, 0), ("network", 1, 1, 2, 0), ("network", 0, 2, 1, 0), ("network", 0, 1, 2, 1)]
    seeds = {step_seed(*arguments) for arguments in [base, *others]}
    assert len(seeds) == 5
    assert all(0 <= seed < 1 << 63 for seed in seeds)
    assert step_seed(*base) in seeds


def draws():
    return torch.rand(1).item(), np.random.rand(), random.random()  # noqa: NPY002


def test_own_draws_follow_from_the_seed_and_leave_no_trace():
    torch.manual_seed(1), np.random.seed(1), random.seed(1)  # noqa: NPY002
    without = draws()
    torch.manual_seed(1), np.random.seed(1), random.seed(1)  # noqa: NPY002
    found = []
    for seed in (5, 5, 6):
        with own_draws(seed, torch.device("cpu")):
            found.append(draws())
    assert found[0] == found[1]
    assert not set(found[0]) & set(found[2])
    assert draws() == without
