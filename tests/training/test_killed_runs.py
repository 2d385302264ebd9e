"""Processes of training that get signals at any moment, on one rank and on two; the run then goes on."""

import os
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
import torch
from fixtures.process_state import one_thread
from fixtures.stopped_runs import (
    assert_same_run,
    damage_cells,
    fit,
    launch,
    main,
    new_run,
    scores,
    wait_for_points,
    weights,
)

from fastcell.training.resume import latest_point


@pytest.fixture(scope="module")
def undisturbed(data, tmp_path_factory):
    """Run folder of 20 epochs that nobody stopped."""
    with one_thread():  # as `launch` has it: sums in the same order
        return fit(data, tmp_path_factory.mktemp("undisturbed"), "--trainer.max_epochs=20", "--trainer.accelerator=cpu")


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGTERM, 143), pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow)]
)
def test_a_signal_stops_behind_the_step_with_a_point(data, undisturbed, tmp_path, number, status):
    process = launch(new_run(data, tmp_path / "runs", "--trainer.max_epochs=20"))
    folder = wait_for_points(tmp_path / "runs", process)
    process.send_signal(number)
    text = process.communicate(timeout=60)[1]
    assert process.returncode == status, text
    assert f"Resume with `fastcell fit --resume {folder}`" in text
    point, torn = latest_point(folder)
    assert point is not None
    step = int(torch.load(point, weights_only=True)["global_step"])
    assert f"after step {step}" in text
    assert not torn
    with one_thread():
        assert main(["fit", f"--resume={folder}", "--trainer.accelerator=cpu"]) == 0
    assert_same_run(folder, undisturbed)


def run_with_kills(rng, command, runs, kills, longest):
    """SIGKILL at random moments of the run, start-up included, each time resumed; how it ends undisturbed."""
    for _ in range(kills):
        process = launch(command)
        try:
            process.wait(rng.uniform(0.3, longest))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.communicate()
        folders = list(runs.glob("*"))
        if folders:
            command = ["fit", f"--resume={folders[0]}", *[item for item in command if "trainer.devices" in item]]
    process = launch(command)
    text = process.communicate(timeout=280)[1]
    assert process.returncode == 0, text
    (folder,) = runs.iterdir()
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("store", ["stream", "bank"])
@pytest.mark.parametrize("ranks", [1, 2])
def test_killed_at_random_moments(data, tmp_path, store, ranks):
    """Of damaged data: what was found corrupt before a kill is in the list of the run that goes on."""
    data = shutil.copytree(data, tmp_path / "cells")
    damage_cells(data, range(3, 180, 20))
    arguments = [f"--data.store={store}", f"--trainer.devices={ranks}", "--trainer.max_epochs=30"]
    begun = time.monotonic()
    process = launch(new_run(data, tmp_path / "whole", *arguments))
    assert process.wait(280) == 0
    longest = time.monotonic() - begun
    (whole,) = (tmp_path / "whole").iterdir()
    rng = random.Random(f"{store} {ranks}")
    folder = run_with_kills(rng, new_run(data, tmp_path / "runs", *arguments), tmp_path / "runs", 5, longest)
    assert_same_run(folder, whole)
    assert scores(folder)["num_lost"] == 9


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_a_rank_that_dies_ends_the_others(data, tmp_path, victim):
    """Within a second or two, and some more on a busy machine, with a line that names it."""
    command = new_run(data, tmp_path / "runs", "--trainer.max_epochs=2000", "--trainer.devices=2")
    process = launch(command)
    wait_for_points(tmp_path / "runs", process)
    child = children_of(process.pid)[0]
    os.kill(process.pid if victim == 0 else child, signal.SIGKILL)
    text = process.communicate(timeout=30)[1]
    assert process.returncode != 0
    end = time.monotonic() + 30
    while Path(f"/proc/{child}/cmdline").exists() and Path(f"/proc/{child}/cmdline").read_bytes():
        time.sleep(0.05)
        assert time.monotonic() < end
    assert ("rank 0 has died" if victim == 0 else f"rank 1 (process {child}) was killed by signal 9") in text


def children_of(pid):
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
            command = (path.parent / "cmdline").read_text()
        except OSError:
            continue
        if int(fields[1]) == pid and "fastcell" in command:
            found.append(int(path.parent.name))
    return found


@pytest.mark.slow
@pytest.mark.parametrize(("before", "after"), [(1, 2), (2, 1)])
def test_a_bank_goes_on_with_another_number_of_ranks(data, tmp_path, before, after):
    """The same batches; the weights are equal but for rounding and batch norm, which is per rank."""
    command = new_run(data, tmp_path / "runs", "--trainer.max_epochs=40", "--data.store=bank")
    process = launch([*command, f"--trainer.devices={before}"])
    folder = wait_for_points(tmp_path / "runs", process)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 143
    process = launch(["fit", f"--resume={folder}", f"--trainer.devices={after}"])
    text = process.communicate(timeout=280)
    assert process.returncode == 0, text
    assert weights(folder)["step"] == 400


@pytest.mark.slow
def test_a_stream_refuses_another_number_of_ranks(data, tmp_path):
    process = launch(new_run(data, tmp_path / "runs", "--trainer.max_epochs=40", "--data.store=stream"))
    folder = wait_for_points(tmp_path / "runs", process)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    process = launch(["fit", f"--resume={folder}", "--trainer.devices=2"])
    text = process.communicate(timeout=120)[1]
    assert process.returncode != 0
    assert "number of processes must be 1 as before, because the order of the stream depends on it" in text
