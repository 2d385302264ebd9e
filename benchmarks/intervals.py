"""Do the intervals hold their level, how wide are they, and how often are two equal methods declared different?

Groups are drawn from a population: the log odds of a group's accuracy are normal with a given standard deviation, and
its number of cells is drawn independently of them. The interval must contain the *mean over the population of groups,
each weighted by its number of cells*, which by cell (one population of cells) is the accuracy itself. Each setting is
simulated 2,000 times; its coverage has a standard error of .005. The percentile bootstrap that the intervals replaced
stands beside them (500 sets, 500 draws).

Parts: `accuracy` by group, `beyond` the range of the assumption, `cell` (exact sums over all outcomes), `scores`
(recall, precision, F, balanced accuracy), `ranking` (ROC area, average precision), `calibration`, `paired`, `recalls`
(difference of balanced accuracies), `counts` of a new recording, `examples`, and `cost` of a million cells.

    python benchmarks/intervals.py [--parts accuracy,paired] [--sets 2000]
"""

from __future__ import annotations

import argparse
import time
import tracemalloc
from collections.abc import Sequence
from dataclasses import dataclass

import interval_parts
import numpy as np
import percentile_bootstrap
from harness import Result
from scipy import stats
from simulated_groups import BASE

from fastcell.stats import (
    calibration,
    confusion_correction,
    operating_curves,
    paired_difference,
    ranking_intervals,
    score_intervals,
)
from fastcell.stats.scores import describe_unit, summarize

PARTS = {
    "accuracy": interval_parts.accuracy,
    "beyond": interval_parts.beyond,
    "cell": interval_parts.by_cell,
    "scores": interval_parts.scores,
    "ranking": interval_parts.ranking,
    "calibration": interval_parts.errors_of_calibration,
    "paired": interval_parts.paired,
    "counts": interval_parts.counts_of_recordings,
    "recalls": interval_parts.paired_recalls,
}
DATA = {"cell": "exact sums", "examples": "single numbers", "cost": "a million cells in 10,000 groups, one core"}


@dataclass
class Example:
    """One number before and after.

    Attributes:
        example: what is estimated.
        replaced: the percentile bootstrap.
        interval: the interval.
    """

    example: str
    replaced: str
    interval: str


@dataclass
class Cost:
    """What an interval of a million cells in 10,000 groups costs.

    Attributes:
        what: the interval.
        seconds: CPU time [s].
        peak_mb: most memory allocated at a time by Python and NumPy, beside the arguments [MB].
    """

    what: str
    seconds: float
    peak_mb: float


def costs():
    """Time and memory of a million cells of four classes in 10,000 groups."""
    rng = np.random.default_rng(0)
    num = 1_000_000
    probabilities = rng.dirichlet(np.full(4, 0.5), num)
    labels = np.minimum((probabilities.cumsum(1) < rng.random((num, 1))).sum(1), 3)
    called, groups = probabilities.argmax(1), rng.integers(0, 10_000, num)
    first, second = (called == labels).astype(int), (rng.random(num) < 0.6).astype(int)
    tables = np.array([[rng.multinomial(60, p) for p in BASE] for _ in range(10_000)])
    confusion = confusion_correction.Confusion(list("abcd"), tables)
    works = {
        "all scores of `summarize`": lambda: summarize(labels, called, list("abcd"), groups),
        "ROC area": lambda: ranking_intervals.roc_area(probabilities[:, 0], labels == 0, groups),
        "average precision": lambda: ranking_intervals.average_precision(probabilities[:, 0], labels == 0, groups),
        "calibration error": lambda: calibration.error_interval(probabilities, labels, groups),
        "reject curve of 1,000 thresholds": lambda: operating_curves.reject_curve(probabilities, labels, groups),
        "difference and verdict, by group": lambda: paired_difference.compare_paired(first, second, groups),
        "difference and verdict, by cell": lambda: paired_difference.compare_paired(first, second),
        "counts of a recording, 10,000 test recordings": lambda: confusion_correction.correct_counts(
            np.array([400, 300, 200, 100]), confusion
        ),
    }
    found = []
    for what, work in works.items():
        start = time.process_time()
        work()
        seconds = time.process_time() - start
        tracemalloc.start()
        work()
        found.append(Cost(what, seconds, tracemalloc.get_traced_memory()[1] / 1e6))
        tracemalloc.stop()
    return found


def examples():
    """Single numbers before and after."""
    rng = np.random.default_rng(0)

    def text(low, high):
        return f"{low:.3f}..{high:.3f}"

    found = []
    for hits, num in ((4, 4), (0, 1), (0, 2), (0, 11), (1, 1)):
        boot = stats.binom.ppf([0.025, 0.975], num, hits / num) / num
        one = score_intervals.proportion([hits], [num], grouped=False).interval()
        found.append(Example(f"{hits} of {num} right", text(*boot), text(one.low, one.high)))
    for hits, cells in (([80, 87], [94, 102]), ([148, 152, 156, 159], [164] * 4)):
        low, high = percentile_bootstrap.share_by_group(np.array([hits]), np.array([cells]), rng)
        one = score_intervals.proportion(hits, cells).interval()
        groups = ", ".join(f"{x}/{n}" for x, n in zip(hits, cells, strict=True))
        found.append(
            Example(f"{len(hits)} groups: {groups}", text(low[0], high[0]), f"{text(one.low, one.high)}; {one.note}")
        )
    for ups in (1, 2, 5):
        values = np.concatenate([np.full(ups, 2.0), np.linspace(-1, 1, 50)])
        one = ranking_intervals.roc_area(values, np.arange(len(values)) < ups)
        found.append(Example(f"ROC area, {ups} of 51 cells, separated", "1.000..1.000", text(one.low, one.high)))
    for differences in ([5, 9], [5, 9, 2, 7], [5, 9, 2, 7, 3, 4]):
        test = paired_difference.sign_flip(differences)
        low, _ = percentile_bootstrap.mean_by_group(np.array([differences]) / 60, rng)
        verdict = f"p = {test.p:.3g}" if test.least_p <= 0.05 else f"cannot tell with {len(differences)} groups"
        found.append(
            Example(f"better in all of {len(differences)} groups", "better" if low[0] > 0 else "chance", verdict)
        )
    one_donor = summarize(np.zeros(40, int), np.zeros(40, int), ["a", "b"], np.full(40, "donor 6"))
    found.append(Example("test subset of one donor of six", "by group (6 of them)", describe_unit(one_donor)))
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--parts", default=",".join([*PARTS, "examples", "cost"]), help="of the simulation (%(default)s)"
    )
    parser.add_argument("--sets", type=int, default=2000, help="simulated sets of a setting (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of all draws (%(default)s)")
    options = parser.parse_args()
    for part in options.parts.split(","):
        start = time.process_time()
        rows: Sequence[object]
        settings = {}
        if part == "examples":
            rows = examples()
            print(*(f"{one.example}: {one.replaced} -> {one.interval}" for one in rows), sep="\n")
        elif part == "cost":
            rows = costs()
            print(*(f"{one.what}: {one.seconds:.2f} s, {one.peak_mb:,.0f} MB" for one in rows), sep="\n")
        else:
            seed = [options.seed, list(PARTS).index(part)]
            rows = list(PARTS[part](options.sets, np.random.default_rng(seed)))
            settings = {"sets": options.sets if part != "cell" else "all outcomes", "seed": options.seed}
            print_worst(rows)
        spent = time.process_time() - start
        settings["CPU time"] = f"{spent:.0f} s"
        saved = Result(f"intervals-{part}", DATA.get(part, "simulated groups"), settings, rows).save()
        print(f"{part}: {len(rows)} rows, {spent:.0f} CPU s, wrote {saved}", flush=True)


def print_worst(rows):
    """Print least, mean coverage and median width by score, method and number of groups."""
    keys = dict.fromkeys((row.score, row.method, row.groups) for row in rows)
    for key in keys:
        mine = [row for row in rows if (row.score, row.method, row.groups) == key]
        coverage = [row.coverage for row in mine]
        width = np.median([row.width for row in mine])
        print(
            f"  {key[0]:<38}{key[1]:<22}{key[2]:>4}{len(mine):>5}{min(coverage):>8.3f}{np.mean(coverage):>7.3f}"
            f"{max(coverage):>7.3f}{width:>7.3f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
