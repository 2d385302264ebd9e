"""The command ``fastcell info``: what a data set holds, as tables and, on request, as figures."""

from __future__ import annotations

from pathlib import Path

from fastcell.cli.next_steps import show_next
from fastcell.cli.options import add_data_argument
from fastcell.cli.parser import CommandParser


def main(argv: list[str]) -> int:
    """Run the command.

    Args:
        argv: its arguments.

    Returns:
        0. Errors are raised, see `describe_contents` and `draw_figures`.
    """
    arguments = _parser().parse_args(argv)
    from fastcell.dataset.manifest import Manifest
    from fastcell.report.data_summary import describe_contents, draw_figures

    manifest = Manifest.open(arguments.data)
    print(describe_contents(manifest, arguments.split_name))
    if arguments.figures:
        for path in draw_figures(manifest, Path(arguments.figures), arguments.split_name, arguments.seed):
            print(f"wrote {path}")
    show_next(("audit", manifest.path), ("fit", manifest.path))
    return 0


def _parser() -> CommandParser:
    what = "Show what a data set holds, as tables and, on request, as figures."
    parser = CommandParser("fastcell info", "DATA", what)
    add_data_argument(parser)
    parser.add_argument("--figures", "-o", "--out", metavar="DIR", help="write the PNG figures into this folder")
    parser.add_argument("--split-name", default="default", help="which of the data set's splits (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="which cells the contact sheet shows (%(default)s)")
    return parser
