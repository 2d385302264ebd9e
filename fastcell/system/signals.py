"""Handlers of signals that are set inside of a context and restored behind it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def handle_signals(handler: Callable[[], object], *numbers: signal.Signals) -> Iterator[None]:
    """Call `handler` at each of these signals inside the context.

    Python sets handlers in the main thread only: in another thread, the context changes nothing.

    Args:
        handler: called in the main thread between two of its instructions; what it raises, is raised there.
        numbers: the signals; SIGTERM and SIGINT (Ctrl-C) if there is none.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before: dict[signal.Signals, Any] = {}
    try:
        for number in numbers or (signal.SIGTERM, signal.SIGINT):
            before[number] = signal.signal(number, lambda number, frame: handler())
        yield
    finally:
        for ended, former in before.items():
            signal.signal(ended, former)
