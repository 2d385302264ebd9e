"""Data that a resumed run must share with the saved one: cells, labels, seed, batch size and cell store."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from hashlib import blake2b
from typing import Any, NamedTuple

from fastcell.dataset.cell_hashes import hashes_of
from fastcell.dataset.schema import SUBSET_NAMES
from fastcell.dataset.views import View
from fastcell.errors import ArgumentError, invalid
from fastcell.loading.stores.placement import Placement


class SavedPlacement(NamedTuple):
    """Store settings that the order of training batches depends on, besides seed and batch size; saved in checkpoints.

    Attributes:
        store, num_parts, pool_bytes: as in `Placement`.
        num_ranks: number of ranks that shared the work.
    """

    store: str
    num_parts: int
    pool_bytes: int
    num_ranks: int


def restore_placement(found: Placement, before: SavedPlacement, num_ranks: int) -> Placement:
    """Return the placement that gives the same batches as an earlier one.

    Args:
        found: result of `place` now, called with the same store (stream or bank) as earlier.
        before: placement of the saved run.
        num_ranks: number of ranks that share the work now.

    Raises:
        ArgumentError: the number of processes differs and the order depends on it, memory does not suffice, or this
            version does not support the earlier store (a rolling window).
    """
    if before.store not in ("bank", "stream"):
        raise ArgumentError(
            f"the resumed run used the store {before.store!r}, which this version does not support. "
            "Resume it with the version that started it, or start a new run."
        )
    if before.store != "bank" and num_ranks != before.num_ranks:
        raise invalid(
            "number of processes",
            f"{before.num_ranks} as before, because the order of the {before.store} depends on it",
            num_ranks,
            "Only a run with a bank can resume with another number",
        )
    if before.store == "stream":
        return found
    if (
        found.store != "bank"
        or (found.num_parts > before.num_parts)
        or before.num_parts % num_ranks * (before.num_parts > 1)
    ):
        raise ArgumentError(
            f"the resumed run had a bank of {before.num_parts} part(s) on {before.num_ranks} process(es), which is not "
            f"possible on {num_ranks} here ({found.reason}). Allow more memory with --data.bank_gib, or start the same "
            "number of processes."
        )
    return replace(found, num_parts=before.num_parts)


class SharedData:
    """Cells, labels and cell store that a run shares with the run it continues; part of every checkpoint.

    Args:
        view_of: function that returns the labelled cells of a subset (train, valid or test), or None if there are none.

    Attributes:
        before: placement of the run to continue; None in a new run.
        placed: placement of this run; None before its training, kept after it for the last checkpoint.
    """

    def __init__(self, view_of: Callable[[str], View | None]) -> None:
        self.before: SavedPlacement | None = None
        self.placed: SavedPlacement | None = None
        self._view_of = view_of
        self._cells: dict[str, str] = {}

    def forget_cells(self) -> None:
        """Hash the cells again at the next use."""
        self._cells = {}

    def state(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Return placement, cells and labels, and settings by name; empty before training.

        Args:
            settings: settings of the batches that must be equal, e.g. ``seed``.
        """
        return {} if self.placed is None else {**self.placed._asdict(), **self.hashes(), **settings}

    def check(self, saved: Mapping[str, Any], settings: Mapping[str, Any]) -> SavedPlacement:
        """Return the placement of the run that saved the state `saved`.

        Raises:
            ArgumentError: cells, labels or one of `settings` differ.
        """
        return check_same(saved, {**self.hashes(), **settings})

    def hashes(self) -> dict[str, str]:
        """Return a hash of the cells of each subset, by its name in messages; computed at the first call."""
        if not self._cells:
            train = self._view_of("train")
            assert train is not None
            self._cells = {"training cells": hash_cells(train), "training cells and labels": cells_and_labels(train)}
            for part in ("valid", "test"):
                self._cells[f"{SUBSET_NAMES[part]} cells and labels"] = cells_and_labels(self._view_of(part))
        return self._cells


def hash_cells(view: View) -> str:
    """Return a hash of the rows of a view and the bytes of their cells: 32 hexadecimal digits (BLAKE2b, 128 bits)."""
    digest, hashes = blake2b(digest_size=16), hashes_of(view.manifest)
    for rows in view.parts():
        digest.update(rows.tobytes())
    for rows in view.parts():
        digest.update(hashes[rows].tobytes())
    return digest.hexdigest()


def cells_and_labels(view: View | None) -> str:
    """Return the number of cells of a view, and a hash of their rows, bytes and labels; ``none`` without a view."""
    if view is None:
        return "none"
    digest = blake2b(hash_cells(view).encode(), digest_size=4)
    digest.update(json.dumps(view.manifest.info.classes).encode())
    labels = view.manifest.cell_labels
    for rows in view.parts():
        digest.update(labels[rows].tobytes())
    return f"{len(view):,} cells, hash {digest.hexdigest()}"


def check_same(saved: Mapping[str, Any], now: Mapping[str, Any]) -> SavedPlacement:
    """Check that a resumed run uses the same data as the saved run.

    Args:
        saved: state of the saved run: the fields of `SavedPlacement` and the entries of `now`.
        now: values that must be equal, by name.

    Returns:
        Placement of the cells in the saved run.

    Raises:
        ArgumentError: a value differs. A checkpoint of format 1 does not hold all of them.
    """
    for name, value in now.items():
        if name in saved and value != saved[name]:
            raise invalid(
                f"{name} of a resumed run", f"as before ({saved.get(name)})", value, "Restore it, or start a new run"
            )
    return SavedPlacement(**{name: saved[name] for name in SavedPlacement._fields})
