"""Prefetching iterator: a thread makes items ahead of their use, and the consumer may stop at any time."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterator
from queue import SimpleQueue
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class _Channel:
    """State shared by thread and iterator. It has no reference to the iterator, so a dropped one is collected."""

    def __init__(self, depth: int) -> None:
        self.items: SimpleQueue[tuple[str, Any]] = SimpleQueue()
        self.slots = threading.Semaphore(depth)
        self.stopped = False


def _produce(channel: _Channel, make: Callable[[], Iterator[Any]]) -> None:
    try:
        items = make()
        try:
            while True:
                channel.slots.acquire()
                if channel.stopped:
                    return
                channel.items.put(("item", next(items)))
        finally:
            close = getattr(items, "close", None)
            if close is not None:
                close()
    except StopIteration:
        channel.items.put(("end", None))
    except BaseException as error:  # noqa: BLE001, it is raised where the items are used
        channel.items.put(("error", error))


def _stop(channel: _Channel, thread: threading.Thread) -> None:
    channel.stopped = True
    channel.slots.release()
    if thread is not threading.current_thread():  # the garbage collector may run this in any thread
        thread.join()
    while not channel.items.empty():
        channel.items.get()
    channel.items.put(("end", None))  # for a thread that is waiting for an item


class Prefetcher(Generic[T], Iterator[T]):
    """Iterator over ``make()`` that prefetches `depth` items in a separate thread.

    An exception of ``make()`` is raised here, in place of the item. The thread ends after the last item, after such an
    exception, on `close`, when this object is garbage collected, and when the interpreter exits. At most one more item
    is made after a stop.

    Args:
        make: returns the iterator; called in the thread. A generator is closed at the end.
        depth: maximum number of items that are made but not yet taken, including the one in progress.
    """

    def __init__(self, make: Callable[[], Iterator[T]], depth: int = 2) -> None:
        self._channel = _Channel(depth)
        thread = threading.Thread(target=_produce, args=(self._channel, make), name="fastcell-batches", daemon=True)
        thread.start()  # raises an error if no thread can be started; then there is nothing to stop
        self._close = weakref.finalize(self, _stop, self._channel, thread)

    def __iter__(self) -> Prefetcher[T]:
        return self

    def __next__(self) -> T:
        if not self._close.alive:
            raise StopIteration
        what, value = self._channel.items.get()
        if what == "item":
            self._channel.slots.release()
            return value  # type: ignore[no-any-return]
        self.close()
        if what == "error":
            raise value
        raise StopIteration

    def close(self) -> None:
        """Stop and discard the prefetched items. Further calls have no effect."""
        self._close()
