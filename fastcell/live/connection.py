"""One client of the stream server: its socket, its frames in order, and the answers still to be sent."""

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
"""Maximum number of answers waiting for a client; above it, no more frames of the client are read."""
GREETING_S = 30.0
"""Time limit for the greeting of a client."""
LINGER_S = 2.0
"""Time limit for a client to read the last message before its socket is closed."""


class Connection:
    """State of a client. Used only by the thread of the server.

    Args:
        sock: its socket, non-blocking.
        name: name of the client in the log.
        welcome: greeting of the server.
        token: secret that the client must send; empty for none.

    Attributes:
        pending: blocks of frames, in order, whose answers are not in `unsent` yet.
        held: frames that were read but are not in the queue yet, with the time of reading [s].
        unsent: bytes to be sent to the client.
        finished: True if the client sends nothing more.
        broken: True if the client cannot be reached.
        drained: True if the last reading found no data.
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
        """Whether the greeting of the client has been received."""
        return self._greeting is None

    @property
    def reads(self) -> bool:
        """Whether bytes of the client should be read now."""
        if self.broken:
            return False
        if self._shut_at is not None:
            return True  # discarded, because closing a socket with unread bytes would destroy the last message
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
            The error in the bytes, or None.
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
        """Accept no more frames, and send a last message after the answers."""
        if self._last is None:
            self.finished = True
            self._last = closing_message(status, text)

    def collect(self) -> list[CellBlock]:
        """Move complete answers to `unsent`, in order, and return their blocks."""
        blocks = []
        while self.pending and not self.pending[0].left:
            blocks.append(self.pending.popleft())
            self.unsent += blocks[-1].answers.tobytes()
        return blocks

    def flush(self) -> None:
        """Send as much of `unsent` as the socket accepts, then the last message."""
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
