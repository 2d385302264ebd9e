"""Errors of the processes of one run (ranks): an error of all ranks is printed once, and ranks end with their parent.

Ranks are started by rank 0 (Lightning, with several devices), by torchrun, or by SLURM's srun.
"""

from __future__ import annotations

import os
import re
import threading
import time
from contextlib import suppress
from pathlib import Path

from fastcell.system.resources import cache_dir

PARENT = "FASTCELL_PARENT"
"""Environment variable with the process id of rank 0, in the processes that it has started."""
_LOOK_EVERY_S = 0.05
_MOST_AGE_S = 3600.0
_ends_by_itself = threading.Event()
rank_zero_died = threading.Event()
"""Set once this process, which rank 0 started, has found that rank 0 is dead and reports that as its error."""


def watch_parent() -> None:
    """Watch the parent process: a process that is not rank 0 of its machine ends 1 to 2 s after its parent has died.

    Call it at the start of the process, because a process may wait half an hour for rank 0 before it has a trainer. The
    parent may die before the call, so rank 0 passes its process id to the processes that it starts.
    """
    if _number(os.environ.get("LOCAL_RANK")) == 0:
        os.environ[PARENT] = str(os.getpid())
        return
    from fastcell.system.worker_processes import end_with_parent  # imports joblib

    end_with_parent(_rank_zero() or os.getppid(), last_line("rank 0 has died"), _ends_by_itself)


def is_further_rank() -> bool:
    """Return whether this process is a rank other than 0, so that rank 0 may report its error."""
    launched = _launched()
    return _rank_zero() is not None or (launched is not None and launched[1] > 0)


def rank_zero_reports(since: float, wait_s: float = 10.0) -> bool:
    """Return whether rank 0 has an error as well, and therefore reports the error of both.

    A rank that rank 0 has started waits for the end of rank 0: if only this rank has failed, rank 0 continues to wait
    for it. Other ranks wait for `note_report` of rank 0. A dead rank 0 reports nothing.

    Args:
        since: time at which this process started, in seconds since 1970.
        wait_s: longest time to wait.
    """
    end = time.monotonic() + wait_s
    if rank_zero_died.is_set():
        return False
    _ends_by_itself.set()
    while not _has_reported(since):
        if time.monotonic() > end:
            return False
        time.sleep(_LOOK_EVERY_S)
    return True


def note_report() -> None:
    """As rank 0 of several ranks that a launcher has started, note that an error was reported; see `rank_zero_reports`.

    The note is an empty file in the cache folder, which several machines share if they share the home folder.
    """
    launched = _launched()
    if launched is None or launched[1] != 0:
        return
    with suppress(OSError):
        launched[0].parent.mkdir(parents=True, exist_ok=True)
        launched[0].touch()
        for old in launched[0].parent.iterdir():
            if time.time() - old.stat().st_mtime > _MOST_AGE_S:
                old.unlink()


def last_line(what: str) -> str:
    """Return the last line of a run of several ranks that ends because one of them has died."""
    return f"fastcell: error: {what}; this run ends, and can be resumed."


def _launched() -> tuple[Path, int] | None:
    """Return the file of `note_report` and the rank, if torchrun or srun has started this as one of several ranks."""
    if "RANK" in os.environ and _number(os.environ.get("WORLD_SIZE")) > 1:
        rank = os.environ["RANK"]
        names = (
            os.environ.get("TORCHELASTIC_RUN_ID"),
            os.environ.get("TORCHELASTIC_RESTART_COUNT"),
            os.environ.get("MASTER_ADDR"),
            os.environ.get("MASTER_PORT"),
        )
    elif "SLURM_PROCID" in os.environ and _number(os.environ.get("SLURM_NTASKS")) > 1:
        rank = os.environ["SLURM_PROCID"]
        names = ("slurm", os.environ.get("SLURM_JOB_ID"), os.environ.get("SLURM_STEP_ID"), "")
    else:
        return None
    run = re.sub(r"[^\w.-]", "-", "-".join(name or "" for name in names))[:200]
    return cache_dir() / "rank-errors" / run, _number(rank)


def _rank_zero() -> int | None:
    """Return the process id of rank 0 if rank 0 has started this process.

    A program that was rank 0 of a run of its own leaves the variable in its environment, and may start torchrun later.
    """
    if "TORCHELASTIC_RUN_ID" in os.environ or _number(os.environ.get("LOCAL_RANK")) == 0:
        return None
    return _number(os.environ.get(PARENT)) or None


def _has_reported(since: float) -> bool:
    parent, launched = _rank_zero(), _launched()
    if parent is not None:
        return os.getppid() != parent
    try:
        return launched is not None and launched[0].stat().st_mtime >= since
    except OSError:
        return False


def _number(text: str | None) -> int:
    return int(text) if text is not None and text.isdecimal() else 0
