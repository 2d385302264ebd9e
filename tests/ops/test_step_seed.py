"""Seeds of a step: the same for the same step, and others for every other one."""

from fastcell.ops.step_seed import step_seed


def test_seeds_differ_with_each_argument():
    base = ("network", 0, 1, 2, 0)
    others = [("loss", 0, 1, 2, 0), ("network", 1, 1, 2, 0), ("network", 0, 2, 1, 0), ("network", 0, 1, 2, 1)]
    seeds = {step_seed(*arguments) for arguments in [base, *others]}
    assert len(seeds) == 5
    assert all(0 <= seed < 1 << 63 for seed in seeds)
    assert step_seed(*base) in seeds
