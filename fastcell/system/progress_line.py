"""Progress of a long command on stderr, with rate and time left: a bar on a terminal, a line every 10 s elsewhere."""

from __future__ import annotations

import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, TextIO

_FILE_INTERVAL_S = 10.0
_SHORTEST_S, _LONGEST_S = 2.0, 30.0
_MOST_MARKS = 1000
_BAR_COLUMNS = 12  # percentage and a short bar

_open_bars: list[Any] = []


class Rate:
    """Rate of work, known only once it is meaningful.

    The first `warmup` pieces do not count, because processes start, loops are compiled and caches are filled during
    them. The rate is known once the following work has lasted as long as these pieces, but at least 2 s and at most 30
    s.

    Args:
        start_s: time at which the work starts [s].
        warmup: number of first pieces that do not count; at least the number of pieces in work at the same time.
        span_s: time over which the rate is averaged, counted back from the last piece [s]; None for all of it.
    """

    def __init__(self, start_s: float, warmup: int = 1, span_s: float | None = None) -> None:
        self._start_s, self._warmup, self._span_s = start_s, warmup, span_s
        self._needed_s = _SHORTEST_S
        self._warm_s = start_s
        self._marks: deque[tuple[float, float]] = deque()
        self._done = 0.0

    def add(self, now_s: float, num: float) -> None:
        """Count `num` units of one finished piece."""
        self._done += num
        if self._warmup > 0:
            self._warmup -= 1
            if self._warmup == 0:
                self._warm_s = now_s
                self._needed_s = min(max(now_s - self._start_s, _SHORTEST_S), _LONGEST_S)
                self._marks.append((now_s, self._done))
            return
        if self._span_s is None:
            return
        if now_s - self._marks[-1][0] >= self._span_s / _MOST_MARKS:
            self._marks.append((now_s, self._done))
        while len(self._marks) > 1 and now_s - self._marks[1][0] >= self._span_s:
            self._marks.popleft()

    def per_s(self, now_s: float) -> float | None:
        """Return the units per second; None until the rate is meaningful."""
        if not self._marks or now_s - self._warm_s < self._needed_s:
            return None
        since_s, done = self._marks[0]
        num = self._done - done
        return num / (now_s - since_s) if num > 0 else None


class Progress:
    """Count the finished part of a known total. The rate and the time left appear as soon as `Rate` knows them.

    Args:
        total: number of things to do.
        unit: name of the things, e.g. `cells`.
        stream: where to write; stderr if None.
        show: False writes nothing.
        warmup: number of first pieces that the rate does not count, see `Rate`.
    """

    def __init__(
        self, total: int, unit: str = "cells", stream: TextIO | None = None, show: bool = True, warmup: int = 1
    ) -> None:
        self.total = total
        self.done = 0
        self._unit = unit
        self._stream = stream or sys.stderr
        self._show = show and total > 0
        self._written = time.monotonic()
        self._rate = Rate(self._written, warmup)
        self._bar = None
        if self._show and self._stream.isatty():
            self._bar = open_bar(total, self._stream, self.line(self._written))

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the bar's line."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def advance(self, num: int, reused: bool = False) -> None:
        """Count one finished piece, and show the progress if it is time to.

        Args:
            num: number of things in the piece.
            reused: an earlier run finished the piece; the rate does not count it.
        """
        self.done += num
        now = time.monotonic()
        if not reused:
            self._rate.add(now, num)
        if self._bar is not None:
            self._bar.set_description_str(self.line(now), refresh=False)
            self._bar.update(num)
        elif self._show and now - self._written >= _FILE_INTERVAL_S:
            self._written = now
            self._stream.write(self.line(now) + "\n")
            self._stream.flush()

    def line(self, now_s: float) -> str:
        """Return e.g. `12,000 of 100,000 cells, 3,100/s, 28 s left`.

        Args:
            now_s: time, by the clock `time.monotonic` [s].
        """
        line = f"{self.done:,} of {self.total:,} {self._unit}"
        rate = self._rate.per_s(now_s)
        if rate is None:
            return line
        left = f", {duration((self.total - self.done) / rate)} left" if self.done < self.total else ""
        return f"{line}, {format_rate(rate)}/s{left}"


def format_rate(rate: float) -> str:
    """Return a rate with at least two digits: `3,100`, `12`, `0.25`."""
    return f"{rate:,.0f}" if rate >= 10 else f"{rate:.2g}"


def duration(seconds: float) -> str:
    """Return a duration as text: `28 s`, `2 min 05 s`, `8 h 08 min` or `3 d 4 h`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours >= 48:
        return f"{hours // 24} d {hours % 24} h"
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def open_bar(total: float | None, stream: TextIO, line: str, done: float = 0) -> Any:
    """Return a tqdm bar of one line: percentage, bar and a text; without a total, the text alone.

    Args:
        total: the value of `n` at the end; None if there is no end.
        stream: terminal to write to.
        line: first text.
        done: first value of `n`.
    """
    from tqdm import tqdm

    class Bar(tqdm):
        monitor_interval = 0  # commands fork: no thread, and a lock that is no semaphore of the system

        def close(self) -> None:
            if self in _open_bars:
                _open_bars.remove(self)
            super().close()

    Bar.set_lock(threading.RLock())
    layout = "{desc}" if total is None else "{percentage:3.0f}%|{bar}| {desc}"
    bar = Bar(total=total, initial=done, desc=line, file=stream, miniters=1, dynamic_ncols=True, bar_format=layout)
    _open_bars.append(bar)
    return bar


def text_columns(bar: Any) -> int:
    """Return the number of columns for the text of a bar at the present width of the terminal."""
    columns = bar.dynamic_ncols(bar.fp)[0] if bar.dynamic_ncols else bar.ncols
    return max((columns or 80) - (_BAR_COLUMNS if bar.total is not None else 0), 1)


@contextmanager
def bars_hidden() -> Iterator[None]:
    """Remove the bars on the screen while other lines are printed, and then draw them again."""
    for bar in _open_bars:
        bar.clear()
    try:
        yield
    finally:
        for bar in _open_bars:
            bar.refresh()
