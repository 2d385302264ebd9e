"""Counts and quantiles of a server, by value."""

import math
import time

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from fastcell.live import live_metrics
from fastcell.live.cell_block import CellBlock
from fastcell.live.live_metrics import LatencyHistogram, LiveMetrics
from fastcell.live.protocol import Frames


def test_quantiles_are_within_two_percent():
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
def test_latencies_out_of_range_count(seconds):
    histogram = LatencyHistogram()
    histogram.add(seconds, 3)
    assert math.isfinite(histogram.quantiles((0.5,))[0])


def test_latencies_are_forgotten_after_two_windows(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(live_metrics.time, "monotonic", lambda: now[0])
    histogram = LatencyHistogram()
    histogram.add(1.0, 1)
    now[0] = 61.0
    assert histogram.quantiles((0.5,))[0] == pytest.approx(1.0, rel=0.02)
    now[0] = 125.0
    assert math.isnan(histogram.quantiles((0.5,))[0])


def block_of(classes, flags, age):
    num = len(classes)
    frames = Frames(np.zeros((num, 2, 2), np.uint8), *(np.zeros(num, np.uint64),) * 2, np.zeros(num, np.float32))
    block = CellBlock(frames, 2, time.perf_counter() - age, lambda done: None)
    block.answers["class"], block.answers["flags"] = classes, flags
    block.left, block.taken = 0, num
    return block


def test_names_of_classes_reach_a_terminal_as_escapes():
    text = LiveMetrics(["\u202e\x1b\n"], 0.01).to_text(0, 10)
    assert text.replace("\n", "").isprintable()
    (family,) = (one for one in text_string_to_metric_families(text) if one.name.endswith("of_class"))
    assert family.samples[0].labels == {"class": "\\u202e\\x1b\\n"}


def test_the_text_is_that_of_prometheus():
    metrics = LiveMetrics(["a", 'quote " and \\'], 0.01)
    late = block_of(classes=[1, 1, 0], flags=[3, 1, 0], age=0.1)
    early = block_of(classes=[-1], flags=[0], age=0.001)
    dropped = block_of(classes=[-1, -1], flags=[0, 0], age=0.0)
    dropped.taken = 0
    metrics.count(received=6, dropped=2, clients=1)
    metrics.add_answers([late, early, dropped])
    families = {family.name: family for family in text_string_to_metric_families(metrics.to_text(5, 10))}
    values = {(one.name, *one.labels.values()): one.value for family in families.values() for one in family.samples}
    counts = {name: int(values[f"fastcell_{name}_total",]) for name in COUNTERS}
    assert list(counts.values()) == [6, 3, 2, 1, 0, 2, 1, 3, 0, 0, 0]
    assert values["fastcell_cells_of_class_total", 'quote " and \\'] == 2
    assert values["fastcell_cells_of_class_total", "a"] == 1
    assert (values["fastcell_queue_cells",], values["fastcell_queue_limit_cells",]) == (5, 10)
    assert values["fastcell_clients",] == 1
    assert values["fastcell_latency_seconds", "0.5"] == pytest.approx(0.1, rel=0.2)
    assert values["fastcell_latency_seconds_count",] == 4
    assert values["fastcell_latency_seconds_sum",] == pytest.approx(0.301, abs=0.1)
    assert {family.type for family in families.values()} == {"counter", "gauge", "summary"}
    assert all(family.documentation for family in families.values())


COUNTERS = ["cells_received", "cells_answered", "cells_dropped", "cells_unusable", "cells_abandoned", "cells_unsure"]
COUNTERS += ["cells_unlike_training", "cells_late", "batches", "connections", "client_errors"]
