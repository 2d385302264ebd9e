"""Interpret messages of the image libraries: damaged pixels are a failure, remarks about metadata are not.

libjpeg and libpng fill missing or damaged parts of an image, return it, and only print a line to stderr. This module
reads these lines.
"""

from __future__ import annotations

import os
import re
import threading
from types import TracebackType
from typing import NamedTuple

from fastcell.errors import BadCell


class Message(NamedTuple):
    """A kind of message that an image library prints.

    Attributes:
        pattern: regular expression for the whole line.
        is_harmless: False if the pixels are damaged.
        about: subject of the message.
    """

    pattern: str
    is_harmless: bool
    about: str


# : PNG chunks that do not affect grey levels.
_ANCILLARY = "iCCP|sRGB|gAMA|cHRM|cICP|mDCV|cLLI|tEXt|zTXt|iTXt|pHYs|tIME|bKGD|sBIT|hIST|oFFs|pCAL|sCAL|sPLT|eXIf|tRNS"

MESSAGES = (
    Message(r"Corrupt JPEG data: premature end of data segment", False, "missing part of a JPEG scan"),
    Message(r"Corrupt JPEG data: bad (Huffman|arithmetic) code", False, "damaged JPEG scan"),
    Message(r"Corrupt JPEG data: found marker 0x[0-9a-f]+ instead of RST\d", False, "damaged JPEG scan"),
    Message(r"Corrupt JPEG data: \d+ extraneous bytes before marker 0xd[0-8]", False, "damaged JPEG scan"),
    Message(r"Inconsistent progression sequence .*", False, "JPEG scans that do not follow each other"),
    Message(r"Invalid SOS parameters for sequential JPEG", False, "damaged header of a JPEG scan"),
    Message(r"Premature end of (JPEG|input) file", False, "truncated JPEG"),
    Message(r"Corrupt JPEG data: bad ICC marker", True, "colour profile of a JPEG"),
    Message(r"Warning: unknown JFIF revision number .*", True, "version of the header of a JPEG"),
    Message(r"libpng error: .*", False, "PNG that libpng gives up"),
    Message(r"libpng warning: IDAT: .*(checksum|data check|[Nn]ot enough).*", False, "damaged pixels of a PNG"),
    Message(r"libpng warning: (IDAT: )?(Extra compress|Too much image).*", True, "bytes behind the pixels of a PNG"),
    Message(rf"libpng warning: ({_ANCILLARY}): .*", True, "metadata of a PNG"),
    Message(r"libpng warning: PLTE: ignored in grayscale PNG", True, "metadata of a PNG"),
    Message(r"libpng warning: (bKGD|hIST|tRNS) must be .*", True, "metadata of a PNG"),
    Message(r"libpng warning: Interlace handling should be turned on .*", True, "a call of libpng by OpenCV"),
)
"""Known messages of libjpeg and libpng; the first match applies. A line without a match is a failure."""

_PATTERNS = [(re.compile(message.pattern), message.is_harmless) for message in MESSAGES]
_PADDING = re.compile(r"Corrupt JPEG data: (\d+) extraneous bytes before marker 0xd9")
_MOST_TEXT = 1 << 16


def failure_in(text: str, data: bytes = b"") -> str | None:
    """Return the first line that reports a failure, or None.

    Args:
        text: lines that an image library printed about a file.
        data: the file. It decides about bytes between the scan of a JPEG and its end: they are padding if they are all
            equal, else a part of the scan that was not decoded.
    """
    for line in filter(None, map(str.strip, text.splitlines())):
        padded = _PADDING.fullmatch(line)
        if padded:
            end = data.rfind(b"\xff\xd9")
            num = int(padded[1])
            is_harmless = num <= end and len(set(data[end - num : end])) == 1
        else:
            is_harmless = next((harmless for pattern, harmless in _PATTERNS if pattern.fullmatch(line)), False)
        if not is_harmless:
            return line
    return None


class DecoderMessages:
    """Context manager that captures what the image libraries print on stderr and turns failures into `BadCell`.

    Inside this context nothing is printed to the terminal. File descriptor 2 is shared by the whole process, so a
    second thread waits until the first has left the context.
    """

    _lock = threading.RLock()

    def __enter__(self) -> DecoderMessages:
        self._lock.acquire()
        try:
            self._file = os.memfd_create("decoder-messages")
            self._position = 0
            self._stderr = os.dup(2)
            os.dup2(self._file, 2)
        except BaseException:
            self._lock.release()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.dup2(self._stderr, 2)
        os.close(self._stderr)
        os.close(self._file)
        self._lock.release()

    def forget(self) -> None:
        """Discard the messages printed so far, e.g. about a rejected file."""
        self._position = os.lseek(self._file, 0, os.SEEK_CUR)

    def check(self, data: bytes = b"") -> None:
        """Check what was printed since the last call.

        Args:
            data: the file that was decoded.

        Raises:
            BadCell: a decoder reported damaged data, or printed a line that `MESSAGES` does not know.
        """
        end = os.lseek(self._file, 0, os.SEEK_CUR)
        if end == self._position:
            return
        text = os.pread(self._file, min(end - self._position, _MOST_TEXT), self._position)
        self._position = end
        failure = failure_in(text.decode("ascii", "replace"), data)
        if failure is not None:
            raise BadCell(f"damaged: {failure[:200]}")
