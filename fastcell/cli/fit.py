"""The command ``fastcell fit``, and the entry that ``validate``, ``test`` and ``predict`` share with it."""

from __future__ import annotations

from fastcell.cli.short_help import short_help
from fastcell.system.messages import print_line


def main(argv: list[str]) -> int:
    """Run the command.

    Args:
        argv: its arguments.

    Returns:
        0. Errors are raised, see `run`.
    """
    return run("fit", argv)


def run(command: str, arguments: list[str]) -> int:
    """Run one of Lightning's commands, or print its help.

    Args:
        command: fit, validate, test or predict.
        arguments: words after the name of the command.

    Returns:
        0.

    Raises:
        FastcellError: the command fails.
    """
    if any(word in ("-h", "--help") for word in arguments):
        print_line(short_help(command, arguments))
        return 0
    from fastcell.cli.lightning_command import run as run_with_lightning

    every = [word for word in arguments if word.replace("-", "_") == "__help_all"]
    run_with_lightning(command, ["--help"] if every else arguments)
    return 0
