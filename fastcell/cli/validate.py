"""The command ``fastcell validate``: scores a checkpoint on the validation part."""

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
