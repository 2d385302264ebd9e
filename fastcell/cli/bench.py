"""The command ``fastcell bench``: speed of this machine on these cells, and its bottleneck."""

from __future__ import annotations

import json
import math
import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from fastcell.cli.next_steps import show_next
from fastcell.cli.options import MOST_THREADS, DataOrDefault, OutFile, Preset, Trust, packages_of
from fastcell.cli.parser import entry
from fastcell.cli.signature import Spelled
from fastcell.errors import invalid
from fastcell.storage.places import check_output_file
from fastcell.system.messages import print_line

if TYPE_CHECKING:
    from fastcell.dataset.manifest import Manifest

CELLS = 20_000
QUICK_SECONDS, SECONDS, MOST_SECONDS = 30.0, 120.0, 86_400
QUICK_LATENCY_SECONDS, LATENCY_SECONDS = 10.0, 40.0


def bench(
    data: DataOrDefault = None,
    *,
    quick: bool = False,
    seconds: Annotated[float | None, Spelled("S")] = None,
    instrument_rate: Annotated[float | None, Spelled("N")] = None,
    preset: Preset = "demo",
    run: Annotated[str | None, Spelled("RUN", former=("--ckpt_path",))] = None,
    latency: bool = False,
    cells: int = CELLS,
    threads: int = 0,
    out: OutFile = None,
    trust: Trust = None,
) -> int:
    """Measure how fast this machine loads, trains on and classifies the cells of a data set, which part is the
    bottleneck, and whether the machine keeps up with an instrument.

    Args:
        data: folder made by pack, index or synth [default: 8,000 simulated cells]
        quick: measure for a quarter of the time
        seconds: duration of the measurement [default: 120, or 30 with --quick; with --latency 40, or 10 with --quick]
        instrument_rate: acquisition rate of your instrument, to compare with [cells/s]
        preset: settings of the network to time
        run: run folder or checkpoint whose network is timed instead of that of --preset
        latency: with --run, measure instead how long a cell waits for its prediction in each backend, and the rate at
            which cells begin to be dropped
        cells: minimum number of cells in the sample
        threads: loading threads; 0 for one per CPU
        out: JSON file to write, with the results and a description of the machine
        trust: packages whose code the network of the run may import, separated by commas

    Examples:
        fastcell bench cells --quick
        fastcell bench cells --run runs/20260131-142501-donors-cellnet --instrument-rate 2000
        fastcell bench cells --run runs/20260131-142501-donors-cellnet --latency
    """
    if instrument_rate is not None and not (math.isfinite(instrument_rate) and instrument_rate > 0):
        raise invalid("--instrument-rate", "cells per second, above 0", instrument_rate, "Leave it out for none")
    quick_default, default = (QUICK_LATENCY_SECONDS, LATENCY_SECONDS) if latency else (QUICK_SECONDS, SECONDS)
    duration = seconds if seconds is not None else quick_default if quick else default
    if not 0 < duration <= MOST_SECONDS:
        raise invalid("--seconds", f"above 0 and at most {MOST_SECONDS:,}", duration, f"Leave it out for {default:g} s")
    if cells < 1:
        raise invalid("--cells", "a number above 0", cells, f"Leave it out for {CELLS:,}")
    if not 0 <= threads <= MOST_THREADS:
        raise invalid("--threads", f"from 0 to {MOST_THREADS}", threads, "Leave it out for one per CPU")
    if latency and run is None:
        raise invalid("--latency", "given with --run, the network to measure", "no run", "Add --run RUN")
    if out is not None:
        check_output_file("--out", out)
    from fastcell.bench.measure import conclude, doubts, format_rows, time_parts
    from fastcell.bench.timed_parts import make_parts
    from fastcell.dataset.manifest import Manifest
    from fastcell.runs.run_folder import find_checkpoint
    from fastcell.storage.whole_files import scratch_folder, write_text
    from fastcell.system import environment_report, library_settings
    from fastcell.system.resources import num_cpus

    library_settings.quiet()
    library_settings.raise_malloc_thresholds()
    manifest = Manifest.open(data if data is not None else _default_data())
    checkpoint = None if run is None else str(find_checkpoint(Path(run)))
    load = os.getloadavg()[0]
    if checkpoint is not None and latency:
        content = _measure_latency(manifest, Path(checkpoint), duration, threads, instrument_rate, load, trust)
        if out is not None:
            environment = {"environment": environment_report.describe_environment()}
            write_text(Path(out), json.dumps(content | environment, indent=1) + "\n")
        show_next(("predict", run or checkpoint, manifest.place, "--out", "predictions.parquet"))
        return 0
    with scratch_folder() as scratch:
        parts = make_parts(manifest, preset, checkpoint, cells, threads, scratch, packages_of(trust))
        print_line(parts.text)
        rows = time_parts(parts, duration)
    print_line(f"\n{format_rows(rows, instrument_rate)}\n")
    conclusions = [*conclude(rows, parts.where, instrument_rate), *doubts(rows, load, num_cpus())]
    print_line("\n".join(conclusions))
    if out is not None:
        content = {"settings": parts.settings, "rows": [asdict(row) for row in rows], "conclusions": conclusions}
        content |= {"environment": environment_report.describe_environment()}
        write_text(Path(out), json.dumps(content, indent=1) + "\n")
    show_next(("fit", manifest.place), ("doctor",))
    return 0


def _measure_latency(
    manifest: Manifest,
    checkpoint: Path,
    seconds: float,
    threads: int,
    instrument_rate: float | None,
    load: float,
    trust: str | None,
) -> dict[str, Any]:
    """Measure and print how long cells wait for their predictions; return the results."""
    from fastcell.bench.latency import format_latency, latency_verdict, measure_latency, open_backends, sample_cells
    from fastcell.bench.measure import describe_load
    from fastcell.system.resources import num_cpus

    classifiers = open_backends(checkpoint, threads, print_line, packages_of(trust))
    print_line(
        f"{checkpoint}, cells of {manifest.place}; {threads or num_cpus()} threads; {seconds:g} s for "
        f"{len(classifiers)} backends"
    )
    found = measure_latency(classifiers, sample_cells(manifest), seconds)
    print_line(f"\n{format_latency(found)}\n")
    conclusions = [*latency_verdict(found, instrument_rate), describe_load(load, num_cpus())]
    print_line("\n".join(conclusions))
    return {"backends": [asdict(one) for one in found], "conclusions": conclusions}


def _default_data() -> Path:
    from fastcell.simulator.synth import make_default_dataset

    return make_default_dataset(verbose=True)


main = entry(bench)
