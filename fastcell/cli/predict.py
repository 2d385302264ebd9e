"""The command ``fastcell predict``: one row per cell, labelled or not."""

from __future__ import annotations

from fastcell.cli.fit import run


def main(argv: list[str]) -> int:
    """Run the command.

    Args:
        argv: its arguments.

    Returns:
        0. Errors are raised, see `run`.
    """
    return run("predict", argv)
