"""The command ``fastcell export``: a classifier as an ONNX file that takes raw cells."""

from __future__ import annotations

from pathlib import Path

from fastcell.cli.next_steps import show_next
from fastcell.cli.options import add_out_argument
from fastcell.cli.parser import CommandParser
from fastcell.errors import FastcellError

NUM_CELLS = 1_000


def main(argv: list[str]) -> int:
    """Run the command.

    Args:
        argv: its arguments.

    Returns:
        0. Errors are raised, see `export`.
    """
    arguments = _parser().parse_args(argv)
    from fastcell.inference.onnx.export import export
    from fastcell.system import library_settings

    library_settings.quiet()
    run, out = Path(arguments.run), Path(arguments.out)
    data = None if arguments.data is None else Path(arguments.data)
    try:
        found, cells = export(
            run, out, data=data, num_cells=arguments.check, um_per_px=arguments.um_per_px, tta=arguments.tta
        )
    except MemoryError as error:
        raise FastcellError("the graph does not fit into memory. Take a smaller network.") from error
    print(
        f"checked on {cells.origin}: largest difference from torch {found.probability:.1e}, "
        f"{found.num_same:,} of {found.num_cells:,} of the same class\n{out}: {out.stat().st_size / 1e6:.1f} MB",
        flush=True,
    )
    show_next(("bench", "--run", run))
    return 0


def _parser() -> CommandParser:
    parser = CommandParser(
        "fastcell export",
        "RUN OUT.onnx",
        description="Write a classifier as one ONNX file, with the preprocessing inside: a raw cell of any size in, "
        "class probabilities out. The file is left only if it gives what torch gives.",
    )
    parser.add_argument("run", metavar="RUN", help="run folder, or checkpoint")
    add_out_argument(parser, "OUT.onnx", "file to write")
    parser.add_argument("--data", metavar="DATA", help="data set to compare on (default: the run's, else simulated)")
    parser.add_argument(
        "--check", type=int, default=NUM_CELLS, metavar="N", help=f"cells to compare (default: {NUM_CELLS:,})"
    )
    parser.add_argument(
        "--um-per-px", type=float, metavar="UM", help="micrometres per pixel of the cells, for fit scale"
    )
    parser.add_argument("--tta", action="store_true", help="average over the four flips of every cell")
    return parser
