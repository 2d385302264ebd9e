"""Micro-batches: sizes follow load and latency target, nothing is lost, blocks of clients that left are skipped."""

import itertools
import threading
import time

import numpy as np
from fixtures.live_servers import GatedNetwork, some_cells
from fixtures.unpacked_files import FixedNetwork

from fastcell.inference.classifier import Classifier
from fastcell.live.cell_block import CellBlock
from fastcell.live.live_classifier import LiveClassifier
from fastcell.live.live_metrics import LiveMetrics
from fastcell.live.micro_batches import MOST_CELLS, MicroBatches
from fastcell.live.protocol import Frames
from fastcell.loading.preprocessing import Preprocessing


def frames(num, seed=0):
    ids = np.arange(num, dtype=np.uint64)
    return Frames(some_cells(num, seed), ids, ids, np.full(num, np.nan, np.float32))


def put(queue, block):
    assert queue.reserve(len(block.frames), whole=True) == len(block.frames)
    queue.submit(block)


def batches(network, latency=1.0, **options):
    settings = Preprocessing(image_size=16)
    live = LiveClassifier(Classifier(network, ["a", "b"], settings, "cross_entropy", threads=1))
    metrics = LiveMetrics(["a", "b"], latency)
    return MicroBatches(live.answer, 2, metrics, most_waiting=5000, max_latency_s=latency, **options), metrics


class CountingNetwork(GatedNetwork):
    """Gated network that keeps the sizes of its batches, and takes its time for each cell."""

    def __init__(self, seconds_per_cell=0.0):
        super().__init__()
        self.sizes = []
        self.seconds = seconds_per_cell

    def run(self, images):
        self.sizes.append(len(images))
        time.sleep(self.seconds * len(images))
        return super().run(images)


def test_a_lone_cell_runs_at_once_and_what_comes_meanwhile_runs_together():
    network = CountingNetwork()
    queue, _ = batches(network, latency=1000.0, batch=64)
    done = threading.Semaphore(0)
    blocks = [CellBlock(frames(1, n), 2, 0.0, lambda block: done.release()) for n in range(8)]
    put(queue, blocks[0])
    while not network.sizes:
        time.sleep(0.001)
    for block in blocks[1:]:
        put(queue, block)
    network.open.set()
    for _ in blocks:
        assert done.acquire(timeout=10)
    queue.close()
    assert network.sizes == [1, 7]


def test_the_latency_target_bounds_the_batches():
    network = CountingNetwork(0.001)
    network.open.set()
    queue, metrics = batches(network, latency=0.02)
    (block,) = queue.answer(frames(200), "wait") or []
    assert block.left == 0
    queue.close()
    assert sum(network.sizes) == metrics.answered == 200
    assert all(after <= 2 * before + 1 for before, after in itertools.pairwise(network.sizes))  # 1.5 counts as 1
    assert max(network.sizes) <= 19  # 1 ms a cell: more than 10 would take more than half of 20 ms, and shrink the next
    over = [following for size, following in itertools.pairwise(network.sizes) if size > 10]
    assert all(following <= 10 for following in over)


def test_a_hiccup_shrinks_the_batches_for_a_few_batches_only():
    queue, _ = batches(CountingNetwork(), latency=0.02, batch=1)
    queue.close()
    for seconds, most in ((0.001, 2), (0.001, 4), (0.005, 8), (0.01, 8), (0.05, 1), (0.001, 3), (0.0, 6)):
        queue._follow(queue.most_cells(), seconds)
        assert queue.most_cells() == most
    queue._follow(1, 0.001)  # not full: says nothing about larger ones
    assert queue.most_cells() == 6


def test_room_is_reserved_once():
    network = CountingNetwork()
    queue, _ = batches(network)
    queue.most_waiting = 10
    taken = []
    threads = [threading.Thread(target=lambda: taken.extend(queue.reserve(1) for _ in range(5))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == [0] * 30 + [1] * 10
    assert queue.reserve(3, whole=True) == queue.room == 0
    queue.close()


def test_without_a_bound_batches_are_whole_batches_of_the_network():
    network = CountingNetwork()
    network.open.set()
    queue, _ = batches(network, latency=1000.0, batch=48)
    assert len(queue.answer(frames(900), "wait") or []) == 4
    assert queue.most_cells() == MOST_CELLS - MOST_CELLS % 48
    queue.close()
    assert sum(network.sizes) == 900


def test_blocks_of_clients_that_left_are_skipped():
    network = CountingNetwork()
    queue, metrics = batches(network, latency=1000.0, batch=8)
    done = []
    first, left, last = (CellBlock(frames(n), 2, 0.0, done.append) for n in (1, 5, 3))
    put(queue, first)
    while not network.sizes:
        time.sleep(0.001)
    left.abandoned = True
    put(queue, left)
    put(queue, last)
    assert queue.waiting == 8
    network.open.set()
    queue.close()
    assert network.sizes == [1, 3]
    assert metrics.batches == 2
    assert queue.waiting == 0
    assert done == [first, last]


def test_a_full_queue_refuses_or_waits():
    network = CountingNetwork()
    queue, metrics = batches(network)
    queue.most_waiting = 4
    assert queue.answer(frames(5), "drop") is None
    assert metrics.dropped == 5
    network.open.set()
    found = queue.answer(frames(50), "wait")
    assert found is not None
    assert [block.left for block in found] == [0] * len(found)
    assert sum(len(block.frames) for block in found) == 50
    queue.close()


def test_a_block_is_divided_among_workers_and_comes_back_whole():
    network = CountingNetwork(0.0005)
    network.open.set()
    queue, _ = batches(network, latency=0.01, workers=3)
    (block,) = queue.answer(frames(120), "wait") or []
    queue.close()
    live = LiveClassifier(Classifier(FixedNetwork(), ["a", "b"], Preprocessing(image_size=16), "cross_entropy"))
    expected = live.answer(frames(120).cells, None)
    np.testing.assert_allclose(block.answers["p"], expected.probabilities, atol=1e-6)
    assert block.answers["class"].tolist() == expected.classes.tolist()
    assert block.answers["id"].tolist() == list(range(120))
