"""Counts and quantiles of a server, by value."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest

from fastcell.inference.unlike.reasons import UnlikeScores
from fastcell.live import live_metrics
from fastcell.live.live_classifier import LiveAnswers
from fastcell.live.live_metrics import LatencyHistogram, LiveMetrics


def test_quantiles_are_within_two_percent() -> None:
    rng = np.random.default_rng(0)
    seconds = rng.lognormal(-6, 1, 20_000)
    histogram = LatencyHistogram()
    for value in seconds:
        histogram.add(float(value), 1)
    for share, found in zip((0.5, 0.99, 0.999), histogram.quantiles((0.5, 0.99, 0.999)), strict=True):
        exact = float(np.quantile(seconds, share, method="inverted_cdf"))
        assert exact <= found * 1.0001
        assert found <= exact * 1.021


@pytest.mark.parametrize("seconds", [0.0, 1e-9, 1e9])
def test_latencies_out_of_range_count(seconds: float) -> None:
    histogram = LatencyHistogram()
    histogram.add(seconds, 3)
    assert math.isfinite(histogram.quantiles((0.5,))[0])


def test_latencies_are_forgotten_after_two_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(live_metrics.time, "monotonic", lambda: now[0])
    histogram = LatencyHistogram()
    histogram.add(1.0, 1)
    now[0] = 61.0
    assert histogram.quantiles((0.5,))[0] == pytest.approx(1.0, rel=0.02)
    now[0] = 125.0
    assert math.isnan(histogram.quantiles((0.5,))[0])


def test_the_text_is_that_of_prometheus() -> None:
    metrics = LiveMetrics(["a", 'quote " and \\'], 0.01)
    unlike = UnlikeScores(np.array([2, 0, 0, np.nan], np.float32), np.full((4, 2), -1, np.int16))
    flags = np.array([3, 1, 0, 0], np.uint16)
    status, classes = np.array([0, 0, 0, 2], np.uint16), np.array([1, 1, 0, -1], np.int32)
    metrics.count(received=6, dropped=2, clients=1)
    metrics.add_batch(LiveAnswers(status, flags, classes, np.zeros((4, 2), np.float32), unlike), [(0.1, 3), (0.001, 1)])
    text = metrics.to_text(5, 10)
    values = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    assert values["fastcell_cells_received_total"] == "6"
    assert values["fastcell_cells_answered_total"] == "3"
    assert values["fastcell_cells_unusable_total"] == "1"
    assert values["fastcell_cells_dropped_total"] == "2"
    assert values["fastcell_cells_unsure_total"] == "2"
    assert values["fastcell_cells_unlike_training_total"] == "1"
    assert values["fastcell_cells_late_total"] == "3"
    assert values['fastcell_cells_of_class_total{class="quote \\" and \\\\"}'] == "2"
    assert values["fastcell_queue_cells"] == "5"
    assert float(values['fastcell_latency_seconds{quantile="0.5"}']) == pytest.approx(0.1, rel=0.02)
    assert values["fastcell_latency_seconds_count"] == "4"
    assert float(values["fastcell_latency_seconds_sum"]) == pytest.approx(0.301)
    names = re.findall(r"^# TYPE (\S+) (counter|gauge|summary)$", text, re.MULTILINE)
    assert len(names) == len(set(names)) == text.count("# HELP")
    for line in text.splitlines():
        assert line.startswith("#") or re.fullmatch(r'[a-z_]+(\{[a-z]+="(?:[^"\\]|\\.)*"\})? [-+.\deE]+|.* NaN', line)
