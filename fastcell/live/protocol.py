"""Byte format of the stream protocol: greetings, frames of cells, answers. All numbers are little-endian.

A connection starts with a greeting of the client (``MAGIC`` and a token) and a greeting of the server (``MAGIC`` and
the class names). Then the client sends frames, and the server sends one answer per frame, in the order of the frames.
docs/guides/live.md describes every byte. This module needs only NumPy, so that clients can use it.
"""

from __future__ import annotations

import enum
import struct
from functools import cache
from typing import NamedTuple

import numpy as np

from fastcell.errors import FastcellError

MAGIC = b"FCELLS1\n"
"""First bytes of both greetings; the digit is the version of the protocol."""
MOST_FRAME_BYTES = 8 << 20
"""Largest number of bytes of a frame, header included."""
MOST_TOKEN_BYTES = 1024

HEADER = struct.Struct("<IHHBBHfQQ")
"""Header of a frame: bytes that follow the first 4, width, height, bits, 0, 0, um_per_px, id, time."""
HEADER_DTYPE = np.dtype(
    {
        "names": ["length", "width", "height", "bits", "zero", "zeros", "um_per_px", "id", "time"],
        "formats": ["<u4", "<u2", "<u2", "u1", "u1", "<u2", "<f4", "<u8", "<u8"],
        "offsets": [0, 4, 6, 8, 9, 10, 12, 16, 24],
        "itemsize": HEADER.size,
    }
)
ANSWER_BYTES = 40
"""Bytes of an answer before the probabilities."""
UNSURE_FLAG, UNLIKE_FLAG = 1, 2

_TOKEN_BYTES = struct.Struct("<H")
_WELCOME = struct.Struct("<IHHI")
_MOST_WELCOME_BYTES = 1 << 24
_LEAST_FOR_TABLE = 4


class AnswerStatus(enum.IntEnum):
    """Result of a frame."""

    ANSWERED = 0
    DROPPED = 1
    """The queue was full; the cell was not classified."""
    UNUSABLE = 2
    """The cell cannot be classified, such as a 16-bit one without a window of grey levels."""
    ERROR = 3
    """The client broke the protocol: the reason follows as text, and the server closes the connection."""
    END = 4
    """The server ends: frames after the answered ones are not processed."""


class ProtocolError(FastcellError):
    """Raised for bytes that break the protocol; the message gives the reason."""


class Welcome(NamedTuple):
    """Greeting of the server.

    Attributes:
        classes: K class names.
        knows_training: whether answers mark cells unlike those of training.
        most_frame_bytes: maximum size of a frame [bytes].
    """

    classes: list[str]
    knows_training: bool
    most_frame_bytes: int

    def to_bytes(self) -> bytes:
        """Return the greeting."""
        names = b"".join(
            _TOKEN_BYTES.pack(len(name)) + name for name in (text.encode("utf-8") for text in self.classes)
        )
        fixed = (len(self.classes), int(self.knows_training), self.most_frame_bytes)
        return MAGIC + _WELCOME.pack(_WELCOME.size - 4 + len(names), *fixed) + names

    @classmethod
    def from_bytes(cls, data: bytes) -> tuple[Welcome, int] | None:
        """Return a greeting and its number of bytes; None if more bytes are needed.

        Raises:
            ProtocolError: the bytes are no greeting.
        """
        if data[: len(MAGIC)] != MAGIC[: len(data)]:
            raise ProtocolError(f"the server must greet with {MAGIC!r}, got {data[:8]!r}")
        if len(data) < len(MAGIC) + 4:
            return None
        size = struct.unpack_from("<I", data, len(MAGIC))[0]
        end = len(MAGIC) + 4 + size
        if not _WELCOME.size - 4 <= size <= _MOST_WELCOME_BYTES:
            raise ProtocolError(f"a greeting of {size} bytes")
        if len(data) < end:
            return None
        _, num, flags, most = _WELCOME.unpack_from(data, len(MAGIC))
        place, classes = len(MAGIC) + _WELCOME.size, []
        for _ in range(num):
            following = place + 2 + (_TOKEN_BYTES.unpack_from(data, place)[0] if place + 2 <= end else end)
            if following > end:
                raise ProtocolError("a greeting that ends inside a class name")
            classes.append(data[place + 2 : following].decode("utf-8", "replace"))
            place = following
        return cls(classes, bool(flags & 1), most), end


def client_greeting(token: str = "") -> bytes:
    """Return the greeting of a client."""
    secret = token.encode("utf-8")
    return MAGIC + _TOKEN_BYTES.pack(len(secret)) + secret


def read_client_greeting(data: bytes | bytearray) -> tuple[str, int] | None:
    """Return the token in the greeting of a client and the bytes of the greeting; None if more bytes are needed.

    Raises:
        ProtocolError: the bytes are no greeting.
    """
    head = bytes(data[: len(MAGIC) + 2])
    if head[: len(MAGIC)] != MAGIC[: len(head)]:
        raise ProtocolError(f"a connection must start with {MAGIC!r}, got {head[: len(MAGIC)]!r}")
    if len(head) < len(MAGIC) + 2:
        return None
    size = _TOKEN_BYTES.unpack_from(head, len(MAGIC))[0]
    if size > MOST_TOKEN_BYTES:
        raise ProtocolError(f"a token must have at most {MOST_TOKEN_BYTES} bytes, got {size}")
    end = len(MAGIC) + 2 + size
    if len(data) < end:
        return None
    return bytes(data[len(MAGIC) + 2 : end]).decode("utf-8", "replace"), end


class Frames(NamedTuple):
    """Consecutive frames of a connection.

    Attributes:
        cells: (N, H, W) uint8 or uint16 array of cells of one size, or a list of N arrays (H, W).
        ids: (N,) uint64, given by the client.
        times: (N,) uint64, given by the client.
        um_per_px: (N,) float32, NaN if unknown.
    """

    cells: np.ndarray | list[np.ndarray]
    ids: np.ndarray
    times: np.ndarray
    um_per_px: np.ndarray

    def __len__(self) -> int:
        return len(self.ids)

    def part(self, begin: int, end: int) -> Frames:
        """Return the frames from `begin` to `end` (exclusive)."""
        return Frames(*(values[begin:end] for values in self))  # type: ignore[arg-type]


class FrameReader:
    """Cut a stream of bytes into frames; those above `MOST_FRAME_BYTES` are refused.

    Attributes:
        waiting: whether an unfinished frame has been received in part.
    """

    def __init__(self) -> None:
        self._buffer, self._needed = bytearray(), HEADER.size

    @property
    def waiting(self) -> bool:
        """Whether the bytes received so far end inside a frame."""
        return bool(self._buffer)

    def feed(self, data: bytes | bytearray | memoryview) -> tuple[list[Frames], str | None]:
        """Add further bytes.

        Returns:
            The complete frames, and the error in the next one, or None.
        """
        self._buffer += data
        if len(self._buffer) < self._needed:
            return [], None
        whole, self._buffer = self._buffer, bytearray()  # the cells are views of `whole`
        found, place, wrong = _cut(whole, MOST_FRAME_BYTES)
        self._buffer += memoryview(whole)[place:]
        self._needed = HEADER.size
        if wrong is None and len(self._buffer) >= HEADER.size:
            self._needed = 4 + struct.unpack_from("<I", self._buffer)[0]
        return found, wrong


def _cut(data: bytearray, most: int) -> tuple[list[Frames], int, str | None]:
    """Return the complete frames in `data`, their number of bytes, and the error in the frame after them, if any."""
    found: list[Frames] = []
    single: list[tuple[np.ndarray, int, int, float]] = []
    place, end = 0, len(data)
    wrong = None
    while place + HEADER.size <= end:
        header = HEADER.unpack_from(data, place)
        length, width, height, bits = header[:4]
        wrong = _fault(header, most)
        if wrong is not None or place + 4 + length > end:
            break
        size = 4 + length
        following = place + size
        if following + HEADER.size <= end and data[following : following + 10] == data[place : place + 10]:
            table = _same_size(data, place, size)
            if len(table) >= _LEAST_FOR_TABLE:
                _flush(single, found)
                found.append(_of_table(table, width, height, bits))
                place += size * len(table)
                continue
        cell = np.frombuffer(data, np.uint8 if bits == 8 else "<u2", width * height, place + HEADER.size)
        single.append((cell.reshape(height, width), header[7], header[8], header[6]))
        place = following
    _flush(single, found)
    return found, place, wrong


def _fault(header: tuple[int, ...], most: int) -> str | None:
    length, width, height, bits, zero, zeros = header[:6]
    if bits not in (8, 16):
        return f"bits must be 8 or 16, got {bits}"
    if not width or not height:
        return f"width and height must be at least 1, got {width} x {height}"
    if length != HEADER.size - 4 + width * height * bits // 8:
        rule = f"{HEADER.size - 4 + width * height * bits // 8} for {width} x {height} pixels of {bits} bits"
        return f"length must be {rule}, got {length}"
    if length + 4 > most:
        return f"a frame must have at most {most} bytes, got {length + 4}"
    if zero or zeros:
        return f"bytes 9 to 11 must be 0, got {zero} and {zeros}"
    return None


def _same_size(data: bytearray, place: int, size: int) -> np.ndarray:
    """Return consecutive frames of equal size from `place` on, (n, size) uint8; the first is known to be complete."""
    table = np.frombuffer(data, np.uint8, (len(data) - place) // size * size, place).reshape(-1, size)
    other = (table[:, :12] != table[0, :12]).any(axis=1)
    return table[: int(other.argmax())] if other.any() else table


def _of_table(table: np.ndarray, width: int, height: int, bits: int) -> Frames:
    headers = np.ascontiguousarray(table[:, : HEADER.size]).view(HEADER_DTYPE)[:, 0]
    pixels = table[:, HEADER.size :]
    cells = (pixels if bits == 8 else pixels.view("<u2")).reshape(len(table), height, width)
    return Frames(cells, headers["id"].copy(), headers["time"].copy(), _pitch(headers["um_per_px"]))


def _flush(single: list[tuple[np.ndarray, int, int, float]], found: list[Frames]) -> None:
    if single:
        cells, ids, times, pitch = zip(*single, strict=True)
        found.append(Frames(list(cells), np.array(ids, np.uint64), np.array(times, np.uint64), _pitch(np.array(pitch))))
        single.clear()


def _pitch(values: np.ndarray) -> np.ndarray:
    """Return micrometres per pixel; NaN if the sender gave no finite number above 0."""
    values = np.asarray(values, np.float32)
    with np.errstate(invalid="ignore"):
        return np.where(np.isfinite(values) & (values > 0), values, np.float32(np.nan))


@cache
def answer_dtype(num_classes: int) -> np.dtype:
    """Return the layout of an answer of a network with K classes."""
    return np.dtype(
        {
            "names": ["length", "status", "flags", "id", "time", "class", "unlike_score", "spent_us", "queue", "p"],
            "formats": ["<u4", "<u2", "<u2", "<u8", "<u8", "<i4", "<f4", "<u4", "<u4", ("<f4", (num_classes,))],
            "offsets": [0, 4, 6, 8, 16, 24, 28, 32, 36, ANSWER_BYTES],
            "itemsize": ANSWER_BYTES + 4 * num_classes,
        }
    )


def empty_answers(frames: Frames, num_classes: int, status: AnswerStatus) -> np.ndarray:
    """Return answers without class and probabilities for N frames, (N,) of `answer_dtype`."""
    answers = np.zeros(len(frames), answer_dtype(num_classes))
    answers["length"] = answers.itemsize - 4
    answers["status"], answers["class"] = status, -1
    answers["id"], answers["time"] = frames.ids, frames.times
    answers["unlike_score"] = answers["p"] = np.nan
    return answers


def closing_message(status: AnswerStatus, text: str = "") -> bytes:
    """Return the last message of a connection: an error with its reason, or the end of the server."""
    encoded = text.encode("utf-8")[:4096]
    head = struct.pack("<IHHQQifII", ANSWER_BYTES - 4 + len(encoded), status, 0, 0, 0, -1, float("nan"), 0, 0)
    return head + encoded
