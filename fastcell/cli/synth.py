"""The command ``fastcell synth``: simulated cells as a data set."""

from __future__ import annotations

import argparse

from fastcell.cli.options import add_jobs_argument, add_layout_arguments, add_split_arguments, split_options
from fastcell.packing.summary import describe_dataset
from fastcell.simulator.synth import DEFAULT_CELLS, DEFAULT_DEFECTS, synthesize


def main(argv: list[str]) -> int:
    """Run the command.

    Args:
        argv: its arguments.

    Returns:
        0. Errors are raised, see `synthesize`.
    """
    arguments = _parser().parse_args(argv)
    options = split_options(arguments)
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
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="fastcell synth",
        description="Make a synthetic data set: simulated ATOM cells of four classes, with the truth in truth.parquet.",
        epilog="The cells are modelled on 30 real ones. They show that a program works; they measure nothing real. "
        "After an interrupt or a crash the same command goes on from the shards that were finished.",
    )
    parser.add_argument("out", metavar="OUT", help="folder to be made")
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
