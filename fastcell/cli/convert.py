"""The command ``fastcell convert``: predictions as files of other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from fastcell.cli.next_steps import show_next
from fastcell.cli.options import Out
from fastcell.cli.parser import entry
from fastcell.cli.signature import Spelled
from fastcell.system.messages import print_line


def convert(
    predictions: str,
    out: Out,
    *,
    data: Annotated[str | None, Spelled("DATA")] = None,
    rtdc_source: Annotated[str | None, Spelled("SRC")] = None,
    scores: Annotated[str | None, Spelled("AAA,BBB,...")] = None,
    model_id: str = "fastcell",
    spreadsheet: bool = False,
) -> int:
    """Write predictions for other programs: as table (.csv, .parquet) or FCS 3.1 (.fcs) with the features of the cells,
    as class scores of IFCB bins (.h5), or as copies of RT-DC files with ml_score_* and ml_class.

    Args:
        predictions: table of fastcell predict, .csv or .parquet
        out: .csv, .parquet or .fcs file; .h5 or .rtdc file for a single bin or recording, folder for several
        data: data set whose features are added to table or FCS
        rtdc_source: RT-DC file, or folder of files, that was packed
        scores: three characters per class, for the names ml_score_* (from the class names)
        model_id: name of the classifier in IFCB files
        spreadsheet: put ' before texts that a spreadsheet would take for formulas (.csv)

    Examples:
        fastcell convert predictions.parquet predictions.fcs --data cells
        fastcell convert predictions.parquet scored --rtdc-source recordings
    """
    from fastcell.predictions.convert import convert
    from fastcell.predictions.table import read_predictions

    lines = convert(
        read_predictions(Path(predictions)),
        Path(out),
        data=None if data is None else Path(data),
        rtdc_source=None if rtdc_source is None else Path(rtdc_source),
        tags=None if scores is None else scores.split(","),
        model_id=model_id,
        spreadsheet=spreadsheet,
    )
    print_line("\n".join(lines))
    table = Path(predictions)
    if (table.parent / "config.yaml").is_file():
        show_next(("count", table, table.parent))
    else:
        show_next(("convert", table, table.with_suffix(".csv" if Path(out).suffix == ".fcs" else ".fcs")))
    return 0


main = entry(convert)
