"""How fast does each backend run trained networks on the CPU, and does it agree with torch?

Every program and precision that is installed runs the validation cells of a run in turns, in one thread, and its
answers are compared with those of torch in 32 bits, as `fastcell predict --backend auto` does. The processor time is
that of the network alone. Each run takes about half a minute; finished runs are kept in the working folder, so a run
that was cut off goes on.

    python benchmarks/backends.py --work FOLDER jurkat=runs/jurkat-cellnet synth=runs/synth-student ...
"""

from __future__ import annotations

import argparse
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from harness import Result

from fastcell.inference.backends.prepare import Preparation
from fastcell.inference.backends.programs import OFFERED, can_run, versions
from fastcell.runs.run_folder import find_checkpoint
from fastcell.storage.whole_files import write_json
from fastcell.system.cpu_features import HAS_BF16, cpu_features

INSTRUCTIONS = ("avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_bf16", "amx_int8")


@dataclass
class BackendRow:
    """A backend on the validation cells of a run.

    Attributes:
        cells: name of the data set.
        network, size: network of the run and side of its images [px].
        backend: program and precision.
        network_us: processor time of the network for a cell in one thread [us].
        speedup: time of torch in 32 bits over this.
        same, compared: cells with the class of torch, and cells compared; 0 for torch itself.
        loss, low, high: balanced accuracy of torch minus that of the backend, with its 95 % interval.
        load: load average at the time of the measurement.
    """

    cells: str
    network: str
    size: int
    backend: str
    network_us: float
    speedup: float
    same: int
    compared: int
    loss: float
    low: float
    high: float
    load: float


def measure(cells, run):
    preparation = Preparation(find_checkpoint(run))
    backends = [(name, each) for name, offered in OFFERED.items() for each in offered if can_run(name, each, False)]
    if not set(cpu_features()) & set(HAS_BF16):
        backends = [one for one in backends if one[1] != "bf16"]
    model = preparation.run.model
    timed = preparation.measure(backends)
    reference = next(one for one in timed if (one.program, one.precision) == ("torch", "fp32"))
    rows = []
    for one in timed:
        agreement = None if one == reference else preparation.agreement(one.program, one.precision)
        found = (0, 0, 0.0, 0.0, 0.0)
        if agreement is not None:
            found = (agreement.num_same, agreement.num_cells, agreement.loss, agreement.low, agreement.high)
        size, time = int(model.preprocessing["image_size"]), one.us_per_cell
        speedup, load = reference.us_per_cell / time, os.getloadavg()[0]
        rows.append(BackendRow(cells, model.network_name, size, one.title, time, speedup, *found, load))
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", metavar="NAME=RUN", help="name of the data set, and a run trained on it")
    parser.add_argument("--work", type=Path, required=True, help="folder of finished runs, which are not repeated")
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    rows = []
    for number, (cells, run) in enumerate(text.split("=", 1) for text in arguments.runs):
        kept = arguments.work / f"{cells}-{Path(run).name}.json"
        if not kept.is_file():
            write_json(kept, [asdict(row) for row in measure(cells, Path(run))])
        found = [BackendRow(**values) for values in json.loads(kept.read_text(encoding="utf-8"))]
        rows += found
        for row in found:
            print(number, row, flush=True)
    features = [name for name in INSTRUCTIONS if name in cpu_features()]
    loads = [row.load for row in rows]
    settings = {
        "instructions": " ".join(features) or "none of AVX-512, VNNI, bf16, AMX",
        "threads": 1,
    }
    settings["load when measured"] = f"{min(loads):.1f} to {max(loads):.1f}"
    result = Result("backends", "validation cells of trained runs", settings, rows)
    result.packages = {name: found for name, found in versions().items() if name != "torch"}
    print(f"wrote {result.save()}")


if __name__ == "__main__":
    main()
