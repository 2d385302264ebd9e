"""The command ``fastcell explain``: what a network looks at, how sure it may be, and where it is wrong."""

from __future__ import annotations

from pathlib import Path

from fastcell.cli.next_steps import show_next
from fastcell.cli.options import add_data_path_argument, check_least
from fastcell.cli.parser import CommandParser
from fastcell.errors import invalid

EXPLANATION_PARTS = ("network", "filters", "occlusion", "embedding", "calibration", "roc_pr", "reject", "errors")
NUM_OCCLUDED, NUM_EMBEDDED, POSITIONS = 100, 1000, 32


def main(argv: list[str]) -> int:
    """Run the command.

    Args:
        argv: its arguments.

    Returns:
        0. Errors are raised.
    """
    options = _parser().parse_args(argv)
    check_least(options, cells=1, embed=1, seed=0)
    from fastcell.explain.explanation import Explanation, draw_parts
    from fastcell.plots.figure_files import FigureFiles
    from fastcell.runs.open_run import open_run
    from fastcell.system import library_settings
    from fastcell.system.messages import print_line

    library_settings.prepare_torch()
    parts = _chosen_parts(options.parts)
    run = open_run(Path(options.run), options.data_path)
    explanation = Explanation(
        run,
        FigureFiles(Path(options.out) if options.out else run.folder / "explain"),
        options.cells,
        options.positions,
        options.patch,
        options.embed,
        options.seed,
        say=print_line,
    )
    print_line(f"{run.folder}: {run.model.hparams['network']}, {run.checkpoint}, {explanation.about}")
    draw_parts(explanation, parts)
    print_line(f"figures {explanation.figures.folder}")
    show_next(("report", run.folder))
    return 0


def _parser() -> CommandParser:
    what = "Draw what a trained network looks at, how sure it may be, and where it is wrong."
    parser = CommandParser("fastcell explain", "RUN", what)
    parser.add_argument("run", metavar="RUN", help="run folder of fastcell fit, or a checkpoint in it")
    add_data_path_argument(parser)
    parser.add_argument("-o", "--out", metavar="DIR", help="folder for the figures (RUN/explain)")
    parser.add_argument(
        "--parts", metavar="NAMES", help=f"what to draw, with commas between: {','.join(EXPLANATION_PARTS)} (all)"
    )
    for name, default, text in (
        ("cells", NUM_OCCLUDED, "cells with an occlusion map"),
        ("positions", POSITIONS, "places of the covered square along each axis"),
        ("embed", NUM_EMBEDDED, "cells in the plane"),
        ("seed", 0, "of the choice of cells, t-SNE and bootstrap"),
    ):
        parser.add_argument(f"--{name}", type=int, default=default, help=f"{text} (%(default)s)")
    parser.add_argument("--patch", type=int, help="side of the covered square [px] (an eighth of the image)")
    return parser


def _chosen_parts(text: str | None) -> list[str]:
    names = list(EXPLANATION_PARTS) if text is None else [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in EXPLANATION_PARTS:
            raise invalid(
                "--parts", f"names out of {', '.join(EXPLANATION_PARTS)}", name, "Leave it out for all of them"
            )
    return names
