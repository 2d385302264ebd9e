"""The command ``fastcell count``: how many cells of each class a recording holds."""

from __future__ import annotations

import argparse
from pathlib import Path

from fastcell.cli.next_steps import show_next
from fastcell.cli.options import scored_run
from fastcell.cli.parser import CommandParser
from fastcell.errors import DataError, invalid


def main(argv: list[str]) -> int:
    """Run the command.

    Args:
        argv: its arguments.

    Returns:
        0. Errors are raised, see `read_predictions` and `read_confusion`.
    """
    arguments = _parser().parse_args(argv)
    out = None if arguments.out is None else Path(arguments.out)
    if out is not None and (out.suffix not in (".csv", ".parquet") or not out.absolute().parent.is_dir()):
        raise invalid("--out", "a .csv or .parquet file in a folder that is there", str(out), "Choose another name")
    from fastcell.predictions.counts import count, describe_counts, read_confusion
    from fastcell.predictions.table import read_predictions, write_csv_or_parquet

    predictions = read_predictions(Path(arguments.predictions))
    if not (predictions.called() >= 0).any():
        raise DataError(f"{predictions.path} has no cell with a prediction. Classify some cells first.")
    confusion = read_confusion(scored_run(arguments.confusion), predictions.classes)
    counts = count(predictions, confusion)
    print(describe_counts(counts, confusion, int((predictions.called() < 0).sum())), flush=True)
    if out is not None:
        write_csv_or_parquet(out, counts.table(predictions.classes))
    show_next(("convert", predictions.path, predictions.path.with_suffix(".fcs")))
    return 0


def _parser() -> CommandParser:
    parser = CommandParser(
        "fastcell count",
        "PREDICTIONS RUN",
        description="Count the cells of each class in each group (recording), as called and corrected for what the "
        "classifier confuses, with 95 % intervals.",
    )
    parser.add_argument("predictions", metavar="PREDICTIONS", help="table of fastcell predict, .csv or .parquet")
    parser.add_argument(
        "confusion",
        nargs="?",
        default=argparse.SUPPRESS,
        metavar="RUN",
        help="run; or a table of fastcell test --out, whose groups are resampled; or a confusion.csv",
    )
    parser.add_argument("--confusion", metavar="RUN", help="the same as an option")
    parser.needed["confusion"] = "RUN"
    parser.add_argument("-o", "--out", metavar="FILE", help="table to write, .csv or .parquet")
    return parser
