"""What does the audit make of swapped labels, and how does the time of the search for near copies grow?

Labels: on the Jurkat cells, the share of confident disagreement as they are, and with labels swapped between two
classes that overlap (G1, S) and two that do not (G1, prophase); rows are the share, and the place of the swapped cells
in the list. Growth: the exponent of the time of the search over the number of simulated cells (4 minutes of one core).

    python benchmarks/answers.py --part labels --jurkat DIR --bench answers-labels
    python benchmarks/answers.py --part growth --bench answers-growth
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from harness import Result

SWAPPED = ((0.02, "G1", "S_phase"), (0.05, "G1", "S_phase"), (0.02, "G1", "Prophase"), (0.05, "G1", "Prophase"))
SIZES = (2_500, 5_000, 10_000)
CELLS = {"labels": "Jurkat cells", "growth": "simulated cells"}
"""What each part measures."""


@dataclass
class Answer:
    """One number.

    Attributes:
        part: labels or growth.
        case: what was tried.
        measure: what the value is.
        value: the number.
        note: what was said, or how it was made.
    """

    part: str
    case: str
    measure: str
    value: float
    note: str = ""


def main():
    """Measure, print and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jurkat", type=Path, help="folder of the Jurkat cells (part labels)")
    parser.add_argument("--part", choices=CELLS, required=True)
    parser.add_argument("--bench", default="answers", help="name of the result")
    options = parser.parse_args()
    if options.part == "labels" and options.jurkat is None:
        parser.error("--part labels needs --jurkat DIR")
    with tempfile.TemporaryDirectory() as name:
        rows = labels(Path(name), options.jurkat) if options.part == "labels" else growth(Path(name))
    for row in rows:
        print(f"{row.part:<8}{row.case:<44}{row.measure:<40}{row.value:>9.3f}  {row.note[:90]}")
    print(f"wrote {Result(options.bench, CELLS[options.part], {}, rows).save()}")


# -- labels


def labels(folder, jurkat):
    """Share of confident disagreement on the Jurkat cells, as they are and with swapped labels."""
    from fastcell.audit.confounds import image_features
    from fastcell.audit.label_noise import find_label_noise
    from fastcell.audit.sample import choose_rows, read_sample
    from fastcell.dataset.manifest import Manifest

    manifest = Manifest.open(pack_jurkat(folder, jurkat))
    sample = read_sample(manifest, choose_rows(manifest, 20_000, 0), 2)
    features, names = image_features(sample, 0), manifest.info.classes
    cases = [("as they are", sample.labels, np.zeros(0, np.int64))]
    for share, one, other in SWAPPED:
        cases.append(
            (
                f"{share:.0%} of {one} and {other} swapped",
                *swap(sample.labels, names.index(one), names.index(other), share),
            )
        )
    rows = []
    for case, given, planted in cases:
        found = find_label_noise(features, given, 20, np.random.default_rng(0))
        assert found is not None
        rows.append(
            Answer("labels", case, "share of confident disagreement", found.result.number, f"{len(planted)} planted")
        )
        rows.append(Answer("labels", case, "p of the model's fit", found.p_fit))
        if len(planted):
            place = np.searchsorted(found.rows, planted)
            bad = np.zeros(len(found.rows), bool)
            bad[place] = True
            order = np.argsort(found.p_given - found.p_called, kind="stable")
            rank = np.empty(len(order))
            rank[order] = np.arange(len(order))
            rows.append(
                Answer(
                    "labels",
                    case,
                    "mean rank of the swapped labels (0 first, 1 last)",
                    float(rank[bad].mean() / len(order)),
                )
            )
            first = found.candidates()[: len(planted)]
            rows.append(
                Answer(
                    "labels",
                    case,
                    "share of swapped labels in the first n rows, n being their number",
                    float(bad[first].sum() / len(planted)),
                )
            )
    return rows


def swap(given, one, other, share):
    """Labels with a share of two classes swapped, and the cells whose labels are wrong."""
    rng, swapped = np.random.default_rng(1), given.copy()
    planted = []
    for here, there in ((one, other), (other, one)):
        members = np.flatnonzero(given == here)
        chosen = rng.permutation(members)[: round(share * len(members))]
        swapped[chosen] = there
        planted.append(chosen)
    return swapped, np.sort(np.concatenate(planted))


def pack_jurkat(folder, jurkat):
    """The Jurkat cells as a data set, without a split."""
    from fastcell.packing.pack import pack
    from fastcell.splits.make_splits import SplitOptions

    out = folder / "jurkat"
    if not out.exists():
        pack(jurkat, out, split=SplitOptions(None), jobs=1)
    return out


# -- copies


def growth(folder):
    """CPU time of the search on simulated cells, and its exponent over their number."""
    from fastcell.simulator.synth import synthesize
    from fastcell.splits.copies.near import near_copies

    rows = []
    simulated = synthesize(folder / "simulated", max(SIZES), jobs=1)
    order, seconds = np.random.default_rng(0).permutation(len(simulated)), []
    near_copies(simulated, np.sort(order[:100]), jobs=1)  # compiles the kernels
    for size in SIZES:
        start = time.process_time()
        near_copies(simulated, np.sort(order[:size]), jobs=1)
        seconds.append(time.process_time() - start)
        rows.append(Answer("growth", f"simulated, {size:,} cells", "CPU seconds of the search", seconds[-1]))
    slope = float(np.polyfit(np.log(SIZES), np.log(seconds), 1)[0])
    case = f"simulated, {SIZES[0]:,} to {SIZES[-1]:,} cells"
    rows.append(Answer("growth", case, "exponent of the time over the cells", slope))
    return rows


if __name__ == "__main__":
    main()
