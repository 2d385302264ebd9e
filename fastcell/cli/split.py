"""The command ``fastcell split``: new splits of a data set, by group, with copies of a cell on one side."""

from __future__ import annotations

from fastcell.cli.next_steps import show_next
from fastcell.cli.options import add_jobs_argument, add_split_arguments, split_options
from fastcell.cli.parser import CommandParser


def main(argv: list[str]) -> int:
    """Run the command.

    Args:
        argv: its arguments.

    Returns:
        0. Errors are raised, see `resplit`.
    """
    arguments = _parser().parse_args(argv)
    options = split_options(arguments)
    from fastcell.splits.resplit import describe_resplit, resplit

    made = resplit(
        arguments.data,
        options,
        group_by=arguments.group_by,
        name=arguments.name,
        near=not arguments.no_near,
        merge_large=arguments.merge_large,
        allow_absent=arguments.allow_absent,
        force=arguments.force,
        jobs=arguments.jobs,
        verbose=True,
    )
    print(describe_resplit(made, options.shares or (0, 0, 0)))
    show_next(("fit", made.manifest.path, "--data.split_name", next(iter(made.splits))))
    return 0


def _parser() -> CommandParser:
    parser = CommandParser(
        "fastcell split",
        "DATA",
        description="Make new splits of a packed data set: groups whole, copies of a cell on one side.",
        epilog="Exact copies, turned by quarters and mirrored too, are always found. Near copies (other angles, "
        "shifts, brightness, blur) are looked for inside each class and collection; their recall is measured on copies "
        "made of these very cells. duplicates.parquet lists all. Train with --data.split_name NAME, or NAME-fold-0 ...",
    )
    parser.add_argument("data", metavar="DATA", help="folder of a packed or indexed data set")
    parser.add_argument(
        "--group-by",
        metavar="WHAT",
        help="what must stay on one side: group, collection, a pattern on the keys such as '{group}/*/{name}', "
        "FILE:COLUMN of a CSV or Parquet file with cell_id or key, or none (default: group, where cells have one)",
    )
    parser.add_argument("--name", help="of the split (default: by-group, by-collection, ...)")
    parser.add_argument("--no-near", action="store_true", help="look for exact copies only")
    parser.add_argument(
        "--merge-large",
        action="store_true",
        help="keep near copies together even where more than 20 cells and 1 %% of a class hang together",
    )
    parser.add_argument(
        "--allow-absent", action="store_true", help="allow sides without a class that has too few groups"
    )
    parser.add_argument("--force", action="store_true", help="replace splits of that name")
    add_jobs_argument(parser, "processes and threads")
    add_split_arguments(parser)
    return parser
