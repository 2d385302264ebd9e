"""Contents of a TIFF: its images, their axes and channels, and the images of one channel.

A *page* is a directory of the file, an *image* is a page or, in large files of ImageJ, one of several behind a single
page. The samples of a pixel are channels unless the page is declared to be grey, palette, RGB or YCbCr.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from fastcell.dataset.tiff.description import Description
from fastcell.dataset.tiff.grey import to_grey
from fastcell.dataset.tiff.open_tiff import OpenTiff
from fastcell.dataset.tiff.supported import num_colours
from fastcell.errors import BadCell

Channel = int | str | None
"""Channel to read: its number from 0, or its name in OME-TIFF; None if there is one."""


_MOST_CHANNEL_PAGES = 4096


class NeedsChannel(BadCell):
    """Error for a TIFF with several channels that was read without one.

    Attributes:
        num_channels: number of channels.
        names: their names; empty if the file does not name them.
        what: what has the channels, e.g. `each pixel`.
    """

    def __init__(self, num_channels: int, names: tuple[str, ...], what: str) -> None:
        named = f" ({', '.join(names)})" if names else ""
        super().__init__(f"tif with {num_channels} channels in {what}{named}, and no channel is chosen")
        self.num_channels, self.names, self.what = num_channels, names, what

    def __reduce__(self) -> tuple[type[NeedsChannel], tuple[int, tuple[str, ...], str]]:
        return NeedsChannel, (self.num_channels, self.names, self.what)


class Place(NamedTuple):
    """Where one image is in a TIFF.

    Attributes:
        directory: offset of its directory in bytes.
        number: index among the images that follow this directory.
        sample: sample of each pixel to take, from 0; -1 for the grey level, or the colours as grey.
    """

    directory: int
    number: int = 0
    sample: int = -1


class Contents(NamedTuple):
    """Contents of a TIFF, returned by `read_contents`.

    Attributes:
        images: the images of full size, in the order of the file.
        samples: number of samples of a pixel that are channels of their own; 1 for grey, palette and colour.
        stored_samples: number of samples of a pixel, alpha included.
        page_channels: number of channels along the images: the size of the axis C, or 1.
        before: number of images after which the channel changes.
        description: metadata of the whole file.
    """

    images: list[Place]
    samples: int
    stored_samples: int
    page_channels: int
    before: int
    description: Description

    @property
    def num_channels(self) -> int:
        """Number of channels of a cell."""
        return self.page_channels * self.samples

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the channels; empty if the file does not name each."""
        names = self.description.channel_names
        return names if len(names) == self.num_channels else ()


def read_contents(file: OpenTiff, most_pages: int) -> Contents:
    """List the images of a TIFF, and read axes and channels from its first page.

    Args:
        file: the file.
        most_pages: largest number of pages to accept.

    Raises:
        BadCell: the file is damaged, has too many pages, or states axes that do not fit its pages.
        OSError: the file cannot be read.
    """
    places: list[Place] = []
    first = None
    for number, directory in enumerate(file.directories()):
        if number >= most_pages:
            raise BadCell(f"too large: more than {most_pages:,} pages")
        if directory.is_reduced:
            continue
        first = first or directory
        places.append(Place(directory.place))
    if first is None:
        first = next(file.directories())  # a smaller copy alone is an image
        places = [Place(first.place)]
    page = file.checked_page(first)
    described = file.description(first)
    if len(places) == 1 and described.images > 1:  # ImageJ writes a single directory if a stack exceeds 4 GB
        if not file.holds_images(first, described.images):
            raise BadCell(f"truncated: {described.images:,} images in {file.size:,} bytes")
        places = [Place(first.place, number) for number in range(described.images)]
    stored = int(page.samplesperpixel)
    samples = 1 if num_colours(page) else stored
    return Contents(places, samples, stored, *_channel_axis(described, len(places)), described)


def _channel_axis(described: Description, num: int) -> tuple[int, int]:
    """Return the number of channels along the images, and the number of images after which the channel changes.

    A channel that changes with each image needs no other axis: interrupted recordings have fewer images than stated.
    """
    before = 1
    for letter, size in described.axes:
        if letter == "C" and size > 1:
            whole = math.prod(each for _, each in described.axes) == num
            if described.is_part or not (whole or before == 1):
                raise BadCell(
                    f"tif of {size} channels whose axes do not fit its {num:,} images; save it as one plain file"
                )
            return size, before
        before *= size
    return 1, 1


def choose_images(contents: Contents, channel: Channel) -> list[Place]:
    """Return the images of one channel.

    Args:
        contents: what the file holds.
        channel: number or name of the channel; None if there is one.

    Raises:
        NeedsChannel: there are several channels and `channel` is None.
        BadCell: there is no such channel.
    """
    if channel is None:
        if contents.num_channels > 1:
            raise NeedsChannel(
                contents.num_channels, contents.names, "each pixel" if contents.samples > 1 else "its pages"
            )
        return contents.images
    if contents.num_channels == 1 and contents.stored_samples > 1:  # the samples of colour are chosen by number
        number = _number_of(channel, contents.stored_samples, ())
        return [place._replace(sample=number) for place in contents.images]
    number = _number_of(channel, contents.num_channels, contents.names)
    along, sample = divmod(number, contents.samples)
    images = [
        place
        for i, place in enumerate(contents.images)
        if contents.page_channels == 1 or i // contents.before % contents.page_channels == along
    ]
    return images if contents.samples == 1 else [place._replace(sample=sample) for place in images]


def _number_of(channel: int | str, num: int, names: Sequence[str]) -> int:
    if isinstance(channel, str):
        if names.count(channel) == 1:
            return names.index(channel)
        raise BadCell(
            f"tif without a channel {channel!r}: it has {', '.join(names) if names else f'{num} without names'}"
        )
    if not 0 <= channel < num:
        raise BadCell(f"tif without a channel {channel}: it has {num}, from 0")
    return channel


def load_image(file: OpenTiff, place: Place) -> np.ndarray:
    """Decode one image to grey.

    Returns:
        (H, W) uint8 or uint16, in the orientation that the file states.

    Raises:
        BadCell: the image is damaged, or is of an unsupported kind.
        OSError: the file cannot be read.
    """
    samples, page = file.samples(place.directory, place.number)
    if place.sample >= samples.shape[2]:
        raise BadCell(f"tif without a channel {place.sample}: a page has {samples.shape[2]}, from 0")
    return to_grey(samples, page, None if place.sample < 0 else place.sample)


def read_single(source: bytes | str, channel: Channel = None) -> tuple[np.ndarray, int]:
    """Read a TIFF that holds one cell.

    Pages without stated axes are the channels of the cell.

    Args:
        source: the file, or its path.
        channel: number or name of the channel; None if there is one.

    Returns:
        (H, W) uint8 or uint16 grey levels, and the number of samples of a stored pixel.

    Raises:
        NeedsChannel: there are several channels and `channel` is None.
        BadCell: the file is damaged, is of an unsupported kind, or holds several images of the channel.
        OSError: the file cannot be read.
    """
    file = OpenTiff(source)
    contents = read_contents(file, _MOST_CHANNEL_PAGES)
    if contents.page_channels == 1 and len(contents.images) > 1:
        contents = contents._replace(page_channels=len(contents.images))
    images = choose_images(contents, channel)
    if len(images) != 1:
        raise BadCell(f"tif of {len(images)} images, not of one cell")
    return load_image(file, images[0]), contents.stored_samples
