"""One client of the stream server: its socket, its frames in order, and the answers that wait to be sent."""

from __future__ import annotations

import hmac
import socket
import time
from collections import deque

import numpy as np

from fastcell.live.cell_block import CellBlock
from fastcell.live.protocol import (
    AnswerStatus,
    FrameReader,
    Frames,
    ProtocolError,
    closing_message,
    read_client_greeting,
)

MOST_UNSENT_BYTES = 1 << 20
"""Answers that may wait for a client that does not read; its frames are not read before."""
GREETING_S = 30.0
"""Time that a client has for its greeting."""
LINGER_S = 2.0
"""Time that a client has to read the last message before its socket is closed."""


class Connection:
    """State of a client; used by the thread of the server alone.

    Args:
        sock: its socket, non-blocking.
        name: for the log.
        welcome: greeting of the server.
        token: secret that the client must give; empty for none.

    Attributes:
        pending: blocks of frames whose answers have not been put to `unsent`, in order.
        held: frames that were read and are not in the queue yet, with the time of reading [s].
        unsent: bytes for the client.
        finished: the client sends nothing more.
        broken: the client cannot be reached.
        drained: nothing was there at the last reading.
    """

    def __init__(self, sock: socket.socket, name: str, welcome: bytes, token: str = "") -> None:
        self.sock, self.name = sock, name
        self._welcome, self._token = welcome, token
        self._greeting: bytearray | None = bytearray()
        self._reader = FrameReader()
        self.opened = time.monotonic()
        self.pending: deque[CellBlock] = deque()
        self.held: deque[tuple[Frames, float]] = deque()
        self.unsent = bytearray()
        self.finished = self.broken = self.drained = False
        self._last: bytes | None = None
        self._shut_at: float | None = None

    @property
    def greeted(self) -> bool:
        """Whether the greeting of the client has come."""
        return self._greeting is None

    @property
    def reads(self) -> bool:
        """Whether bytes of the client are wanted now."""
        if self.broken:
            return False
        if self._shut_at is not None:
            return True  # thrown away, so that closing the socket does not destroy the last message
        return not self.finished and not self.held and len(self.unsent) < MOST_UNSENT_BYTES

    @property
    def over(self) -> bool:
        """Whether the socket can be closed."""
        return self.broken or (self._shut_at is not None and time.monotonic() - self._shut_at > LINGER_S)

    @property
    def settled(self) -> bool:
        """Whether all answers have been handed to the socket."""
        return not self.pending and not self.held and not self.unsent

    def receive(self, scratch: memoryview) -> str | None:
        """Read once from the socket; frames go to `held`.

        Returns:
            What is wrong with the bytes, or None.
        """
        try:
            num = self.sock.recv_into(scratch)
        except (BlockingIOError, InterruptedError):
            self.drained = True
            return None
        except OSError:
            self.broken = True
            return None
        if self._shut_at is not None:
            self.broken = not num
            return None
        if not num:
            self.finished = True
            return "the stream ended inside a frame" if self._reader.waiting or not self.greeted else None
        return self._take(scratch[:num])

    def _take(self, data: memoryview) -> str | None:
        if self._greeting is not None:
            self._greeting += data
            try:
                found = read_client_greeting(self._greeting)
            except ProtocolError as error:
                return str(error)
            if found is None:
                return None
            token, end = found
            if self._token and not hmac.compare_digest(token.encode(), self._token.encode()):
                return "the token is missing or wrong"
            self.unsent += self._welcome
            rest, self._greeting = self._greeting[end:], None
            data = memoryview(rest)
        frames, wrong = self._reader.feed(data)
        now = time.perf_counter()
        self.held.extend((some, now) for some in frames)
        return wrong

    def end(self, status: AnswerStatus, text: str = "") -> None:
        """Take no more frames; after the answers, send a last message."""
        if self._last is None:
            self.finished = True
            self._last = closing_message(status, text)

    def collect(self) -> list[CellBlock]:
        """Move whole answers to `unsent`, in order, and return their blocks."""
        blocks = []
        while self.pending and not self.pending[0].left:
            blocks.append(self.pending.popleft())
            self.unsent += blocks[-1].answers.tobytes()
        return blocks

    def flush(self) -> None:
        """Send what the socket takes of `unsent`, and the last message behind it."""
        if self.finished and not self.pending and not self.held and self._last is not None:
            self.unsent += self._last
            self._last = b"" if self._last else self._last
        try:
            while self.unsent and not self.broken:
                sent = self.sock.send(self.unsent)
                del self.unsent[:sent]
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self.broken = True
            return
        if self.finished and self.settled and self._shut_at is None and not self.broken:
            self._shut_at = time.monotonic()
            try:
                self.sock.shutdown(socket.SHUT_WR)
            except OSError:
                self.broken = True

    def unanswered(self) -> np.ndarray:
        """Return the ids of frames whose answers have not reached `unsent`, (N,) uint64; they are abandoned.

        Dropped frames are not among them.
        """
        lost = [block for block in self.pending if not block.dropped]
        for block in lost:
            block.abandoned = True
        parts = [block.frames.ids for block in lost] + [frames.ids for frames, _ in self.held]
        self.pending.clear()
        self.held.clear()
        return np.concatenate(parts) if parts else np.empty(0, np.uint64)
