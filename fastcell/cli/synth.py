"""The command ``fastcell synth``: simulated cells as a data set."""

from __future__ import annotations

from fastcell.cli.next_steps import show_next
from fastcell.cli.options import (
    add_jobs_argument,
    add_layout_arguments,
    add_out_argument,
    add_split_arguments,
    split_options,
)
from fastcell.cli.parser import CommandParser

DEFAULT_CELLS = 8_000
DEFAULT_DEFECTS = 0.05


def main(argv: list[str]) -> int:
    """Run the command.

    Args:
        argv: its arguments.

    Returns:
        0. Errors are raised, see `synthesize`.
    """
    arguments = _parser().parse_args(argv)
    options = split_options(arguments)
    from fastcell.packing.summary import describe_dataset
    from fastcell.simulator.synth import synthesize

    manifest = synthesize(
        arguments.out,
        arguments.cells,
        arguments.seed,
        defects=arguments.defects,
        layout=arguments.layout,
        shard_cells=arguments.shard_cells,
        block_cells=arguments.block_cells,
        split=options,
        jobs=arguments.jobs,
        verbose=True,
    )
    print(describe_dataset(manifest, options.shares))
    show_next(("info", arguments.out), ("fit", arguments.out))
    return 0


def _parser() -> CommandParser:
    parser = CommandParser(
        "fastcell synth",
        "OUT",
        description="Make a synthetic data set: simulated ATOM cells of four classes, with the truth in truth.parquet.",
        epilog="The cells are modelled on 30 real ones. They show that a program works; they measure nothing real. "
        "After an interrupt or a crash the same command goes on from the shards that were finished.",
    )
    add_out_argument(parser, "OUT", "folder to be made")
    parser.add_argument("--cells", type=int, default=DEFAULT_CELLS, metavar="N", help="how many (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="of cells and order (default: 0)")
    parser.add_argument(
        "--defects",
        type=float,
        default=DEFAULT_DEFECTS,
        metavar="SHARE",
        help="share of empty, cut, defocused, ghost and doublet frames (default: %(default)s)",
    )
    add_layout_arguments(parser)
    add_jobs_argument(parser, "worker processes")
    add_split_arguments(parser)
    return parser
