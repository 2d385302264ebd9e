"""Counts and latencies of a server, and their text for Prometheus."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterable, Sequence

import numpy as np

from fastcell.errors import printable
from fastcell.live.cell_block import CellBlock
from fastcell.live.protocol import UNLIKE_FLAG, UNSURE_FLAG

QUANTILES = (0.5, 0.99, 0.999)
WINDOW_S = 60.0
"""Length of a window; quantiles are over the last one to two windows."""

_LEAST_S, _STEP, _NUM = 1e-6, 1.02, 1024


class LatencyHistogram:
    """Histogram of latencies in steps of 2 %, for the current and the previous window of 60 s."""

    def __init__(self) -> None:
        self._counts = np.zeros((2, _NUM), np.int64)
        self._began = time.monotonic()

    def add(self, seconds: float, count: int) -> None:
        """Add the latency of some cells."""
        self._turn()
        place = int(math.log(max(seconds, _LEAST_S) / _LEAST_S) / math.log(_STEP))
        self._counts[0, min(place, _NUM - 1)] += count

    def quantiles(self, shares: Sequence[float]) -> list[float]:
        """Return the latencies that these shares of the cells do not exceed [s]; NaN if there are none."""
        self._turn()
        sums = np.cumsum(self._counts.sum(axis=0))
        if not sums[-1]:
            return [math.nan] * len(shares)
        places = np.searchsorted(sums, np.ceil(np.array(shares) * sums[-1]))
        return [float(_LEAST_S * _STEP ** (place + 1)) for place in places]

    def _turn(self) -> None:
        windows = int((time.monotonic() - self._began) / WINDOW_S)
        if windows:
            self._counts[1] = self._counts[0] if windows == 1 else 0
            self._counts[0] = 0
            self._began += windows * WINDOW_S


class LiveMetrics:
    """Counts of a server; may be used by several threads.

    Each received cell is counted again at its end, as answered, unusable, dropped or abandoned.

    Args:
        classes: K class names.
        max_latency_s: target of the latency; answers above it are counted as late.
    """

    def __init__(self, classes: Sequence[str], max_latency_s: float) -> None:
        self._classes, self._max_latency_s = list(classes), max_latency_s
        self._lock = threading.Lock()
        self._latency = LatencyHistogram()
        self._by_class = np.zeros(len(self._classes), np.int64)
        self._latency_sum = 0.0
        self.received = self.answered = self.unusable = self.dropped = self.abandoned = 0
        self.unsure = self.unlike = self.late = self.batches = 0
        self.clients = self.connections = self.client_errors = 0

    def count(self, **numbers: int) -> None:
        """Add to counts by name, such as ``received=3``."""
        with self._lock:
            for name, number in numbers.items():
                setattr(self, name, getattr(self, name) + number)

    def add_answers(self, blocks: Iterable[CellBlock]) -> None:
        """Add blocks whose complete answers are being sent; dropped blocks do not count."""
        now = time.perf_counter()
        blocks = [block for block in blocks if not block.dropped]
        if not blocks:
            return
        rows = np.concatenate([block.answers for block in blocks]) if len(blocks) > 1 else blocks[0].answers
        flags, classes = rows["flags"], rows["class"]
        classes = classes[classes >= 0]
        by_class = np.bincount(classes, minlength=len(self._classes))
        with self._lock:
            self.answered += len(classes)
            self.unusable += len(rows) - len(classes)
            self.unsure += int(np.count_nonzero(flags & UNSURE_FLAG))
            self.unlike += int(np.count_nonzero(flags & UNLIKE_FLAG))
            self._by_class += by_class
            for block in blocks:
                seconds, number = now - block.arrived, len(block.answers)
                self._latency.add(seconds, number)
                self._latency_sum += seconds * number
                self.late += number * (seconds > self._max_latency_s)

    def latencies(self) -> dict[float, float]:
        """Return the latency [s] at each of `QUANTILES`; NaN if there were no cells."""
        with self._lock:
            return dict(zip(QUANTILES, self._latency.quantiles(QUANTILES), strict=True))

    def to_text(self, waiting: int, most_waiting: int) -> str:
        """Return all counts in the text format of Prometheus, version 0.0.4."""
        lines: list[str] = []

        def add(name: str, kind: str, about: str, values: dict[str, float | int]) -> None:
            lines.extend([f"# HELP fastcell_{name} {about}", f"# TYPE fastcell_{name} {kind}"])
            lines.extend(f"fastcell_{name}{labels} {_number(value)}" for labels, value in values.items())

        add("cells_received_total", "counter", "Cells received.", {"": self.received})
        add("cells_answered_total", "counter", "Cells classified.", {"": self.answered})
        by_class = zip(self._classes, self._by_class.tolist(), strict=True)
        labelled = {f'{{class="{_escaped(name)}"}}': number for name, number in by_class}
        add("cells_of_class_total", "counter", "Cells classified, by class.", dict(labelled))
        add("cells_dropped_total", "counter", "Cells dropped because the queue was full.", {"": self.dropped})
        add("cells_unusable_total", "counter", "Cells that cannot be classified.", {"": self.unusable})
        add(
            "cells_abandoned_total",
            "counter",
            "Cells whose client left before the answer.",
            {"": self.abandoned},
        )
        add("cells_unsure_total", "counter", "Cells with a confidence below the wanted one.", {"": self.unsure})
        add("cells_unlike_training_total", "counter", "Cells unlike those of training.", {"": self.unlike})
        add("cells_late_total", "counter", "Answers later than the latency target.", {"": self.late})
        add("batches_total", "counter", "Batches run by the network.", {"": self.batches})
        add("connections_total", "counter", "Connections of stream clients.", {"": self.connections})
        add("client_errors_total", "counter", "Connections that broke the protocol.", {"": self.client_errors})
        add("clients", "gauge", "Stream clients now.", {"": self.clients})
        add("queue_cells", "gauge", "Cells that wait now.", {"": waiting})
        add("queue_limit_cells", "gauge", "Cells that may wait.", {"": most_waiting})
        about = "Time from arrival to answer over the last 60 to 120 s."
        quantiles = {f'{{quantile="{share:g}"}}': value for share, value in self.latencies().items()}
        add("latency_seconds", "summary", about, dict(quantiles))
        lines.append(f"fastcell_latency_seconds_sum {self._latency_sum:.6f}")
        lines.append(f"fastcell_latency_seconds_count {self.answered + self.unusable}")
        return "\n".join(lines) + "\n"


def _number(value: float | int) -> str:
    if isinstance(value, float):
        return "NaN" if math.isnan(value) else f"{value:.6g}"
    return str(value)


def _escaped(text: str) -> str:
    """Return a value of a label; `curl` shows it on a terminal, so that control characters are escaped as well."""
    return printable(text).replace("\\", "\\\\").replace('"', '\\"')
