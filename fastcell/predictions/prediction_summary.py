"""Counts over the rows of a table of predictions, added piece by piece, and the lines about them."""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa
import pyarrow.compute as pc

from fastcell.inference.unlike.training_cells import CHANCE
from fastcell.runs.prediction_columns import NOT_FINITE, UNSURE
from fastcell.stats.excess import counts_above_chance
from fastcell.system.text import largest_rows, printable

_MOST_RECORDINGS = 5


class PredictionSummary:
    """Counts over predictions; it needs memory for the different groups only, however many rows are added.

    Args:
        classes: K names, in the order of the columns.

    Attributes:
        num_rows: number of rows.
        num_of_class: number of rows of each class, by name.
        num_unsure: number of rows whose confidence is below the requested minimum.
        num_not_finite: number of rows whose probabilities are not finite.
        unlike: number of rows that are unlike those of training, and of all rows with a score, by group; the group of a
            cell without one is empty.
    """

    def __init__(self, classes: list[str]) -> None:
        self.num_rows, self.num_unsure, self.num_not_finite = 0, 0, 0
        self.num_of_class = dict.fromkeys(classes, 0)
        self.unlike: dict[str, tuple[int, int]] = {}

    def add(self, table: pa.Table) -> None:
        """Add rows that `fastcell.predictions.table.prediction_table` made."""
        self.num_rows += table.num_rows
        for item in pc.value_counts(table.column("class")).to_pylist():
            if item["values"] in self.num_of_class:
                self.num_of_class[item["values"]] += item["counts"]
            elif item["values"] == UNSURE:
                self.num_unsure += item["counts"]
        reasons = table.column("reason")
        if reasons.null_count < len(reasons):
            self.num_not_finite += int(pc.sum(pc.equal(reasons, NOT_FINITE)).as_py() or 0)
        if "unlike_training" in table.column_names and table.num_rows:
            self._add_unlike(table.select(["group", "unlike_training"]))

    def _add_unlike(self, table: pa.Table) -> None:
        counts = table.group_by("group").aggregate([("unlike_training", "sum"), ("unlike_training", "count")])
        for row in counts.to_pylist():
            name, num, of = row["group"] or "", row["unlike_training_sum"] or 0, row["unlike_training_count"]
            if of:
                before = self.unlike.get(name, (0, 0))
                self.unlike[name] = (before[0] + num, before[1] + of)

    @property
    def num_without_class(self) -> int:
        """Number of rows that have no class and are not unsure."""
        return self.num_rows - self.num_unsure - sum(self.num_of_class.values())

    def lines(self) -> list[str]:
        """Return lines for the user: cells of each class, and cells unlike those of training by recording."""
        names, counts = list(self.num_of_class), list(self.num_of_class.values())
        shown, others = largest_rows(counts)
        named = [f"{printable(names[place])} {counts[place]:,}" for place in shown]
        named += [f"{len(others):,} other classes {sum(counts[place] for place in others):,}"] if others else []
        lines = ["  ".join([*named, *([f"{UNSURE} {self.num_unsure:,}"] if self.num_unsure else [])])]
        return [*lines, describe_unlike(self.unlike)] if self.unlike else lines


def describe_unlike(counts: Mapping[str, tuple[int, int]]) -> str:
    """Return one line with the number of cells unlike training cells, and the recordings with more than by chance.

    `fastcell.stats.excess.counts_above_chance` finds these recordings.

    Args:
        counts: number of unlike cells and of all cells of each recording, at least one cell; the name of a recording is
            empty for cells without one.
    """
    names = sorted(counts)
    unlike, sizes = ([counts[name][column] for name in names] for column in (0, 1))
    num, total = sum(unlike), sum(sizes)
    text = f"{num:,} of {total:,} cells ({num / total:.1%}) look unlike training cells, chance {CHANCE:.0%}"
    found = counts_above_chance(names, unlike, sizes, CHANCE)
    if found and (len(found) > 1 or found[0][0]):
        shown = ", ".join(
            f"{printable(name or '-')} {count:,} of {of:,}" for name, count, of in found[:_MOST_RECORDINGS]
        )
        more = f", and {len(found) - _MOST_RECORDINGS:,} more" if len(found) > _MOST_RECORDINGS else ""
        text += f"; above chance in {shown}{more}"
    elif found:
        text += ": more than by chance"
    return text
