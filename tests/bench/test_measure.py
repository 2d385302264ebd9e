"""Slices of time, and what binds."""

import time

import pytest

from fastcell.bench.measure import Row, conclude, doubts, format_rows, time_slice

PARTS = [
    "read",
    "decoded",
    "batches, stream",
    "batches, stream of blocks",
    "batches, bank",
    "classify, network alone",
    "classify, whole way",
    "train, network alone",
    "train, from the bank",
]


def row(part, rate):
    return Row(part, "", rate, 0.9 * rate, 1.1 * rate, 10.0, 0.1, 3)


def rows(*rates):
    return [row(part, rate) for part, rate in zip(PARTS, rates, strict=True)]


def test_a_slice_counts_the_steps_behind_the_first_for_its_time():
    def steps():
        time.sleep(0.2)
        yield 1000
        while True:
            time.sleep(0.01)
            yield 7

    part = time_slice(steps, 0.1, lambda: None)
    assert part.cells % 7 == 0
    assert 0 < part.cells <= 70
    assert 0.1 <= part.seconds < 5
    assert part.first_s >= 0.2


def test_a_single_step_counts_itself():
    part = time_slice(lambda: iter([5]), 1.0, lambda: None)
    assert part.cells == 5
    assert part.seconds == part.first_s > 0


@pytest.mark.parametrize(
    ("rates", "classifying"),
    [
        (
            (400_000, 16_000, 15_000, 61_000, 50_000, 2_800, 2_300, 900, 850),
            (
                "the network is the limit: 2,300 cells/s on 2 cores, 2,800 with batches already there; "
                "the stream could give 15,000."
            ),
        ),
        (
            (400_000, 16_000, 14_100, 61_000, 50_000, 900_000, 14_000, 900, 850),
            (
                "decoding is the limit: 14,000 cells/s on 2 cores; the network could take 900,000, and "
                "`pack --layout block` would give batches at 61,000."
            ),
        ),
        (
            (400_000, 300_000, 20_000, 61_000, 50_000, 900_000, 14_000, 900, 850),
            "resizing is the limit: 14,000 cells/s on 2 cores; the network could take 900,000.",
        ),
        (
            (9_000, 8_900, 8_800, 61_000, 50_000, 900_000, 8_700, 900, 850),
            (
                "reading is the limit: 8,700 cells/s on 2 cores; the network could take 900,000, and "
                "`pack --layout block` would give batches at 61,000."
            ),
        ),
    ],
)
def test_what_binds_is_the_slowest_part(rates, classifying):
    assert conclude(rows(*rates), "2 cores")[0] == f"Classifying: {classifying}"


def test_what_binds_training():
    fast_network = (400_000, 16_000, 15_000, 61_000, 50_000, 2_800, 2_300, 900_000, 40_000)
    assert conclude(rows(*fast_network), "2 cores")[1] == (
        "Training: making batches is the limit: 40,000 cells/s on 2 cores, 50,000 from the bank alone; "
        "the network could take 900,000."
    )


@pytest.mark.parametrize(
    ("rate", "verdict"),
    [
        (1000.0, "this machine classifies them as they come, with 2.3 times the speed."),
        (10_000.0, "this machine classifies 23% of them as they come; 4.3 such machines would do it."),
    ],
)
def test_the_instrument_stands_beside_it(rate, verdict):
    found = rows(400_000, 16_000, 15_000, 61_000, 50_000, 2_800, 2_300, 900, 850)
    assert conclude(found, "2 cores", rate)[2] == f"Your instrument's {rate:,.0f} cells/s: {verdict}"
    (line,) = (line for line in format_rows(found, rate).splitlines() if line.startswith("classify, whole"))
    assert line.split()[-1] == f"{2_300 / rate:.2f}"


def test_load_and_contradictions_are_said():
    def row(part, rate):
        return Row(part, "", rate, 0.9 * rate, 1.1 * rate, 1.0, 0.1, 3)

    made = [row("classify, whole way", 120), row("classify, network alone", 100), row("batches, stream", 500)]
    made += [row("train, from the bank", 50), row("train, network alone", 60), row("batches, bank", 70)]
    load, noise = doubts(made, 3.0, 2)
    assert load == (
        "Load before: 3.0 runnable tasks on 2 cores: other work ran, and the rates are too low. Measure again on an "
        "idle machine."
    )
    assert noise == (
        "'classify, whole way' (108 to 132 cells/s) came out faster than 'classify, network alone' alone (90 to 110), "
        "which it contains: that difference is noise."
    )
    assert doubts(made[3:], 0.2, 2) == ["Load before: 0.2 runnable tasks on 2 cores, idle."]
