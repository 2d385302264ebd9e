"""Items ahead of their use; the thread always ends."""

import gc
import subprocess
import sys
import threading
import time

import pytest

from fastcell.loading.prefetch import Prefetcher


def threads():
    return [thread for thread in threading.enumerate() if thread.name == "fastcell-batches"]


def test_gives_the_items_in_order():
    assert list(Prefetcher(lambda: iter(range(50)), depth=3)) == list(range(50))
    assert not threads()


def test_works_ahead_by_its_depth_and_no_more():
    made, ready = [], threading.Semaphore(0)

    def make():
        for item in range(10):
            made.append(item)
            ready.release()
            yield item

    items = Prefetcher(make, depth=3)
    for _ in range(3):
        assert ready.acquire(timeout=10)
    assert not ready.acquire(timeout=0.05)
    assert next(items) == 0
    assert ready.acquire(timeout=10)
    assert made == [0, 1, 2, 3]
    items.close()


def test_an_exception_comes_in_its_turn():
    def make():
        yield 1
        raise ValueError("broken")

    items = Prefetcher(make)
    assert next(items) == 1
    with pytest.raises(ValueError, match="broken"):
        next(items)
    with pytest.raises(StopIteration):
        next(items)
    assert not threads()


@pytest.mark.parametrize("how", ["close", "drop", "break"])
def test_leaving_early_ends_the_thread_and_closes_the_generator(how):
    closed = threading.Event()

    def make():
        try:
            yield from range(1000)
        finally:
            closed.set()

    items = Prefetcher(make)
    assert next(items) == 0
    if how == "close":
        items.close()
        items.close()
        assert list(items) == []
    elif how == "break":
        for _ in items:
            break
    del items
    gc.collect()
    assert closed.wait(10)
    assert not threads()


def test_interpreter_exits_with_an_iterator_left_open():
    code = (
        "import itertools; from fastcell.loading.prefetch import Prefetcher\n"
        "items = Prefetcher(lambda: itertools.count()); print(next(items))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert (done.stdout, done.stderr) == ("0\n", "")


def test_a_thread_that_waits_for_an_item_wakes_when_another_closes():
    def slow():
        while True:
            time.sleep(0.002)
            yield 1

    for _ in range(40):
        items = Prefetcher(slow, 1000)
        user = threading.Thread(target=lambda items=items: list(items), daemon=True)
        user.start()
        time.sleep(0.007)
        items.close()
        user.join(20)
        assert not user.is_alive()
