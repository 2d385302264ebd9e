"""Do the intervals hold their level, how wide are they, and how often are two equal methods declared different?

Groups are drawn from a population: the log odds of a group's accuracy are normal with a given standard deviation, and
its number of cells is drawn independently of them. The interval must contain the *mean over the population of groups,
each weighted by its number of cells*, which by cell (one population of cells) is the accuracy itself. Each setting is
simulated 2,000 times; its coverage has a standard error of .005. The percentile bootstrap that the intervals replaced
stands beside them (500 sets, 500 draws).

Parts: `accuracy` by group, `beyond` the range of the assumption, `cell` (exact sums over all outcomes), `scores`
(recall, precision, F, balanced accuracy), `ranking` (ROC area, average precision), `calibration`, `paired`, `counts` of
a new recording, `examples`, `cost` of a million cells.

    python benchmarks/intervals.py [--parts accuracy,paired] [--sets 2000]
"""

from __future__ import annotations

import argparse
import time
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import numpy.typing as npt
import percentile_bootstrap
from harness import Result
from scipy import special, stats

from fastcell.stats import (
    calibration,
    confusion_correction,
    operating_curves,
    paired_difference,
    ranking_intervals,
    score_intervals,
)
from fastcell.stats.intervals import FEW_GROUPS, IntervalArrays
from fastcell.stats.scores import describe_unit, summarize

Floats = npt.NDArray[np.float64]
GROUPS = (2, 3, 4, 5, 6, 8, 12, 20, 40)
SIZES = ("5", "20", "60", "200", "1000", "5..1000", "one of 1000, others of 20")
BOOTSTRAP_SETS = 500
_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(60)


@dataclass
class Coverage:
    """One setting.

    Attributes:
        score: what is estimated.
        method: ``interval``, or ``percentile bootstrap``, which it replaced.
        groups: number of groups; 0 by cell.
        cells: cells of a group, or of all by cell.
        deviation: standard deviation of the log odds between groups.
        truth: the value to be covered; None where there are several.
        sets: simulated sets.
        coverage: share of intervals that contain the truth; for verdicts, share of right verdicts.
        width: median width of the intervals.
        without: share of sets without interval (the score is not defined or too few cells).
        assumed: True if the interval rests on an assumed spread between groups.
    """

    score: str
    method: str
    groups: int
    cells: str
    deviation: float
    truth: float | None
    sets: int
    coverage: float
    width: float
    without: float = 0.0
    assumed: bool = False


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


def center(truth: Floats | float, deviation: float) -> Floats:
    """Return the mean of normal log odds with this deviation for which the mean probability is `truth`."""
    grid = np.linspace(-14, 14, 8001)
    means = special.expit(grid[:, None] + deviation * _NODES) @ _WEIGHTS / _WEIGHTS.sum()
    return np.interp(truth, means, grid)


def draw_sizes(kind: str, shape: tuple[int, int], rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """Draw the numbers of cells of (sets, groups)."""
    if kind.isdigit():
        return np.full(shape, int(kind))
    if ".." in kind:
        low, high = np.log([int(word) for word in kind.split("..")])
        return np.exp(rng.uniform(low, high, shape)).astype(np.int64)
    sizes = np.full(shape, 20)
    sizes[:, 0] = 1000
    return sizes


def covered(bounds: IntervalArrays, truth: Floats | float) -> tuple[float, float, float]:
    """Return coverage, median width, and share of sets without interval."""
    known = ~np.isnan(bounds.low)
    inside = (bounds.low <= truth) & (truth <= bounds.high)
    return float(inside[known].mean()), float(np.median((bounds.high - bounds.low)[known])), float(1 - known.mean())


def setting(score: str, groups: int, cells: str, deviation: float, truth: float, bounds: IntervalArrays) -> Coverage:
    """Return the row of a simulated setting."""
    sets = len(bounds.value)
    few = 1 < groups < FEW_GROUPS
    return Coverage(score, "interval", groups, cells, deviation, truth, sets, *covered(bounds, truth), few)


def stacked(intervals: list) -> IntervalArrays:
    """Return `IntervalArrays` of single intervals."""
    value, low, high = (np.array([getattr(one, name) for one in intervals]) for name in ("value", "low", "high"))
    return IntervalArrays(value, low, high, np.array([one.num_groups for one in intervals]))


def accuracy(sets: int, rng: np.random.Generator) -> Iterator[Coverage]:
    """Accuracy by group over the whole range of the assumption."""
    for groups, deviation, truth, kind in product(GROUPS, (0, 0.3, 0.6, 1.0), (0.5, 0.8, 0.9, 0.95, 0.99), SIZES):
        cells = draw_sizes(kind, (sets, groups), rng)
        hits = rng.binomial(
            cells, special.expit(center(truth, deviation) + deviation * rng.standard_normal(cells.shape))
        )
        yield setting("accuracy", groups, kind, deviation, truth, score_intervals.proportion(hits, cells))
    for groups, truth, kind in product((2, 3, 4, 5, 8, 15, 40), (0.8, 0.9, 0.95), ("60", "5..1000")):
        cells = draw_sizes(kind, (BOOTSTRAP_SETS, groups), rng)
        hits = rng.binomial(cells, special.expit(center(truth, 0.6) + 0.6 * rng.standard_normal(cells.shape)))
        low, high = percentile_bootstrap.share_by_group(hits, cells, rng)
        bounds = IntervalArrays(hits.sum(1) / cells.sum(1), low, high, np.full(BOOTSTRAP_SETS, groups))
        row = setting("accuracy", groups, kind, 0.6, truth, bounds)
        row.method, row.assumed = "percentile bootstrap", False
        yield row


def beyond(sets: int, rng: np.random.Generator) -> Iterator[Coverage]:
    """Accuracy by group where groups differ by more than is assumed, one in six is bad, or size goes with accuracy."""
    for groups, truth, kind in product((2, 3, 5, 6, 8, 20, 40), (0.8, 0.9, 0.95), ("60", "1000")):
        cells = draw_sizes(kind, (sets, groups), rng)
        for deviation in (1.5, 2.0):
            odds = center(truth, deviation) + deviation * rng.standard_normal(cells.shape)
            bounds = score_intervals.proportion(rng.binomial(cells, special.expit(odds)), cells)
            yield setting(f"accuracy, deviation {deviation}", groups, kind, deviation, truth, bounds)
        good = special.logit(truth)
        odds = np.where(rng.random(cells.shape) < 1 / 6, good - 2.5, good)
        mean = (5 * truth + special.expit(good - 2.5)) / 6
        bounds = score_intervals.proportion(rng.binomial(cells, special.expit(odds)), cells)
        yield setting("accuracy, one group in six is bad", groups, kind, 0.93, float(mean), bounds)
    for groups, truth in product((2, 3, 5, 8, 20, 40), (0.8, 0.9, 0.95)):
        normal = rng.standard_normal((sets, groups))
        cells = np.maximum(np.exp(np.log(60) + normal), 2).astype(np.int64)  # a group with more cells is better
        odds = center(truth, 0.6) + 0.6 * normal
        many = rng.standard_normal(1_000_000)
        size = np.maximum(np.exp(np.log(60) + many), 2).astype(np.int64)
        mean = (size * special.expit(center(truth, 0.6) + 0.6 * many)).sum() / size.sum()
        bounds = score_intervals.proportion(rng.binomial(cells, special.expit(odds)), cells)
        yield setting("accuracy, larger groups are better", groups, "log-normal, median 60", 0.6, float(mean), bounds)


def by_cell(sets: int, rng: np.random.Generator) -> Iterator[Coverage]:
    """Shares by cell: exact sums over all outcomes."""
    for num, truth in product((1, 2, 3, 5, 10, 20, 50, 100, 300, 1000), (0.5, 0.8, 0.9, 0.95, 0.98, 0.99)):
        hits = np.arange(num + 1)
        chance = stats.binom.pmf(hits, num, truth)
        bounds = score_intervals.proportion(hits[:, None], num, grouped=False)
        boot = [stats.binom.ppf(tail, num, hits / num) / num for tail in (0.025, 0.975)]
        for method, low, high in (("interval", bounds.low, bounds.high), ("percentile bootstrap", *boot)):
            inside = (low <= truth + 1e-12) & (truth <= high + 1e-12)
            order = np.argsort(high - low)
            middle = order[np.searchsorted(np.cumsum(chance[order]), 0.5)]
            width = float((high - low)[middle])
            yield Coverage("accuracy", method, 0, str(num), 0.0, truth, 0, float(chance @ inside), width)


def scores(sets: int, rng: np.random.Generator) -> Iterator[Coverage]:
    """Recall, precision, F and balanced accuracy of two classes, by cell and by group."""
    choices = product(
        (0, 2, 3, 4, 5, 8, 20, 40), (0.05, 0.3), (0.8, 0.95), (0.0, 0.5, 1.0), ("5", "20", "60", "300", "5..1000")
    )
    for groups, prevalence, recall, deviation, kind in choices:
        if not groups and deviation:
            continue
        shape = (sets, max(groups, 1))
        cells = draw_sizes(kind, shape, rng)
        support = rng.binomial(cells, prevalence)
        false_rate = 0.04
        shared = np.sqrt(0.5) * rng.standard_normal(shape)

        def rate(mean: float, sign: int, deviation: float = deviation, shared: Floats = shared) -> Floats:
            own = np.sqrt(0.5) * rng.standard_normal(shared.shape)
            return special.expit(center(mean, deviation) + deviation * (sign * shared + own))

        hits = rng.binomial(support, rate(recall, 1))
        alarms = rng.binomial(cells - support, rate(false_rate, -1))
        called = hits + alarms
        right, wrong = prevalence * recall, (1 - prevalence) * false_rate
        tables = np.stack([hits, support - hits, alarms, cells - support - alarms], axis=-1).reshape(*shape, 2, 2)
        grouped = groups > 0
        made = {
            "recall": (score_intervals.proportion(hits, support, grouped), recall),
            "precision": (score_intervals.proportion(hits, called, grouped), right / (right + wrong)),
            "F": (score_intervals.f_score(hits, support, called, grouped), 2 * right / (prevalence + right + wrong)),
            "balanced accuracy": (score_intervals.mean_recall(tables, grouped), (recall + 1 - false_rate) / 2),
        }
        for name, (bounds, truth) in made.items():
            if name == "balanced accuracy":  # with one class only it is the recall of that class
                both = (support.sum(1) > 0) & (support.sum(1) < cells.sum(1))
                bounds = IntervalArrays(*(np.where(both, part, np.nan) for part in bounds[:3]), bounds.num_groups)
            yield setting(name, groups, kind, deviation, truth, bounds)


def ranking(sets: int, rng: np.random.Generator) -> Iterator[Coverage]:
    """ROC area and average precision of normal scores whose classes are shifted from group to group."""
    by_cell_choices = product((0,), (1, 3, 5, 6, 10, 30), (40, 200), (0.8, 0.95), (0.0,))
    by_group_choices = product((2, 3, 5, 8, 20), (4, 20), (60,), (0.8, 0.95), (0.0, 0.5))
    for groups, ups, downs, area, shift in (*by_cell_choices, *by_group_choices):
        spread = np.sqrt(1 + shift**2)
        gap = special.ndtri(area) * np.sqrt(2) * spread
        grid = np.linspace(-8, 8 + gap, 4001)
        above = [1 - special.ndtr((grid - middle) / spread) for middle in (gap, 0.0)]
        times = max(groups, 1)
        prevalence = ups / (ups + downs)
        precision = prevalence * above[0] / np.maximum(prevalence * above[0] + (1 - prevalence) * above[1], 1e-300)
        truth = float((precision[1:] + precision[:-1]) @ -np.diff(above[0]) / 2)
        positive = np.tile(np.arange(ups + downs) < ups, times)
        names = np.repeat(np.arange(times), ups + downs) if groups else None
        areas, precisions = [], []
        for _ in range(sets):
            moved = np.repeat(rng.standard_normal((times, 2)) * shift, [ups, downs], axis=1).ravel()
            values = np.where(positive, gap, 0.0) + moved + rng.standard_normal(len(positive))
            areas.append(ranking_intervals.roc_area(values, positive, names))
            precisions.append(ranking_intervals.average_precision(values, positive, names))
        cells = f"{ups} of {ups + downs}"
        yield setting("ROC area", groups, cells, shift, area, stacked(areas))
        if not np.isnan([one.low for one in precisions]).all():
            yield setting("average precision", groups, cells, shift, truth, stacked(precisions))


def errors_of_calibration(sets: int, rng: np.random.Generator) -> Iterator[Coverage]:
    """Expected calibration error of two classes whose log odds are too large by a factor."""
    choices = [*product((0,), (1, 3, 10, 50, 300, 1000), (1.0, 2.0), (0.0,))]
    choices += [*product((2, 3, 5, 8, 20), (20, 100), (1.0, 2.0), (0.0, 0.5))]
    many = np.abs(rng.normal(0, 2.5, 100_000))
    for groups, size, factor, deviation in choices:
        confidence = special.expit(many)
        right = special.expit(many[:, None] / factor + deviation * _NODES) @ _WEIGHTS / _WEIGHTS.sum()
        place = np.clip(np.ceil(confidence * calibration.BINS).astype(int) - 1, 0, None)
        truth = float(np.abs(np.bincount(place, right - confidence)).sum() / len(many))
        times = max(groups, 1)
        names = np.repeat(np.arange(times), size) if groups else None
        found = []
        for _ in range(sets):
            odds = np.abs(rng.normal(0, 2.5, size * times))
            moved = np.repeat(deviation * rng.standard_normal(times), size)
            wrong = rng.random(len(odds)) > special.expit(odds / factor + moved)
            sure = special.expit(odds)
            found.append(calibration.error_interval(np.stack([sure, 1 - sure], axis=1), wrong.astype(int), names))
        yield setting("calibration error", groups, str(size), deviation, truth, stacked(found))


def paired(sets: int, rng: np.random.Generator) -> Iterator[Coverage]:
    """Difference of two methods, and false verdicts where both are equally good."""
    choices = product(
        (0, 2, 3, 4, 5, 6, 8, 12, 20, 40), (0.8, 0.95), (0.0, 0.1), (0.0, 0.3, 0.6), ("20", "60", "5..1000")
    )
    for groups, truth, gap, own, kind in choices:
        if not groups and own:
            continue
        shape = (sets, max(groups, 1))
        cells = draw_sizes(kind, shape, rng)
        shared = 0.6 * rng.standard_normal(shape) * (groups > 0)
        deviation = float(np.hypot(0.6 * (groups > 0), own))
        rates = [
            special.expit(center(mean, deviation) + shared + own * rng.standard_normal(shape))
            for mean in (truth, truth - gap)
        ]
        both = np.minimum(*rates) * 0.5 + 0.5 * rates[0] * rates[1]  # errors of the methods go together
        four = np.stack([both, rates[0] - both, rates[1] - both, 1 - rates[0] - rates[1] + both], axis=-1)
        counts = rng.multinomial(cells, np.clip(four, 0, 1) / np.clip(four, 0, 1).sum(-1, keepdims=True))
        first, second = counts[..., 0] + counts[..., 1], counts[..., 0] + counts[..., 2]
        plus, minus = (counts[..., place].sum(1).astype(float) for place in (1, 2))
        if groups:
            bounds = paired_difference.difference_by_group(first, second, cells.astype(float), plus, minus)
            tests = [paired_difference.sign_flip(one) for one in first - second]
        else:
            bounds = paired_difference.difference_by_cell(plus, minus, cells.sum(1).astype(float))
            tests = [
                paired_difference.sign_flip(np.repeat([1, -1], [int(up), int(down)]))
                for up, down in zip(plus, minus, strict=True)
            ]
        yield setting("difference of two methods", groups, kind, deviation, gap, bounds)
        said = np.mean([test.p <= paired_difference.SIGNIFICANT for test in tests])
        name = "true verdicts (difference .1)" if gap else "false verdicts (no difference)"
        yield Coverage(name, "interval", groups, kind, deviation, gap, sets, float(said), 0.0)
    for groups, truth in product((2, 3, 4, 8, 15), (0.8, 0.95)):
        rates = special.expit(center(truth, 0.6) + 0.6 * rng.standard_normal((2, BOOTSTRAP_SETS, groups)))
        hits = rng.binomial(60, rates)
        low, high = percentile_bootstrap.mean_by_group((hits[0] - hits[1]) / 60, rng)
        said = float(((low > 0) | (high < 0)).mean())
        name = "false verdicts (no difference)"
        yield Coverage(name, "percentile bootstrap", groups, "60", 0.6, 0.0, BOOTSTRAP_SETS, said, 0.0)


BASE = np.array([[0.9, 0.06, 0.03, 0.01], [0.08, 0.85, 0.05, 0.02], [0.02, 0.05, 0.92, 0.01], [0.1, 0.1, 0.1, 0.7]])


def counts_of_recordings(sets: int, rng: np.random.Generator) -> Iterator[Coverage]:
    """Cells of each class in a new recording; recordings are confused differently. The row is the worst class."""

    def recordings(num: int, deviation: float) -> Floats:
        p = BASE * np.exp(deviation * rng.standard_normal((num, *BASE.shape)))
        return np.asarray(p / p.sum(2, keepdims=True), np.float64)

    mixtures = [(0.25, 0.25, 0.25, 0.25), (0.4, 0.3, 0.2, 0.1), (0.9, 0.05, 0.045, 0.005)]
    for groups, deviation, mixture in product((1, 2, 3, 5, 8, 20), (0.0, 0.5, 0.8), mixtures):
        truth = 1000 * np.array(mixture)
        for method, num in (("interval", sets), ("percentile bootstrap", min(200, sets) if deviation == 0.5 else 0)):
            inside, widths = np.zeros(4), []
            for _ in range(num):
                tables = rng.multinomial(240 // groups, recordings(groups, deviation))
                called = rng.multinomial(rng.multinomial(1000, mixture), recordings(1, deviation)[0]).sum(0)
                if method == "interval":
                    confusion = confusion_correction.Confusion(list("abcd"), tables)
                    _, low, high = confusion_correction.correct_counts(called, confusion)
                else:
                    low, high = percentile_bootstrap.corrected_counts(called, tables, rng)
                inside += (low <= truth) & (truth <= high)
                widths.append(np.median(high - low) / 1000)
            if num:
                few = method == "interval" and groups < 5
                score = f"share of a class in a new recording{', deviation 0.8' if deviation == 0.8 else ''}"
                yield Coverage(
                    score, method, groups, f"mixture {mixture}", deviation, None, num,
                    float(inside.min() / num), float(np.median(widths)), 0.0, few,
                )  # fmt: skip


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


def costs() -> list[Cost]:
    """Time and memory of a million cells of four classes in 10,000 groups."""
    rng = np.random.default_rng(0)
    num = 1_000_000
    probabilities = rng.dirichlet(np.full(4, 0.5), num)
    labels = np.minimum((probabilities.cumsum(1) < rng.random((num, 1))).sum(1), 3)
    called, groups = probabilities.argmax(1), rng.integers(0, 10_000, num)
    first, second = (called == labels).astype(int), (rng.random(num) < 0.6).astype(int)
    tables = np.array([[rng.multinomial(60, p) for p in BASE] for _ in range(10_000)])
    confusion = confusion_correction.Confusion(list("abcd"), tables)
    works: dict[str, Callable[[], object]] = {
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


DATA = {"cell": "exact sums", "examples": "single numbers", "cost": "a million cells in 10,000 groups, one core"}
PARTS: dict[str, Callable[[int, np.random.Generator], Iterator[Coverage]]] = {
    "accuracy": accuracy,
    "beyond": beyond,
    "cell": by_cell,
    "scores": scores,
    "ranking": ranking,
    "calibration": errors_of_calibration,
    "paired": paired,
    "counts": counts_of_recordings,
}


def examples() -> list[Example]:
    """Single numbers before and after."""
    rng = np.random.default_rng(0)

    def text(low: float, high: float) -> str:
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


def main() -> None:
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
        settings: dict[str, object] = {}
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


def print_worst(rows: list[Coverage]) -> None:
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
