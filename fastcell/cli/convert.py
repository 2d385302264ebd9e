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
    """Write predictions for other programs: as a table (.csv, .parquet) or an FCS 3.1 file (.fcs), with the features of
    the cells; as class scores of IFCB bins (.h5); or as copies of RT-DC files with the features ml_score_* and
    ml_class.

    Args:
        predictions: table of fastcell predict, .csv or .parquet
        out: file to write: .csv, .parquet, .fcs, .h5 (one IFCB bin) or .rtdc (one recording); a folder for several bins
            or recordings
        data: data set whose features are added to the table or the FCS file
        rtdc_source: RT-DC file, or folder of RT-DC files, that was packed
        scores: three characters per class, which complete the feature names ml_score_* [default: from the class names]
        model_id: name of the classifier in IFCB files
        spreadsheet: in a .csv file, put ' before texts that a spreadsheet would take for formulas

    Examples:
        fastcell convert predictions.parquet predictions.fcs --data cells
        fastcell convert predictions.parquet scored --rtdc-source recordings
    """
    from fastcell.predictions.convert import convert
    from fastcell.predictions.table import read_predictions

    lines = convert(
        read_predictions(Path(predictions)),
        Path(out),
        data=data,
        rtdc_source=None if rtdc_source is None else Path(rtdc_source),
        tags=None if scores is None else scores.split(","),
        model_id=model_id,
        spreadsheet=spreadsheet,
    )
    print_line("\n".join(lines))
    table = Path(predictions)
    if (table.parent / "config.yaml").is_file():
        show_next(("count", table, table.parent))
    elif Path(out).suffix != ".fcs" or table.suffix != ".csv":
        show_next(("convert", table, table.with_suffix(".csv" if Path(out).suffix == ".fcs" else ".fcs")))
    else:
        show_next(("convert", table, table.with_suffix(".parquet")))
    return 0


main = entry(convert)
