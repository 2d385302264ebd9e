"""Drift: change of measured features over the acquisition order.

A sequence holds the cells of one recording and one class in the natural order of their keys, so that differences
between classes or recordings do not count as drift. The values are ranked within each sequence and regressed on four
cosines of up to two periods over it. The statistic is the share of variance that the cosines explain. Without drift the
cells of a sequence are exchangeable, so the chance level comes from permutations of their order. With several features,
the largest standardized share is tested (Westfall and Young, "Resampling-Based Multiple Testing", Wiley 1993). Many
features therefore raise no more false alarms than one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from fastcell.audit.findings import ALPHA, Finding, beside_chance
from fastcell.stats.permutation import Floats, Outcome, normal_scores, outcome, permute_within

LEAST_SEQUENCE_CELLS = 40
"""Smallest number of cells in a sequence that is tested."""
NUM_WAVES = 4
NUM_BINS = 20


@dataclass(frozen=True)
class Drift:
    """Drift of F features over the acquisition order.

    Attributes:
        names: F features.
        shares: (F,) share of the variance within sequences that the order explains, corrected for chance.
        at_least: (F,) the same, minus the level that the largest of F features reaches by chance in one of twenty
            cases.
        p: (F,) adjusted for the number of features.
        result: result for the feature whose share stands out most: share, its chance level, p over all features.
        strongest: index of that feature.
        sequences: names of the S tested sequences.
        sizes: (S,) number of cells.
        by_sequence: (F, S) explained share in each sequence.
        swing: (F, S) largest minus smallest value of the smooth course, in standard deviations of the sequence.
        curves: (F, NUM_BINS) mean ranked value by relative position, over all sequences.
        bands: (2, F, NUM_BINS) 2.5 and 97.5 % points of `curves` under permutation.
        courses: (F, S, NUM_BINS) smooth course in each sequence.
    """

    names: list[str]
    shares: Floats
    at_least: Floats
    p: Floats
    result: Outcome
    strongest: int
    sequences: list[str]
    sizes: npt.NDArray[np.int64]
    by_sequence: Floats
    swing: Floats
    curves: Floats
    bands: Floats
    courses: Floats


def find_drift(
    values: Floats,
    names: list[str],
    sequences: npt.NDArray[np.str_],
    permutations: int,
    rng: np.random.Generator,
) -> Drift | None:
    """Test features for drift over the acquisition order.

    Args:
        values: (n, F) in acquisition order; rows with NaN are ignored.
        names: F.
        sequences: (n,) str, name of the sequence of each cell; the cells of a sequence are in order.
        permutations: R.
        rng: generator for the permutations.

    Returns:
        The drift, or None if no sequence has 40 cells or no feature varies.
    """
    known = np.flatnonzero(np.isfinite(values).all(1))
    labels, code, counts = np.unique(sequences[known], return_inverse=True, return_counts=True)
    keep = counts[code] >= LEAST_SEQUENCE_CELLS
    known, code = known[keep], code[keep]
    if not len(known):
        return None
    order = np.argsort(code, kind="stable")
    known, code = known[order], code[order]
    used, code, sizes = np.unique(code, return_inverse=True, return_counts=True)
    starts = np.concatenate([[0], np.cumsum(sizes)])
    parts = [slice(begin, end) for begin, end in pairwise(starts)]
    scores = np.empty((len(known), values.shape[1]))
    for part in parts:
        scores[part] = _standard(normal_scores(values[known[part]]))
    moving = scores.std(0) > 1e-6
    if not moving.any():
        return None
    scores, names = scores[:, moving], [name for name, moves in zip(names, moving, strict=True) if moves]
    waves = [_waves(size) for size in sizes.tolist()]
    share, by_sequence, courses = _explained(scores, parts, waves)
    bins = np.concatenate([np.arange(size) * NUM_BINS // size for size in sizes.tolist()])
    null, null_curves = np.empty((permutations, len(names))), np.empty((permutations, len(names), NUM_BINS))
    for turn in range(permutations):
        shuffled = scores[permute_within(code, rng)]
        null[turn] = _explained(shuffled, parts, waves)[0]
        null_curves[turn] = _binned(shuffled, bins)
    # Standardize with the observed order and the permuted ones together. With a scale from the permuted ones alone, the
    # observed order would stand out by itself, and more so with fewer permutations.
    every = np.vstack([share, null])
    every = (every - every.mean(0)) / np.maximum(every.std(0), 1e-12)
    standard, standard_null = every[0], every[1:].max(1)
    mean, spread = null.mean(0), np.maximum(null.std(0), 1e-12)
    p = np.array([(1 + (standard_null >= value - 1e-9).sum()) / (1 + permutations) for value in standard])
    strongest = int(standard.argmax())
    found = outcome(share[strongest], null[:, strongest])
    result = Outcome(found.number, found.chance, found.chance_high, float(p[strongest]), found.least_p, permutations)
    return Drift(
        names=names,
        shares=np.maximum(share - mean, 0) / (1 - mean),
        at_least=np.maximum(share - mean - np.quantile(standard_null, 0.95) * spread, 0) / (1 - mean),
        p=p,
        result=result,
        strongest=strongest,
        sequences=labels[used].tolist() if len(used) else [],
        sizes=sizes,
        by_sequence=by_sequence,
        swing=courses.max(2) - courses.min(2),
        curves=_binned(scores, bins),
        bands=np.quantile(null_curves, [0.025, 0.975], axis=0),
        courses=courses,
    )


_LEAST_DRIFT = 0.02
"""Smallest share of the variance at which a drift is reported."""


def drift_finding(key: str, title: str, drift: Drift, what: str) -> Finding:
    """Return the finding of a `Drift`."""
    best = drift.strongest
    worst = int((drift.by_sequence[best] * (drift.sizes >= np.median(drift.sizes))).argmax())
    moving = [i for i in np.argsort(-drift.shares) if drift.p[i] <= ALPHA and drift.shares[i] >= _LEAST_DRIFT]
    listed = ", ".join(f"{drift.names[i]} ({drift.shares[i]:.1%})" for i in moving[:5])
    alarm = (
        f"{drift.names[best]} changes with the order of cells, most in {drift.sequences[worst]} (by "
        f"{drift.swing[best, worst]:.1f} standard deviations). Of all {what}: {listed}."
    )
    way = (
        f"see {key}.png for the time; exclude or repeat recordings made during the drift, and record classes "
        "alternately"
    )
    note = (
        f"{int(drift.sizes.sum()):,} cells in {len(drift.sequences):,} sequences of one group and class, in the "
        "natural order of their keys: if names do not follow time, the result has no meaning."
    )
    details: dict[str, Any] = {
        "features": {
            name: {"share": share, "p": p}
            for name, share, p in zip(drift.names, drift.shares.tolist(), drift.p.tolist(), strict=True)
        },
        "sequences": len(drift.sequences),
        "worst": drift.sequences[worst],
    }
    effect = float(drift.at_least[best])
    beside = beside_chance(drift.result.p, effect, _LEAST_DRIFT)
    return Finding(
        key, title, unit=f"share of the variance of {drift.names[best]} that the order explains", result=drift.result,
        effect=effect, thresholds=(_LEAST_DRIFT, 0.1),
        says={"problem": alarm, "warning": alarm, "else": f"{beside}; {drift.names[best]} drifts most."},
        advice={"problem": way, "warning": way},
        notes=(note,),
        details=details,
    )  # fmt: skip


def _standard(values: Floats) -> Floats:
    values = values - values.mean(0)
    spread = values.std(0)
    return np.where(spread > 1e-9, values / np.where(spread > 1e-9, spread, 1), 0.0)


def _waves(size: int) -> Floats:
    """Return (size, NUM_WAVES) orthonormal cosines of half a period to two periods.

    They are the first functions of the discrete cosine transform without its constant.
    """
    place = (np.arange(size) + 0.5) / size
    return np.stack([math.sqrt(2 / size) * np.cos(math.pi * k * place) for k in range(1, NUM_WAVES + 1)], axis=1)


def _explained(scores: Floats, parts: list[slice], waves: list[Floats]) -> tuple[Floats, Floats, Floats]:
    """Return the explained share over all (F,) and by sequence (F, S), and the smooth courses (F, S, NUM_BINS)."""
    num = scores.shape[1]
    explained, total = np.zeros((num, len(parts))), np.zeros((num, len(parts)))
    courses = np.zeros((num, len(parts), NUM_BINS))
    places = (np.arange(NUM_BINS) + 0.5) / NUM_BINS
    for index, (part, basis) in enumerate(zip(parts, waves, strict=True)):
        weights = basis.T @ scores[part]  # (NUM_WAVES, F)
        explained[:, index] = (weights**2).sum(0)
        total[:, index] = (scores[part] ** 2).sum(0)
        drawn = np.stack([np.cos(math.pi * k * places) for k in range(1, NUM_WAVES + 1)], axis=1)
        courses[:, index] = (drawn @ weights).T * math.sqrt(2 / len(basis))
    share = explained.sum(1) / np.maximum(total.sum(1), 1e-12)
    return share, explained / np.maximum(total, 1e-12), courses


def _binned(scores: Floats, bins: npt.NDArray[np.int64]) -> Floats:
    """Return the mean score by relative position, (F, NUM_BINS)."""
    counts = np.maximum(np.bincount(bins, minlength=NUM_BINS), 1)
    return np.stack([np.bincount(bins, column, NUM_BINS) / counts for column in scores.T])
