"""Tables of a study in the paper's form, from its finished tasks: accuracy by volume, scores by class, differences.

The paper is Meng et al., IEEE JBHI 23(5), 2019, doi 10.1109/JBHI.2018.2878878, Tables II to IV.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from fastcell.compare.saved_results import PARTS, TaskResult
from fastcell.dataset.schema import SUBSET_NAMES
from fastcell.stats.confusion import confusion_matrix, confusion_per_group
from fastcell.stats.intervals import group_note
from fastcell.stats.paired_difference import compare_paired
from fastcell.stats.scores import MEASURES, ScoreIntervals, score, score_intervals
from fastcell.storage.whole_files import replace_file
from fastcell.system.text import printable

# Values of `PairedDifference.what` for differences that are not between methods.
SCHEMES, PROTOCOLS = "schemes", "protocols"
_MEASURE_NAMES = {"precision": "precision", "recall": "recall", "f_score": "F-score"}


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
        values: (3, K), in the order of `MEASURES`; NaN for a class that does not occur.
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
        """Return, for each seed, rows and predicted classes of a subset, pooled over the splits and sorted by row.

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

        Every cell counts once, however often it was called.
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


def volume_table(entries: Sequence[Entry], names: dict[str, str]) -> list[str]:
    """Return the paper's Table II as Markdown, with methods and subsets in rows and volumes in columns."""
    volumes = sorted({entry.volume for entry in entries})
    sizes = {volume: [e.num_train for e in entries if e.volume == volume] for volume in volumes}
    header = [f"{np.mean(sizes[volume]):,.0f} ({volume:.3g})" for volume in volumes]
    lines = [f"| method | subset | {' | '.join(header)} |", "|---|---|" + "--:|" * len(volumes)]
    for method in dict.fromkeys(entry.method for entry in entries):
        for part in reversed(PARTS):
            row = {e.volume: e for e in entries if (e.method, e.part) == (method, part)}
            if row:
                texts = [accuracy_text(row[volume]) if volume in row else "" for volume in volumes]
                lines.append(f"| {names.get(method, method)} | {SUBSET_NAMES[part]} | {' | '.join(texts)} |")
    return lines


def accuracy_text(entry: Entry) -> str:
    """Return mean, standard deviation over seeds and interval as text, for example ``0.926 ± 0.004 (0.901..0.948)``."""
    spread = "" if entry.std is None else f" ± {entry.std:.3f}"
    return f"{entry.accuracy:.3f}{spread} ({entry.low:.3f}..{entry.high:.3f})"


def basis_text(entry: Entry) -> str:
    """Return what the intervals of an entry are by, for example ``by group (6 of them)``."""
    if entry.by == "cell":
        return f"by cell ({entry.note})" if entry.note else "by cell"
    return f"by {entry.by} ({entry.note})" if entry.note else f"by {entry.by} ({entry.num_units:,} of them)"


def class_table(scores: Sequence[ClassScores], classes: Sequence[str], names: dict[str, str]) -> list[str]:
    """Return the paper's Tables III and IV as Markdown.

    For each measure and class the best value is **bold** and the second best *italic*.
    """
    lines = [f"| measure | method | {' | '.join(map(table_word, classes))} |", "|---|---|" + "--:|" * len(classes)]
    for number, measure in enumerate(MEASURES):
        marked = mark_best(np.stack([one.values[number] for one in scores]))
        for one, texts in zip(scores, marked, strict=True):
            name = names.get(one.method, one.method)
            lines.append(f"| {_MEASURE_NAMES[measure]} | {name} | {' | '.join(texts)} |")
    return lines


def table_word(name: str) -> str:
    """Return a name as a word of a Markdown table."""
    return printable(name).replace("|", "\\|")


def mark_best(values: np.ndarray) -> list[list[str]]:
    """Return (M, K) texts of three decimals, with the best value of each column bold and the second best italic.

    Values that print alike count as equal. A value of 0 gets no mark. If there is only one method, no value is marked.
    """
    texts = [["-" if np.isnan(value) else f"{value:.3f}" for value in row] for row in values]
    if len(texts) < 2:
        return texts
    for column in range(values.shape[1]):
        ranked = sorted({row[column] for row in texts} - {"-", "0.000"}, reverse=True)
        for row in texts:
            for mark, text in zip(("**", "*"), ranked[:2], strict=False):
                if row[column] == text:
                    row[column] = f"{mark}{text}{mark}"
                    break
    return texts


def time_table(entries: Sequence[Entry], names: dict[str, str]) -> list[str]:
    """Return a Markdown table of fit and prediction times, with methods in rows and volumes in columns."""
    tests = [entry for entry in entries if entry.part == "test"]
    volumes = sorted({entry.volume for entry in tests})
    lines = [
        "| method | on | " + " | ".join(f"{volume:.3g}" for volume in volumes) + " | per cell |",
        "|---|---|" + "--:|" * (len(volumes) + 1),
    ]
    for method in dict.fromkeys(entry.method for entry in tests):
        row = {entry.volume: entry for entry in tests if entry.method == method}
        texts = [f"{row[volume].fit_s:,.1f} s" if volume in row else "" for volume in volumes]
        last = row[max(row)]
        lines.append(
            f"| {names.get(method, method)} | {last.device} | {' | '.join(texts)} | {last.predict_us:,.0f} µs |"
        )
    return lines


def difference_table(differences: Sequence[PairedDifference]) -> list[str]:
    """Return a Markdown table of differences with their intervals and verdicts, and what these are by."""
    lines = ["| | difference (95 %) | |", "|---|--:|---|"]
    for one in differences:
        text = f"{one.value:+.3f} ({one.low:+.3f}..{one.high:+.3f})"
        lines.append(f"| {one.first} minus {one.second} | {text} | {one.verdict} |")
    if differences:
        units = {f"{one.num_units:,} {one.by}{'s' * (one.num_units != 1)}" for one in differences}
        lines += ["", f"Intervals and exact sign-flip tests over {' or '.join(sorted(units))}."]
    return lines


def frame_words(differences: Sequence[PairedDifference], frame: str | None) -> list[str]:
    """Return a sentence for the methods that are not better than a kNN on the frame of the images, if there are any.

    Args:
        differences: Differences between methods on the same cells.
        frame: Display name of the frame's method; None if it took no part.
    """
    pairs = [(one, {one.first, one.second} - {frame}) for one in differences if frame in (one.first, one.second)]
    equal = [(one, other.pop()) for one, other in pairs if len(other) == 1]
    equal = [(one, name) for one, name in equal if not _is_ahead(one, name)]
    if not equal:
        return []
    ahead = {name: one.value if one.first == name else -one.value for one, name in equal}
    listed = ", ".join(f"{name} ({value:+.3f} to the frame)" for name, value in ahead.items())
    text = (
        f"**On these test cells, the frame alone is not significantly worse than {listed}: such a score is no evidence "
        "of information in the cell. fastcell audit shows how well the border of the images predicts the classes.**"
    )
    return [text]


def _is_ahead(one: PairedDifference, name: str) -> bool:
    """Return whether a method is better by the verdict, or by the interval where too few units can tell."""
    low = one.low if one.first == name else -one.high
    return low > 0 or one.verdict.startswith(f"{name} is better")


def write_rows(path: Path, rows: Sequence[Any]) -> None:
    """Write dataclasses of one type as CSV, whole or not at all; list items are joined by spaces."""
    write_csv(path, [asdict(row) for row in rows])


def write_csv(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write dictionaries as CSV, whole or not at all; the keys of the first one are the columns."""
    text = io.StringIO()
    if rows:
        writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        for row in rows:
            writer.writerow({key: _plain(value) for key, value in row.items()})
    replace_file(path, lambda file: file.write_text(text.getvalue(), encoding="utf-8"))


def class_rows(scores: Sequence[ClassScores], classes: Sequence[str]) -> list[dict[str, Any]]:
    """Return one dictionary per method, measure and class."""
    return [
        {
            "scheme": one.scheme,
            "part": one.part,
            "method": one.method,
            "volume": one.volume,
            "measure": measure,
            "class": name,
            "value": one.values[i, k],
            "low": one.low[i, k],
            "high": one.high[i, k],
        }
        for one in scores
        for i, measure in enumerate(MEASURES)
        for k, name in enumerate(classes)
    ]


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return " ".join(f"{item:.6g}" for item in value)
    return "" if value is None else f"{value:.6g}" if isinstance(value, float) else value
