"""The progress line: its words, and how often it is written."""

from __future__ import annotations

import io

import pytest

from fastcell.system import progress_line as module
from fastcell.system.progress_line import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    return now


def test_line_tells_rate_and_time_left() -> None:
    progress = Progress(100_000, "cells", io.StringIO())
    progress.done = 12_000
    assert progress.line(4.0) == "12,000 of 100,000 cells, 3,000/s, 29 s left"
    assert progress.line(400.0).endswith("30/s, 48 min 53 s left")
    assert progress.line(4000.0).endswith("3/s, 8 h 08 min left")


def test_file_gets_a_line_every_ten_seconds(clock: list[float]) -> None:
    stream = io.StringIO()
    with Progress(100, stream=stream) as progress:
        for _ in range(50):
            clock[0] += 0.5
            progress.advance(2)
    lines = stream.getvalue().splitlines()
    assert lines == ["40 of 100 cells, 4/s, 15 s left", "80 of 100 cells, 4/s, 5 s left"]


def test_what_comes_before_the_first_piece_does_not_count(clock: list[float]) -> None:
    """A minute of compilation and a first piece of 10 cells are not 16 hours left."""
    stream = io.StringIO()
    with Progress(10_000, stream=stream) as progress:
        for seconds, num in ((60.0, 10), (1.0, 1000), (9.5, 990)):
            clock[0] += seconds
            progress.advance(num)
    lines = stream.getvalue().splitlines()
    assert lines == ["10 of 10,000 cells", "2,000 of 10,000 cells, 190/s, 42 s left"]


def test_terminal_line_is_rewritten_and_closed(clock: list[float]) -> None:
    stream = Terminal()
    with Progress(1000, stream=stream) as progress:
        for seconds, num in ((30.0, 500), (1.5, 250), (0.75, 249), (0.0, 1)):
            clock[0] += seconds
            progress.advance(num)
            progress._bar.refresh()  # type: ignore[union-attr]
    assert stream.getvalue().endswith("\n")
    lines = [line.strip() for line in stream.getvalue().removesuffix("\n").split("\r") if line.strip()]
    bars, texts = zip(*(line.rsplit("| ", 1) for line in lines), strict=True)
    assert bars[0].startswith("0%|")
    assert bars[-1].startswith("100%|")
    assert list(dict.fromkeys(texts)) == [
        "0 of 1,000 cells",
        "500 of 1,000 cells",
        "750 of 1,000 cells",
        "999 of 1,000 cells, 222/s, 0 s left",
        "1,000 of 1,000 cells, 222/s, 0 s left",
    ]


def test_nothing_to_do_writes_nothing() -> None:
    stream = Terminal()
    with Progress(0, stream=stream):
        pass
    assert stream.getvalue() == ""


def test_hidden_progress_writes_nothing(clock: list[float]) -> None:
    stream = Terminal()
    with Progress(10, stream=stream, show=False) as progress:
        clock[0] += 60
        progress.advance(10)
    assert (progress.done, stream.getvalue()) == (10, "")
