"""What a figure shows, and what is in the CSV beside it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.csv
import pytest
from matplotlib.figure import Figure


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that are written, in order, once each."""
    figures: list[Figure] = []
    save = Figure.savefig

    def keep(figure: Figure, *args: Any, **kwargs: Any) -> None:
        if figure not in figures:
            figures.append(figure)
        save(figure, *args, **kwargs)

    monkeypatch.setattr(Figure, "savefig", keep)
    return figures


@pytest.fixture
def columns() -> Callable[..., dict[str, np.ndarray]]:
    """Function that reads a CSV as arrays by column name, of the rows only whose columns have the given values."""

    def read(path: Path, **chosen: object) -> dict[str, np.ndarray]:
        table = pyarrow.csv.read_csv(path)
        values = {name: table.column(name).to_numpy(zero_copy_only=False) for name in table.column_names}
        rows = np.ones(len(table), bool)
        for name, value in chosen.items():
            rows &= values[name] == value
        return {name: column[rows] for name, column in values.items()}

    return read
