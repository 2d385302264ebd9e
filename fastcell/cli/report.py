"""The command ``fastcell report``: one HTML page of a run and of comparisons."""

from __future__ import annotations

from pathlib import Path

from fastcell.cli.next_steps import show_next
from fastcell.cli.options import add_data_path_argument, check_least, scored_run
from fastcell.cli.parser import CommandParser
from fastcell.errors import invalid

NUM_BROWSER_CELLS = 600


def main(argv: list[str]) -> int:
    """Run the command.

    Args:
        argv: its arguments.

    Returns:
        0. Errors are raised, see `write_page`.
    """
    options = _parser().parse_args(argv)
    check_least(options, cells=0, seed=0)
    if options.bench and not Path(options.bench).is_file():
        raise invalid("--bench", "a file that fastcell bench --out wrote", options.bench, "Leave it out for none")
    from fastcell.report.page import PageOptions, write_page
    from fastcell.system import library_settings
    from fastcell.system.messages import print_line

    library_settings.prepare_torch()
    folders = [scored_run(path) for path in options.paths]
    out = write_page(
        folders,
        Path(options.out) if options.out else None,
        PageOptions(
            options.data_path,
            options.cells,
            Path(options.bench) if options.bench else None,
            not options.no_explain,
            options.seed,
            print_line,
        ),
    )
    print_line(f"wrote {out} ({out.stat().st_size / 1e6:,.1f} MB)")
    run = next((folder for folder in folders if (folder / "config.yaml").is_file()), None)
    if run is not None:
        show_next(("predict", run, "DATA", "--out", "predictions.parquet"), ("export", run, run / "cells.onnx"))
    else:
        show_next(("fit",))
    return 0


def _parser() -> CommandParser:
    parser = CommandParser(
        "fastcell report",
        "RUN",
        description="Write one self-contained HTML page: what was trained on what, the data, scores, figures, a "
        "browser of cells and errors, speed, environment, how to do it again. Comparisons become sections of it.",
    )
    parser.add_argument(
        "paths", metavar="RUN", nargs="+", help="a run of fastcell fit, folders of fastcell compare, or both"
    )
    parser.add_argument("-o", "--out", metavar="FILE", help="the page (report.html in the first folder)")
    add_data_path_argument(parser)
    parser.add_argument(
        "--cells", type=int, default=NUM_BROWSER_CELLS, help="cells in the browser, errors first (%(default)s)"
    )
    parser.add_argument("--bench", metavar="FILE", help="what fastcell bench --out wrote: the parts of the work")
    parser.add_argument(
        "--no-explain", action="store_true", help="draw no figures of the network; those in RUN/explain are taken"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the choice of cells, and of intervals (%(default)s)")
    return parser
