"""How much processor time does `fastcell predict` take from tars to Parquet with each backend, and do they agree?

Whole commands run in this process in turns, behind the imports. Rates and ratios are by processor time of all threads,
which other work on the machine changes least. Beside each backend stands the share of cells with the class of torch.

    python benchmarks/predict_backends.py "T cells, CellNet 128 px=RUN=DATA" ... [--rounds 3]
"""

import argparse
from dataclasses import replace

import pyarrow.parquet as pq
from backends import INSTRUCTIONS
from harness import Contestant, Done, Result, cpu_seconds, print_rows, time_turns

from fastcell.cli.main import main as fastcell
from fastcell.inference.backends.programs import can_run, versions
from fastcell.storage.whole_files import scratch_folder
from fastcell.system.cpu_features import cpu_features

REFERENCE = ("torch", "fp32")
BACKENDS = (REFERENCE, ("torch", "bf16"), ("onnxruntime", "fp32"), ("openvino", "bf16"), ("openvino", "int8"))


def measure(case, rounds, scratch):
    """Return a row for each backend of one case."""
    name, run, data = case.split("=")
    outs = {pair: scratch / f"{'-'.join(pair)}.parquet" for pair in BACKENDS if can_run(*pair, False)}

    def predicted(pair):
        def work():
            outs[pair].unlink(missing_ok=True)
            begun = cpu_seconds()
            words = ["--backend", pair[0], "--precision", pair[1]]
            if fastcell(["predict", run, data, "--out", str(outs[pair]), *words]):
                raise SystemExit(f"predict with {pair} failed")
            taken = cpu_seconds() - begun
            return Done(pq.read_metadata(outs[pair]).num_rows, taken, taken)

        return work

    title = {pair: f"{name}, {pair[0]} {pair[1]}" for pair in outs}
    contestants = {title[pair]: Contestant("tars to Parquet", predicted(pair), data=name) for pair in outs}
    rows = time_turns(contestants, rounds).rows(title[REFERENCE])
    wanted = classes_in(outs[REFERENCE])
    equal = {title[pair]: float((classes_in(out) == wanted).mean()) for pair, out in outs.items()}
    rows = [replace(row, what=f"class of torch fp32: {equal[row.contestant]:.2%}") for row in rows]
    print_rows(rows, title[REFERENCE])
    return rows


def classes_in(table):
    """Return the classes (N,) in a file of predictions, in the order of the cells."""
    return pq.read_table(table).sort_by("key").column("class").to_numpy(zero_copy_only=False)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cases", nargs="+", metavar="NAME=RUN=DATA")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    rows = []
    for case in arguments.cases:
        with scratch_folder() as scratch:
            rows += measure(case, arguments.rounds, scratch)
    features = " ".join(name for name in INSTRUCTIONS if name in cpu_features())
    settings = {"rates": "by processor time", "instructions": features or "none of AVX-512, VNNI, bf16, AMX"}
    result = Result("predict-backends", "tars of trained runs", settings, rows)
    result.packages = {name: found for name, found in versions().items() if name != "torch"}
    print(f"wrote {result.save()}")


if __name__ == "__main__":
    main()
