"""The progress line: its text, how often it is written, and when an estimate is shown."""

import io

import pytest

from fastcell.system import progress_line as module
from fastcell.system.messages import print_line
from fastcell.system.progress_line import Progress, Rate, bars_hidden, duration, format_rate, open_bar, text_columns


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    return now


def test_a_rate_waits_as_long_as_the_first_pieces_took():
    rate = Rate(0.0, warmup=2)
    seen = []
    for now, num in ((8.0, 10), (9.0, 10), (10.0, 40), (17.9, 200), (18.0, 30)):
        rate.add(now, num)
        seen.append(rate.per_s(now))
    assert seen == [None, None, None, None, pytest.approx(270 / 9)]


@pytest.mark.parametrize(("first_s", "needed_s"), [(0.01, 2.0), (5.0, 5.0), (600.0, 30.0)])
def test_a_rate_waits_from_2_to_30_seconds(first_s, needed_s):
    rate = Rate(0.0)
    rate.add(first_s, 1)
    rate.add(first_s + needed_s - 0.01, 50)
    assert rate.per_s(first_s + needed_s - 0.01) is None
    rate.add(first_s + needed_s + 0.01, 50)
    assert rate.per_s(first_s + needed_s + 0.01) == pytest.approx(100 / (needed_s + 0.01))


def test_pieces_in_work_at_the_same_time_are_one_wave():
    """Eight workers that end together every 100 s make 8 pieces in 100 s, not 7 within the first second."""
    rate = Rate(0.0, warmup=8)
    for wave in (100.0, 200.0):
        for worker in range(8):
            rate.add(wave + worker * 0.1, 1000)
            if wave == 100.0:
                assert rate.per_s(wave + worker * 0.1) is None
    assert rate.per_s(200.7) == pytest.approx(80.0)


def test_a_span_follows_a_rate_that_changes():
    whole, recent = Rate(0.0), Rate(0.0, span_s=60.0)
    for second in range(1, 301):
        for rate in (whole, recent):
            rate.add(float(second), 10 if second <= 200 else 100)
    assert recent.per_s(300.0) == pytest.approx(100.0)
    assert whole.per_s(300.0) == pytest.approx((199 * 10 + 100 * 100) / 299)


def test_a_rate_without_progress_is_unknown():
    rate = Rate(0.0)
    rate.add(1.0, 5)
    assert rate.per_s(50.0) is None


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.2, "0 s"),
        (28.4, "28 s"),
        (59.6, "1 min 00 s"),
        (125, "2 min 05 s"),
        (29_300, "8 h 08 min"),
        (273_600, "3 d 4 h"),
    ],
)
def test_durations(seconds, text):
    assert duration(seconds) == text


def test_slow_rates_keep_two_digits():
    assert [format_rate(rate) for rate in (3100.4, 12.3, 2.54, 0.034)] == ["3,100", "12", "2.5", "0.034"]


def test_file_gets_a_line_every_ten_seconds(clock):
    stream = io.StringIO()
    with Progress(100, stream=stream) as progress:
        for _ in range(50):
            clock[0] += 0.5
            progress.advance(2)
    lines = stream.getvalue().splitlines()
    assert lines == ["40 of 100 cells, 4/s, 15 s left", "80 of 100 cells, 4/s, 5 s left"]


def test_start_does_not_count(clock):
    """A minute of compilation and a first piece of 10 cells are not 16 hours left."""
    stream = io.StringIO()
    with Progress(10_000, stream=stream) as progress:
        for seconds, num in ((60.0, 10), (11.0, 1000), (19.0, 990)):
            clock[0] += seconds
            progress.advance(num)
    lines = stream.getvalue().splitlines()
    assert lines == ["10 of 10,000 cells", "1,010 of 10,000 cells", "2,000 of 10,000 cells, 66/s, 2 min 01 s left"]


def test_reused_pieces_do_not_count(clock):
    """Nine of ten shards are there already: the tenth takes as long as ever."""
    stream = io.StringIO()
    with Progress(100_000, stream=stream) as progress:
        for _ in range(9):
            progress.advance(10_000, reused=True)
        for num in (100, 1000):
            clock[0] += 10
            progress.advance(num)
    assert stream.getvalue().splitlines() == [
        "90,100 of 100,000 cells",
        "91,100 of 100,000 cells, 100/s, 1 min 29 s left",
    ]


def test_terminal_line_is_rewritten_and_closed(clock):
    stream = Terminal()
    with Progress(1000, stream=stream) as progress:
        for seconds, num in ((2.0, 500), (1.5, 250), (0.75, 249), (0.0, 1)):
            clock[0] += seconds
            progress.advance(num)
            progress._bar.refresh()
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
        "1,000 of 1,000 cells, 222/s",
    ]


def test_nothing_to_do_writes_nothing():
    stream = Terminal()
    with Progress(0, stream=stream):
        pass
    assert stream.getvalue() == ""


def test_hidden_progress_writes_nothing(clock):
    stream = Terminal()
    with Progress(10, stream=stream, show=False) as progress:
        clock[0] += 60
        progress.advance(10)
    assert (progress.done, stream.getvalue()) == (10, "")


def test_lines_printed_meanwhile_do_not_stand_in_the_bar(capsys):
    stream = Terminal()
    bar = open_bar(10, stream, "at work", done=3)
    assert "30%" in stream.getvalue()
    before = len(stream.getvalue())
    print_line("a line")
    removed, drawn = stream.getvalue()[before:].strip("\r").split("\r")[0], stream.getvalue().rsplit("\r", 1)[1]
    assert not removed.strip()
    assert drawn.endswith("at work")
    bar.close()
    after = len(stream.getvalue())
    with bars_hidden():
        pass
    assert len(stream.getvalue()) == after
    assert capsys.readouterr().out == "a line\n"


def test_a_bar_without_an_end_is_its_text():
    stream = Terminal()
    bar = open_bar(None, stream, "step 3")
    assert stream.getvalue().strip() == "step 3"
    assert text_columns(bar) >= 1
    bar.close()
