"""Errors of the file system become messages with a hint; lines go to stderr or nowhere."""

from __future__ import annotations

import logging
from concurrent.futures.process import BrokenProcessPool

import pytest

from fastcell.errors import ArgumentError, DataError
from fastcell.system.messages import LineHandler, explained, printer


def test_errors_of_the_file_system_name_the_task_the_reason_and_the_file() -> None:
    def write() -> None:
        with explained("OUT cannot be written"):
            raise OSError(28, "No space left on device", "/data/shard-000001.tar")

    with pytest.raises(DataError) as caught:
        write()
    assert str(caught.value) == (
        "OUT cannot be written: No space left on device (/data/shard-000001.tar). Nothing was made. Free some space, "
        "change the rights, or name another place."
    )
    assert isinstance(caught.value.__cause__, OSError)


def test_errors_without_file_and_number_keep_their_words() -> None:
    def write() -> None:
        with explained("OUT cannot be written"):
            raise OSError("odd")

    with pytest.raises(DataError, match=r"^OUT cannot be written: odd\. Nothing was made"):
        write()


def test_a_killed_worker_is_told_from_a_full_disk() -> None:
    def work() -> None:
        with explained("OUT cannot be written"):
            raise BrokenProcessPool("terminated abruptly")

    with pytest.raises(DataError, match=r"^a worker process was killed, .* Take fewer --jobs or --shard-cells\.$"):
        work()


@pytest.mark.parametrize("error", [BrokenPipeError(32, "Broken pipe"), ArgumentError("mine"), ValueError("bug")])
def test_other_errors_pass_as_they_are(error: Exception) -> None:
    def work() -> None:
        with explained("OUT cannot be written"):
            raise error

    with pytest.raises(type(error)) as caught:
        work()
    assert caught.value is error


def test_lines_go_to_stderr_where_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    printer(True)("80 cells")
    printer(False)("never seen")
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "80 cells\n")


def test_remarks_of_a_logger_are_lines_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    logger = logging.Logger("remarks")
    logger.addHandler(LineHandler())
    logger.info("bank: %d cells", 5)
    assert capsys.readouterr() == ("bank: 5 cells\n", "")
