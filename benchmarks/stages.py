"""Where does the time of `fastcell predict` go, from stored blocks or tars to a Parquet file of answers?

The command itself runs in this process with one thread for each chunk, and the processor time of each of its stages is
added up by thread. The lowest of the rounds counts, because other work on the machine only adds. ``--clock`` also
measures by the clock, with two threads; that needs a machine without other work, and as many cells as a recording has,
because start and end of the command cost a small data set more than its cells: ``--rows`` repeats the blocks of DATA
under other names.

    python benchmarks/stages.py NAME=RUN=DATA=PROGRAM=PRECISION ... [--clock] [--rows 300000]
"""

from __future__ import annotations

import argparse
import functools
import os
import threading
import time
from collections import defaultdict
from dataclasses import dataclass

from harness import Result
from linked_rows import repeat_blocks

from fastcell.cli.main import main as fastcell
from fastcell.dataset import shard_reader
from fastcell.dataset.manifest import Manifest
from fastcell.inference import network_answers
from fastcell.inference.backends import onnxruntime_network, openvino_network
from fastcell.inference.unlike import training_cells
from fastcell.loading import chunk_work
from fastcell.loading.stores import reading
from fastcell.predictions import answer_limits, classified_chunks, growing_table, saved_parts
from fastcell.storage.whole_files import scratch_folder
from fastcell.system.resources import num_cpus

WHOLE = "whole command"
CLOCK, CLOCK_THREADS = "whole command, two threads, by the clock", 2
OTHER = "everything else"
WITHOUT_NETWORK = ("read", "compare hashes", "decode", "transform")
STAGES = [
    (shard_reader.ShardFiles, "read", "read"),
    (reading, "wrong_bytes", "compare hashes"),
    (chunk_work, "take_stored", "decode"),
    (chunk_work.ThreadDecoding, "decode", "decode"),
    (chunk_work, "images_of", "transform"),
    (openvino_network.OpenVinoNetwork, "run", "network"),
    (onnxruntime_network.OnnxRuntimeNetwork, "run", "network"),
    (network_answers, "probabilities_of", "softmax"),
    (answer_limits.AnswerLimits, "calibrate", "temperature"),
    (classified_chunks, "network_image_features", "unlike cells"),
    (training_cells.TrainingCells, "measure", "unlike cells"),
    (saved_parts.PartStore, "add", "saved parts"),
    (saved_parts.PartStore, "save", "saved parts"),
    (growing_table, "prediction_table", "table"),
    (growing_table.GrowingTable, "_joined", "write the file"),
    (growing_table.GrowingTable, "_put", "write the file"),
]


@dataclass
class StageRow:
    """Processor time of a stage for a cell.

    Attributes:
        cells: what the cells are, and the network.
        stage: name of the stage.
        stage_us: lowest over the rounds [us]; for `CLOCK` the time of both threads.
        two_cores: cells a second on two cores, if this were all; for `CLOCK` measured [cells/s].
        num_cells: cells of the data set.
    """

    cells: str
    stage: str
    stage_us: float
    two_cores: float
    num_cells: int


class Stopwatch:
    """Processor time by stage, of all threads."""

    def __init__(self):
        self.seconds = defaultdict(float)
        self._lock = threading.Lock()

    def watch(self, owner, name, stage):
        """Add the time of a function to a stage from now on."""
        function = getattr(owner, name)

        @functools.wraps(function)
        def timed(*args, **options):
            begun = time.thread_time()
            try:
                return function(*args, **options)
            finally:
                with self._lock:
                    self.seconds[stage] += time.thread_time() - begun

        setattr(owner, name, timed)


def measure(case, rounds, watch, clock, num_rows):
    """Return the rows of one case."""
    name, run, data, program, precision = case.split("=")
    backend = ["--backend", program, "--precision", precision]
    best = {}
    with scratch_folder() as scratch:
        if num_rows:
            base = Manifest.open(data)
            data = str(repeat_blocks(base, scratch / "rows", max(1, round(num_rows / len(base)))))
        num = len(Manifest.open(data))
        for turn in range(rounds + 1):
            watch.seconds.clear()
            found = {WHOLE: predicted(run, data, scratch / f"{turn}.parquet", backend, 1)[1], **watch.seconds}
            found[OTHER] = found[WHOLE] - sum(value for stage, value in found.items() if stage != WHOLE)
            if turn:  # the first one prepares the backend and compiles
                best = {stage: min(value, best.get(stage, value)) for stage, value in found.items()}
        by_clock = [
            predicted(run, data, scratch / f"clock-{turn}.parquet", backend, CLOCK_THREADS)[0]
            for turn in range(clock * (rounds + 1))
        ][1:]
    best["blocks to images"] = sum(best.get(stage, 0.0) for stage in WITHOUT_NETWORK)
    if by_clock:
        best[CLOCK] = min(by_clock) * CLOCK_THREADS
    values = {stage: 1e6 * seconds / num for stage, seconds in best.items()}
    return [StageRow(name, stage, us, 2e6 / us if us > 0 else 0.0, num) for stage, us in values.items()]


def predicted(run, data, out, backend, threads):
    """Run the command; return time by the clock and processor time [s]."""
    begun, cpu_begun = time.perf_counter(), time.process_time()
    if fastcell(["predict", run, data, "--out", str(out), *backend, "--data.threads", str(threads)]):
        raise SystemExit(f"predict of {data} failed")
    return time.perf_counter() - begun, time.process_time() - cpu_begun


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cases", nargs="+", metavar="NAME=RUN=DATA=PROGRAM=PRECISION")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--clock", action="store_true", help="measure by the clock, too")
    parser.add_argument("--rows", type=int, default=0, help="about as many cells (default: those of DATA)")
    arguments = parser.parse_args()
    watch = Stopwatch()
    for owner, name, stage in STAGES:
        watch.watch(owner, name, stage)
    rows = []
    for case in arguments.cases:
        rows += measure(case, arguments.rounds, watch, arguments.clock, arguments.rows)
        for row in rows:
            print(f"{row.cells}: {row.stage} {row.stage_us:.2f} us, {row.two_cores:,.0f} cells/s")
    settings = {"threads": 1, "rounds": arguments.rounds, "load": round(os.getloadavg()[0], 1), "cores": num_cpus()}
    print(f"wrote {Result('stages', 'cells stored as blocks', settings, rows).save()}")


if __name__ == "__main__":
    main()
