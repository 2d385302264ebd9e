"""Rate and time left of a long command, on stderr: one line that is rewritten on a terminal, else one every 10 s."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TextIO

_TERMINAL_INTERVAL_S = 0.2
_FILE_INTERVAL_S = 10.0


class Progress:
    """Counts what is done of a known total.

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
        self._show = show
        self._terminal = self._stream.isatty()
        self._start = self._written = time.monotonic()
        self._width = 0

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._width:
            self._stream.write("\n")
            self._stream.flush()

    def advance(self, num: int) -> None:
        """Count `num` more, and write the line where it is time for it."""
        self.done += num
        now = time.monotonic()
        interval = _TERMINAL_INTERVAL_S if self._terminal else _FILE_INTERVAL_S
        if not self._show or (now - self._written < interval and not (self._terminal and self.done == self.total)):
            return
        self._written = now
        line = self.line(now - self._start)
        if self._terminal:
            self._stream.write(f"\r{line:<{self._width}}")
            self._width = len(line)
        else:
            self._stream.write(line + "\n")
        self._stream.flush()

    def line(self, elapsed_s: float) -> str:
        """E.g. `12,000 of 100,000 cells, 3,100/s, 28 s left`."""
        rate = self.done / max(elapsed_s, 1e-9)
        left = (self.total - self.done) / rate if self.done else 0.0
        return f"{self.done:,} of {self.total:,} {self._unit}, {rate:,.0f}/s, {_duration(left)} left"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
