"""Which rank has died."""

import signal
import subprocess
import sys
from types import SimpleNamespace

import pytest

from fastcell.training.rank_watch import RankWatch


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
