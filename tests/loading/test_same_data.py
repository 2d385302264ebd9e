"""A run that goes on gets the batches of the saved one, or is refused with the reason."""

from collections.abc import Callable
from hashlib import blake2b

import numpy as np
import pytest

from fastcell.dataset.manifest import Manifest
from fastcell.dataset.views import View
from fastcell.errors import ArgumentError
from fastcell.loading.same_data import SavedPlacement, SharedData, check_same, hash_cells, restore_placement
from fastcell.loading.stores.placement import Placement

Make = Callable[..., Manifest]

BANK = Placement("bank", "host", 1, 100, "bank: it fits")


@pytest.mark.parametrize(
    ("found", "before", "num_ranks", "store", "num_parts", "pool_bytes"),
    [
        (Placement("stream", "host", 1, 0, ""), SavedPlacement("stream", 1, 0, 2), 2, "stream", 1, 0),
        (BANK, SavedPlacement("bank", 1, 100, 2), 1, "bank", 1, 100),
        (BANK, SavedPlacement("bank", 1, 100, 1), 4, "bank", 1, 100),
        (
            BANK,
            SavedPlacement("bank", 8, 60, 2),
            1,
            "bank",
            8,
            100,
        ),  # in parts, though all would fit: the batches are others
        (BANK, SavedPlacement("bank", 8, 60, 2), 4, "bank", 8, 100),
    ],
)
def test_a_run_that_goes_on_gets_its_batches(found, before, num_ranks, store, num_parts, pool_bytes):
    placement = restore_placement(found, before, num_ranks)
    assert (placement.store, placement.num_parts, placement.pool_bytes) == (store, num_parts, pool_bytes)


@pytest.mark.parametrize(
    ("found", "before", "num_ranks", "message"),
    [
        (
            BANK,
            SavedPlacement("stream", 1, 0, 2),
            1,
            "number of processes must be 2 as before, because the order of the stream",
        ),
        (BANK, SavedPlacement("window", 1, 9, 1), 1, "used the store 'window', which this version does not support"),
        (BANK, SavedPlacement("bank", 8, 60, 2), 3, "a bank of 8 part.s. on 2 process.es., which is not possible on 3"),
        (Placement("bank", "host", 8, 20, ""), SavedPlacement("bank", 1, 100, 1), 2, "a bank of 1 part"),
        (Placement("stream", "host", 1, 0, ""), SavedPlacement("bank", 1, 100, 1), 1, "more memory"),
    ],
)
def test_what_cannot_go_on_says_why(found, before, num_ranks, message):
    with pytest.raises(ArgumentError, match=message):
        restore_placement(found, before, num_ranks)


def test_the_hash_is_of_rows_and_stored_bytes(make_dataset):
    manifest = make_dataset(20)
    rows = np.array([2, 5, 5, 11])
    stored = b"".join(manifest.table.column("byte_hash").to_pylist()[row] for row in rows)
    assert hash_cells(View(manifest, rows)) == blake2b(rows.tobytes() + stored, digest_size=16).hexdigest()
    assert hash_cells(View(manifest, rows[:3])) != hash_cells(View(manifest, rows))


def test_a_state_gives_its_placement_back_if_all_else_is_equal():
    saved = {"store": "bank", "num_parts": 8, "pool_bytes": 7, "num_ranks": 2, "training cells": "ab", "seed": 1}
    assert check_same(saved, {"training cells": "ab", "seed": 1}) == SavedPlacement("bank", 8, 7, 2)
    with pytest.raises(ArgumentError, match=r"seed of a resumed run must be as before \(1\), got 2. Restore it"):
        check_same(saved, {"training cells": "ab", "seed": 2})


def test_shared_data_are_hashed_once_and_compared(make_dataset):
    manifest = make_dataset(20)
    asked = []

    def view_of(part):
        asked.append(part)
        return {"train": View(manifest, np.arange(8)), "valid": View(manifest, np.arange(8, 12))}.get(part)

    shared = SharedData(view_of)
    assert shared.state({"seed": 1}) == {}  # nothing was trained
    shared.placed = SavedPlacement("bank", 8, 7, 2)
    state = shared.state({"seed": 1})
    assert state["training cells"] == hash_cells(View(manifest, np.arange(8)))
    assert state["test cells and labels"] == "none"
    assert shared.check(state, {"seed": 1}) == shared.placed
    assert asked == ["train", "valid", "test"]
    with pytest.raises(ArgumentError, match="seed of a resumed run"):
        shared.check(state, {"seed": 2})
    shared.forget_cells()
    saved = {**state, "validation cells and labels": "4 cells, hash 0"}
    with pytest.raises(ArgumentError, match="validation cells and labels of a resumed run must be as before"):
        shared.check(saved, {"seed": 1})
    assert len(asked) == 6
