"""Source: TIFF files of many cells: one per page (also OME-TIFF and ImageJ stacks), or as tiles of a montage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fastcell.dataset.open_files import damaged, stamp_of
from fastcell.errors import BadCell, invalid
from fastcell.sources.base import Channel, Listing, SourceItem, channel_words, file_stamp, no_channel
from fastcell.sources.containers import DECODED_RUNS, Collector, Container, check_tile, find_containers
from fastcell.sources.tiff_pages import Pages, choose_reading
from fastcell.system.text import storable

if TYPE_CHECKING:
    from fastcell.dataset.tiff.contents import Contents, Place

TIFF_ENDINGS = (".tif", ".tiff")
_FREE_PAGES = 4096


@dataclass(frozen=True)
class TiffStacks:
    """One TIFF, or a folder of TIFFs, with many cells each.

    Attributes:
        root: file or folder.
        pattern: pattern of the file paths; None for `{class}/{name}` in subfolders, else unlabelled.
        tile: height and width of the tiles of a montage, in pixels; None if each page is a cell.
        channel: number, from 0, or name of the channel to read; None if there is one.
        pages: meaning of the pages of files that do not state it: `cells`, or the `channels` of one cell; None to
            decide by their number.
    """

    root: Path
    pattern: str | None = None
    tile: tuple[int, int] | None = None
    channel: Channel = None
    pages: Pages | None = None

    @property
    def name(self) -> str:
        return self.root.resolve().name.partition(".")[0] or self.root.resolve().name

    def describe(self) -> str:
        tiles = f", tiles {self.tile[0]}x{self.tile[1]}" if self.tile else ""
        pages = "" if self.pages is None else f", pages are {self.pages}"
        options = f"{tiles}{channel_words(self.channel)}{pages}"
        return f"TIFF stacks {self.root}, pattern {self.pattern or 'by folders'}{options}"

    def scan(self) -> Listing:
        """List the cells: pages, without decoding them, or tiles. Tiles of a single grey level are left out as padding.

        Raises:
            ArgumentError: If there are several channels and `channel` selects none of them, the pages may be cells or
                channels, `tile` is invalid, or the tiles do not fit a page.
            DataError: If there is no file or no cell, or a file cannot be read.
        """
        check_tile(self.tile)
        containers, notes = find_containers(self.root, TIFF_ENDINGS, self.pattern, group_by_file=False)
        found = Collector(self.root, notes, "image")
        num_padding = 0
        files = []
        for container in containers:
            with found.reading(container):
                if stamp_of(container.path)[0]:
                    files.append((container, _contents(container.path)))
                else:
                    found.empty(container)
        shown = [(storable(container.path), contents) for container, contents in files]
        reading = choose_reading(shown, self.pages, self.channel)
        files.reverse()
        while files:  # what was read of a file is freed when its cells are listed
            container, contents = files.pop()
            if self.channel is None and contents.num_channels > 1:  # asked for, whatever the other files hold
                raise no_channel(contents.num_channels, contents.names, storable(container.path))
            with found.reading(container):
                images = self._choose(container, reading.apply(contents))
                um_per_px = contents.description.um_per_px
                if self.tile is None:
                    places = ((container.path, *place) for place in images)
                    found.add(container, range(len(images)), places, encoding="tif", um_per_px=um_per_px)
                else:
                    num_padding += self._add_tiles(container, images, um_per_px, found)
        if num_padding:
            found.notes.append(f"tiles of a single grey level are left out as padding: {num_padding:,}.")
        return found.finish(lambda: iter(()))

    def load(self, item: SourceItem) -> np.ndarray:
        path, directory, number, sample, *where = item.place
        place = int(directory), int(number), int(sample)
        if self.tile is None:
            return _decoded(str(path), place)
        pixels = _kept(str(path), place)
        row, column = int(where[0]) * self.tile[0], int(where[1]) * self.tile[1]
        return pixels[row : row + self.tile[0], column : column + self.tile[1]]

    def stamp(self, item: SourceItem) -> str:
        return file_stamp(str(item.place[0]))

    def _choose(self, container: Container, contents: Contents) -> list[Place]:
        """Return the images of the chosen channel."""
        from fastcell.dataset.tiff.contents import choose_images

        try:
            return choose_images(contents, self.channel)
        except BadCell as bad:
            rule = "a channel of every file"
            raise invalid("--channel", rule, self.channel, f"{storable(container.path)}: {bad.reason}") from None

    def _add_tiles(self, container: Container, images: Sequence[Place], um_per_px: float, found: Collector) -> int:
        """Add the tiles of a montage, and return the number of padding tiles."""
        assert self.tile is not None
        height, width = self.tile
        numbers: list[int] = []
        places: list[tuple[int | str, ...]] = []
        runs: list[int] = []
        first, item_bytes = 0, 1
        for run, place in enumerate(images):
            try:
                pixels = _kept(container.path, place)
            except BadCell as bad:
                raise damaged(container.path, bad.reason) from None
            if pixels.shape[0] % height or pixels.shape[1] % width:
                sides = f"{pixels.shape[0]} x {pixels.shape[1]}"
                raise invalid(
                    "--tile",
                    f"of a height and width that divide the page's {sides} pixels",
                    f"{height}x{width}",
                    f"Look at {storable(container.path)}",
                )
            item_bytes = pixels.itemsize
            rows, columns = pixels.shape[0] // height, pixels.shape[1] // width
            tiles = pixels.reshape(rows, height, columns, width)
            used = np.flatnonzero((tiles.max(axis=(1, 3)) != tiles.min(axis=(1, 3))).ravel())
            numbers += (first + used).tolist()
            places += [(container.path, *place, *divmod(number, columns)) for number in used.tolist()]
            runs += [run] * len(used)
            first += rows * columns
        found.add(
            container,
            numbers,
            places,
            um_per_px=um_per_px,
            runs=np.array(runs, np.int64),
            cell_bytes=height * width * item_bytes,
        )
        return first - len(numbers)


def has_many_pages(path: str) -> bool:
    """Return True if a TIFF holds more than one image of full size."""
    try:
        return len(_contents(path).images) > 1
    except (OSError, BadCell):
        return False


def _contents(path: str) -> Contents:
    """List the images of a TIFF.

    Raises:
        BadCell: If the file is damaged, or is of an unsupported kind.
        OSError: If the file cannot be read.
    """
    from fastcell.dataset.tiff.contents import read_contents
    from fastcell.dataset.tiff.open_tiff import open_tiff

    return read_contents(open_tiff(path), max(_FREE_PAGES, stamp_of(path)[0]))


def _decoded(path: str, place: tuple[int, int, int]) -> np.ndarray:
    """Return the pixels of an image, (H, W) uint8 or uint16."""
    from fastcell.dataset.tiff.contents import Place, load_image
    from fastcell.dataset.tiff.open_tiff import open_tiff

    return load_image(open_tiff(path), Place(*place))


def _kept(path: str, place: tuple[int, int, int]) -> np.ndarray:
    """Return the pixels of a montage, which its tiles share."""
    return DECODED_RUNS.get((path, stamp_of(path), "page", *place), lambda: _decoded(path, place))
