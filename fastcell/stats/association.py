"""Association between class and recording: Cramér's V with bias correction.

W. Bergsma, "A bias-correction for Cramér's V and Tschuprow's T", Journal of the Korean Statistical Society 42 (2013),
doi 10.1016/j.jkss.2012.10.002.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fastcell.stats.permutation import Outcome, outcome, permute_table


@dataclass(frozen=True)
class Association:
    """A table of counts and the strength of its association.

    The table holds all cells of a data set, so its association is known and has no interval. Its chance level comes
    from permutations.

    Attributes:
        rows, columns: names that occur at least once.
        table: (R, C) int64, number of cells.
        result: bias-corrected Cramér's V, 0 to 1, and its chance level from permutations that keep the row and column
            totals.
        guess: highest balanced accuracy with which the row can be predicted from the column alone.
    """

    rows: list[str]
    columns: list[str]
    table: npt.NDArray[np.int64]
    result: Outcome
    guess: float

    def single(self) -> list[str]:
        """Return the rows whose cells all lie in one column."""
        return [name for name, counts in zip(self.rows, self.table, strict=True) if (counts > 0).sum() == 1]

    def pure(self) -> int:
        """Return the number of columns whose cells all lie in one row."""
        return int(((self.table > 0).sum(0) == 1).sum())


def associate(
    rows: npt.NDArray[np.str_], columns: npt.NDArray[np.str_], permutations: int, rng: np.random.Generator
) -> Association | None:
    """Count cells by two names and measure the association of the names.

    Args:
        rows, columns: (n,) str; cells for which either name is empty are ignored.
        permutations: number of permutations for the chance level.
        rng: generator for the permutations.

    Returns:
        The association, or None if fewer than two rows or two columns occur.
    """
    known = (rows != "") & (columns != "")
    row_names, row = np.unique(rows[known], return_inverse=True)
    column_names, column = np.unique(columns[known], return_inverse=True)
    if len(row_names) < 2 or len(column_names) < 2:
        return None
    table = np.zeros((len(row_names), len(column_names)), np.int64)
    np.add.at(table, (row, column), 1)
    null = [cramers_v(permute_table(table, rng)) for _ in range(permutations)]
    by_share = table / table.sum(1, keepdims=True)
    guess = by_share.max(0).sum() / len(row_names)
    return Association(
        row_names.tolist(), column_names.tolist(), table, outcome(cramers_v(table), np.array(null)), float(guess)
    )


def cramers_v(table: npt.NDArray[np.int64]) -> float:
    """Compute the bias-corrected Cramér's V of a table of counts; 0 if only one row or one column has counts."""
    counts = table[table.sum(1) > 0][:, table.sum(0) > 0].astype(np.float64)
    num_rows, num_columns = counts.shape
    total = counts.sum()
    if min(num_rows, num_columns) < 2 or total < 2:
        return 0.0
    expected = np.outer(counts.sum(1), counts.sum(0)) / total
    phi = ((counts - expected) ** 2 / expected).sum() / total
    phi = max(0.0, phi - (num_rows - 1) * (num_columns - 1) / (total - 1))
    least = min(num_rows - (num_rows - 1) ** 2 / (total - 1), num_columns - (num_columns - 1) ** 2 / (total - 1)) - 1
    return float(min(1.0, np.sqrt(phi / least))) if least > 0 else 0.0
