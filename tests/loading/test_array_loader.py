"""Cells in memory give the batches that the same cells give from a bank."""

import numpy as np
import pytest
import torch

from fastcell.dataset.single_cells import read_cells
from fastcell.dataset.views import ViewConfig, select
from fastcell.errors import ArgumentError
from fastcell.loading.array_loader import PoolLoader, make_pool
from fastcell.loading.bank_loader import BankLoader
from fastcell.loading.order import BankOrder, StoredOrder
from fastcell.loading.preprocessing import Preprocessing
from fastcell.loading.ranks import evaluation_share
from fastcell.loading.settings import LoaderSettings
from fastcell.loading.stores.bank import CellBank
from fastcell.ops.augmentation import Augmentation


@pytest.mark.parametrize(("fit", "antialias"), [("stretch", False), ("contain", True), ("scale", False)])
def test_batches_are_those_of_a_bank(make_dataset, fit, antialias):
    manifest = make_dataset(20)
    view = select(manifest, ViewConfig("train"))
    preprocessing, config = Preprocessing(16, fit, antialias=antialias), LoaderSettings(seed=5)
    order = BankOrder(len(view), 5, seed=5, span=len(view))
    changes = {"augmentation": Augmentation()}
    bank = CellBank(view, np.array([0, len(view)]))
    from_bank = BankLoader(bank, view, order, preprocessing, config, **changes)
    cells = list(read_cells(manifest, view.rows))
    from_memory = PoolLoader(make_pool(cells), view.labels, order, preprocessing, config, **changes)
    for loader in (from_bank, from_memory):
        loader.set_epoch(2)
    assert len(from_memory) == len(from_bank) == 3
    for mine, theirs in zip(from_memory, from_bank, strict=True):
        assert torch.equal(mine.labels, theirs.labels)
        assert torch.equal(mine.weight, theirs.weight)
        if fit == "scale":  # the manifest knows the scale, which arrays have not
            continue
        torch.testing.assert_close(mine.images, theirs.images, rtol=1e-5, atol=1e-5)
    bank.close()


def test_weights_rows_and_padding():
    cells = [np.full((4, 5), 10 * (i + 1), np.uint8) for i in range(3)]
    loader = PoolLoader(
        make_pool(cells),
        np.array([0, 1, 2]),
        StoredOrder(evaluation_share(5, 4)),
        Preprocessing(8, normalization="subtract"),
        weights=np.array([0.5, 1.0, 2.0]),
        rows=np.array([2, 2, 0, 1, 1]),
    )
    first, second = loader
    assert first.labels.tolist() == [2, 2, 0, 1]
    assert first.weight.tolist() == [2, 2, 0.5, 1]
    assert second.labels[0] == 1
    assert second.weight.tolist() == [1, 0, 0, 0]
    assert first.cell_ids.tolist() == [2, 2, 0, 1]


def test_border_is_the_manifest_s(make_dataset):
    manifest = make_dataset(12)
    pool = make_pool(list(read_cells(manifest, range(12))))
    np.testing.assert_array_equal(pool.border.numpy(), manifest.column("border_median").astype(np.float32))
    deep = make_pool([cell.astype(np.uint16) * 257 for cell in read_cells(manifest, range(12))])
    np.testing.assert_allclose(deep.border.numpy(), pool.border.numpy(), rtol=1e-6)


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ([], "cells must be at least 1, got 0"),
        ([np.zeros((2, 2))], r"cells\[0\] must be a grey image"),
        ([np.zeros((2, 2), np.uint8), np.zeros((0, 2), np.uint8)], r"cells\[1\] must be a grey image"),
        ([np.zeros((2, 2), np.uint8), np.zeros((2, 2), np.uint16)], r"cells\[1\] must be .* as all of them"),
    ],
)
def test_cells_that_cannot_be(cells, message):
    with pytest.raises(ArgumentError, match=message):
        make_pool(cells)
