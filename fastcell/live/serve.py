"""Run a server: queue with workers, stream server, HTTP, and a clean end."""

from __future__ import annotations

import contextlib
import gc
import os
import resource
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from fastcell.live.drop_log import DropLog
from fastcell.live.http_app import HttpService
from fastcell.live.live_classifier import LiveClassifier
from fastcell.live.live_metrics import LiveMetrics
from fastcell.live.micro_batches import MicroBatches, WhenFull
from fastcell.live.protocol import MOST_FRAME_BYTES, Welcome
from fastcell.live.stream_server import (
    DRAIN_S,
    StreamOptions,
    StreamServer,
    check_unix_path,
    open_unix_listener,
)
from fastcell.system.messages import Say
from fastcell.system.signals import handle_signals
from fastcell.web.listener import LOOPBACK, address_of, is_loopback, open_listener
from fastcell.web.web_server import WebServer, new_token

_SWITCH_S = 0.0005
"""Switch interval of Python's threads; the default of 5 ms would add to the latency of a cell."""
_MOST_BODY_BYTES = 64 << 20
_PIPE_BYTES = 1 << 16
_OPEN_FILES = 1 << 16


class ServeOptions(NamedTuple):
    """Options of a server.

    Attributes:
        socket_path: path of a unix socket; None for no socket.
        host: address of the TCP ports.
        port: TCP port of the stream protocol, 0 for a free one; None for no port.
        http_port: port of HTTP, 0 for a free one; None for no port.
        stdin: serve frames on standard input, with answers on standard output.
        token: secret of clients; None for a new one if other machines can reach the ports, else for none.
        max_latency_ms: target for the time from arrival to answer.
        queue: maximum number of waiting cells.
        when_full: reaction to cells that find the queue full.
        workers: number of threads that classify.
        drop_log: CSV file for the ids of unclassified cells.
    """

    socket_path: str | None
    host: str = LOOPBACK
    port: int | None = None
    http_port: int | None = None
    stdin: bool = False
    token: str | None = None
    max_latency_ms: float = 10.0
    queue: int = 4096
    when_full: WhenFull = "wait"
    workers: int = 1
    drop_log: Path = Path("dropped.csv")


def check_addresses(options: ServeOptions) -> None:
    """Check that the addresses of a server are free, before a run is opened for it. No client can connect meanwhile.

    Raises:
        ArgumentError: an address cannot be used.
    """
    for port, option in ((options.port, "--port"), (options.http_port, "--http")):
        if port is not None:
            open_listener(options.host, port, option, listen=False).close()
    if options.socket_path is not None:
        check_unix_path(options.socket_path)


def serve_cells(live: LiveClassifier, options: ServeOptions, about: dict[str, str], say: Say) -> LiveMetrics:
    """Serve cells until SIGTERM or Ctrl-C, or until standard input ends if nothing else is served.

    Args:
        live: the classifier.
        options: options of the server.
        about: facts about the run, for the page.
        say: function that receives lines for the user, such as the addresses.

    Returns:
        The final counts.

    Raises:
        ArgumentError: an address cannot be used.
        FastcellError: a package for HTTP is missing.
    """
    with contextlib.ExitStack() as stack:
        ended = _End()
        stack.enter_context(handle_signals(ended.ask))
        _allow_open_files()
        stack.callback(sys.setswitchinterval, sys.getswitchinterval())
        sys.setswitchinterval(_SWITCH_S)
        addresses = _Addresses.open(options, stack)
        live.prepare()
        gc.collect()
        gc.freeze()  # else a collection of the objects of all libraries stops the server for 20 ms or more
        stack.callback(gc.unfreeze)
        metrics = LiveMetrics(live.classes, options.max_latency_ms / 1000)
        drops = DropLog(options.drop_log)
        batches = MicroBatches(
            live.answer,
            len(live.classes),
            metrics,
            most_waiting=options.queue,
            max_latency_s=options.max_latency_ms / 1000,
            batch=live.batch,
            workers=options.workers,
        )
        stack.callback(drops.close)
        stack.callback(batches.close)
        welcome = Welcome(live.classes, live.knows_training, MOST_FRAME_BYTES)
        alone = options.stdin and not addresses.streams and addresses.http is None
        streamed = StreamOptions(options.when_full, addresses.token or "", end_with_last_client=alone)
        server = StreamServer(addresses.streams, batches, welcome, metrics, drops, streamed)
        if addresses.http is not None:
            service = HttpService(live, batches, metrics, drops, options.when_full, about)
            web = WebServer(service.app(), addresses.http, token=addresses.token, most_body_bytes=_MOST_BODY_BYTES)
            web.start()
            stack.callback(web.stop)
            say(f"http    {web.url}")
        for line in addresses.lines:
            say(line)
        if options.stdin:
            stack.enter_context(_standard_streams(server))
        ended.then(server.stop)
        server.run()
    return metrics


def _allow_open_files() -> None:
    """Raise the limit of open files, one per connection, as far as this user is allowed to."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _OPEN_FILES if hard == resource.RLIM_INFINITY else min(_OPEN_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


class _Addresses(NamedTuple):
    """Sockets of a server.

    Attributes:
        streams: listening sockets of the stream protocol.
        http: listening socket of HTTP; None without HTTP.
        token: secret of the clients; None for no token.
        lines: the addresses of the stream protocol for the user.
    """

    streams: list[socket.socket]
    http: socket.socket | None
    token: str | None
    lines: list[str]

    @classmethod
    def open(cls, options: ServeOptions, stack: contextlib.ExitStack) -> _Addresses:
        """Open the sockets; `stack` closes them, and removes the file of the unix socket."""
        streams, lines, http, token = [], [], None, options.token
        if options.port is not None:
            streams.append(stack.enter_context(open_listener(options.host, options.port)))
            lines.append(f"stream  {address_of(streams[0])}")
        if options.http_port is not None:
            http = stack.enter_context(open_listener(options.host, options.http_port, "--http"))
        elsewhere = any(not is_loopback(listener) for listener in (*streams, *([http] if http else [])))
        if elsewhere and token is None:
            token = new_token()
        if options.socket_path is not None:
            streams.append(stack.enter_context(open_unix_listener(options.socket_path)))
            stack.callback(lambda: Path(str(options.socket_path)).unlink(missing_ok=True))
            lines.append(f"stream  {options.socket_path}")
        if token is not None:
            lines.append(f"token   {token}")
        return cls(streams, http, token, lines)


class _End:
    """Handler of SIGTERM and Ctrl-C: ends the server, even if it is just starting."""

    def __init__(self) -> None:
        self._asked = False
        self._stop: Callable[[], None] = lambda: None

    def ask(self) -> None:
        """Handle a signal."""
        self._asked = True
        self._stop()

    def then(self, stop: Callable[[], None]) -> None:
        """Call `stop` at the next signal, or immediately if there was one."""
        self._stop = stop
        if self._asked:
            stop()


@contextlib.contextmanager
def _standard_streams(server: StreamServer) -> Iterator[None]:
    """Serve standard input and output as one client; both may be pipes, files or terminals."""
    ours, theirs = socket.socketpair()
    server.add(theirs, "stdin")
    taker = threading.Thread(target=_pump_in, args=(sys.stdin.buffer, ours), daemon=True)
    giver = threading.Thread(target=_pump_out, args=(ours, sys.stdout.buffer), daemon=True)
    for thread in (taker, giver):
        thread.start()
    try:
        yield
    finally:
        giver.join(DRAIN_S)  # the reader of the answers may have stopped
        ours.close()


def _pump_in(source: BinaryIO, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := os.read(source.fileno(), _PIPE_BYTES):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)


def _pump_out(source: socket.socket, sink: BinaryIO) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(_PIPE_BYTES):
            while data:
                data = data[os.write(sink.fileno(), data) :]
        return
    source.close()  # nobody reads: the server finds that its client is gone
