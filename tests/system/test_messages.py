"""Errors of the file system become messages with a hint; lines go to stderr or nowhere."""

import logging
import warnings
from concurrent.futures.process import BrokenProcessPool

import pytest

from fastcell.errors import ArgumentError, DataError
from fastcell.system.messages import (
    LineHandler,
    explained,
    log_printed,
    print_error,
    print_line,
    print_traceback,
    printer,
    safe_output,
)


def test_errors_of_the_file_system_name_the_task_the_reason_and_the_file():
    def write():
        with explained("OUT cannot be written"):
            raise OSError(28, "No space left on device", "/data/shard-000001.tar")

    with pytest.raises(DataError) as caught:
        write()
    assert str(caught.value) == (
        "OUT cannot be written: No space left on device (/data/shard-000001.tar). Nothing was made. Free some space, "
        "change the rights, or name another place."
    )
    assert isinstance(caught.value.__cause__, OSError)


def test_errors_without_file_and_number_keep_their_words():
    def write():
        with explained("OUT cannot be written"):
            raise OSError("odd")

    with pytest.raises(DataError, match=r"^OUT cannot be written: odd\. Nothing was made"):
        write()


def test_a_killed_worker_is_told_from_a_full_disk():
    def work():
        with explained("OUT cannot be written"):
            raise BrokenProcessPool("terminated abruptly")

    with pytest.raises(DataError, match=r"^a worker process was killed, .* Take fewer --jobs or --shard-cells\.$"):
        work()


@pytest.mark.parametrize("error", [BrokenPipeError(32, "Broken pipe"), ArgumentError("mine"), ValueError("bug")])
def test_other_errors_pass_as_they_are(error):
    def work():
        with explained("OUT cannot be written"):
            raise error

    with pytest.raises(type(error)) as caught:
        work()
    assert caught.value is error


def test_lines_go_to_stderr_where_asked_for(capsys):
    printer(True)("80 cells")
    printer(False)("never seen")
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "80 cells\n")


def test_remarks_of_a_logger_are_lines_on_stdout(capsys):
    logger = logging.Logger("remarks")
    logger.addHandler(LineHandler())
    logger.info("bank: %d cells", 5)
    assert capsys.readouterr() == ("bank: 5 cells\n", "")


def test_a_log_is_printed_inside_the_context_alone(capsys, monkeypatch):
    monkeypatch.setattr(logging.getLogger("fastcell"), "handlers", [])  # a command in this process may have added some
    log = logging.getLogger("fastcell.a.room")
    before = log.level, log.propagate, list(log.handlers)
    log.info("before")
    with log_printed("fastcell.a.room"):
        log.info("inside\nof it")
        log.debug("too much")
    log.info("behind")
    assert (log.level, log.propagate, log.handlers) == before
    out, err = capsys.readouterr()
    assert (out, err) == ("", "inside\\nof it\n")


def test_lines_and_errors_are_safe_for_a_terminal(capsys):
    print_line("a\x1bb\nc")
    printer(True)("a\x1bb\nc")
    print_error("class 'a\nfastcell: error: b' is\x07 unknown.\n'fastcell fit --help' shows the options.")
    out, err = capsys.readouterr()
    assert out == "a\\x1bb\nc\n"
    assert err == (
        "a\\x1bb\\nc\n"
        "fastcell: error: class 'a\\nfastcell: error: b' is\\x07 unknown.\n"
        "'fastcell fit --help' shows the options.\n"
    )


def test_warnings_log_records_and_tracebacks_are_safe_for_a_terminal(capsys):
    nobody = logging.getLogger("nobody")
    nobody.propagate = False  # no handler takes its records, pytest's neither
    before = warnings.formatwarning, logging.lastResort
    with safe_output():
        assert warnings.formatwarning("a\x1b", UserWarning, "f.py", 1) == "f.py:1: UserWarning: a\\x1b\n"
        nobody.warning("tag %s", "a\x1b\nb")
    assert (warnings.formatwarning, logging.lastResort) == before
    try:
        raise ValueError("a\x1b")
    except ValueError as error:
        print_traceback(ValueError, error, error.__traceback__)
    err = capsys.readouterr().err
    assert err.startswith("tag a\\x1b\\nb\nTraceback ")
    assert err.endswith("ValueError: a\\x1b\n")
