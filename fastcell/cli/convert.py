"""The command ``fastcell convert``: predictions as files of other programs."""

from __future__ import annotations

from pathlib import Path

from fastcell.cli.next_steps import show_next
from fastcell.cli.options import add_out_argument
from fastcell.cli.parser import CommandParser


def main(argv: list[str]) -> int:
    """Run the command.

    Args:
        argv: its arguments.

    Returns:
        0. Errors are raised, see `convert`.
    """
    arguments = _parser().parse_args(argv)
    from fastcell.predictions.convert import convert
    from fastcell.predictions.table import read_predictions

    lines = convert(
        read_predictions(Path(arguments.predictions)),
        Path(arguments.out),
        data=None if arguments.data is None else Path(arguments.data),
        rtdc_source=None if arguments.rtdc_source is None else Path(arguments.rtdc_source),
        tags=None if arguments.scores is None else arguments.scores.split(","),
        model_id=arguments.model_id,
    )
    print("\n".join(lines), flush=True)
    show_next(("count", arguments.predictions, "RUN"))
    return 0


def _parser() -> CommandParser:
    parser = CommandParser(
        "fastcell convert",
        "PREDICTIONS OUT",
        description="Write predictions as files of other programs: tables (.csv, .parquet) and FCS 3.1 (.fcs), with "
        "the features of the cells; class scores of IFCB bins (.h5); copies of RT-DC files with ml_score_*, ml_class.",
    )
    parser.add_argument("predictions", metavar="PREDICTIONS", help="table of fastcell predict, .csv or .parquet")
    add_out_argument(
        parser,
        "OUT",
        ".csv, .parquet or .fcs; a folder for the files of IFCB bins or RT-DC files, or .h5 or .rtdc for one",
    )
    parser.add_argument("--data", metavar="DATA", help="data set whose features to put beside (tables and FCS)")
    parser.add_argument("--rtdc-source", metavar="SRC", help="RT-DC file, or folder of files, that was packed")
    parser.add_argument(
        "--scores",
        metavar="AAA,BBB,...",
        help="three characters for each class, of ml_score_* (default: from the names)",
    )
    parser.add_argument("--model-id", default="fastcell", metavar="TEXT", help="name of the classifier, in IFCB files")
    return parser
