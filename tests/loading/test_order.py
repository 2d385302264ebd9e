"""Orders of a bank: every row once, the same global batches on any number of ranks, any batch without those before."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastcell.dataset.rows.row_set import RowSet
from fastcell.dataset.views import View
from fastcell.errors import ArgumentError
from fastcell.loading import order as order_module
from fastcell.loading.order import NUM_PARTS, BankOrder, StoredOrder, StreamOrder
from fastcell.loading.ranks import evaluation_share, training_share

sizes, per_rank, epochs = st.integers(1, 700), st.integers(1, 24), st.integers(0, 3)


def every_rank(num_ranks, num_rows, batch_size, epoch, num_parts, span=64):
    """Rows (over all ranks) by place of the epoch, as the ranks draw them."""
    seen = {}
    for rank in range(num_ranks):
        order = BankOrder(num_rows, batch_size, 5, num_parts, span, rank, num_ranks)
        batches = order.batches(epoch)
        assert batches.entries.shape == (order.steps, order.batch)
        held = order.part_edges()[[order.parts.start, order.parts.stop]]
        assert batches.entries[batches.real].max(initial=0) < max(held[1] - held[0], 1)
        for step in range(order.steps):
            places = batches.positions[step][batches.real[step]]
            assert (places // batch_size == step).all()
        rows = batches.entries + held[0]
        pairs = zip(batches.positions[batches.real].tolist(), rows[batches.real].tolist(), strict=True)
        for place, row in pairs:
            assert place not in seen
            seen[place] = row
    return seen


@given(sizes, per_rank, epochs, st.sampled_from([1, 2, 4, 8]), st.sampled_from([1, NUM_PARTS]))
def test_every_row_once_and_the_same_batches_on_any_number_of_ranks(num_rows, share, epoch, num_ranks, num_parts):
    batch_size = 8 * share
    alone = every_rank(1, num_rows, batch_size, epoch, num_parts)
    assert sorted(alone) == list(range(num_rows)) == sorted(alone.values())
    assert every_rank(num_ranks, num_rows, batch_size, epoch, num_parts) == alone
    order = BankOrder(num_rows, batch_size, 5, num_parts, 64, num_ranks - 1, num_ranks)
    steps = np.bincount(np.array(sorted(alone)) // batch_size, minlength=order.steps)
    assert [order.num_real_of_all(step) for step in range(order.steps)] == steps.tolist()


@given(st.integers(64, 700), per_rank, epochs, st.sampled_from([1, 2, 4, 8]), st.sampled_from([1, NUM_PARTS]))
def test_padding_is_other_cells_that_were_drawn_before(num_rows, share, epoch, num_ranks, num_parts):
    """Copies of one cell would spoil the statistics of a batch norm."""
    for rank in range(num_ranks):
        order = BankOrder(num_rows, 8 * share, 5, num_parts, 64, rank, num_ranks)
        batches = order.batches(epoch)
        for step, real in enumerate(batches.real):
            padding = batches.entries[step][~real]
            held = order.part_size(order.parts.start)
            assert len(set(padding.tolist())) == min(len(padding), held)
            assert (padding < order.part_edges()[order.parts.stop] - order.part_edges()[order.parts.start]).all()
            if step and order.num_parts == 1 and order.num_ranks == 1:
                assert set(padding.tolist()) <= set(batches.entries[:step].ravel().tolist())


@given(sizes, st.integers(1, 60), epochs)
def test_three_ranks_share_a_replicated_bank(num_rows, share, epoch):
    assert every_rank(3, num_rows, 3 * share, epoch, 1) == every_rank(1, num_rows, 3 * share, epoch, 1)


@given(sizes, st.integers(1, 100), epochs, st.sampled_from([1, NUM_PARTS]), st.data())
def test_any_batch_is_computed_without_those_before(num_rows, batch_size, epoch, num_parts, data):
    order = BankOrder(num_rows, batch_size, 3, num_parts)
    whole, step = order.batches(epoch), data.draw(st.integers(0, order.steps - 1))
    one = order.batches(epoch, step, step + 1)
    for alone, together in zip(one, whole, strict=True):
        np.testing.assert_array_equal(alone[0], together[step])


@given(sizes, st.integers(1, 100), epochs)
def test_a_batch_takes_floor_or_ceil_of_every_part(num_rows, batch_size, epoch):
    order = BankOrder(num_rows, batch_size, 1, NUM_PARTS)
    batches, edges = order.batches(epoch), order.part_edges()
    for step in range(num_rows // batch_size):
        part = np.searchsorted(edges, batches.entries[step][batches.real[step]], side="right") - 1
        counts = np.bincount(part, minlength=NUM_PARTS)
        assert set(counts.tolist()) <= {batch_size // NUM_PARTS, -(-batch_size // NUM_PARTS)}


@given(st.integers(1, 3000), st.integers(1, 500), st.sampled_from([1, NUM_PARTS]))
def test_epoch_0_mixes_inside_a_span_of_the_fill_order(num_rows, span, num_parts):
    order = BankOrder(num_rows, 16, 2, num_parts, span)
    for part in range(num_parts):
        size = max(1, span // num_parts)
        permutation = order.permutation(0, part)
        np.testing.assert_array_equal(permutation // size, np.arange(len(permutation)) // size)
        np.testing.assert_array_equal(np.sort(permutation), np.arange(order.part_size(part)))


def test_orders_differ_by_seed_epoch_and_part_and_repeat_otherwise():
    orders = {
        (seed, epoch, part): BankOrder(8000, 16, seed, NUM_PARTS).permutation(epoch, part).tolist()
        for seed in (0, 1)
        for epoch in (0, 1, 2)
        for part in (0, 7)
    }
    assert len({tuple(order) for order in orders.values()}) == len(orders)
    assert orders[1, 2, 7] == BankOrder(8000, 256, 1, NUM_PARTS, 99, 3, 4).permutation(2, 7).tolist()


def test_a_later_epoch_is_a_uniform_permutation():
    """The place of row 0 over many epochs: chi-squared over 10 bins, 9 degrees of freedom, 99.99 % quantile 33.7."""
    order = BankOrder(1000, 10, 4)
    places = [int(np.flatnonzero(order.permutation(epoch, 0) == 0)[0]) for epoch in range(1, 1001)]
    counts = np.bincount(np.array(places) // 100, minlength=10)
    assert ((counts - 100) ** 2 / 100).sum() < 33.7


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 10, "num_ranks": 4}, "batch_size must be a positive multiple of the number of processes"),
        ({"batch_size": 9, "num_parts": 8, "num_ranks": 3}, "number of processes must be a divisor of 8, got 3"),
    ],
)
def test_what_cannot_be_shared_is_refused(options, message):
    with pytest.raises(ArgumentError, match=message):
        BankOrder(100, **options)


@given(st.integers(1, 300), st.integers(1, 50), st.integers(1, 4))
def test_stored_order_shows_every_row_once_in_order(num_rows, chunk, num_ranks):
    rows = []
    for rank in range(num_ranks):
        share = evaluation_share(num_rows, chunk, rank, num_ranks)
        batches = StoredOrder(share).batches(4)
        assert batches.entries.shape == (share.steps, chunk)
        rows += (batches.entries[batches.real] + share.start).tolist()
    assert rows == list(range(num_rows))


def test_the_next_epoch_is_prepared_and_the_last_one_forgotten(monkeypatch):
    wanted = [BankOrder(500, 16, 3).batches(epoch).entries.tolist() for epoch in range(3)]
    order, made, permute = BankOrder(500, 16, 3), [], order_module._permute
    monkeypatch.setattr(order_module, "_permute", lambda *arguments: made.append(1) or permute(*arguments))
    assert order.batches(0).entries.tolist() == wanted[0]
    order.prepare(1)
    assert len(made) == 2
    assert order.batches(0, 5, 6).entries.tolist() == wanted[0][5:6]  # still there
    assert order.batches(1).entries.tolist() == wanted[1]
    assert len(made) == 2
    order.prepare(2)
    assert order.batches(2).entries.tolist() == wanted[2]
    assert [epoch for epoch, _ in order._kept] == [2]


def whole_order(rows, shards, order, epoch):
    """The order of an epoch as arrays of all rows, padded to whole batches."""
    share, seed = order.share, order.seed
    if order.shuffle:
        parts = np.split(rows, np.flatnonzero(np.diff(shards, prepend=-1))[1:])
        numbers = np.random.default_rng([seed, epoch, 0]).permutation(len(parts))
        rows = np.concatenate([parts[number] for number in numbers])
    if order.span is not None:
        rng = np.random.default_rng([seed, epoch, 1, share.rank])
        rows = np.roll(rows, rng.integers(len(rows)))
        span = share.whole_batches(order.span)
        rows = np.concatenate([rng.permutation(rows[begin : begin + span]) for begin in range(0, len(rows), span)])
    whole = len(rows) // share.batch * share.batch
    padding = rows[:whole][::-1] if whole else rows
    return np.concatenate([rows, np.resize(padding, max(share.steps * share.batch - len(rows), 0))])


class _Shards:
    """What an order asks of a manifest."""

    def __init__(self, sizes):
        self.shard_edges = np.cumsum([0, *sizes])

    def __len__(self):
        return int(self.shard_edges[-1])

    def shards_of(self, rows):
        return np.searchsorted(self.shard_edges, rows, "right") - 1


@given(
    sizes=st.lists(st.integers(0, 40), min_size=1, max_size=9).filter(lambda sizes: sum(sizes) > 0),
    mask=st.sampled_from(["all", "some", "twice", "array"]),
    ranks=st.integers(1, 3),
    batch=st.integers(1, 12),
    span=st.one_of(st.none(), st.integers(1, 50)),
    shuffle=st.booleans(),
    seed=st.integers(0, 5),
    data=st.data(),
)
def test_spans_are_the_order_of_all_rows(sizes, mask, ranks, batch, span, shuffle, seed, data):
    manifest = _Shards(sizes)
    rng = np.random.default_rng(seed)
    counts = rng.random(len(manifest)) < (1 if mask == "all" else 0.6)
    counts[rng.integers(len(counts))] = True
    cells = np.flatnonzero(counts) if mask == "array" else RowSet(counts * np.uint8(2) if mask == "twice" else counts)
    view = View(manifest, cells)
    make = training_share if span is not None else evaluation_share
    for rank in range(ranks):
        share = make(len(view), batch * ranks, rank, ranks)
        order = StreamOrder(view, share, seed, shuffle or span is not None, span)
        rows = view.rows[share.start : share.stop] if len(share) else view.rows[:1]
        np.testing.assert_array_equal(order.rows, rows)
        expected = whole_order(rows, manifest.shards_of(rows), order, 3)
        first = data.draw(st.integers(0, share.steps))
        parts = list(order.spans(3, first, 3))
        assert all(len(part) % share.batch == 0 for part in parts[:-1])
        found = np.concatenate([np.empty(0, np.int64), *parts])
        np.testing.assert_array_equal(found, expected[first * share.batch :])
