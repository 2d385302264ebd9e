"""Where cells are kept: the fastest place that they fit, and a line that says why."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fastcell.errors import ArgumentError, FastcellError
from fastcell.loading.stores.placement import (
    SHARE_OF_FREE,
    Budget,
    Placement,
    free_memory,
    is_out_of_memory,
    place,
    size_text,
)

GB = 10**9


def placed(store, size, budget, num_ranks=1):
    placement = place(store, 1000, size, size // num_ranks, num_ranks, budget)
    return placement.store, placement.memory, placement.num_parts, placement.pool_bytes


@pytest.mark.parametrize(("store", "size", "budget", "num_ranks", "want"), [
    ("auto", 3 * GB, Budget(None, 4 * GB), 1, ("bank", "host", 1, 3 * GB)),
    ("auto", 5 * GB, Budget(None, 4 * GB), 1, ("stream", "host", 1, 0)),
    ("bank", 5 * GB, Budget(None, 4 * GB), 1, ("stream", "host", 1, 0)),
    ("auto", 5 * GB, Budget(None, 4 * GB), 2, ("bank", "host", 8, 5 * GB // 2)),
    ("auto", 5 * GB, Budget(None, 4 * GB), 3, ("stream", "host", 1, 0)),
    ("auto", 5 * GB, Budget(8 * GB, 4 * GB), 1, ("bank", "gpu", 1, 5 * GB)),
    ("auto", 30 * GB, Budget(8 * GB, 40 * GB), 4, ("bank", "gpu", 8, 30 * GB // 4)),
    ("auto", 30 * GB, Budget(8 * GB, 40 * GB), 1, ("bank", "pinned", 1, 30 * GB)),
    ("auto", 50 * GB, Budget(8 * GB, 40 * GB), 1, ("stream", "gpu", 1, 0)),
    ("bank", 50 * GB, Budget(8 * GB, 40 * GB), 1, ("stream", "gpu", 1, 0)),
    ("stream", 1, Budget(8 * GB, 40 * GB), 1, ("stream", "gpu", 1, 0)),
])  # fmt: skip
def test_the_fastest_place_that_fits(store, size, budget, num_ranks, want):
    assert placed(store, size, budget, num_ranks) == want


@given(
    st.sampled_from(["auto", "bank"]),
    st.integers(1, 10**13),
    st.one_of(st.none(), st.integers(1, 10**12)),
    st.integers(1, 10**12),
    st.sampled_from([1, 2, 3, 4, 8]),
)
def test_nothing_takes_more_than_its_budget(store, size, gpu, host, num_ranks):
    budget = Budget(gpu, host)
    placement = place(store, 10, size, -(-size // num_ranks), num_ranks, budget)
    assert placement.pool_bytes <= (gpu if placement.memory == "gpu" and gpu is not None else host)
    left = budget.less(placement)
    assert min(left.host_bytes, left.gpu_bytes or 0) >= 0
    assert (placement.store == "stream") == (placement.pool_bytes == 0)


def test_the_line_says_what_and_why():
    text = place("auto", 24_000, 5 * GB, 5 * GB, 1, Budget(None, 8 * GB)).reason
    assert text == "bank: 24,000 cells, 5 GB in memory (8 GB allowed); later epochs neither read nor decode"
    assert "more than the 4 GB of memory allowed" in place("auto", 9, 5 * GB, 5 * GB, 1, Budget(None, 4 * GB)).reason
    asked = place("bank", 9, 5 * GB, 5 * GB, 1, Budget(None, GB)).reason
    assert asked == (
        "stream: 9 cells, 5 GB are more than the 1 GB of memory allowed for the bank that was asked for; "
        "every epoch reads and decodes"
    )
    assert "pinned host memory" in place("auto", 9, 5 * GB, 5 * GB, 1, Budget(GB, 9 * GB)).reason


def test_errors():
    with pytest.raises(ArgumentError, match="store must be one of auto, stream, bank, got 'disk'"):
        place("disk", 1, 1, 1, 1, Budget(None, 1))
    with pytest.raises(ArgumentError, match="bank_gib must be above 0"):
        place("bank", 1, 1, 1, 1, Budget(None, 0))


def test_a_second_bank_gets_what_the_first_leaves():
    first = Placement("bank", "gpu", 1, 6 * GB, "")
    assert Budget(8 * GB, 3 * GB).less(first) == Budget(2 * GB, 3 * GB)
    assert Budget(8 * GB, 3 * GB).less(Placement("bank", "pinned", 1, 2 * GB, "")) == Budget(8 * GB, GB)


def test_sizes_are_readable():
    assert [size_text(size) for size in (12, 4096, 131 * 10**6, 5_320_000_000, 2 * 10**12)] == [
        "12 bytes",
        "4.1 kB",
        "131 MB",
        "5.32 GB",
        "2 TB",
    ]


def test_free_memory_is_the_users_limit_or_half_of_what_is_free(monkeypatch):
    monkeypatch.setattr("fastcell.loading.stores.placement.available_memory", lambda: 12 * GB)
    assert SHARE_OF_FREE == 0.5
    assert free_memory(torch.device("cpu"), None, 1) == Budget(None, 6 * GB)
    assert free_memory(torch.device("cpu"), None, 3) == Budget(None, 2 * GB)
    assert free_memory(torch.device("cpu"), 5, 3) == Budget(None, 5)
    assert free_memory(torch.device("cuda", 0), 5, 3) == Budget(5, 5)


@pytest.mark.parametrize(
    ("error", "want"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory"), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), True),
        (FastcellError("9 bytes of host memory must be free to be pinned, got CUDA error 2."), True),
        (RuntimeError("something else"), False),
    ],
)
def test_out_of_memory_is_told_from_other_errors(error, want):
    assert is_out_of_memory(error) == want
