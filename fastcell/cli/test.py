"""The command ``fastcell test``: score a run on the test subset."""

from __future__ import annotations

from fastcell.cli.fit import run


def main(argv: list[str]) -> int:
    """Run the command.

    Args:
        argv: its arguments.

    Returns:
        0. Errors are raised, see `run`.
    """
    return run("test", argv)
