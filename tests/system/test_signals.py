"""Handlers of signals: called inside the context, as they were behind it, and untouched from another thread."""

import signal
import threading

import pytest

from fastcell.system.signals import handle_signals

BOTH = (signal.SIGTERM, signal.SIGINT)


def handlers():
    return [signal.getsignal(number) for number in BOTH]


def test_both_signals_are_handled_inside_the_context():
    before, called = handlers(), []
    with handle_signals(lambda: called.append(1)):
        for number in BOTH:
            signal.raise_signal(number)
    assert called == [1, 1]
    assert handlers() == before


def test_a_signal_that_is_not_named_keeps_its_handler_and_an_error_comes_out():
    before = handlers()

    def stop():
        raise RuntimeError(f"asked to end, {signal.getsignal(signal.SIGINT) is before[1]}")

    with pytest.raises(RuntimeError, match="asked to end, True"), handle_signals(stop, signal.SIGTERM):
        signal.raise_signal(signal.SIGTERM)
    assert handlers() == before


def test_another_thread_changes_nothing():
    before, found = handlers(), []

    def work():
        with handle_signals(print):
            found.extend(handlers())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == before
