"""Tables of a study as Markdown, in the paper's form, and as CSV.

The paper is Meng et al., IEEE JBHI 23(5), 2019, doi 10.1109/JBHI.2018.2878878, Tables II to IV.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from fastcell.compare.result_tables import ClassScores, Entry, PairedDifference
from fastcell.compare.saved_results import PARTS
from fastcell.dataset.schema import SUBSET_NAMES
from fastcell.stats.intervals import FEW_GROUPS
from fastcell.stats.paired_difference import ALTHOUGH
from fastcell.stats.scores import MEASURES
from fastcell.storage.whole_files import replace_file
from fastcell.system.text import printable

_MEASURE_NAMES = {"precision": "precision", "recall": "recall", "f_score": "F-score"}


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
    """Return the unit of the intervals of an entry, for example ``by group (6 of them)``."""
    if entry.by == "cell":
        return f"by cell ({entry.note})" if entry.note else "by cell"
    return f"by {entry.by} ({entry.note})" if entry.note else f"by {entry.by} ({entry.num_units:,} of them)"


def class_table(scores: Sequence[ClassScores], classes: Sequence[str], names: dict[str, str]) -> list[str]:
    """Return the paper's Tables III and IV as Markdown.

    For each measure and class the best value is **bold** and the second best *italic*. Classes without cells have no
    column.
    """
    values = np.stack([one.values for one in scores])
    kept = np.flatnonzero(~np.isnan(values[:, MEASURES.index("recall")]).all(axis=0))
    header = " | ".join(table_word(classes[column]) for column in kept.tolist())
    lines = [f"| measure | method | {header} |", "|---|---|" + "--:|" * len(kept)]
    for number, measure in enumerate(MEASURES):
        marked = mark_best(values[:, number, kept])
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
    """Return a Markdown table of differences with their intervals and verdicts, and the unit of these."""
    lines = ["| | difference (95 %) | |", "|---|--:|---|"]
    for one in differences:
        text = f"{one.value:+.3f} ({one.low:+.3f}..{one.high:+.3f})"
        lines.append(f"| {one.first} minus {one.second} | {text} | {one.verdict} |")
    if differences:
        units = {f"{one.num_units:,} {one.by}{'s' * (one.num_units != 1)}" for one in differences}
        lines += ["", f"Intervals and exact sign-flip tests over {' or '.join(sorted(units))}."]
        if any(ALTHOUGH in one.verdict for one in differences):
            lines[-1] += (
                " The verdict is that of the test. If only the interval excludes 0, this rests on more assumptions: "
                f"with fewer than {FEW_GROUPS} groups, on an assumed spread between groups."
            )
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
    words = []
    for unknown in (False, True):
        ahead = {
            name: one.value if one.first == name else -one.value
            for one, name in equal
            if (one.by == "group" and one.verdict.startswith("cannot tell")) == unknown
        }
        listed = ", ".join(f"{name} ({value:+.3f} to the frame)" for name, value in ahead.items())
        if listed and unknown:
            words.append(f"it cannot be told whether the frame alone is worse than {listed}")
        elif listed:
            words.append(f"the frame alone is not significantly worse than {listed}")
    text = (
        f"**On these test cells, {'; '.join(words)}: such a score is no sign of information in the cell. fastcell "
        "audit shows how well the border of the images predicts the classes.**"
    )
    return [text]


def _is_ahead(one: PairedDifference, name: str) -> bool:
    """Return whether a method is better by the verdict, or by the interval if there are too few units for a verdict."""
    low = one.low if one.first == name else -one.high
    return low > 0 or one.verdict.startswith(f"{name} is better")


def write_rows(path: Path, rows: Sequence[Any]) -> None:
    """Write dataclasses of one type as CSV, atomically; list items are joined by spaces."""
    write_csv(path, [asdict(row) for row in rows])


def write_csv(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write dictionaries as CSV, atomically; the keys of the first one are the columns."""
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
