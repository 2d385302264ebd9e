"""Messages and exit codes of errors that a user can act on."""

import pickle
import signal

import pytest

from fastcell.errors import ArgumentError, BusyError, DataError, FastcellError, StoppedError, StrictError, invalid


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (FastcellError("x"), 2),
        (ArgumentError("x"), 2),
        (BusyError("x"), 2),
        (DataError("x"), 2),
        (StrictError("x"), 3),
        (StoppedError("x", signal.SIGTERM), 143),
        (StoppedError("x", signal.SIGINT), 130),
    ],
)
def test_exit_codes(error, code):
    assert error.exit_code == code
    assert str(error) == "x"


def test_errors_of_arguments_are_value_errors_and_errors_of_data_are_not():
    assert isinstance(BusyError("x"), ArgumentError)
    assert isinstance(ArgumentError("x"), ValueError)
    assert not isinstance(DataError("x"), ValueError)


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ({}, "cut short"),
        ({"shard": "shard-000002.tar"}, "shard 'shard-000002.tar': cut short"),
        ({"key": "a\nb"}, r"cell 'a\nb': cut short"),
        ({"shard": "s.tar", "key": "c"}, "shard 's.tar', cell 'c': cut short"),
    ],
)
def test_errors_of_data_name_the_place(place, message):
    error = DataError("cut short", **place)
    assert str(error) == message
    assert (error.shard, error.key) == (place.get("shard"), place.get("key"))


def test_errors_come_back_from_a_worker_process():
    error = pickle.loads(pickle.dumps(DataError("cut short", "s.tar", "c")))
    assert isinstance(error, DataError)
    assert (str(error), error.shard, error.key) == ("shard 's.tar', cell 'c': cut short", "s.tar", "c")


def test_invalid_names_argument_rule_value_and_hint():
    error = invalid("--shard-cells", "at least 1", 0, "Leave it out")
    assert isinstance(error, ArgumentError)
    assert str(error) == "--shard-cells must be at least 1, got 0. Leave it out."
    assert "got 'x y'" in str(invalid("a", "b", "x y", "c"))
