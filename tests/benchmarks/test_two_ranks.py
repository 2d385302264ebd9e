"""Two ranks on one device: networks that differ stop the program; the whole of it in two processes."""

import pytest
import torch


@pytest.fixture
def two_ranks(program):
    return program("two_ranks")


def save(folder, **states):
    for name, value in states.items():
        own = {"bn.running_mean": torch.rand(2), "bn.num_batches_tracked": torch.tensor(3)}  # of each rank
        torch.save({"layer.weight": torch.tensor(value), **own}, folder / f"{name.replace('_', '-')}.pt")


SAID = {"cells_per_s": 100.0, "steps": 8, "loss": 0.5, "device": "cpu"}


def test_ranks_are_compared_by_their_learned_weights(two_ranks, tmp_path):
    save(tmp_path, start_0=[0.0, 0.0], end_1_0=[3.0, 4.0], end_2_0=[3.0, 4.5], end_2_1=[3.0, 4.5])
    one, two = two_ranks.compare({1: [SAID], 2: [{**SAID, "cells_per_s": 150.0}, SAID]}, tmp_path)
    assert (one.ranks, one.apart, one.cells_per_s) == (1, 0.0, 100.0)
    assert (two.ranks, two.apart, two.cells_per_s) == (2, pytest.approx(0.1), 150.0)
    with pytest.raises(SystemExit, match="two ranks made 7 steps for 8"):
        two_ranks.compare({1: [SAID], 2: [{**SAID, "steps": 7}, SAID]}, tmp_path)
    save(tmp_path, end_2_1=[3.0, 4.25])
    with pytest.raises(SystemExit, match="the weights of two ranks differ by up to 2.5e-01"):
        two_ranks.compare({1: [SAID], 2: [SAID, SAID]}, tmp_path)
    save(tmp_path, end_2_0=[0.0, 1.0], end_2_1=[0.0, 1.0])
    with pytest.raises(SystemExit, match="apart"):
        two_ranks.compare({1: [SAID], 2: [SAID, SAID]}, tmp_path)


@pytest.mark.slow
def test_two_processes_train_one_network(two_ranks, monkeypatch, tmp_path, capsys):
    words = ["--cells", "300", "--batch", "64", "--epochs", "1", "--size", "32"]
    monkeypatch.setattr("sys.argv", [two_ranks.__file__, *words])
    monkeypatch.setattr(two_ranks.Result, "save", lambda self: tmp_path / "result.json")
    two_ranks.main()
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines[:2]] == ["1 on cpu", "2 on cpu"]
