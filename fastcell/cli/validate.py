"""The command ``fastcell validate``: score a run on the validation subset."""

from __future__ import annotations

from fastcell.cli.fit import run


def main(argv: list[str]) -> int:
    """Run the command.

    Args:
        argv: its arguments.

    Returns:
        0. Errors are raised, see `run`.
    """
    return run("validate", argv)
