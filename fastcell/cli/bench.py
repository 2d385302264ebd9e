"""The command ``fastcell bench``: what this machine does with these cells, and what binds."""

from __future__ import annotations

import json
import math
import tempfile
from dataclasses import asdict
from pathlib import Path

from fastcell.cli.next_steps import show_next
from fastcell.cli.options import PRESETS
from fastcell.cli.parser import CommandParser
from fastcell.errors import invalid

CELLS = 20_000
QUICK_SECONDS, SECONDS = 30.0, 120.0


def main(argv: list[str]) -> int:
    """Run the command.

    Args:
        argv: its arguments.

    Returns:
        0. Errors are raised, see `make_parts`.
    """
    options = _parser().parse_args(argv)
    rate = options.instrument_rate
    if rate is not None and not (math.isfinite(rate) and rate > 0):
        raise invalid("--instrument-rate", "cells per second, above 0", rate, "Leave it out for none")
    seconds = options.seconds if options.seconds is not None else QUICK_SECONDS if options.quick else SECONDS
    if not (math.isfinite(seconds) and seconds > 0):
        raise invalid("--seconds", "a time above 0", seconds, "Leave it out for two minutes")
    if options.cells < 1:
        raise invalid("--cells", "a number above 0", options.cells, f"Leave it out for {CELLS:,}")
    if options.out is not None and not Path(options.out).absolute().parent.is_dir():
        raise invalid("--out", "a file in a folder that is there", options.out, "Make the folder first")
    from fastcell.bench.measure import conclude, format_rows, time_parts
    from fastcell.bench.timed_parts import make_parts
    from fastcell.dataset.manifest import Manifest
    from fastcell.runs.run_folder import find_checkpoint
    from fastcell.storage.whole_files import write_text
    from fastcell.system import environment_report, library_settings

    library_settings.quiet()
    library_settings.raise_malloc_thresholds()
    manifest = Manifest.open(options.data if options.data is not None else _default_data())
    checkpoint = None if options.run is None else str(find_checkpoint(Path(options.run)))
    with tempfile.TemporaryDirectory() as scratch:
        parts = make_parts(manifest, options.preset, checkpoint, options.cells, options.threads, Path(scratch))
        print(parts.text, flush=True)
        rows = time_parts(parts, seconds)
    print(f"\n{format_rows(rows, rate)}\n")
    conclusions = conclude(rows, parts.where, rate)
    print("\n".join(conclusions))
    if options.out is not None:
        content = {"settings": parts.settings, "rows": [asdict(row) for row in rows], "conclusions": conclusions}
        content |= {"environment": environment_report.describe_environment()}
        write_text(Path(options.out), json.dumps(content, indent=1) + "\n")
    show_next(("fit", manifest.path), ("doctor",))
    return 0


def _parser() -> CommandParser:
    parser = CommandParser(
        "fastcell bench",
        "[DATA] [--run RUN]",
        description="Measure what this machine does with these cells, what binds, and whether it keeps up with an "
        "instrument.",
    )
    parser.add_argument("data", metavar="DATA", nargs="?", help="packed data set (default: the synthetic default set)")
    parser.add_argument("--quick", action="store_true", help="half a minute instead of two")
    parser.add_argument("--seconds", type=float, metavar="S", help="time to measure for")
    parser.add_argument("--instrument-rate", type=float, metavar="N", help="cells/s that your instrument takes")
    parser.add_argument(
        "--preset", choices=PRESETS, default="demo", help="settings of the network that is timed (%(default)s)"
    )
    parser.add_argument(
        "--run", "--ckpt_path", metavar="RUN", help="time the network of this run folder or checkpoint instead"
    )
    parser.add_argument("--cells", type=int, default=CELLS, metavar="N", help="cells of the sample (%(default)s)")
    parser.add_argument("--threads", type=int, default=0, metavar="N", help="of the loader; 0: one for each CPU")
    parser.add_argument("-o", "--out", metavar="FILE", help="also write the figures, with the machine, as JSON")
    return parser


def _default_data() -> Path:
    from fastcell.simulator.synth import make_default_dataset

    return make_default_dataset(verbose=True)
