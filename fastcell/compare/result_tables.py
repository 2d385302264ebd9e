"""Scores of a study from its finished tasks: accuracy by volume, scores by class, paired differences of methods."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from fastcell.compare.saved_results import PARTS, TaskResult
from fastcell.stats.confusion import confusion_matrix, confusion_per_group
from fastcell.stats.intervals import group_note
from fastcell.stats.paired_difference import compare_paired
from fastcell.stats.scores import MEASURES, ScoreIntervals, score, score_intervals

# Values of `PairedDifference.what` for differences that are not between methods.
SCHEMES, PROTOCOLS = "schemes", "protocols"


@dataclass(frozen=True)
class Entry:
    """Accuracy of a method on one subset, over all splits of a scheme and all seeds.

    Attributes:
        scheme, method, image_size, volume, part: Key of the entry; `part` is the subset.
        num_train: Number of training cells, mean over splits and seeds.
        num_cells: Number of scored cells per seed, with the splits pooled.
        num_seeds, num_splits: Number of seeds and of splits.
        accuracy: Mean over seeds.
        std: Standard deviation over seeds (n - 1); None for one seed.
        low, high: 95 % interval of the mean.
        by_seed: Accuracy of each seed.
        balanced_accuracy, balanced_low, balanced_high: Mean recall over classes, with its interval as above.
        fit_s: Median time to fit [s].
        predict_us: Median time to classify one preprocessed cell of the test subset [us].
        device: Device or backend that computed the result.
        by: Unit of the intervals: group, source cell or cell.
        num_units: Number of these units.
        note: Limitation of the intervals; empty if there is none.
    """

    scheme: str
    method: str
    image_size: int
    volume: float
    part: str
    num_train: float
    num_cells: int
    num_seeds: int
    num_splits: int
    accuracy: float
    std: float | None
    low: float
    high: float
    by_seed: list[float]
    balanced_accuracy: float
    balanced_low: float
    balanced_high: float
    fit_s: float
    predict_us: float
    device: str
    by: str
    num_units: int
    note: str


@dataclass(frozen=True)
class ClassScores:
    """Precision, recall and F-score of one method on one subset, mean over seeds.

    Attributes:
        scheme, method, image_size, volume, part: Key of the scores; `part` is the subset.
        values: (3, K), in the order of `MEASURES`; NaN for a class that does not occur, or that is never predicted.
        low, high: (3, K), 95 % interval; NaN if there is none.
    """

    scheme: str
    method: str
    image_size: int
    volume: float
    part: str
    values: np.ndarray
    low: np.ndarray
    high: np.ndarray


@dataclass(frozen=True)
class PairedDifference:
    """Accuracy of `first` minus accuracy of `second` on the same test cells and seeds.

    Attributes:
        what: Description of the common scheme and volume, or `SCHEMES` or `PROTOCOLS`.
        first, second: Names of the compared results.
        volume: Share of the training cells, in (0, 1].
        value: Difference, mean over test cells and seeds.
        low, high: 95 % interval.
        num_cells: Number of test cells per seed.
        by: Unit of the interval and of the test: group, source cell or cell.
        num_units: Number of these units.
        p: Two-sided p of the exact sign-flip test over units.
        verdict: Conclusion in words.
    """

    what: str
    first: str
    second: str
    volume: float
    value: float
    low: float
    high: float
    num_cells: int
    by: str
    num_units: int
    p: float
    verdict: str


Place = tuple[str, str, int, float]
"""Scheme, method, image size [px], volume."""


class Tables:
    """Scores of finished tasks.

    Args:
        results: Results of all tasks.
        labels: (N,) int64, labels of the manifest.
        classes: Names of the K classes.
        units: (N,) int64, number of the independent unit of each cell.
        unit: Word for such units; ``cell`` if every cell is one.
    """

    def __init__(
        self,
        results: Iterable[TaskResult],
        labels: np.ndarray,
        classes: Sequence[str],
        units: np.ndarray,
        unit: str = "cell",
    ) -> None:
        self.labels, self.classes, self.units, self.unit = labels, list(classes), units, unit
        self.by_place: dict[Place, list[TaskResult]] = {}
        for result in results:
            task = result.task
            place = (task.scheme, task.method, task.image_size, task.volume)
            self.by_place.setdefault(place, []).append(result)
        self._called: dict[tuple[Place, str], list[tuple[np.ndarray, np.ndarray]]] = {}

    def called(self, place: Place, part: str) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return rows and predicted classes of a subset for each seed, pooled over the splits and sorted by row.

        A row of the test subset occurs once. A row of another subset occurs once per split that has it in that subset.
        """
        if (place, part) not in self._called:
            seeds: dict[int, list[tuple[np.ndarray, np.ndarray]]] = {}
            for result in self.by_place[place]:
                seeds.setdefault(result.task.seed, []).append(result.of(part))
            pooled = []
            for _, pieces in sorted(seeds.items()):
                rows, predicted = (np.concatenate(column) for column in zip(*pieces, strict=True))
                order = np.argsort(rows, kind="stable")
                pooled.append((rows[order], predicted[order]))
            self._called[place, part] = pooled
        return self._called[place, part]

    def entries(self) -> list[Entry]:
        """Return all entries that have cells, in the order of the tasks."""
        return [
            self._entry(place, part)
            for place in self.by_place
            for part in PARTS
            if any(len(rows) for rows, _ in self.called(place, part))
        ]

    def class_scores(self, place: Place, part: str) -> ClassScores:
        """Return the scores by class of a place and subset."""
        confusions = self._confusions(place, part)
        with np.errstate(invalid="ignore"):
            values = np.mean([[getattr(score(c), name) for name in MEASURES] for c in confusions], axis=0)
        found = self._intervals(place, part)[0]
        low, high = (np.stack([getattr(getattr(found, name), end) for name in MEASURES]) for end in ("low", "high"))
        values[0][np.isnan(low[0])] = np.nan  # precision of a class that is never predicted
        # the mean over seeds of a ratio is not the ratio of the means
        return ClassScores(*place, part, values, np.minimum(low, values), np.maximum(high, values))

    def differences(self, places: Sequence[Place], what: str, names: Sequence[str]) -> list[PairedDifference]:
        """Return the differences of all pairs of places, in their order, on the test cells that both have.

        Args:
            places: Keys of the results to compare.
            what: Value of `PairedDifference.what`.
            names: Display name of each place.
        """
        found = []
        for (first, name), (second, other) in combinations(zip(places, names, strict=True), 2):
            rows_of, rights = [], []
            pairs = zip(self.called(first, "test"), self.called(second, "test"), strict=True)
            for (rows, called), (other_rows, other_called) in pairs:
                common, mine, theirs = np.intersect1d(rows, other_rows, assume_unique=True, return_indices=True)
                rows_of.append(common)
                rights.append([called[mine] == self.labels[common], other_called[theirs] == self.labels[common]])
            rows, place, times = np.unique(np.concatenate(rows_of), return_inverse=True, return_counts=True)
            whole = times == len(rows_of)  # rows that both have with every seed
            if not whole.any():
                continue
            right = [np.bincount(place, each)[whole].astype(np.int64) for each in np.concatenate(rights, axis=1)]
            units = self._units(rows[whole])
            compared = compare_paired(right[0], right[1], units, len(rows_of))
            value, low, high = compared.difference[:3]
            words = (
                ("more than chance",) * 2
                if what in (SCHEMES, PROTOCOLS)
                else (f"{name} is better", f"{other} is better")
            )
            found.append(
                PairedDifference(
                    what,
                    name,
                    other,
                    first[3],
                    value,
                    low,
                    high,
                    int(whole.sum()),
                    self.unit if compared.unit == "group" else "cell",
                    compared.test.num_units,
                    compared.test.p,
                    compared.verdict(words[0], words[1], self.unit),
                )
            )
        return found

    def _confusions(self, place: Place, part: str) -> list[np.ndarray]:
        num = len(self.classes)
        return [confusion_matrix(self.labels[rows], called, num) for rows, called in self.called(place, part)]

    def _intervals(self, place: Place, part: str) -> tuple[ScoreIntervals, int]:
        """Return the intervals of the mean over seeds, and the number of units of the cells (0 if they are cells).

        Every cell counts once, however often it was classified.
        """
        rows, called = (np.concatenate(column) for column in zip(*self.called(place, part), strict=True))
        times = len(rows) / len(np.unique(rows))
        units = self._units(rows)
        labels, size = self.labels[rows], len(self.classes)
        if units is None:
            return score_intervals(confusion_matrix(labels, called, size)[None] / times, False), 0
        tables = confusion_per_group(labels, called, units, size)
        return score_intervals(tables / times), len(tables)

    def _units(self, rows: np.ndarray) -> np.ndarray | None:
        """Return the units of some rows; None if every cell is one."""
        return None if self.unit == "cell" else self.units[rows]

    def _entry(self, place: Place, part: str) -> Entry:
        results = self.by_place[place]
        called = self.called(place, part)
        scores = [score(confusion) for confusion in self._confusions(place, part)]
        by_seed = [float(one.accuracy) for one in scores]
        found, num_units = self._intervals(place, part)
        accuracy, balanced = found.accuracy.interval(), found.balanced_accuracy.interval()
        num_cells = len(called[0][0])
        details = results[0].details
        return Entry(
            *place,
            part,
            num_train=float(np.mean([len(result.of("train")[0]) for result in results])),
            num_cells=num_cells,
            num_seeds=len(called),
            num_splits=len({result.task.split for result in results}),
            accuracy=float(np.mean(by_seed)),
            std=float(np.std(by_seed, ddof=1)) if len(by_seed) > 1 else None,
            low=accuracy.low,
            high=accuracy.high,
            by_seed=by_seed,
            balanced_accuracy=float(np.mean([one.balanced_accuracy for one in scores])),
            balanced_low=balanced.low,
            balanced_high=balanced.high,
            fit_s=float(np.median([result.fit_s for result in results])),
            predict_us=float(np.median([result.predict_us for result in results])),
            device=str(details.get("device", details.get("backend", ""))),
            by=self.unit if num_units > 1 else "cell",
            num_units=num_units if num_units > 1 else num_cells,
            note=group_note(num_units),
        )
