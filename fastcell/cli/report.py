"""The command ``fastcell report``: one HTML page of a run and of comparisons."""

from __future__ import annotations

import argparse
from pathlib import Path

from fastcell.cli.options import add_data_path_argument, check_least
from fastcell.errors import invalid
from fastcell.report.page import NUM_BROWSER_CELLS, PageOptions, write_page
from fastcell.system import library_settings
from fastcell.system.messages import print_line


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
    library_settings.prepare_torch()
    out = write_page(
        [Path(path) for path in options.paths],
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
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="fastcell report",
        description="Write one self-contained HTML page: what was trained on what, the data, scores, figures, a "
        "browser of cells and errors, speed, environment, how to do it again. Comparisons become sections of it.",
    )
    parser.add_argument(
        "paths", metavar="PATH", nargs="+", help="a run folder of fastcell fit, folders of fastcell compare, or both"
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
