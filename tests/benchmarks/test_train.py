"""Stalls, the paper's time and the time to an accuracy are computed as their rows say; loaders give what they name."""

import dataclasses
import json

import pytest
import torch

from fastcell.simulator.synth import synthesize


@pytest.fixture
def train(program):
    return program("train")


def test_a_stall_is_what_is_missing_from_headspace(train, program):
    row = program("harness").Row("bank", "x", 80.0, 79.0, 81.0, 5.0, 3, 100, 0.8, 0.75, 0.9)
    found = train.as_train_row(row, "cellnet")
    assert (found.stall, found.stall_low, found.stall_high) == pytest.approx((0.2, 0.1, 0.25))
    assert (found.network, found.cells_per_s) == ("cellnet", 80.0)
    assert found.transform_share == 0
    assert train.as_train_row(row, "cellnet", 0.002).transform_share == pytest.approx(0.16)
    assert train.as_train_row(dataclasses.replace(row, contestant="headspace, x"), "gao", 0.002).transform_share == 0


def test_contestants_train_on_what_they_name(train, tmp_path):
    data = tmp_path / "cells"
    synthesize(data, 300, 0, jobs=1)
    made = train.make_contestants(data, "cellnet", "32-true", 32, 32, 64, torch.device("cpu"))
    assert 0 < train.time_images(data, "32-true", 32, 32, torch.device("cpu"), num=2) < 1
    assert [name.rpartition(",")[0] for name in made] == ["headspace", "replay", "bank", "bank, planned", "stream"]
    fixed, replay = (list(made[f"{name}, cellnet:32-true:32"].work.fixed) for name in ("headspace", "replay"))
    assert len(fixed) == 3  # the first is not timed
    assert torch.equal(fixed[0].cell_ids, fixed[1].cell_ids)
    assert len(replay) >= 5
    ids = torch.cat([batch.cell_ids for batch in replay])
    assert len(ids.unique()) == len(ids)  # one epoch: no cell twice
    for contestant in made.values():
        done = contestant.work()
        assert done.cells == 64
        assert done.seconds > 0


METRICS = {"steps": 12, "seconds": {"train": 30.0}, "cells_per_s": {"train": 520.0}}


def test_the_whole_of_the_papers_training_is_called_calculated_unless_it_was_run(train):
    row = train.paper_row(METRICS, 41.0, 12)
    assert (row.whole_s, row.is_calculated, row.measured_s, row.validate_s) == (7500.0, True, 41.0, 0.0)
    whole = {**METRICS, "steps": 3000, "seconds": {"train": 9.0, "validate": 2.0}}
    row = train.paper_row(whole, 20.0, 3000)
    assert (row.whole_s, row.is_calculated, row.validate_s) == (9.0, False, 2.0)
    with pytest.raises(SystemExit, match="3000 iterations were asked for, 12 were run"):
        train.paper_row(METRICS, 41.0, 3000)


def test_seeds_that_do_not_reach_the_target_are_told_and_not_averaged(train):
    watches = [train.Watch(0.99) for _ in range(3)]
    for number, (watch, seen) in enumerate(zip(watches, ([0.9, 0.995], [0.98, 0.97], [0.991, 0.999]), strict=True)):
        watch.start, watch.cells = 0.0, 100 * number
        for accuracy in seen:
            watch.see(accuracy)
    watches[0].reached_s, watches[2].reached_s = 4.0, 6.0
    row = train.accuracy_row("demo", 0.99, 500, watches)
    assert row.seconds == [4.0, None, 6.0]
    assert row.best == [0.995, 0.98, 0.999]
    assert (row.mean_s, row.std_s) == (5.0, pytest.approx(2**0.5))
    none = train.accuracy_row("demo", 0.99, 500, [watches[1]])
    assert (none.mean_s, none.std_s) == (None, None)


def test_time_stops_at_the_first_validation_that_reaches_the_target(train):
    watch = train.Watch(0.5)
    watch.start = 0.0
    watch.see(0.4)
    assert watch.reached_s is None
    watch.see(0.5)
    first = watch.reached_s
    assert first is not None
    watch.see(0.9)
    assert watch.reached_s == first


@pytest.mark.slow
def test_a_fit_ends_when_the_accuracy_is_reached(train, tmp_path, monkeypatch):
    data = tmp_path / "cells"
    synthesize(data, 600, 0, jobs=1)
    arguments = ["train.py", "--part", "accuracy", "--to-accuracy", "0.3", "--seeds", "1", "--epochs", "3"]
    monkeypatch.setattr("sys.argv", arguments)
    (row,), bench, _ = train.run_accuracy(data, train._parser().parse_args(), lambda *_: data)
    assert bench == "train-accuracy"
    assert row.seconds[0] > 0
    assert row.best[0] >= 0.3
    assert row.cells_seen[0] <= 3 * (row.cells + 64)
    json.dumps(row.__dict__)
