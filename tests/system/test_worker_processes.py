"""Tasks of worker processes: results in order, as many workers as asked for, an end with an interrupt."""

import logging
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import joblib
import pytest
from fixtures.processes import living_after, session_of

import fastcell
from fastcell.errors import ArgumentError
from fastcell.system import worker_processes
from fastcell.system.resources import num_cpus
from fastcell.system.worker_processes import check_jobs, num_threads, num_workers, run_tasks


def square_and_process(number):
    return number * number, os.getpid()


def fail_at_three(number):
    if number == 3:
        raise ValueError("task three")
    return number


def test_one_process_does_all_in_order():
    done = list(run_tasks(square_and_process, range(5), 1))
    assert done == [(number * number, os.getpid()) for number in range(5)]


def test_workers_are_other_processes_and_the_order_is_kept():
    done = list(run_tasks(os.path.join, ["b", "a", "c"], 2))
    assert done == ["b", "a", "c"]
    processes = set(run_tasks(_process_of, range(4), 2))
    assert os.getpid() not in processes


def _process_of(_):
    return os.getpid()


def test_workers_have_the_working_folder_of_now(tmp_path, monkeypatch):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        assert set(run_tasks(_folder_of, range(4), 2)) == {str(tmp_path / name)}


def _folder_of(_):
    return str(Path.cwd())


def test_an_error_of_a_task_comes_out_after_the_results_before_it():
    results = run_tasks(fail_at_three, range(5), 1)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="task three"):
        next(results)


def test_no_job_is_refused():
    for jobs in (0, 10_001, -2):
        with pytest.raises(ArgumentError, match=f"--jobs must be from 1 to 10,000, or -1 for all CPUs, got {jobs}"):
            check_jobs(jobs)
    with pytest.raises(ArgumentError, match="--jobs"):
        next(run_tasks(fail_at_three, [0], 0))
    for jobs in (None, 1, -1, 7):
        check_jobs(jobs)


def test_no_number_of_threads_is_one_for_each_cpu():
    assert [num_threads(jobs) for jobs in (None, -1, 3)] == [num_cpus(), num_cpus(), 3]
    with pytest.raises(ArgumentError, match="--jobs must be from 1"):
        num_threads(-2)


def test_without_shared_memory_one_process_does_all(monkeypatch, caplog):
    full = os.statvfs_result((4096, 4096, 10, 0, 0, 0, 0, 0, 0, 255))
    monkeypatch.setattr(worker_processes.os, "statvfs", lambda path: full)
    with caplog.at_level(logging.WARNING):
        assert {process for _, process in run_tasks(square_and_process, range(3), 2)} == {os.getpid()}
    assert "/dev/shm is full or cannot be written: one process does all" in caplog.text


SLEEPING_PARENT = """
import time
from fastcell.system.worker_processes import run_tasks

list(run_tasks(time.sleep, [0.0] * 4 + [600.0] * 4, 2))
"""


def test_workers_end_with_a_parent_that_is_killed():
    environment = dict(os.environ, PYTHONPATH=str(Path(fastcell.__file__).parents[1]))
    child = subprocess.Popen([sys.executable, "-c", SLEEPING_PARENT], env=environment, start_new_session=True)
    try:
        deadline = time.monotonic() + 60
        while len(session_of(child.pid)) < 3 and time.monotonic() < deadline:  # the parent and two workers
            time.sleep(0.05)
        time.sleep(1.0)
        child.kill()
        child.wait()
        assert living_after(child.pid, 15) == []
    finally:
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)


def test_the_settings_of_the_surrounding_configuration_are_kept():
    with joblib.parallel_config("loky", n_jobs=2, inner_max_num_threads=1):
        found = set(run_tasks(_threads_and_process, range(4), None))
    assert {threads for threads, _ in found} == {"1"}
    assert os.getpid() not in {process for _, process in found}


def _threads_and_process(_):
    return os.environ.get("OMP_NUM_THREADS"), os.getpid()


def test_number_of_workers(monkeypatch):
    monkeypatch.setattr(worker_processes, "num_cpus", lambda: 6)
    assert [num_workers(jobs) for jobs in (None, 1, 3, -1, -2)] == [6, 1, 3, 6, 5]
    assert (num_workers(None, few=True), num_workers(2, few=True)) == (1, 2)
    with joblib.parallel_config(n_jobs=4):
        assert num_workers(None, few=True) == 4


def test_under_a_limit_of_memory_one_process_does_all(monkeypatch, caplog):
    size = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGESIZE")
    monkeypatch.setattr(worker_processes.resource, "getrlimit", lambda kind: (size + (100 << 20), -1))
    with caplog.at_level(logging.WARNING):
        assert {process for _, process in run_tasks(square_and_process, range(3), 2)} == {os.getpid()}
    assert "ulimit -v" in caplog.text
