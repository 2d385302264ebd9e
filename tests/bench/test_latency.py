"""Latency: waits and drops of a classifier whose times are known, and a real run in every backend."""

import time

import numpy as np
import pytest

from fastcell.bench import latency as module
from fastcell.bench.latency import (
    AtRate,
    BackendLatency,
    OneCell,
    format_latency,
    latency_verdict,
    measure_single_cells,
    open_backends,
    sample_cells,
)
from fastcell.cli.main import main
from fastcell.dataset.manifest import Manifest

ONE = OneCell(1.0, 2.0, None, 4.0, 0.9, 100)
SLOW = BackendLatency("torch fp32", ONE, [AtRate(500, 1.0, 2.0, 1.0, 0.0), AtRate(1500, 9.0, 20.0, 200.0, 0.1)])
QUICK = OneCell(0.5, 1.0, 2.5, 3.0, 0.6, 2000)
FAST = BackendLatency("openvino int8", QUICK, [AtRate(4000, 1.0, 2.0, 4.0, 0.0), AtRate(9000, 2.0, 5.0, 90.0, 0.0)])


class Sleeper:
    """Takes a fixed time a call, whatever the number of cells."""

    def __init__(self, seconds):
        self.seconds, self.sizes = seconds, list[int]()

    def classify_chunk(self, cells):
        self.sizes.append(len(cells))
        time.sleep(self.seconds)


def test_every_cell_is_answered_or_dropped(monkeypatch):
    cells = [np.zeros((2, 2), np.uint8)]
    calm = Sleeper(0.0)
    found = module._arrive(calm, cells, 2000.0, 0.2)
    assert (sum(calm.sizes), found.dropped) == (400, 0)
    assert found.together == pytest.approx(400 / len(calm.sizes))
    monkeypatch.setattr(module, "TOGETHER", 2)
    monkeypatch.setattr(module, "BUFFER_CELLS", 4)
    busy = Sleeper(0.02)
    found = module._arrive(busy, cells, 1000.0, 0.2)
    assert sum(busy.sizes) == 200 - round(200 * found.dropped)
    assert max(busy.sizes) == 2
    assert found.dropped > 0.5  # at most 2 cells in 20 ms of 20 that arrive
    assert found.p50 >= 20


def test_single_cells_take_the_time_that_was_given():
    """Backends take turns; the number of calls follows from the time, and p99.9 needs 1,000 of them."""
    order = []

    class Timed:
        def __init__(self, name, seconds):
            self.name, self.seconds = name, seconds

        def predict(self, cell):
            order.append(self.name)
            time.sleep(self.seconds)

    cells = [np.zeros((2, 2), np.uint8)]
    begun = time.perf_counter()
    found = measure_single_cells({"slow": Timed("slow", 0.004), "none": Timed("none", 0.0)}, cells, 0.8)
    assert time.perf_counter() - begun >= 0.8
    assert found["slow"].num_calls <= 4 * (0.1 / 0.004 + 1)
    assert found["slow"].p50 >= 4
    assert found["slow"].p999 is None
    assert (found["none"].p999 is not None) == (found["none"].num_calls >= 1000)
    turns = [name for number, name in enumerate(order) if number == 0 or order[number - 1] != name]
    assert turns == ["slow", "none"] * 4
    shortest = measure_single_cells({"none": Timed("none", 0.0)}, cells, 1e-9)
    assert shortest["none"].num_calls == 40


def test_drops_begin_at_the_lowest_rate_that_has_them():
    assert (SLOW.drops_from, FAST.drops_from) == (1500, None)
    assert SLOW.held == SLOW.rates[0]
    assert FAST.held == FAST.rates[1]
    assert BackendLatency("x", ONE, [AtRate(9, 1, 1, 1, 0.5)]).held is None


@pytest.mark.parametrize(
    ("rate", "text"),
    [(400, "by torch fp32, openvino int8"), (5000, "come by openvino int8"), (9001, "too many for every backend")],
)
def test_the_verdict_names_the_backends_that_keep_up(rate, text):
    one, first, second = latency_verdict([SLOW, FAST], rate)
    assert one == "One cell: openvino int8 answers 99 of 100 within 1.00 ms (2,000 calls)."
    assert first.startswith("openvino int8 held 9,000 cells/s with a p99 of 5.0 ms; no cells were dropped at any rate")
    assert f"Your instrument's {rate:,.0f} cells/s: " in second
    assert text in second
    _, alone = latency_verdict([SLOW], None)
    assert alone.endswith("cells were dropped from 1,500 cells/s on, with 512 cells of buffer.")
    text = format_latency([SLOW, FAST])
    assert "10.0%" in text
    slow, fast = (line.split() for line in text.splitlines()[1:3])
    assert slow == ["torch", "fp32", "100", "1.00", "2.00", "-", "4.00", "0.90"]
    assert fast == ["openvino", "int8", "2,000", "0.50", "1.00", "2.50", "3.00", "0.60"]


def test_it_needs_a_run(trained_data, capsys):
    assert main(["bench", str(trained_data), "--latency"]) == 2
    assert "--latency must be given with --run" in capsys.readouterr().err


@pytest.mark.slow
def test_a_run_is_measured_in_every_backend(trained_run, trained_data, tmp_path, capsys):
    words = ["--run", str(trained_run), "--latency", "--seconds", "2", "--instrument-rate", "1"]
    assert main(["bench", str(trained_data), *words, "--out", str(tmp_path / "l.json")]) == 0
    out = capsys.readouterr().out
    for name in open_backends(trained_run / "last.ckpt", 1, print):
        assert out.count(f"{name}  ") >= 6
    assert "Your instrument's 1 cells/s: answered as they come by torch fp32" in out
    assert (tmp_path / "l.json").is_file()
    shapes = {cell.shape for cell in sample_cells(Manifest.open(trained_data))}
    assert len(shapes) > 1
