"""Rate and time left of a long command, on stderr: tqdm's bar on a terminal, else a line every 10 s."""

from __future__ import annotations

import sys
import threading
import time
from types import TracebackType
from typing import Any, TextIO

_FILE_INTERVAL_S = 10.0
_LEAST_TIMED_S = 2.0


class Progress:
    """Counts what is done of a known total.

    The rate is that since the first piece was done: what comes before it (processes that start, loops that are
    compiled) says nothing about the time left. Neither is shown before the rate is that of 2 s.

    Args:
        total: number of things to do.
        unit: what they are, e.g. `cells`.
        stream: where to write; stderr if None.
        show: False writes nothing.
    """

    def __init__(self, total: int, unit: str = "cells", stream: TextIO | None = None, show: bool = True) -> None:
        self.total = total
        self.done = 0
        self._unit = unit
        self._stream = stream or sys.stderr
        self._show = show and total > 0
        self._written = time.monotonic()
        self._first_s: float | None = None
        self._first_done = 0
        self._bar = _open_bar(total, self._stream, self.line(0)) if self._show and self._stream.isatty() else None

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()

    def advance(self, num: int) -> None:
        """Count `num` more, and write the line where it is time for it."""
        self.done += num
        now = time.monotonic()
        if self._first_s is None:
            self._first_s, self._first_done = now, self.done
        if self._bar is not None:
            self._bar.set_description_str(self.line(now - self._first_s), refresh=False)
            self._bar.update(num)
        elif self._show and now - self._written >= _FILE_INTERVAL_S:
            self._written = now
            self._stream.write(self.line(now - self._first_s) + "\n")
            self._stream.flush()

    def line(self, elapsed_s: float) -> str:
        """E.g. `12,000 of 100,000 cells, 3,100/s, 28 s left`.

        Args:
            elapsed_s: seconds since the first piece was done.
        """
        line = f"{self.done:,} of {self.total:,} {self._unit}"
        num = self.done - self._first_done
        if elapsed_s < _LEAST_TIMED_S or not num:
            return line
        rate = num / elapsed_s
        return f"{line}, {rate:,.0f}/s, {_duration((self.total - self.done) / rate)} left"


def _open_bar(total: int, stream: TextIO, line: str) -> Any:
    from tqdm import tqdm

    class Bar(tqdm):
        monitor_interval = 0  # commands fork: no thread, and a lock that is no semaphore of the system

    Bar.set_lock(threading.RLock())
    layout = "{percentage:3.0f}%|{bar}| {desc}"
    return Bar(total=total, desc=line, file=stream, miniters=1, dynamic_ncols=True, bar_format=layout)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
