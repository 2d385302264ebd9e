"""Server of the stream protocol: one thread for all sockets, which passes cells to the micro-batches and sends the
answers.

All clients share the queue. If it is full, the server either stops reading (``wait``), so that the sockets fill up and
the senders wait, or immediately answers new frames as dropped (``drop``), in the order of the frames.
"""

from __future__ import annotations

import contextlib
import errno
import os
import selectors
import socket
import stat
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

from fastcell.errors import invalid
from fastcell.live.cell_block import CellBlock
from fastcell.live.connection import GREETING_S, Connection
from fastcell.live.drop_log import DropLog
from fastcell.live.live_metrics import LiveMetrics
from fastcell.live.micro_batches import MOST_CELLS, MicroBatches, WhenFull
from fastcell.live.protocol import AnswerStatus, Frames, Welcome

DRAIN_S = 10.0
"""Time limit after a request to end: without a further batch while clients wait or do not read."""

_SCRATCH_BYTES = 1 << 18
_SOCKET_BYTES = 4 << 20
_TICK_S = 0.5
_LAST_READS = 64  # bytes read from a client when the server ends: more than its socket holds
_GATHER_S = 0.0003  # while all workers are busy, frames gather before they are read


class StreamOptions(NamedTuple):
    """Treatment of clients by a server.

    Attributes:
        when_full: what happens to frames that find the queue full.
        token: secret that clients must send; empty for none.
        end_with_last_client: end when all added clients have gone (for stdin).
    """

    when_full: WhenFull = "wait"
    token: str = ""
    end_with_last_client: bool = False


class StreamServer:
    """Server of the stream protocol.

    Args:
        listeners: listening sockets, TCP or unix; closed at the end.
        batches: queue of the cells.
        welcome: greeting for each client.
        metrics: takes the counts.
        drops: takes the ids of cells without a class.
        options: treatment of clients.
    """

    def __init__(
        self,
        listeners: Sequence[socket.socket],
        batches: MicroBatches,
        welcome: Welcome,
        metrics: LiveMetrics,
        drops: DropLog,
        options: StreamOptions = StreamOptions(),  # noqa: B008, immutable
    ) -> None:
        self._listeners, self._batches, self._welcome = list(listeners), batches, welcome.to_bytes()
        self._metrics, self._drops, self._options = metrics, drops, options
        self._selector = selectors.DefaultSelector()
        self._connections: dict[socket.socket, tuple[Connection, int]] = {}
        self._ready: deque[Connection] = deque()
        self._holding: deque[Connection] = deque()
        self._swept = 0.0
        self._scratch = memoryview(bytearray(_SCRATCH_BYTES))
        self._woken, self._waker = socket.socketpair()
        self._is_woken = self._is_paused = self._stopping = False
        self._names = 0
        for sock in (self._woken, self._waker, *self._listeners):
            sock.setblocking(False)
        self._selector.register(self._woken, selectors.EVENT_READ)
        for listener in self._listeners:
            self._selector.register(listener, selectors.EVENT_READ)

    def add(self, sock: socket.socket, name: str) -> None:
        """Serve a connected socket; call it before `run`."""
        sock.setblocking(False)
        for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, option, _SOCKET_BYTES)
        if sock.family in (socket.AF_INET, socket.AF_INET6):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._connections[sock] = (Connection(sock, name, self._welcome, self._options.token), selectors.EVENT_READ)
        self._selector.register(sock, selectors.EVENT_READ)
        self._metrics.count(connections=1, clients=1)

    def stop(self) -> None:
        """Let `run` answer the received frames and return. May be called by any thread and in a signal handler."""
        self._stopping = True
        self._wake()

    def run(self) -> None:
        """Serve until `stop`."""
        try:
            while not self._stopping and not (self._options.end_with_last_client and not self._connections):
                self._turn(_TICK_S)
            self._drain()
        finally:
            for connection, _ in list(self._connections.values()):
                self._close(connection)
            for sock in (*self._listeners, self._woken, self._waker):
                sock.close()
            self._selector.close()

    def _drain(self) -> None:
        """Read the sockets to their end, answer the frames, and send the clients the last message."""
        for listener in self._listeners:
            if not self._is_paused:
                self._selector.unregister(listener)
            listener.close()
        self._listeners.clear()
        for connection, _ in list(self._connections.values()):
            connection.drained = False
            for _ in range(_LAST_READS):
                if connection.reads and connection.greeted and not connection.drained:
                    self._receive(connection)
            connection.end(AnswerStatus.END)
            self._ready.append(connection)
        batches, limit = -1, 0.0
        while self._connections and (self._metrics.batches != batches or time.monotonic() < limit):
            if self._metrics.batches != batches:
                batches, limit = self._metrics.batches, time.monotonic() + DRAIN_S
            self._turn(0.05)

    def _turn(self, timeout: float) -> None:
        """Wait for sockets or answers, and process them."""
        for key, mask in self._selector.select(timeout):
            sock = key.fileobj
            if sock is self._woken:
                self._clear()
            elif sock in self._connections:
                connection = self._connections[sock][0]  # type: ignore[index]
                if mask & selectors.EVENT_READ:
                    self._receive(connection)
                self._ready.append(connection)
            else:
                self._accept(sock)  # type: ignore[arg-type]
        self._admit_held()
        while self._ready:
            self._attend(self._ready.popleft())
        self._sweep()
        if self._batches.waiting > MOST_CELLS:
            time.sleep(_GATHER_S)

    def _accept(self, listener: socket.socket) -> None:
        if self._is_paused:
            return
        try:
            sock, address = listener.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return
        except OSError as error:
            if error.errno not in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                raise
            self._is_paused = True  # until the next sweep
            for one in self._listeners:
                self._selector.unregister(one)
            return
        self._names += 1
        where = f"{address[0]}:{address[1]}" if isinstance(address, tuple) else "unix"
        self.add(sock, f"{where}#{self._names}")

    def _receive(self, connection: Connection) -> None:
        if not connection.reads:
            return
        wrong = connection.receive(self._scratch)
        if connection.held:
            self._metrics.count(received=sum(len(frames) for frames, _ in connection.held))
            self._admit(connection)
        if wrong is not None:
            self._metrics.count(client_errors=1)
            connection.end(AnswerStatus.ERROR, wrong)

    def _admit_held(self) -> None:
        """Put held frames into the queue when it has room again, taking pieces of the clients in turn."""
        while self._holding and self._batches.room:
            connection = self._holding.popleft()
            self._admit(connection, once=True)
            if connection.held:
                self._holding.append(connection)
            else:
                self._ready.append(connection)

    def _admit(self, connection: Connection, once: bool = False) -> None:
        """Put frames into the queue in pieces that fit. The others are dropped or remain held."""
        while connection.held:
            frames, arrived = connection.held[0]
            room = self._batches.reserve(min(len(frames), MOST_CELLS))
            if not room:
                if self._options.when_full == "wait":
                    if not once:
                        self._holding.append(connection)
                    return
                connection.held.popleft()
                self._drop(connection, frames, arrived)
                continue
            if len(frames) > room:
                connection.held[0] = (frames.part(room, len(frames)), arrived)
            else:
                connection.held.popleft()
            block = CellBlock(frames.part(0, room), self._batches.num_classes, arrived, self._done(connection))
            connection.pending.append(block)
            self._batches.submit(block)
            if once:
                return

    def _drop(self, connection: Connection, frames: Frames, arrived: float) -> None:
        block = CellBlock(frames, self._batches.num_classes, arrived, self._done(connection))
        block.drop()
        connection.pending.append(block)
        self._metrics.count(dropped=len(frames))
        self._drops.add(connection.name, frames.ids, "queue full")

    def _done(self, connection: Connection) -> Callable[[CellBlock], None]:
        def done(block: CellBlock) -> None:
            if not block.abandoned:
                self._ready.append(connection)
                self._wake()

        return done

    def _attend(self, connection: Connection) -> None:
        """Send available answers, and select the events of the socket to wait for."""
        found = self._connections.get(connection.sock)
        if found is None:
            return
        self._metrics.add_answers(connection.collect())
        connection.flush()
        if connection.over:
            self._close(connection)
            return
        wanted = selectors.EVENT_READ * connection.reads | selectors.EVENT_WRITE * bool(connection.unsent)
        if wanted != found[1]:
            self._watch(connection.sock, found[1], wanted)
            self._connections[connection.sock] = (connection, wanted)

    def _watch(self, sock: socket.socket, before: int, wanted: int) -> None:
        if not wanted:
            self._selector.unregister(sock)
        elif not before:
            self._selector.register(sock, wanted)
        else:
            self._selector.modify(sock, wanted)

    def _sweep(self) -> None:
        """Close connections that have exceeded a time limit."""
        now = time.monotonic()
        if now < self._swept + _TICK_S / 2:
            return
        self._swept = now
        if self._is_paused:
            self._is_paused = False
            for listener in self._listeners:
                self._selector.register(listener, selectors.EVENT_READ)
        for connection, _ in list(self._connections.values()):
            if not connection.greeted and now - connection.opened > GREETING_S:
                connection.end(AnswerStatus.ERROR, f"no greeting came within {GREETING_S:g} s")
                self._metrics.count(client_errors=1)
                self._attend(connection)
            if connection.over:
                self._close(connection)

    def _close(self, connection: Connection) -> None:
        found = self._connections.pop(connection.sock, None)
        if found is None:
            return
        if found[1]:
            self._selector.unregister(connection.sock)
        connection.sock.close()
        lost = connection.unanswered()
        self._metrics.count(clients=-1, abandoned=len(lost))
        self._drops.add(connection.name, lost, "server ended" if self._stopping else "client gone")

    def _wake(self) -> None:
        """Wake up `_turn`. Called by workers and signal handlers."""
        if not self._is_woken:
            self._is_woken = True
            with contextlib.suppress(OSError):
                self._waker.send(b"x")

    def _clear(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self._woken.recv(64)
        self._is_woken = False  # last: who sets it from here on sends a byte; who found it set is served in this turn


def check_unix_path(path: str) -> None:
    """Check that no other program uses the path of a unix socket; an unused socket file may be there.

    Raises:
        ArgumentError: another program listens there, or the path is no socket.
    """
    if not os.path.lexists(path):
        return
    if not stat.S_ISSOCK(os.lstat(path).st_mode):
        raise invalid("--socket", "a path where nothing is yet", path, "Name another path")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            return
        except OSError:
            raise invalid("--socket", "a path where nothing is yet", path, "Name another path") from None
    raise invalid("--socket", "free", path, "Another program listens there")


def open_unix_listener(path: str) -> socket.socket:
    """Return a listening unix socket to which only this user can connect. An unused socket file is replaced.

    Raises:
        ArgumentError: another program uses the path, or no socket can be created there.
    """
    check_unix_path(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)  # noqa: PTH108
        before = os.umask(0o177)
        try:
            listener.bind(path)
        finally:
            os.umask(before)
        listener.listen(1024)
    except OSError as error:
        listener.close()
        hint = "A path of at most 107 bytes in a folder that you may write to"
        raise invalid("--socket", f"a path for a socket ({error.strerror or error})", path, hint) from None
    return listener
