"""An error of all ranks is printed by rank 0 alone, one of a single rank by that rank, however they were started."""

import functools
import os
import subprocess
import sys
import threading
import time

import pytest

from fastcell.cli.main import main
from fastcell.system import rank_errors
from fastcell.system.rank_errors import is_further_rank, note_report, rank_zero_reports

LAUNCHERS = {
    "torchrun": {"RANK": "{}", "LOCAL_RANK": "{}", "WORLD_SIZE": "2", "MASTER_ADDR": "here", "MASTER_PORT": "29500"},
    "srun": {"SLURM_PROCID": "{}", "SLURM_NTASKS": "2", "SLURM_JOB_ID": "77", "SLURM_STEP_ID": "0"},
}
SLIP = ["fit", "--data.pth=cells"]


@pytest.fixture(params=LAUNCHERS)
def as_rank(request, monkeypatch, tmp_cache):
    """Function that makes this process a rank of a launcher."""
    for name in {name for names in LAUNCHERS.values() for name in names} | {rank_errors.PARENT}:
        monkeypatch.delenv(name, raising=False)
    # The thread would stay in this process, which it ends.
    monkeypatch.setattr("fastcell.system.worker_processes.end_with_parent", lambda *_: None)

    def become(rank, **other):
        for name, value in {**LAUNCHERS[request.param], **other}.items():
            monkeypatch.setenv(name, value.format(rank))
        assert is_further_rank() == (rank > 0)

    yield become
    os.environ.pop(rank_errors.PARENT, None)  # set by rank 0


def test_ranks_of_a_launcher_print_an_error_once(as_rank, capsys):
    as_rank(0)
    assert main(SLIP) == 2
    assert "fastcell: error: " in capsys.readouterr().err
    as_rank(1)
    assert main(SLIP) == 2
    assert capsys.readouterr().err == ""


def test_an_error_of_one_rank_is_printed_by_it(as_rank, capsys, monkeypatch):
    as_rank(1)
    monkeypatch.setattr(rank_errors, "rank_zero_reports", functools.partial(rank_zero_reports, wait_s=0.1))
    assert main(SLIP) == 2
    assert "fastcell: error: " in capsys.readouterr().err
    as_rank(0)
    note_report()  # of another run that had the same name, before this process has started
    as_rank(1)
    assert rank_zero_reports(time.time() - 60, wait_s=0.1)
    assert not rank_zero_reports(time.time() + 1, wait_s=0.1)


def test_another_run_of_the_launcher_says_nothing_of_this_one(as_rank):
    as_rank(0)
    note_report()
    as_rank(1, MASTER_PORT="29501", SLURM_STEP_ID="1")
    assert not rank_zero_reports(0.0, wait_s=0.1)


def test_torchrun_from_a_program_that_was_rank_0_itself(as_rank):
    as_rank(1, TORCHELASTIC_RUN_ID="none", FASTCELL_PARENT=str(os.getpid()))  # not the parent of this rank
    assert not rank_zero_reports(0.0, wait_s=0.1)


def test_independent_tasks_print_their_own_errors(as_rank, capsys):
    """`srun fastcell pack ...` may pack another folder in each task."""
    for rank in (0, 1):
        as_rank(rank)
        assert main(["info", "missing"]) == 2
        assert "fastcell: error: " in capsys.readouterr().err


def test_notes_are_removed_after_an_hour(as_rank, tmp_cache):
    as_rank(0)
    note_report()
    (note,) = (tmp_cache / "rank-errors").iterdir()
    old = note.rename(note.with_name("old"))
    os.utime(old, (0, 0))
    note_report()
    assert list((tmp_cache / "rank-errors").iterdir()) == [note]


@pytest.mark.slow
def test_torchrun_prints_an_error_once(tmp_cache, tmp_path):
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "-m", "fastcell", "fit"]
    left = {**os.environ, rank_errors.PARENT: str(os.getpid())}  # by a run of this process
    done = subprocess.run([*command, str(tmp_path / "missing")], capture_output=True, text=True, timeout=120, env=left)
    assert done.returncode != 0
    assert done.stderr.count("fastcell: error: ") == 1, done.stderr


def test_a_further_rank_ends_with_its_parent(tmp_path):
    """A middle process starts one that watches it, and dies."""
    child = "from fastcell.system.rank_errors import watch_parent; watch_parent(); import time; time.sleep(60)"
    middle = (
        "import os, subprocess, sys\n"
        "os.environ['FASTCELL_PARENT'] = str(os.getpid())\n"
        f"child = subprocess.Popen([sys.executable, '-c', {child!r}], env={{**os.environ, 'LOCAL_RANK': '1'}})\n"
    )
    done = subprocess.run([sys.executable, "-c", middle], capture_output=True, text=True, timeout=60, check=True)
    # its stderr is inherited: `run` returns when the child, too, has closed it
    assert "rank 0 has died; this run ends, and can be resumed." in done.stderr


def test_a_further_rank_that_finds_rank_0_dead_reports_it(monkeypatch):
    """The error of a broken connection may come before the watch of the parent has looked."""
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setenv("FASTCELL_PARENT", str(os.getpid()))  # which is not the parent of this process: it has died
    died = threading.Event()
    monkeypatch.setattr("fastcell.system.rank_errors.rank_zero_died", died)
    monkeypatch.setattr("fastcell.training.rank_watch.rank_zero_died", died)
    assert rank_zero_reports(0.0)
    from fastcell.training.rank_watch import RankWatch

    assert RankWatch().who_died() == "rank 0 has died"
    assert not rank_zero_reports(0.0)


@pytest.mark.parametrize(("waits", "reported"), [(False, "True"), (True, "False")])
def test_an_error_of_all_ranks_is_reported_by_rank_0(tmp_path, waits, reported):
    """Rank 1 fails; rank 0 fails as well, or waits for it."""
    child = (
        "from fastcell.system.rank_errors import rank_zero_reports, watch_parent\n"
        "import pathlib, threading, time\n"
        "watch_parent()\n"
        f"threading.Timer(0.3, pathlib.Path({str(tmp_path / 'failed')!r}).touch).start()\n"
        f"print(rank_zero_reports(0.0, wait_s={1 if waits else 60}))"
    )
    middle = (
        "import os, pathlib, subprocess, sys, time\n"
        "os.environ['FASTCELL_PARENT'] = str(os.getpid())\n"
        f"child = subprocess.Popen([sys.executable, '-c', {child!r}], env={{**os.environ, 'LOCAL_RANK': '1'}})\n"
        f"while not pathlib.Path({str(tmp_path / 'failed')!r}).exists(): time.sleep(0.05)\n"
        f"child.wait() if {waits} else None\n"
    )
    done = subprocess.run([sys.executable, "-c", middle], capture_output=True, text=True, timeout=100, check=True)
    assert done.stdout.split() == [reported]
    assert "rank 0 has died" not in done.stderr
