import pytest

from fastcell.errors import ArgumentError
from fastcell.models.schedule import rate_factor


def test_constant_with_warmup():
    assert [rate_factor("constant", step, 10, warmup=0.4) for step in (0, 1, 3, 4, 10)] == pytest.approx(
        [0.2, 0.4, 0.8, 1, 1]
    )


def test_cosine_by_value():
    factors = [rate_factor("cosine", step, 100, final=0.1) for step in (0, 50, 100, 120)]
    assert factors == pytest.approx([1.0, 0.55, 0.1, 0.1])


def test_exponential_has_a_constant_ratio_and_ends_at_final():
    factors = [rate_factor("exponential", step, 4, final=1e-2) for step in range(5)]
    assert factors == pytest.approx([1.0, 10**-0.5, 1e-1, 10**-1.5, 1e-2])


def test_one_cycle_by_value():
    factors = [rate_factor("one_cycle", step, 100, warmup=0.2, final=0.0) for step in (0, 10, 20, 60, 100)]
    assert factors == pytest.approx([1 / 25, (1 + 1 / 25) / 2, 1.0, 0.5, 0.0])


def test_unknown_name():
    with pytest.raises(ArgumentError, match="schedule must be one of constant"):
        rate_factor("linear", 0, 1)
