"""Which rank has died."""

import signal
import subprocess
import sys
import threading
from types import SimpleNamespace

import pytest

from fastcell.training.rank_watch import RankWatch, rank_zero_reports


def start(code):
    return subprocess.Popen([sys.executable, "-c", code])


def watch_of(monkeypatch, *children):
    """The watch of a trainer that has started some processes; no thread that would end this one."""
    monkeypatch.setattr(
        "fastcell.training.rank_watch.threading.Thread", lambda **_: SimpleNamespace(start=lambda: None)
    )
    watch = RankWatch()
    trainer = SimpleNamespace(strategy=SimpleNamespace(launcher=SimpleNamespace(procs=list(children))))
    watch.setup(trainer, None, "fit")
    return watch


def test_the_rank_that_was_killed_is_named(monkeypatch):
    living, dying = start("import time; time.sleep(60)"), start("import time; time.sleep(60)")
    try:
        watch = watch_of(monkeypatch, living, dying)
        dying.kill()
        assert watch.who_died() == f"rank 2 (process {dying.pid}) was killed by signal {int(signal.SIGKILL)}"
    finally:
        for child in (living, dying):
            child.kill()
            child.wait()


def test_a_status_is_told_and_a_good_end_is_none(monkeypatch):
    good, bad = start("pass"), start("raise SystemExit(3)")
    assert (good.wait(), bad.wait()) == (0, 3)
    assert watch_of(monkeypatch, good, bad).who_died() == f"rank 2 (process {bad.pid}) ended with status 3"
    monkeypatch.setattr("fastcell.training.rank_watch.time.sleep", lambda _: None)
    assert watch_of(monkeypatch, good).who_died() is None


@pytest.mark.parametrize(
    ("error", "status", "ends"),
    [
        (None, -9, True),
        (None, 2, True),
        (RuntimeError("connection closed by peer"), -9, True),
        (RuntimeError("of all ranks"), 2, False),
        (KeyboardInterrupt(), -9, False),
    ],
)
def test_what_ends_the_run_behind_an_error(monkeypatch, error, status, ends):
    """By construction, not by time: the thread's function is called here, and looks until it has seen the death."""
    calls, left = [], []
    monkeypatch.setattr(
        "fastcell.training.rank_watch.threading.Thread",
        lambda target, args, **_: SimpleNamespace(start=lambda: calls.append((target, args))),
    )
    monkeypatch.setattr("fastcell.training.rank_watch._WATCH_EVERY_S", 0)
    monkeypatch.setattr(
        "fastcell.training.rank_watch._leave", lambda what, others: left.append(what) or watch._done.set()
    )
    looks = iter([None, None, status, status, status])

    class Child:
        pid, returncode = 7, None

        def poll(self):
            self.returncode = next(looks, "last")
            if self.returncode == "last":
                self.returncode = status
                watch._done.set()
            return self.returncode

    watch = RankWatch()
    trainer = SimpleNamespace(strategy=SimpleNamespace(launcher=SimpleNamespace(procs=[Child()])))
    watch.setup(trainer, None, "fit")
    if error is not None:
        watch.on_exception(trainer, None, error)
    ((target, arguments),) = calls
    target(*arguments)
    assert bool(left) == ends


def test_a_further_rank_ends_with_its_parent(tmp_path):
    """A middle process starts one that watches it, and dies."""
    child = "from fastcell.training.rank_watch import watch_parent; watch_parent(); import time; time.sleep(60)"
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
    monkeypatch.setenv("FASTCELL_PARENT", "1")
    monkeypatch.setattr("fastcell.training.rank_watch.os.getppid", lambda: 2)
    monkeypatch.setattr("fastcell.training.rank_watch._rank_zero_died", threading.Event())
    assert rank_zero_reports()
    assert RankWatch().who_died() == "rank 0 has died"
    assert not rank_zero_reports()


@pytest.mark.parametrize(("waits", "reported"), [(False, "True"), (True, "False")])
def test_an_error_of_all_ranks_is_reported_by_rank_0(tmp_path, waits, reported):
    """Rank 1 fails; rank 0 fails as well, or waits for it."""
    child = (
        "from fastcell.training.rank_watch import rank_zero_reports, watch_parent\n"
        "import pathlib, threading, time\n"
        "watch_parent()\n"
        f"threading.Timer(0.3, pathlib.Path({str(tmp_path / 'failed')!r}).touch).start()\n"
        f"print(rank_zero_reports(wait_s={1 if waits else 60}))"
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
