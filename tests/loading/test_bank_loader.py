"""Training steps as indices: the cells, columns and images of the batches, from any step on, in groups."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from fastcell.dataset.manifest import Manifest
from fastcell.dataset.views import View, ViewConfig, select
from fastcell.loading.bank_loader import BankLoader, PlannedLoader
from fastcell.loading.order import BankOrder, StoredOrder, fill_order
from fastcell.loading.preprocessing import Preprocessing
from fastcell.loading.ranks import evaluation_share
from fastcell.loading.settings import LoaderSettings
from fastcell.loading.stores.bank import CellBank
from fastcell.ops.augmentation import Augmentation

Make = Callable[..., Manifest]


def make_loader(manifest, place):
    view = select(manifest, ViewConfig("train"))
    rows = fill_order(view, 1)
    bank = CellBank(View(manifest, rows), np.array([0, len(rows)]))
    options = {"augmentation": Augmentation(noise_std=4.0), "where": lambda: place}
    order = BankOrder(len(rows), 8, seed=5)
    return BankLoader(bank, view, order, Preprocessing(16), LoaderSettings(seed=5), **options)


@pytest.mark.parametrize("place", [(0, 0), (2, 3), (1, 7)])
@pytest.mark.parametrize("group", [1, 3, 20])
def test_plans_are_the_batches(make_dataset, place, group):
    manifest = make_dataset(100)  # 60 for training: 8 batches, the last with 4 cells of padding
    batches = list(make_loader(manifest, place))
    loader = PlannedLoader(make_loader(manifest, place), group)
    plans = list(loader)
    assert [len(plan.cells) for plan in plans[:-1]] == [group] * (len(plans) - 1)
    steps = [tuple(column[step] for column in plan[:-1]) for plan in plans for step in range(len(plan.cells))]
    assert len(steps) == len(batches) == 8 - place[1]
    for (cells, positions, labels, cell_ids, weight, total), batch in zip(steps, batches, strict=True):
        assert torch.equal(cell_ids, batch.cell_ids)
        assert torch.equal(labels, batch.labels)
        assert torch.equal(weight, batch.weight)
        assert total.dtype == torch.int64  # Lightning rounds floats to bfloat16 in bf16-true
        assert int(total) == int(batch.weight.sum())
        assert torch.equal(loader.images(cells, positions, plans[0].clock), batch.images)
    sizes = [8] * 7 + [4]
    counted = [loader.num_cells(item) for item in range(len(loader))]
    assert counted == [sum(sizes[begin : begin + group]) for begin in range(0, 8, group)]


def test_cells_of_an_item_are_counted_without_padding(make_dataset):
    manifest = make_dataset(100)
    assert [make_loader(manifest, (0, 0)).num_cells(step) for step in (0, 7)] == [8, 4]
    view = select(manifest, ViewConfig("valid"))
    bank = CellBank(view, np.array([0, len(view)]))
    # Of two ranks, the first has the chunks 0 and 1, the second chunk 2 and padding.
    for num_ranks, expected in ((1, [8, 8, 4]), (2, [8 + 4, 8])):
        for rank in range(num_ranks):
            order = StoredOrder(evaluation_share(20, 8, rank, num_ranks))
            loader = BankLoader(bank, view, order, Preprocessing(16), LoaderSettings())
            assert [loader.num_cells(step) for step in range(len(loader))] == expected
            assert loader.global_weight(0) is None
