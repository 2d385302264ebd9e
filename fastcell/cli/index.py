"""The command ``fastcell index``: the manifest of WebDataset tars that others wrote."""

from __future__ import annotations

from fastcell.cli.next_steps import show_next
from fastcell.cli.options import (
    add_jobs_argument,
    add_split_arguments,
    add_um_per_px_argument,
    add_window_argument,
    grey_window,
    split_options,
)
from fastcell.cli.parser import CommandParser


def main(argv: list[str]) -> int:
    """Run the command.

    Args:
        argv: its arguments.

    Returns:
        0. Errors are raised, see `index`.
    """
    arguments = _parser().parse_args(argv)
    options = split_options(arguments)
    from fastcell.packing.index import index
    from fastcell.packing.summary import describe_dataset

    manifest = index(
        arguments.dir,
        out=arguments.out,
        pattern=arguments.pattern,
        split=options,
        window=grey_window(arguments),
        um_per_px=arguments.um_per_px,
        name=arguments.name,
        jobs=arguments.jobs,
        strict=arguments.strict,
        overwrite=arguments.overwrite,
        verbose=True,
    )
    print(describe_dataset(manifest, options.shares))
    made = arguments.out or arguments.dir
    show_next(("qc", made), ("fit", made))
    return 0


def _parser() -> CommandParser:
    parser = CommandParser(
        "fastcell index",
        "DIR",
        description="Make the manifest of WebDataset tars that others wrote: KEY.jpg|jpeg|png|tif|tiff|npy with "
        "KEY.cls (class number or name) or KEY.json (class, group, collection). The tars stay as they are.",
        epilog="classes.txt or labels.txt in DIR names the classes, one per line. Bad cells go to quarantine.parquet "
        "with a reason. After an interrupt or a crash the same command goes on from the tars that were read. Exit "
        "status: 0, 2 for an error, 3 for bad cells with --strict.",
    )
    parser.add_argument("dir", metavar="DIR", help="folder with the tars")
    parser.add_argument(
        "-o", "--out", metavar="OUT", help="folder to be made for the manifest (default: beside the tars)"
    )
    parser.add_argument(
        "--pattern",
        metavar="P",
        help="where class, group and collection stand in the names inside the tars, e.g. '{class}/{name}', for what "
        ".cls and .json do not tell",
    )
    add_window_argument(parser)
    add_um_per_px_argument(parser)
    parser.add_argument("--name", help="name of the data set (default: that of DIR)")
    add_jobs_argument(parser, "worker processes")
    parser.add_argument("--strict", action="store_true", help="refuse bad cells: exit 3 and write nothing")
    parser.add_argument("--overwrite", action="store_true", help="replace the manifest of an earlier index")
    add_split_arguments(parser)
    return parser
