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
    what = "Classify every cell of a data set, labelled or not: one row per cell in manifest order."
    return run("predict", what, argv)
