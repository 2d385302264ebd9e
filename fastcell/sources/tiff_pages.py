"""Decide what the pages of TIFF files without such information are: cells, or the channels of one cell.

Programs for imaging flow cytometers export one TIFF per cell with its channels as pages. Such pages are no cells: they
would be spread over training, validation and test. For a folder of small files with the same number of pages each, the
user must therefore choose.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

from fastcell.errors import BadCell, invalid

if TYPE_CHECKING:
    from fastcell.dataset.tiff.contents import Channel, Contents

Pages = Literal["cells", "channels"]

_MOST_CHANNELS = 16  # an imaging flow cytometer with two cameras has 12
_LEAST_FILES = 2


class PagesReading(NamedTuple):
    """How pages are read in files that do not state their channels.

    Attributes:
        are_channels: True if the pages of a file are the channels of one cell.
        num: number of pages that each file must have then; None for any number.
    """

    are_channels: bool
    num: int | None = None

    def apply(self, contents: Contents) -> Contents:
        """Return the contents of a file, with its pages as channels if they are read so.

        Raises:
            BadCell: The file has another number of pages.
        """
        num = len(contents.images)
        if not self.are_channels or contents.num_channels > 1:
            return contents
        if self.num is not None and num != self.num:
            raise BadCell(f"tif of {num} pages, where {self.num} pages are the channels of a cell")
        return contents._replace(page_channels=num, before=1)


def choose_reading(files: Sequence[tuple[str, Contents]], pages: Pages | None, channel: Channel) -> PagesReading:
    """Decide the meaning of the pages of files that do not state their channels.

    Args:
        files: path, for messages, and contents of each file.
        pages: meaning given by the user; None to decide by the number of pages.
        channel: channel to read; None if there is one.

    Raises:
        ArgumentError: The number of pages allows both readings and the user does not choose one, or an argument has no
            effect.
    """
    untold = [(path, len(contents.images)) for path, contents in files if contents.num_channels == 1]
    several = [(path, num) for path, num in untold if num > 1]
    if pages is not None and not several:
        hint = "Every file has one page or states its channels: leave it out"
        raise invalid("--pages", "given for TIFF files whose pages may be cells or channels", pages, hint)
    if pages == "channels":
        if channel is None:
            path, num = several[0]
            raise invalid("--channel", f"the channel to read, 0 to {num - 1}", None, f"{path} has {num} pages")
        return PagesReading(True)
    alike = 0 if pages == "cells" else _num_alike([num for _, num in untold])
    if not alike:
        if channel is not None and several and len(untold) == len(files):
            path, num = several[0]
            hint = "If they are the channels of one cell, add --pages channels; else leave --channel out"
            got = f"{channel!r} for {path}, whose {num:,} pages are not declared as channels"
            raise invalid("--channel", "given for files that state their channels", got, hint)
        return PagesReading(False)
    if channel is None:
        path = next(path for path, num in several if num == alike)
        raise invalid(
            "--channel",
            f"given for TIFF files whose pages are the channels of one cell, 0 to {alike - 1}",
            f"none, and {sum(num == alike for _, num in several):,} files of {alike} pages, the first {path}",
            "If each page is a separate cell, give --pages cells instead",
        )
    return PagesReading(True, alike)


def _num_alike(counts: Sequence[int]) -> int:
    """Return the number of pages of files that look like one cell each; 0 if they do not."""
    if not counts:
        return 0
    num, files = Counter(counts).most_common(1)[0]
    return num if 1 < num <= _MOST_CHANNELS and files >= _LEAST_FILES and 2 * files >= len(counts) else 0
