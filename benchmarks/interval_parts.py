"""The simulated parts of `intervals.py`: settings of each score, and how often its intervals contain the truth."""

from itertools import product

import numpy as np
import percentile_bootstrap
from scipy import special, stats
from simulated_groups import (
    FALSE_RATE,
    NODES,
    SIZES,
    WEIGHTS,
    Coverage,
    calls_of_pair,
    center,
    draw_hits,
    draw_pairs,
    draw_ranked,
    draw_recording,
    draw_sizes,
    draw_two_classes,
    gap_of,
    setting,
    stacked,
)

from fastcell.stats import calibration, confusion_correction, paired_difference, ranking_intervals, score_intervals
from fastcell.stats.intervals import IntervalArrays
from fastcell.stats.recall_difference import difference_of_recalls

GROUPS = (2, 3, 4, 5, 6, 8, 12, 20, 40)
BOOTSTRAP_SETS = 500
SHARED = 0.6
"""Standard deviation of the log odds between groups that two methods have in common."""

# Settings of the parts: number of groups (0 by cell) and what follows it in the loop of the part.
ACCURACY = [*product(GROUPS, (0, 0.3, 0.6, 1.0), (0.5, 0.8, 0.9, 0.95, 0.99), SIZES)]
CELLS = [*product((1, 2, 3, 5, 10, 20, 50, 100, 300, 1000), (0.5, 0.8, 0.9, 0.95, 0.98, 0.99))]
SCORES = [
    one
    for one in product(
        (0, 2, 3, 4, 5, 8, 20, 40), (0.05, 0.3), (0.8, 0.95), (0.0, 0.5, 1.0), ("5", "20", "60", "300", "5..1000")
    )
    if one[0] or not one[3]  # by cell no groups differ
]
RANKING = [
    *product((0,), (1, 3, 5, 6, 10, 30), (40, 200), (0.8, 0.95), (0.0,)),
    *product((2, 3, 5, 8, 20), (4, 20), (60,), (0.8, 0.95), (0.0, 0.5)),
]
PAIRED = [
    one
    for one in product(
        (0, 2, 3, 4, 5, 6, 8, 12, 20, 40), (0.8, 0.95), (0.0, 0.1), (0.0, 0.3, 0.6), ("20", "60", "5..1000")
    )
    if one[0] or not one[3]
]
ALIKE = ((0.5, 0.0), (0.95, 0.0), (0.5, 0.3), (0.5, 0.6))
"""How much errors of two methods go together, and the standard deviation of the log odds of each between groups."""
RECALLS = [
    one
    for one in product((0, 2, 3, 5, 8, 20, 40), (0.05, 0.3), (0.0, 0.1), ALIKE, ("20", "60", "300", "5..1000"))
    if one[0] or not one[3][1]
]
MIXTURES = ((0.25, 0.25, 0.25, 0.25), (0.4, 0.3, 0.2, 0.1), (0.9, 0.05, 0.045, 0.005))
RECORDINGS = [*product((1, 2, 3, 5, 8, 20), (0.0, 0.5, 0.8), MIXTURES)]


def accuracy(sets, rng):
    """Accuracy by group over the whole range of the assumption."""
    for groups, deviation, truth, kind in ACCURACY:
        hits, cells = draw_hits(kind, (sets, groups), deviation, truth, rng)
        yield setting("accuracy", groups, kind, deviation, truth, score_intervals.proportion(hits, cells))
    for groups, truth, kind in product((2, 3, 4, 5, 8, 15, 40), (0.8, 0.9, 0.95), ("60", "5..1000")):
        hits, cells = draw_hits(kind, (BOOTSTRAP_SETS, groups), 0.6, truth, rng)
        low, high = percentile_bootstrap.share_by_group(hits, cells, rng)
        bounds = IntervalArrays(hits.sum(1) / cells.sum(1), low, high, np.full(BOOTSTRAP_SETS, groups))
        row = setting("accuracy", groups, kind, 0.6, truth, bounds)
        row.method, row.assumed = "percentile bootstrap", False
        yield row


def beyond(sets, rng):
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


def by_cell(sets, rng):
    """Shares by cell: exact sums over all outcomes."""
    for num, truth in CELLS:
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


def scores(sets, rng):
    """Recall, precision, F and balanced accuracy of two classes, by cell and by group."""
    for groups, prevalence, recall, deviation, kind in SCORES:
        shape = (sets, max(groups, 1))
        hits, support, alarms, cells = draw_two_classes(kind, shape, prevalence, recall, deviation, rng)
        called = hits + alarms
        right, wrong = prevalence * recall, (1 - prevalence) * FALSE_RATE
        tables = np.stack([hits, support - hits, alarms, cells - support - alarms], axis=-1).reshape(*shape, 2, 2)
        grouped = groups > 0
        made = {
            "recall": (score_intervals.proportion(hits, support, grouped), recall),
            "precision": (score_intervals.proportion(hits, called, grouped), right / (right + wrong)),
            "F": (score_intervals.f_score(hits, support, called, grouped), 2 * right / (prevalence + right + wrong)),
            "balanced accuracy": (score_intervals.mean_recall(tables, grouped), (recall + 1 - FALSE_RATE) / 2),
        }
        for name, (bounds, truth) in made.items():
            if name == "balanced accuracy":  # with one class only it is the recall of that class
                both = (support.sum(1) > 0) & (support.sum(1) < cells.sum(1))
                bounds = IntervalArrays(*(np.where(both, part, np.nan) for part in bounds[:3]), bounds.num_groups)
            yield setting(name, groups, kind, deviation, truth, bounds)


def ranking(sets, rng):
    """ROC area and average precision of normal scores whose classes are shifted from group to group."""
    for groups, ups, downs, area, shift in RANKING:
        spread = np.sqrt(1 + shift**2)
        gap = gap_of(area, shift)
        grid = np.linspace(-8, 8 + gap, 4001)
        above = [1 - special.ndtr((grid - middle) / spread) for middle in (gap, 0.0)]
        prevalence = ups / (ups + downs)
        precision = prevalence * above[0] / np.maximum(prevalence * above[0] + (1 - prevalence) * above[1], 1e-300)
        truth = float((precision[1:] + precision[:-1]) @ -np.diff(above[0]) / 2)
        areas, precisions = [], []
        for _ in range(sets):
            values, positive, names = draw_ranked(groups, ups, downs, area, shift, rng)
            areas.append(ranking_intervals.roc_area(values, positive, names))
            precisions.append(ranking_intervals.average_precision(values, positive, names))
        cells = f"{ups} of {ups + downs}"
        yield setting("ROC area", groups, cells, shift, area, stacked(areas))
        if not np.isnan([one.low for one in precisions]).all():
            yield setting("average precision", groups, cells, shift, truth, stacked(precisions))


def errors_of_calibration(sets, rng):
    """Expected calibration error of two classes whose log odds are too large by a factor."""
    choices = [*product((0,), (1, 3, 10, 50, 300, 1000), (1.0, 2.0), (0.0,))]
    choices += [*product((2, 3, 5, 8, 20), (20, 100), (1.0, 2.0), (0.0, 0.5))]
    many = np.abs(rng.normal(0, 2.5, 100_000))
    for groups, size, factor, deviation in choices:
        confidence = special.expit(many)
        right = special.expit(many[:, None] / factor + deviation * NODES) @ WEIGHTS / WEIGHTS.sum()
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


def paired(sets, rng):
    """Difference of two methods, and false verdicts where both are equally good."""
    for groups, truth, gap, own, kind in PAIRED:
        shared, shape = SHARED * (groups > 0), (sets, max(groups, 1))
        counts, cells = draw_pairs(kind, shape, shared, own, (truth, truth - gap), rng)
        deviation = float(np.hypot(shared, own))
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


def paired_recalls(sets, rng):
    """Difference of the balanced accuracies of two methods on two classes, of which one is rare."""
    for groups, prevalence, gap, (alike, own), kind in RECALLS:
        shape, shared = (sets, max(groups, 1)), SHARED * (groups > 0)
        cells = draw_sizes(kind, shape, rng)
        support = np.stack([rng.binomial(cells, prevalence), cells], axis=-1)
        support[..., 1] -= support[..., 0]
        calls = np.stack(
            [calls_of_pair(support[..., k], shared, own, (0.85, 0.85 - gap), rng, alike) for k in (0, 1)], axis=-2
        )
        bounds = difference_of_recalls(calls[..., 1], calls[..., 2], support, groups > 0)
        both = (support.sum(1) > 0).all(axis=-1)
        bounds = IntervalArrays(*(np.where(both, part, np.nan) for part in bounds[:3]), bounds.num_groups)
        deviation = float(np.hypot(shared, own))
        row = setting("difference of balanced accuracies", groups, kind, deviation, gap, bounds)
        row.assumed = False
        yield row


def counts_of_recordings(sets, rng):
    """Cells of each class in a new recording; recordings are confused differently. The row is the worst class."""
    for groups, deviation, mixture in RECORDINGS:
        truth = 1000 * np.array(mixture)
        for method, num in (("interval", sets), ("percentile bootstrap", min(200, sets) if deviation == 0.5 else 0)):
            inside, widths = np.zeros(4), []
            for _ in range(num):
                tables, called = draw_recording(groups, deviation, mixture, rng)
                if method == "interval":
                    confusion = confusion_correction.Confusion(list("abcd"), tables)
                    _, low, high = confusion_correction.correct_counts(called, confusion)
                else:
                    low, high = percentile_bootstrap.corrected_counts(called, tables, rng)
                inside += (low <= truth) & (truth <= high)
                widths.append(np.median(high - low) / 1000)
            if num:
                few = method == "interval" and groups < 5
                score = f"share of a class in a new recording, deviation {deviation:g}"
                yield Coverage(
                    score, method, groups, f"mixture {mixture}", deviation, None, num,
                    float(inside.min() / num), float(np.median(widths)), 0.0, few,
                )  # fmt: skip
