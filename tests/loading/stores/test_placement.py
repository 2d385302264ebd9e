"""Where cells are kept: the fastest place that they fit, and a line that says why."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastcell.errors import ArgumentError
from fastcell.loading.stores.placement import Budget, Placement, SavedPlacement, place, restore_placement, size_text

GB = 10**9


def placed(store: str, size: int, budget: Budget, num_ranks: int = 1) -> tuple[str, str, int, int]:
    placement = place(store, 1000, size, size // num_ranks, num_ranks, budget)
    return placement.store, placement.memory, placement.num_parts, placement.pool_bytes


@pytest.mark.parametrize(("store", "size", "budget", "num_ranks", "want"), [
    ("auto", 3 * GB, Budget(None, 4 * GB), 1, ("bank", "host", 1, 3 * GB)),
    ("auto", 5 * GB, Budget(None, 4 * GB), 1, ("stream", "host", 1, 0)),
    ("bank", 5 * GB, Budget(None, 4 * GB), 1, ("window", "host", 1, 4 * GB)),
    ("auto", 5 * GB, Budget(None, 4 * GB), 2, ("bank", "host", 8, 5 * GB // 2)),
    ("auto", 5 * GB, Budget(None, 4 * GB), 3, ("stream", "host", 1, 0)),
    ("auto", 5 * GB, Budget(8 * GB, 4 * GB), 1, ("bank", "gpu", 1, 5 * GB)),
    ("auto", 30 * GB, Budget(8 * GB, 40 * GB), 4, ("bank", "gpu", 8, 30 * GB // 4)),
    ("auto", 30 * GB, Budget(8 * GB, 40 * GB), 1, ("bank", "pinned", 1, 30 * GB)),
    ("auto", 50 * GB, Budget(8 * GB, 40 * GB), 1, ("stream", "gpu", 1, 0)),
    ("bank", 50 * GB, Budget(8 * GB, 40 * GB), 1, ("window", "gpu", 1, 8 * GB)),
    ("stream", 1, Budget(8 * GB, 40 * GB), 1, ("stream", "gpu", 1, 0)),
])  # fmt: skip
def test_the_fastest_place_that_fits(
    store: str, size: int, budget: Budget, num_ranks: int, want: tuple[str, str, int, int]
) -> None:
    assert placed(store, size, budget, num_ranks) == want


@given(
    st.sampled_from(["auto", "bank"]),
    st.integers(1, 10**13),
    st.one_of(st.none(), st.integers(1, 10**12)),
    st.integers(1, 10**12),
    st.sampled_from([1, 2, 3, 4, 8]),
)
def test_nothing_takes_more_than_its_budget(store: str, size: int, gpu: int | None, host: int, num_ranks: int) -> None:
    budget = Budget(gpu, host)
    placement = place(store, 10, size, -(-size // num_ranks), num_ranks, budget)
    assert placement.pool_bytes <= (gpu if placement.memory == "gpu" and gpu is not None else host)
    left = budget.less(placement)
    assert min(left.host_bytes, left.gpu_bytes or 0) >= 0
    assert (placement.store == "stream") == (placement.pool_bytes == 0)


def test_the_line_says_what_and_why() -> None:
    text = place("auto", 24_000, 5 * GB, 5 * GB, 1, Budget(None, 8 * GB)).reason
    assert text == "bank: 24,000 cells, 5 GB in memory (8 GB allowed); later epochs neither read nor decode"
    assert "more than the 4 GB of memory allowed" in place("auto", 9, 5 * GB, 5 * GB, 1, Budget(None, 4 * GB)).reason
    rolling = place("bank", 9, 5 * GB, 5 * GB, 1, Budget(None, GB)).reason
    assert rolling.startswith("rolling window: 1 GB of memory over 9 cells, 5 GB (20% at a time)")
    assert "pinned host memory" in place("auto", 9, 5 * GB, 5 * GB, 1, Budget(GB, 9 * GB)).reason


def test_errors() -> None:
    with pytest.raises(ArgumentError, match="store must be one of auto, stream, bank, got 'disk'"):
        place("disk", 1, 1, 1, 1, Budget(None, 1))
    with pytest.raises(ArgumentError, match="bank_gib must be above 0"):
        place("bank", 1, 1, 1, 1, Budget(None, 0))


def test_a_second_bank_gets_what_the_first_leaves() -> None:
    first = Placement("bank", "gpu", 1, 6 * GB, "")
    assert Budget(8 * GB, 3 * GB).less(first) == Budget(2 * GB, 3 * GB)
    assert Budget(8 * GB, 3 * GB).less(Placement("bank", "pinned", 1, 2 * GB, "")) == Budget(8 * GB, GB)


def test_sizes_are_readable() -> None:
    assert [size_text(size) for size in (12, 4096, 131 * 10**6, 5_320_000_000, 2 * 10**12)] == [
        "12 bytes",
        "4.1 kB",
        "131 MB",
        "5.32 GB",
        "2 TB",
    ]


BANK = Placement("bank", "host", 1, 100, "bank: it fits")


@pytest.mark.parametrize(
    ("found", "before", "num_ranks", "store", "num_parts", "pool_bytes"),
    [
        (Placement("stream", "host", 1, 0, ""), SavedPlacement("stream", 1, 0, 2), 2, "stream", 1, 0),
        (BANK, SavedPlacement("bank", 1, 100, 2), 1, "bank", 1, 100),
        (BANK, SavedPlacement("bank", 1, 100, 1), 4, "bank", 1, 100),
        (
            BANK,
            SavedPlacement("bank", 8, 60, 2),
            1,
            "bank",
            8,
            100,
        ),  # in parts, though all would fit: the batches are others
        (BANK, SavedPlacement("bank", 8, 60, 2), 4, "bank", 8, 100),
        (BANK, SavedPlacement("window", 1, 64, 1), 1, "window", 1, 64),
        (Placement("window", "host", 1, 30, ""), SavedPlacement("window", 1, 64, 1), 1, "window", 1, 64),
    ],
)
def test_a_run_that_goes_on_gets_its_batches(
    found: Placement, before: SavedPlacement, num_ranks: int, store: str, num_parts: int, pool_bytes: int
) -> None:
    placement = restore_placement(found, before, num_ranks)
    assert (placement.store, placement.num_parts, placement.pool_bytes) == (store, num_parts, pool_bytes)


@pytest.mark.parametrize(
    ("found", "before", "num_ranks", "message"),
    [
        (
            BANK,
            SavedPlacement("stream", 1, 0, 2),
            1,
            "number of processes must be 2 as before, since the order of the stream",
        ),
        (
            BANK,
            SavedPlacement("window", 1, 9, 1),
            2,
            "number of processes must be 1 as before, since the order of the window",
        ),
        (BANK, SavedPlacement("bank", 8, 60, 2), 3, "a bank of 8 part.s., on 2 process.es., which cannot be on 3"),
        (Placement("bank", "host", 8, 20, ""), SavedPlacement("bank", 1, 100, 1), 2, "a bank of 1 part"),
        (Placement("window", "host", 1, 20, ""), SavedPlacement("bank", 1, 100, 1), 1, "more memory"),
    ],
)
def test_what_cannot_go_on_says_why(found: Placement, before: SavedPlacement, num_ranks: int, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        restore_placement(found, before, num_ranks)
