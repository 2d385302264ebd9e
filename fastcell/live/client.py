"""Client of ``fastcell serve``: sends cells as arrays over a unix or TCP socket and receives the answers in order.

This module needs only NumPy, so it can be copied into a program that acquires images.
"""

from __future__ import annotations

import contextlib
import select
import socket
from collections import deque
from collections.abc import Iterator, Sequence
from operator import index
from typing import Any, NamedTuple

import numpy as np

from fastcell.errors import FastcellError
from fastcell.live.protocol import (
    ANSWER_BYTES,
    HEADER,
    HEADER_DTYPE,
    UNLIKE_FLAG,
    UNSURE_FLAG,
    AnswerStatus,
    ProtocolError,
    Welcome,
    answer_dtype,
    client_greeting,
)

_READ_BYTES = 1 << 18


class ServerGone(FastcellError):  # noqa: N818
    """The server has ended, refused the client, or cannot be reached any more.

    Attributes:
        unanswered: ids of the frames without an answer, in order; only these need to be sent again.
    """

    def __init__(self, message: str, unanswered: Sequence[int] = ()) -> None:
        super().__init__(message)
        self.unanswered = list(unanswered)


class ServedAnswers(NamedTuple):
    """Answers of a server to N frames.

    Attributes:
        classes: K class names.
        rows: (N,) of `fastcell.live.protocol.answer_dtype`.
    """

    classes: list[str]
    rows: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def ids(self) -> np.ndarray:
        """(N,) uint64, as sent."""
        return np.asarray(self.rows["id"])

    @property
    def status(self) -> np.ndarray:
        """(N,) uint16, see `AnswerStatus`."""
        return np.asarray(self.rows["status"])

    @property
    def probabilities(self) -> np.ndarray:
        """(N, K) float32; NaN for a cell that was not classified."""
        return np.asarray(self.rows["p"])

    @property
    def labels(self) -> np.ndarray:
        """(N,) str, the most probable class; empty for a cell that was not classified."""
        return np.array([*self.classes, ""])[self.rows["class"]]

    @property
    def unsure(self) -> np.ndarray:
        """(N,) bool, True for an answer below the minimum confidence of the server."""
        return np.asarray(self.rows["flags"] & UNSURE_FLAG > 0)

    @property
    def unlike_training(self) -> np.ndarray:
        """(N,) bool, True for a cell unlike those of training."""
        return np.asarray(self.rows["flags"] & UNLIKE_FLAG > 0)


class Client:
    """Connection to ``fastcell serve``; used by one thread.

    Args:
        address: path of a unix socket, or ``host:port``.
        token: secret of a server that accepts other machines.
        timeout: maximum time to wait for the server [s].

    Raises:
        ServerGone: the server cannot be reached, or refuses the client.

    Attributes:
        classes: K class names.

    Examples:
        Classes of an array of cells::

            with fastcell.Client("127.0.0.1:7300") as client:
                print(client.predict(images).labels)
    """

    def __init__(self, address: str, token: str = "", timeout: float = 30.0) -> None:
        self._timeout = timeout
        self._waiting: deque[int] = deque()
        self._received = bytearray()
        self._ended: str | None = None
        try:
            self._socket = _connect(address, timeout)
        except OSError as error:
            reason = error.strerror or str(error)
            raise ServerGone(f"{address} cannot be reached ({reason}). Start fastcell serve, or correct it.") from None
        with contextlib.suppress(OSError):  # a server that refuses says why
            self._socket.sendall(client_greeting(token))
        try:
            welcome = self._welcome()
        except ServerGone:
            self.close()
            raise
        self.classes, self.knows_training = welcome.classes, welcome.knows_training
        self._most_frame_bytes = welcome.most_frame_bytes
        self._dtype = answer_dtype(len(self.classes))
        self._socket.setblocking(False)

    @property
    def unanswered(self) -> list[int]:
        """Ids of the frames without an answer, in the order in which they were sent."""
        return list(self._waiting)

    def send(
        self,
        cells: np.ndarray | Sequence[np.ndarray],
        ids: Sequence[int] | np.ndarray | None = None,
        *,
        times: Sequence[int] | np.ndarray | None = None,
        um_per_px: float | Sequence[float] | np.ndarray = 0.0,
    ) -> None:
        """Send cells. Answers that arrive in the meantime are kept for `receive`.

        Args:
            cells: (N, H, W) uint8 or uint16, or a list of arrays (H, W).
            ids: (N,) numbers of the cells, which the answers repeat; None for 0, 1, ... in this call.
            times: (N,) numbers that the answers repeat, such as time stamps; None for 0.
            um_per_px: micrometres per pixel, one number or one per cell; 0 if unknown.

        Raises:
            ServerGone: the server has ended; `unanswered` includes the ids of these cells.
            ValueError: a cell is not a grey image of 8 or 16 bits, or the number of ids differs from that of the cells.
        """
        num = len(cells)
        numbers = _numbers("ids", np.arange(num) if ids is None else ids, num)
        clock = _numbers("times", np.zeros(num, np.uint64) if times is None else times, num)
        pitch = np.broadcast_to(np.asarray(um_per_px, np.float32), (num,))
        data = memoryview(self._frames(cells, numbers, clock, pitch))
        self._waiting.extend(numbers.tolist())
        while data:
            readable, writable = self._wait(self._timeout, writable=True)
            if not readable and not writable:
                raise ServerGone(f"the server took nothing for {self._timeout:g} s.", self._waiting)
            if readable:
                self._read()
            if writable:
                try:
                    data = data[self._socket.send(data) :]
                except BlockingIOError:
                    continue
                except OSError:
                    self._read_rest()
                    raise self._gone() from None

    def receive(self, least: int = 1) -> ServedAnswers:
        """Return all answers received so far, in the order of the frames; wait until there are at least `least` (may be
        0).

        If the server ends earlier, the received answers are returned, and the next call raises.

        Raises:
            ServerGone: the server has ended, or sent nothing for the timeout.
        """
        least = min(least, len(self._waiting))
        while len(self._received) < least * self._dtype.itemsize and self._ended is None:
            if not self._wait(self._timeout)[0]:
                raise ServerGone(f"the server sent nothing for {self._timeout:g} s.", self._waiting)
            self._read()
        if not least and self._ended is None and self._wait(0)[0]:
            self._read()
        found = self._answers()
        if least and not len(found):
            self._read_rest()
            raise self._gone()
        return found

    def predict(self, cells: np.ndarray | Sequence[np.ndarray], **options: Any) -> ServedAnswers:
        """Send cells and return their answers in order; options as for `send`.

        There must be no earlier unanswered frames.
        """
        if self._waiting:
            raise ValueError(f"{len(self._waiting)} frames wait for their answers. Receive these first")
        self.send(cells, **options)
        parts = [self.receive(len(cells))]
        while self._waiting:
            parts.append(self.receive(len(self._waiting)))
        return ServedAnswers(self.classes, np.concatenate([part.rows for part in parts]))

    def finish(self) -> Iterator[ServedAnswers]:
        """Stop sending, and yield the remaining answers."""
        self._socket.shutdown(socket.SHUT_WR)
        while self._waiting:
            yield self.receive()

    def fileno(self) -> int:
        """Return the file descriptor of the socket, for `select`."""
        return self._socket.fileno()

    def close(self) -> None:
        """Close the connection; frames without an answer are abandoned."""
        self._socket.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _frames(
        self, cells: np.ndarray | Sequence[np.ndarray], ids: np.ndarray, times: np.ndarray, pitch: np.ndarray
    ) -> bytearray | memoryview:
        if isinstance(cells, np.ndarray) and cells.ndim == 3 and cells.dtype in (np.uint8, np.uint16):
            bits, (height, width) = cells.dtype.itemsize * 8, cells.shape[1:]
            size = HEADER.size + height * width * bits // 8
            self._check(size, height, width)
            out = np.zeros((len(cells), size), np.uint8)
            head = np.zeros(len(cells), HEADER_DTYPE)
            head["length"], head["width"], head["height"], head["bits"] = size - 4, width, height, bits
            head["um_per_px"], head["id"], head["time"] = pitch, ids, times
            out[:, : HEADER.size] = head.view(np.uint8).reshape(len(cells), HEADER.size)
            pixels = np.ascontiguousarray(cells, "u1" if bits == 8 else "<u2")
            out[:, HEADER.size :] = pixels.reshape(len(cells), height * width).view(np.uint8)
            return out.reshape(-1).data
        parts = bytearray()
        for cell, number, clock, um in zip(cells, ids.tolist(), times.tolist(), pitch.tolist(), strict=True):
            if cell.ndim != 2 or cell.dtype not in (np.uint8, np.uint16):
                raise ValueError(f"a cell must be a grey image of uint8 or uint16, got {cell.dtype} {cell.shape}")
            bits, (height, width) = cell.dtype.itemsize * 8, cell.shape
            self._check(HEADER.size + cell.nbytes, height, width)
            parts += HEADER.pack(HEADER.size - 4 + cell.nbytes, width, height, bits, 0, 0, um, number, clock)
            parts += np.ascontiguousarray(cell, "u1" if bits == 8 else "<u2").tobytes()
        return parts

    def _check(self, size: int, height: int, width: int) -> None:
        if not 0 < height < 1 << 16 or not 0 < width < 1 << 16 or size > self._most_frame_bytes:
            raise ValueError(
                f"a cell must have 1 to {self._most_frame_bytes - HEADER.size} bytes, got {width}x{height}"
            )

    def _welcome(self) -> Welcome:
        while True:
            try:
                found = Welcome.from_bytes(bytes(self._received))
            except ProtocolError as error:
                self._read_rest()
                raise ServerGone(f"the server refused the connection: {self._message() or error}.") from None
            if found is not None:
                del self._received[: found[1]]
                return found[0]
            try:
                data = self._socket.recv(_READ_BYTES)
            except OSError as error:
                raise ServerGone(f"the server did not greet ({error.strerror or error}).") from None
            if not data:
                raise ServerGone("the server closed the connection instead of a greeting.")
            self._received += data

    def _wait(self, seconds: float, writable: bool = False) -> tuple[bool, bool]:
        """Wait until the socket can be read or, if requested, written; return both states."""
        poll = select.poll()  # select() supports no file descriptors above 1023
        poll.register(self._socket, select.POLLIN | (select.POLLOUT if writable else 0))
        events = sum(event for _, event in poll.poll(seconds * 1000))
        return bool(events & ~select.POLLOUT), bool(events & select.POLLOUT)

    def _read(self) -> None:
        try:
            data = self._socket.recv(_READ_BYTES)
        except BlockingIOError:
            return
        except OSError as error:
            self._ended = error.strerror or str(error)
            return
        if data:
            self._received += data
        else:
            self._ended = "the server closed the connection"

    def _read_rest(self) -> None:
        while self._ended is None and self._wait(1.0)[0]:
            self._read()

    def _has_message(self) -> bool:
        """Return whether the next bytes are the last message of the server."""
        return len(self._received) >= 6 and self._received[4] >= AnswerStatus.ERROR

    def _answers(self) -> ServedAnswers:
        num = len(self._received) // self._dtype.itemsize
        rows = np.frombuffer(bytes(self._received[: num * self._dtype.itemsize]), self._dtype)
        last = np.flatnonzero(rows["status"] >= AnswerStatus.ERROR)
        rows = rows[: int(last[0])] if len(last) else rows
        del self._received[: rows.nbytes]
        for number in rows["id"].tolist():
            if not self._waiting or self._waiting.popleft() != number:
                raise ServerGone(f"the server answered frame {number} out of order.", self._waiting)
        return ServedAnswers(self.classes, rows)

    def _message(self) -> str:
        return bytes(self._received[ANSWER_BYTES:]).decode("utf-8", "replace")

    def _gone(self) -> ServerGone:
        reason = self._ended or "the connection broke"
        if self._has_message():
            if self._received[4] == AnswerStatus.END:
                reason = "the server has ended"
            else:
                reason = f"the server refused a frame: {self._message()}"
        num = len(self._waiting)
        return ServerGone(f"{reason}; {num:,} frames have no answer. Connect anew and send these.", self._waiting)


def _numbers(name: str, values: Any, num: int) -> np.ndarray:
    """Return N numbers as uint64.

    Raises:
        ValueError: their number is wrong, or one is negative.
    """
    message = f"{name} must be {num} whole numbers from 0 to 2**64 - 1"
    try:
        found = values if isinstance(values, np.ndarray) else np.array([index(value) for value in values], np.uint64)
    except (TypeError, OverflowError):
        raise ValueError(message) from None
    if found.shape != (num,) or (num and (found.dtype.kind not in "iu" or found.min() < 0)):
        raise ValueError(f"{message}, got {found.dtype} {found.shape}")
    return found.astype(np.uint64)


def _connect(address: str, timeout: float) -> socket.socket:
    host, colon, port = address.rpartition(":")
    if colon and port.isdecimal() and "/" not in address:
        connected = socket.create_connection((host.strip("[]"), int(port)), timeout)
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connected
    connected = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connected.settimeout(timeout)
    connected.connect(address)
    return connected
