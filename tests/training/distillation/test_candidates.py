"""Budgets of time, and which network one allows."""

import pytest

from fastcell.errors import ArgumentError
from fastcell.loading.preprocessing import Preprocessing
from fastcell.training.distillation.candidates import (
    TimedCandidate,
    check_candidate,
    choose_candidate,
    read_budget,
    time_candidates,
)

TIMED = [
    TimedCandidate("student-small", 32, "openvino", "int8", 4.0),
    TimedCandidate("student-wide", 32, "openvino", "int8", 18.0),
    TimedCandidate("student", 32, "openvino", "int8", 8.0),
]


@pytest.mark.parametrize(
    ("text", "us"), [("10us", 10.0), ("0.01ms", 10.0), ("10", 10.0), (" 7.5 µs ", 7.5), ("500ns", 0.5), (".5s", 5e5)]
)
def test_budgets_have_units(text, us):
    assert read_budget(text) == pytest.approx(us)


@pytest.mark.parametrize("text", ["", "us", "0us", "-1us", "1e3us", "ten", "10 cells", "nan", "9" * 400])
def test_other_budgets_are_refused(text):
    with pytest.raises(ArgumentError, match="--budget must be a time a cell"):
        read_budget(text)


@pytest.mark.parametrize(("budget", "network"), [(4.0, "student-small"), (17.9, "student"), (1e6, "student-wide")])
def test_the_largest_within_the_budget_is_chosen(budget, network):
    assert choose_candidate(TIMED, budget).network == network


def test_a_budget_below_all_is_refused_with_the_least_one():
    with pytest.raises(ArgumentError, match=r"at least 4\.0 us, which student-small takes here"):
        choose_candidate(TIMED, 3.9)


def test_networks_are_really_timed():
    found = time_candidates(Preprocessing(64), 3, [("student-small", 32), ("student-wide", 32)], "torch")
    assert [one[:4] for one in found] == [(name, 32, "torch", "fp32") for name in ("student-small", "student-wide")]
    assert 0 < found[0].us_per_cell < found[1].us_per_cell


def test_images_that_keep_raw_pixels_have_no_smaller_form():
    check_candidate(Preprocessing(64))
    check_candidate(Preprocessing(64, "scale", scale_um_per_px=0.5))
    with pytest.raises(ArgumentError, match="keeps the pixels of the raw image"):
        check_candidate(Preprocessing(64, "scale"))
