"""The command ``fastcell count``: number of cells of each class in a recording."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from fastcell.cli.next_steps import show_next
from fastcell.cli.options import OutFile, scored_run
from fastcell.cli.parser import entry
from fastcell.cli.signature import Spelled
from fastcell.errors import DataError, invalid
from fastcell.storage.places import check_output_file
from fastcell.system.messages import print_line


def count(
    predictions: str,
    confusion: Annotated[str, Spelled("RUN", former=("--confusion",))],
    *,
    out: OutFile = None,
) -> int:
    """Count the cells of each class in each group (recording): as predicted, and corrected for the confusions of the
    classifier, with 95 % intervals.

    Args:
        predictions: table of fastcell predict, .csv or .parquet
        confusion: source of the confusions that correct the counts: a run, a table of fastcell test --out (its groups
            are taken as recordings), or a confusion.csv
        out: table to write, .csv or .parquet

    Examples:
        fastcell count predictions.parquet runs/20260131-142501-donors-cellnet --out counts.csv
    """
    target = None if out is None else check_output_file("--out", out, predictions, confusion)
    if target is not None and target.suffix not in (".csv", ".parquet"):
        raise invalid("--out", "a .csv or .parquet file", out, "Change the ending")
    from fastcell.predictions.counts import count, describe_counts, describe_left_out, read_confusion
    from fastcell.predictions.table import read_predictions, write_csv_or_parquet

    table = read_predictions(Path(predictions))
    if not ((table.called() >= 0) & ~table.unlike_training).any():
        left_out = "; ".join(describe_left_out(table))
        raise DataError(
            f"{table.path} must have a cell that can be counted, got none ({left_out or 'no cells'}). "
            "Classify cells like those of training, without --min_confidence."
        )
    confused = read_confusion(scored_run(confusion), table.classes)
    counts = count(table, confused)
    print_line(describe_counts(counts, confused, describe_left_out(table)))
    if target is not None:
        write_csv_or_parquet(target, counts.table(table.classes))
    show_next(("convert", table.path, table.path.with_suffix(".fcs")))
    return 0


main = entry(count)
