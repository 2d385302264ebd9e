"""The command ``fastcell predict``: one row per cell, labelled or not."""

from __future__ import annotations


def main(argv: list[str]) -> int:
    """Run the command.

    Args:
        argv: its arguments.

    Returns:
        0. Errors are raised, see `fastcell.cli.lightning_command.run`.
    """
    words: list[str] | None = argv
    if not any(word in ("-h", "--help", "--help_all", "--help-all") for word in argv):
        from fastcell.cli.quick_predict import predict_quickly

        words = predict_quickly(argv)
    if words is None:
        return 0
    from fastcell.cli.fit import run

    return run("predict", words)
