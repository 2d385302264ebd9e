"""The command ``fastcell predict``: one row per cell, labelled or not."""

from __future__ import annotations

from fastcell.remote.addresses import scheme_of


def main(argv: list[str]) -> int:
    """Run the command.

    Args:
        argv: its arguments.

    Returns:
        0. Errors are raised, see `fastcell.cli.lightning_command.run`.
    """
    number = _place_of_out(argv)
    if number is None:
        return _predict(argv)
    from fastcell.remote.uploads import file_at
    from fastcell.system.messages import print_line

    start, _, address = argv[number].rpartition("=") if argv[number].startswith("-") else ("", "", argv[number])
    with file_at("--out", address) as path:
        words = [*argv[:number], f"{start}={path}" if start else path, *argv[number + 1 :]]
        status = _predict(words)
    print_line(f"wrote {address}")
    return status


def _place_of_out(argv: list[str]) -> int | None:
    """Return the index of the argument that names an address to write to; None if there is none."""
    for number, word in enumerate(argv):
        name, equals, value = word.partition("=")
        if name in ("--out", "-o") and equals:
            return number if scheme_of(value) else None
        if name in ("--out", "-o") and number + 1 < len(argv):
            return number + 1 if scheme_of(argv[number + 1]) else None
    return None


def _predict(argv: list[str]) -> int:
    words: list[str] | None = argv
    if not any(word in ("-h", "--help", "--help_all", "--help-all") for word in argv):
        from fastcell.cli.quick_predict import predict_quickly

        words = predict_quickly(argv)
    if words is None:
        return 0
    from fastcell.cli.fit import run

    return run("predict", words)
