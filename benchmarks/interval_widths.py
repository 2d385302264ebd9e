"""Widths of the intervals beside those of a trial of the same methods, on the same simulated sets.

The trial is a module with functions of one set each: `proportion`, `f_score`, `balanced_accuracy`, `auc`,
`paired_difference` and `corrected_counts`. Settings are those of `interval_parts.py`.
"""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import dataclass

import interval_parts
import numpy as np
from simulated_groups import Floats, draw_hits, draw_pairs, draw_ranked, draw_recording, draw_two_classes

from fastcell.stats import confusion_correction, paired_difference, ranking_intervals, score_intervals

Setting = tuple[int, str, Floats, Floats]
"""Number of groups, the rest of the setting in words, (sets,) widths, (sets,) widths of the trial."""


@dataclass
class Widths:
    """All settings of one score with one number of groups.

    Attributes:
        score: what is estimated.
        groups: number of groups; 0 by cell.
        settings: number of settings.
        sets: simulated sets of a setting.
        width, trial: median over the settings of the median width over the sets, and the same of the trial.
        wider: largest ratio of the two median widths of a setting.
        narrower: smallest ratio.
        where: the setting with the largest ratio.
    """

    score: str
    groups: int
    settings: int
    sets: int
    width: float
    trial: float
    wider: float
    narrower: float
    where: str


def compare_widths(trial, sets, rng):
    """Simulate all settings.

    Args:
        trial: file of the trial.
        sets: simulated sets of a setting.
        rng: of the draws.
    """
    module = load_module(trial)
    parts = {
        "accuracy": _accuracy,
        "F": _f_score,
        "balanced accuracy": _balanced,
        "ROC area": _roc_area,
        "difference of two methods": _difference,
    }
    for score, draw in parts.items():
        yield from summarize(score, sets, [*draw(module, sets, rng)])
    for deviation in sorted({one[1] for one in interval_parts.RECORDINGS}):
        score = f"share of a class in a new recording, deviation {deviation:g}"
        yield from summarize(score, sets, [*_recordings(module, sets, deviation, rng)])


def load_module(path):
    """Return the module in a file."""
    spec = importlib.util.spec_from_file_location("trial_of_intervals", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclasses look themselves up
    spec.loader.exec_module(module)
    return module


def summarize(score, sets, settings):
    """Return a row for each number of groups; sets without interval are left out."""
    for groups in sorted({one[0] for one in settings}):
        mine = [one for one in settings if one[0] == groups]
        medians = np.array([[np.nanmedian(ours), np.nanmedian(theirs)] for _, _, ours, theirs in mine])
        ratio = np.where(medians[:, 1] > 0, medians[:, 0] / np.maximum(medians[:, 1], 1e-12), 1 + medians[:, 0])
        width, trial = np.median(medians, axis=0)
        worst = int(ratio.argmax())
        yield Widths(
            score, groups, len(mine), sets, float(width), float(trial), float(ratio.max()), float(ratio.min()),
            mine[worst][1],
        )  # fmt: skip


def _both(bounds, theirs):
    """Return the widths of arrays of intervals and of the trial's, where both have one."""
    ours = bounds.high - bounds.low
    other = np.array([one.high - one.low for one in theirs])
    there = ~np.isnan(ours) & ~np.isnan(other)
    return ours[there], other[there]


def _accuracy(trial, sets, rng):
    for groups, deviation, truth, kind in interval_parts.ACCURACY:
        hits, cells = draw_hits(kind, (sets, groups), deviation, truth, rng)
        theirs = [trial.proportion(*one) for one in zip(hits, cells, strict=True)]
        where = f"cells: {kind}, deviation {deviation:g}, truth {truth:g}"
        yield groups, where, *_both(score_intervals.proportion(hits, cells), theirs)
    for num, truth in interval_parts.CELLS:
        hits = rng.binomial(num, truth, (sets, 1))
        theirs = [trial.proportion(one, np.array([num]), False) for one in hits]
        bounds = score_intervals.proportion(hits, num, grouped=False)
        yield 0, f"cells: {num}, truth {truth:g}", *_both(bounds, theirs)


def _f_score(trial, sets, rng):
    for groups, where, (hits, support, alarms, _) in _two_classes(sets, rng):
        theirs = [
            trial.f_score(tp, fp, num - tp, groups > 0) for tp, fp, num in zip(hits, alarms, support, strict=True)
        ]
        yield groups, where, *_both(score_intervals.f_score(hits, support, hits + alarms, groups > 0), theirs)


def _balanced(trial, sets, rng):
    for groups, where, (hits, support, alarms, cells) in _two_classes(sets, rng):
        four = [hits, support - hits, alarms, cells - support - alarms]
        tables = np.stack(four, axis=-1).reshape(*hits.shape, 2, 2)
        theirs = [trial.balanced_accuracy(one, groups > 0) for one in tables]
        yield groups, where, *_both(score_intervals.mean_recall(tables, groups > 0), theirs)


def _two_classes(sets, rng):
    for groups, prevalence, recall, deviation, kind in interval_parts.SCORES:
        where = f"cells: {kind}, deviation {deviation:g}, recall {recall:g}, share of the class {prevalence:g}"
        shape = (sets, max(groups, 1))
        yield groups, where, draw_two_classes(kind, shape, prevalence, recall, deviation, rng)


def _roc_area(trial, sets, rng):
    for groups, ups, downs, area, shift in interval_parts.RANKING:
        widths = []
        for _ in range(sets):
            made = draw_ranked(groups, ups, downs, area, shift, rng)
            pair = ranking_intervals.roc_area(*made), trial.auc(*made)
            widths.append([one.high - one.low for one in pair])
        where = f"cells: {ups} of {ups + downs}, deviation {shift:g}, truth {area:g}"
        yield groups, where, *np.array(widths).T


def _difference(trial, sets, rng):
    for groups, truth, gap, own, kind in interval_parts.PAIRED:
        shared, shape = interval_parts.SHARED * (groups > 0), (sets, max(groups, 1))
        counts, _ = draw_pairs(kind, shape, shared, own, (truth, truth - gap), rng)
        widths = []
        for four in counts:
            outcome = np.repeat(np.tile(np.arange(4), len(four)), four.ravel())
            first, second = outcome < 2, outcome % 2 == 0
            names = np.repeat(np.arange(len(four)), four.sum(1)) if groups else None
            ours = paired_difference.compare_paired(first.astype(int), second.astype(int), names).difference
            theirs = trial.paired_difference(first, second, names).interval
            widths.append([one.high - one.low for one in (ours, theirs)])
        where = f"cells: {kind}, deviation {own:g}, accuracies {truth:g} and {truth - gap:g}"
        yield groups, where, *np.array(widths).T


def _recordings(trial, sets, deviation, rng):
    """Yield a setting for each class, as shares of the cells."""
    for groups, spread, mixture in interval_parts.RECORDINGS:
        if spread != deviation:
            continue
        widths = []
        for _ in range(sets):
            tables, called = draw_recording(groups, deviation, mixture, rng)
            confusion = confusion_correction.Confusion(list("abcd"), tables)
            pair = confusion_correction.correct_counts(called, confusion), trial.corrected_counts(called, tables)
            widths.append([(high - low) / 1000 for _, low, high in pair])
        for number, (ours, theirs) in enumerate(np.array(widths).transpose(2, 1, 0)):
            yield groups, f"mixture {mixture}, class {number + 1}", ours, theirs
