"""The command ``fastcell bench``: what this machine does with these cells, and what binds."""

from __future__ import annotations

import argparse
import json
import math
import tempfile
from dataclasses import asdict
from pathlib import Path

from fastcell.bench.measure import CELLS, QUICK_SECONDS, SECONDS, conclude, format_rows, time_parts
from fastcell.bench.timed_parts import make_parts
from fastcell.dataset.manifest import Manifest
from fastcell.errors import invalid
from fastcell.storage.whole_files import write_text
from fastcell.system import environment_report, library_settings


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
    library_settings.quiet()
    library_settings.raise_malloc_thresholds()
    manifest = Manifest.open(options.data if options.data is not None else _default_data())
    with tempfile.TemporaryDirectory() as scratch:
        parts = make_parts(manifest, options.preset, options.ckpt_path, options.cells, options.threads, Path(scratch))
        print(parts.text, flush=True)
        rows = time_parts(parts, seconds)
    print(f"\n{format_rows(rows, rate)}\n")
    conclusions = conclude(rows, parts.where, rate)
    print("\n".join(conclusions))
    if options.out is not None:
        content = {"settings": parts.settings, "rows": [asdict(row) for row in rows], "conclusions": conclusions}
        content |= {"environment": environment_report.describe_environment()}
        write_text(Path(options.out), json.dumps(content, indent=1) + "\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="fastcell bench",
        description="``fastcell bench``: what this machine does with these cells, what binds, and whether it keeps up "
        "with an instrument.",
    )
    parser.add_argument("data", metavar="DATA", nargs="?", help="packed data set (default: the synthetic default set)")
    parser.add_argument("--quick", action="store_true", help="half a minute instead of two")
    parser.add_argument("--seconds", type=float, metavar="S", help="time to time_parts for")
    parser.add_argument("--instrument-rate", type=float, metavar="N", help="cells/s that your instrument takes")
    parser.add_argument("--preset", default="demo", help="settings of the network that is timed (%(default)s)")
    parser.add_argument("--ckpt_path", metavar="FILE", help="time the network of this checkpoint instead")
    parser.add_argument("--cells", type=int, default=CELLS, metavar="N", help="cells of the sample (%(default)s)")
    parser.add_argument("--threads", type=int, default=0, metavar="N", help="of the loader; 0: one for each CPU")
    parser.add_argument("--out", metavar="FILE", help="also write the figures, with the machine, as JSON")
    return parser


def _default_data() -> Path:
    from fastcell.simulator.synth import make_default_dataset

    return make_default_dataset(verbose=True)
