"""The work of a run, and the time left, by value."""

import math
from dataclasses import replace

import pytest

from fastcell.training.run_plan import RunClock, RunPlan

PLAN = RunPlan(
    num_steps=120,
    steps_per_epoch=30,
    steps_per_batch=1.0,
    batches_per_epoch=30,
    batches_per_validation=30,
    epochs_per_validation=1,
    cells_per_step=10,
    validation_cells=50,
    final_cells=80,
)


def test_a_plan_counts_training_validation_and_the_final_evaluation():
    assert (PLAN.num_epochs, PLAN.num_cells) == (4, 1200 + 4 * 50 + 80)
    assert [PLAN.num_validations(step) for step in (0, 29, 30, 31, 119, 120)] == [0, 0, 1, 1, 3, 4]


@pytest.mark.parametrize(
    ("changes", "steps", "expected"),
    [
        ({"validation_cells": 0}, (30, 120), (0, 0)),
        ({"batches_per_validation": 10}, (9, 10, 35, 120), (0, 1, 3, 12)),
        ({"batches_per_validation": 20}, (20, 30, 60), (1, 1, 2)),  # the rest of an epoch is not validated
        ({"batches_per_validation": 50, "epochs_per_validation": None}, (49, 50, 120), (0, 1, 2)),
        ({"epochs_per_validation": 2}, (30, 60, 90, 120), (0, 1, 1, 2)),
        ({"batches_per_validation": math.inf}, (29, 30, 120), (0, 1, 4)),
        # four steps a call: 8 calls for 30 steps, validation after the fourth and the eighth
        (
            {"steps_per_batch": 4.0, "batches_per_epoch": 8, "batches_per_validation": 4},
            (12, 16, 28, 30, 46),
            (0, 1, 1, 2, 3),
        ),
        # two batches a step
        (
            {"steps_per_batch": 0.5, "batches_per_epoch": 60, "batches_per_validation": 20},
            (9, 10, 30),
            (0, 1, 3),
        ),
    ],
)
def test_validations_up_to_a_step(changes, steps, expected):
    plan = replace(PLAN, **changes)
    assert tuple(plan.num_validations(step) for step in steps) == expected


def test_a_run_without_an_end_has_no_total():
    plan = replace(PLAN, num_steps=math.inf)
    assert (plan.num_epochs, plan.num_cells) == (None, None)


def train(clock, now, steps, step_s):
    for _ in range(steps):
        now += step_s
        clock.finish_batch(clock.step + 1, now)
    return now


def test_time_left_is_unknown_in_the_warm_up_and_then_right():
    """Ten slow steps of 0.3 s, then 0.1 s a step: known after three seconds more, and not 36 s."""
    clock = RunClock(PLAN, 0, 1000.0)
    now = train(clock, 1000.0, 10, 0.3)
    assert clock.left_s(now) is None
    now = train(clock, now, 19, 0.1)
    assert clock.left_s(now) is None
    now = train(clock, now, 1, 1.2)
    assert clock.steps_per_s(now) == pytest.approx(20 / 3.1)
    validation = 4 * 50 + 80  # cells, at the rate of training as long as no validation has run
    assert clock.left_s(now) == pytest.approx((90 + validation / 10) * 3.1 / 20)


def test_time_left_takes_evaluation_at_its_own_rate():
    clock = RunClock(PLAN, 0, 0.0)
    now = train(clock, 0.0, 30, 0.2)
    clock.start_evaluation(now)
    clock.advance_evaluation(0.5, now + 1.0)  # 25 cells/s
    assert clock.left_s(now + 1.0) == pytest.approx(90 * 0.2 + (3.5 * 50 + 80) / 25)
    assert clock.cells_done == 300 + 25
    clock.advance_evaluation(1.0, now + 2.0)
    clock.end_validation(now + 2.0)
    assert clock.cells_done == 350
    assert clock.steps_per_s(now + 2.0) == pytest.approx(5.0)  # validation is no training time
    now = train(clock, now + 2.0, 90, 0.2)
    for _ in range(3):
        clock.start_evaluation(now)
        clock.advance_evaluation(1.0, now + 2.0)
        clock.end_validation(now + 2.0)
        now += 2.0
    assert clock.left_s(now) == pytest.approx(80 / 25)
    clock.start_evaluation(now, final=True)
    clock.advance_evaluation(0.25, now + 4.0)  # 5 cells/s: the test subset is read from disk
    assert clock.left_s(now + 4.0) == pytest.approx(60 / 5)
    assert clock.cells_done == PLAN.num_cells - 60


def test_a_resumed_run_counts_its_own_steps_only():
    clock = RunClock(PLAN, 75, 0.0)
    assert clock.cells_done == 75 * 10 + 2 * 50
    now = train(clock, 0.0, 10, 0.5)
    assert clock.left_s(now) is None
    now = train(clock, now, 10, 0.5)
    assert clock.steps_per_s(now) == pytest.approx(2.0)
    assert clock.left_s(now) == pytest.approx(25 / 2 + (2 * 50 + 80) / 20)


def test_a_run_without_an_end_has_no_time_left():
    clock = RunClock(replace(PLAN, num_steps=math.inf), 0, 0.0)
    now = train(clock, 0.0, 30, 0.2)
    assert clock.steps_per_s(now) == pytest.approx(5.0)
    assert clock.left_s(now) is None


def test_a_run_that_stops_early_ends_with_its_final_evaluation():
    clock = RunClock(PLAN, 0, 0.0)
    now = train(clock, 0.0, 5, 0.2)
    clock.start_evaluation(now, final=True)
    clock.advance_evaluation(1.0, now + 1)
    assert clock.cells_done == PLAN.num_cells
    assert clock.left_s(now + 1) == 0
