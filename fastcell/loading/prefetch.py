"""An iterator whose items are made ahead of their use by a thread, and that can be left at any moment."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterator
from queue import SimpleQueue
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class _Channel:
    """What thread and iterator share. It does not know the iterator, so a dropped iterator can be collected."""

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
    if thread is not threading.current_thread():  # the garbage collector runs in any thread
        thread.join()
    while not channel.items.empty():
        channel.items.get()
    channel.items.put(("end", None))  # for a thread that waits for an item at this moment


class Prefetcher(Generic[T], Iterator[T]):
    """Iterate over ``make()`` in a thread of its own, `depth` items ahead.

    The thread ends with the items, with `close`, with an exception of ``make()`` (raised here, in its turn), when this
    object is collected, and when the interpreter exits; at most one item is still made in the meantime.

    Args:
        make: gives the iterator; called in the thread. A generator is closed at the end.
        depth: items that may be there and not yet taken, the one in the making included.
    """

    def __init__(self, make: Callable[[], Iterator[T]], depth: int = 2) -> None:
        self._channel = _Channel(depth)
        thread = threading.Thread(target=_produce, args=(self._channel, make), name="fastcell-batches", daemon=True)
        self._close = weakref.finalize(self, _stop, self._channel, thread)
        thread.start()

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
        """Stop; what was made ahead is dropped. Twice does no harm."""
        self._close()
