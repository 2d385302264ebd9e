"""Source: TIFF files of many cells: one per page (also OME-TIFF and ImageJ stacks), or as tiles of a montage."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fastcell.dataset.decode import DecoderMessages, decode_levels
from fastcell.dataset.open_files import damaged, stamp_of
from fastcell.dataset.tiff import (
    Directory,
    first_strip,
    image_bytes,
    is_contiguous,
    load_page,
    read_page,
    walk_pages,
)
from fastcell.errors import BadCell, DataError, invalid
from fastcell.sources.base import Listing, SourceItem, file_stamp
from fastcell.sources.containers import DECODED_RUNS, Collector, Container, check_count, check_tile, find_containers
from fastcell.sources.tiff_description import Description, read_description
from fastcell.system.text import storable

TIFF_ENDINGS = (".tif", ".tiff")


@dataclass(frozen=True)
class TiffStacks:
    """One TIFF, or a folder of TIFFs, with many cells each.

    Attributes:
        root: file or folder.
        pattern: pattern of the file paths; None for `{class}/{name}` in subfolders, else unlabelled.
        tile: height and width of the tiles of a montage, in pixels; None if each page is a cell.
        channel: channel to read if there are several, from 0.
    """

    root: Path
    pattern: str | None = None
    tile: tuple[int, int] | None = None
    channel: int | None = None

    @property
    def name(self) -> str:
        return self.root.resolve().name.partition(".")[0] or self.root.resolve().name

    def describe(self) -> str:
        tiles = f", tiles {self.tile[0]}x{self.tile[1]}" if self.tile else ""
        channel = "" if self.channel is None else f", channel {self.channel}"
        return f"TIFF stacks {self.root}, pattern {self.pattern or 'by folders'}{tiles}{channel}"

    def scan(self) -> Listing:
        """List the cells: pages, without decoding them, or tiles. Tiles of a single grey level are left out as padding.

        Raises:
            ArgumentError: If there are several channels and `channel` selects none of them, `tile` is invalid, or the
                tiles do not fit a page.
            DataError: If there is no file or no cell, or a file cannot be read.
        """
        check_tile(self.tile)
        containers, notes = find_containers(self.root, TIFF_ENDINGS, self.pattern, group_by_file=False)
        found = Collector(self.root, notes, "image")
        num_padding = 0
        with DecoderMessages():
            for container in containers:
                with found.reading(container):
                    if not stamp_of(container.path)[0]:
                        found.empty(container)
                        continue
                    pages, described = self._pages(container)
                    if self.tile is None:
                        places = ((container.path, page.place, image) for page, image in pages)
                        found.add(container, range(len(pages)), places, encoding="tif", um_per_px=described.um_per_px)
                    else:
                        num_padding += self._add_tiles(container, [page for page, _ in pages], described, found)
                    if not pages:
                        found.empty(container)
        if num_padding:
            found.notes.append(f"{num_padding:,} tiles of one grey level are padding and are left out.")
        return found.finish(lambda: iter(()))

    def load(self, item: SourceItem) -> bytes | np.ndarray:
        path, place, *where = item.place
        if self.tile is None:
            return load_page(read_page(str(path), int(place)), int(where[0]))
        pixels = _decoded(str(path), int(place))
        row, column = int(where[0]) * self.tile[0], int(where[1]) * self.tile[1]
        return pixels[row : row + self.tile[0], column : column + self.tile[1]]

    def stamp(self, item: SourceItem) -> str:
        return file_stamp(str(item.place[0]))

    def _pages(self, container: Container) -> tuple[list[tuple[Directory, int]], Description]:
        """Return the pages of the chosen channel, each with its image number in the directory, and a description."""
        size = stamp_of(container.path)[0]
        pages: list[Directory] = []
        for page in walk_pages(container.path):
            pages.append(page)
            check_count(container, len(pages), size)
        pages = [page for page in pages if not _is_reduced(page)]
        described = read_description(pages[0]) if pages else Description()
        images = [(page, 0) for page in pages]
        if len(pages) == 1 and described.images > 1:  # ImageJ writes a single directory if a stack exceeds 4 GB
            num = described.images
            if not is_contiguous(pages[0]) or first_strip(pages[0]) + num * image_bytes(pages[0]) > size:
                raise damaged(container.path, f"it claims {num:,} images and has {size:,} bytes")
            images = [(pages[0], number) for number in range(num)]
        return list(self._choose(container, images, described)), described

    def _choose(
        self, container: Container, images: Sequence[tuple[Directory, int]], described: Description
    ) -> Iterator[tuple[Directory, int]]:
        """Return the images of the chosen channel; all images if there is a single channel."""
        before, channels = 1, 1
        for letter, num in described.axes:
            if letter == "C":
                channels = num
                break
            before *= num
        if channels <= 1 or math.prod(num for _, num in described.axes) != len(images):
            return iter(images)
        if self.channel is None or not 0 <= self.channel < channels:
            rule = f"the channel to take, 0 to {channels - 1}"
            raise invalid("--channel", rule, self.channel, f"{storable(container.path)} has {channels} of each cell")
        return (image for i, image in enumerate(images) if i // before % channels == self.channel)

    def _add_tiles(
        self, container: Container, pages: Sequence[Directory], described: Description, found: Collector
    ) -> int:
        """Add the tiles of a montage, and return the number of padding tiles."""
        assert self.tile is not None
        height, width = self.tile
        numbers: list[int] = []
        places: list[tuple[int | str, ...]] = []
        runs: list[int] = []
        first, item_bytes = 0, 1
        for run, page in enumerate(pages):
            try:
                pixels = _decoded(container.path, page.place)
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
            places += [(container.path, page.place, *divmod(number, columns)) for number in used.tolist()]
            runs += [run] * len(used)
            first += rows * columns
        found.add(
            container,
            numbers,
            places,
            um_per_px=described.um_per_px,
            runs=np.array(runs, np.int64),
            cell_bytes=height * width * item_bytes,
        )
        return first - len(numbers)


def has_many_pages(path: str) -> bool:
    """Return True if a TIFF has more than one page of full size, or its description gives more than one image."""
    try:
        num = 0
        for page in walk_pages(path):
            if num == 0 and read_description(page).images > 1:
                return True
            num += not _is_reduced(page)
            if num > 1:
                return True
    except (OSError, DataError):
        pass
    return False


def _is_reduced(page: Directory) -> bool:
    try:
        return page.is_reduced
    except BadCell:
        return False


def _decoded(path: str, place: int) -> np.ndarray:
    """Return the pixels of a page, (H, W) uint8 or uint16."""

    def decode() -> np.ndarray:
        page = load_page(read_page(path, place))
        pixels = decode_levels(page)[0] if isinstance(page, bytes) else page
        return np.ascontiguousarray(pixels, pixels.dtype.newbyteorder("="))

    return DECODED_RUNS.get((path, stamp_of(path), "page", place), decode)
