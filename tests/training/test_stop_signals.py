"""Signals of a run: a stop after the step, and the handlers that were there before."""

import os
import signal
from types import SimpleNamespace

import pytest

from fastcell.training.stop_signals import StopSignals


def make_trainer(world_size=1):
    connector, loop = SimpleNamespace(received_sigterm=False), SimpleNamespace(_broadcast_sigterm_tensor=None)
    return SimpleNamespace(
        world_size=world_size, _signal_connector=connector, fit_loop=SimpleNamespace(epoch_loop=loop)
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_asks_for_a_stop_and_the_second_one_stops_at_once(number):
    before = {each: signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)}
    signals, trainer = StopSignals(), make_trainer()
    signals.take_over(trainer)
    try:
        assert signals.stopped_by is None
        os.kill(os.getpid(), number)
        assert signals.stopped_by == number
        assert trainer._signal_connector.received_sigterm
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)
    finally:
        signals.give_back()
    assert {each: signal.getsignal(each) for each in before} == before


def test_several_ranks_agree_between_steps():
    signals, trainer = StopSignals(), make_trainer(world_size=2)
    signals.take_over(trainer)
    try:
        assert trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor is not None
        os.kill(os.getpid(), signal.SIGTERM)
        assert signals.stopped_by == signal.SIGTERM
        assert not trainer._signal_connector.received_sigterm  # rank 0 alone must not leave
    finally:
        signals.give_back()
