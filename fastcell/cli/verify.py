"""The command ``fastcell verify``: whether a data set is whole."""

from __future__ import annotations

from pathlib import Path

from fastcell.cli.next_steps import show_next
from fastcell.cli.options import add_jobs_argument
from fastcell.cli.parser import CommandParser
from fastcell.errors import invalid

DAMAGED = 1
"""Exit status where damage was found."""


def main(argv: list[str]) -> int:
    """Run the command.

    Args:
        argv: its arguments.

    Returns:
        0 where the data set is whole, 1 where damage was found. Errors are raised, see `verify`.
    """
    arguments = _parser().parse_args(argv)
    listed = None if arguments.list is None else Path(arguments.list)
    if listed is not None and not listed.absolute().parent.is_dir():  # said before the work
        raise invalid("--list", "a file in a folder that is there", arguments.list, "Make the folder first")
    from fastcell.packing.verify import verify, write_list

    verdict = verify(arguments.data, jobs=arguments.jobs, verbose=True)
    print(verdict.describe(), flush=True)
    if listed is not None:
        write_list(listed, verdict.losses)
    if verdict.whole:
        show_next(("info", arguments.data), ("fit", arguments.data))
    elif listed is None:
        show_next(("verify", arguments.data, "--list", "lost.csv"))
    return 0 if verdict.whole else DAMAGED


def _parser() -> CommandParser:
    parser = CommandParser(
        "fastcell verify",
        "DATA",
        description="Check a packed or indexed data set: tables, shards, and the stored bytes of every cell against "
        "the hash that the manifest has of them.",
        epilog="Exit status: 0 where it is whole, 1 where damage was found, 2 for an error: no data set there, or one "
        "whose manifest cannot be read or contradicts itself.",
    )
    parser.add_argument("data", metavar="DATA", help="folder of the data set")
    add_jobs_argument(parser, "threads")
    parser.add_argument(
        "--list", "-o", "--out", metavar="FILE.csv", help="write every lost cell: cell_id, key, shard, class, reason"
    )
    return parser
