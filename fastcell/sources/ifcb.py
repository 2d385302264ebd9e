"""Source: bins of the Imaging FlowCytobot: `.adc` (one row of text per region of interest) and `.roi` (raw pixels).

Columns, region numbers and stitching follow pyifcb (https://github.com/joefutrelle/pyifcb, `ifcb/data/adc.py` and
`stitching.py`). The number of a region is its row in the `.adc`, counted from 1; rows of size 0 hold no image.
Instruments of the first type (`IFCB5_2012_028_081515`) sometimes split one trigger into two overlapping regions. These
are stitched under the number of the first region. Corners that are in neither region are filled with the mean of the
pixels along them.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fastcell.dataset.image_headers import MAX_PIXELS
from fastcell.dataset.open_files import damaged, read_at
from fastcell.errors import BadCell, DataError
from fastcell.sources.base import Listing, SourceItem, file_stamp
from fastcell.sources.containers import Collector, Container, find_containers
from fastcell.system.text import storable

IFCB_ENDINGS = (".adc", ".hdr", ".roi")

_BOX = ["roi_x", "roi_y", "roi_width", "roi_height", "start_byte"]
_OLD = ["trigger", "processing_end_time", "fluorescence_low", "fluorescence_high", "scattering_low", "scattering_high"]
_OLD += ["comparator_pulse", "trigger_open_time", "frame_grab_time", *_BOX, "valve_status"]
_NEW = ["trigger", "adc_time", "pmt_a", "pmt_b", "pmt_c", "pmt_d", "peak_a", "peak_b", "peak_c", "peak_d"]
_NEW += ["time_of_flight", "grab_time_start", "grab_time_end", *_BOX, "comparator_out", "start_point"]
_NEW += ["signal_length", "status", "run_time", "inhibit_time"]
_NO_FEATURE = "start_byte"
_OVERLAP = 2  # stitched regions share more than this many pixels in each direction
_MOST_LINE = 4096
_MOST_ADC_BYTES = 1 << 30


class _Region(NamedTuple):
    """Row `number` of an .adc.

    Attributes:
        number: row of the region, from 1.
        trigger: number of the trigger.
        x, y: upper left corner in the camera's image, in pixels.
        width, height: size in pixels.
        offset: position of the pixels in the .roi, in bytes.
    """

    number: int
    trigger: int
    x: int
    y: int
    width: int
    height: int
    offset: int

    def overlaps(self, other: _Region) -> bool:
        """Return True if both regions have the same trigger and share more than two rows and more than two columns."""
        wide = min(self.x + self.width, other.x + other.width) - max(self.x, other.x)
        high = min(self.y + self.height, other.y + other.height) - max(self.y, other.y)
        return self.trigger == other.trigger and wide > _OVERLAP and high > _OVERLAP


@dataclass(frozen=True)
class Ifcb:
    """One bin, or a folder of bins; each bin is a recording and therefore a group.

    Attributes:
        root: folder, or the `.adc` of a bin.
        pattern: pattern of the paths of the bins; None for `{class}/{name}` in subfolders, else unlabelled.
    """

    root: Path
    pattern: str | None = None

    @property
    def name(self) -> str:
        return self.root.resolve().stem

    def describe(self) -> str:
        return f"IFCB bins {self.root}, pattern {self.pattern or 'by folders'}"

    def scan(self) -> Listing:
        """List the regions of interest that hold an image, and add a note on bins without one.

        Raises:
            DataError: If there is no bin or no image, or an `.adc` cannot be read.
        """
        files, notes = find_containers(self.root, IFCB_ENDINGS, self.pattern, group_by_file=True)
        bins = [_bin(file) for file in files if file.key.lower().endswith(".adc")]
        names = {place.key for place in bins}
        lost = sorted({_stem(file.key) for file in files} - names)
        found = Collector(self.root, notes, "image")
        for key in lost:
            with found.reading(Container(key, f"{self.root}/{key}")):
                raise DataError(
                    f"{storable(key)} must have an .adc, got none. Copy it beside the other files of the bin."
                )
        num_stitched = 0
        read = []
        for place in bins:
            with found.reading(place):
                columns, regions = _read_regions(place, found)
                cells = list(_stitched(regions) if columns is _OLD else ((region,) for region in regions))
                num_stitched += sum(len(cell) == 2 for cell in cells)
                if not cells:
                    found.empty(place)
                    continue
                roi = _roi(place)
                read.append(place)
                found.name_features(name for name in columns if name != _NO_FEATURE)
                found.add(
                    place,
                    [cell[0].number for cell in cells],
                    ((roi, *(value for region in cell for value in region[2:])) for cell in cells),
                )
        if num_stitched:
            found.notes.append(
                f"pairs of overlapping regions are stitched, under the number of the first: {num_stitched:,}."
            )
        return found.finish(lambda: _features(read))

    def load(self, item: SourceItem) -> np.ndarray:
        path, *numbers = item.place
        regions = [tuple(int(value) for value in numbers[i : i + 5]) for i in range(0, len(numbers), 5)]
        parts = [
            np.frombuffer(read_at(str(path), offset, width * height), np.uint8).reshape(height, width)
            for _, _, width, height, offset in regions
        ]
        if len(parts) == 1:
            return parts[0]
        return stitch(parts, [(x, y) for x, y, *_ in regions])

    def stamp(self, item: SourceItem) -> str:
        roi = str(item.place[0])
        return f"{file_stamp(roi)} {file_stamp(_adc(roi))}"


def stitch(parts: Sequence[np.ndarray], corners: Sequence[tuple[int, int]]) -> np.ndarray:
    """Stitch overlapping regions; where they overlap, the later region is used.

    Args:
        parts: (H, W) uint8 regions.
        corners: (x, y) of the upper left pixel of each region in the camera's image.

    Returns:
        (H, W) uint8, the bounding box of the regions. Pixels in none of them get the mean of the pixels along them.

    Raises:
        BadCell: If the bounding box has too many pixels.
    """
    left, top = min(x for x, _ in corners), min(y for _, y in corners)
    right = max(x + part.shape[1] for part, (x, _) in zip(parts, corners, strict=True))
    bottom = max(y + part.shape[0] for part, (_, y) in zip(parts, corners, strict=True))
    if (right - left) * (bottom - top) > MAX_PIXELS:
        raise BadCell(f"too large: {right - left} x {bottom - top} pixels")
    image = np.zeros((bottom - top, right - left), np.uint8)
    missing = np.ones(image.shape, bool)
    for part, (x, y) in zip(parts, corners, strict=True):
        box = np.s_[y - top : y - top + part.shape[0], x - left : x - left + part.shape[1]]
        image[box], missing[box] = part, False
    grown = missing | _next_to(missing)
    along = grown & _next_to(~grown, outside=True)
    along[:, 0], along[:, -1] = along[:, 1], along[:, -2]
    along[0], along[-1] = along[1], along[-2]
    along &= ~missing
    image[missing] = round(float(image[along].mean())) if along.any() else 0
    return image


def _next_to(mask: np.ndarray, outside: bool = False) -> np.ndarray:
    """Return the pixels with one of their four neighbours in `mask`; `outside` is the mask value beyond the border."""
    wide = np.pad(mask, 1, constant_values=outside)
    return wide[:-2, 1:-1] | wide[2:, 1:-1] | wide[1:-1, :-2] | wide[1:-1, 2:]


def _stitched(regions: Sequence[_Region]) -> Iterator[tuple[_Region, ...]]:
    """Yield pairs of consecutive regions that overlap, and single regions for the others."""
    i = 0
    while i < len(regions):
        num = 2 if i + 1 < len(regions) and regions[i].overlaps(regions[i + 1]) else 1
        yield tuple(regions[i : i + num])
        i += num


def _read_regions(place: Container, found: Collector) -> tuple[list[str], list[_Region]]:
    """Return the columns and the images of a bin; rows that cannot be read go to the quarantine."""
    columns = _columns(place)
    first = columns.index("roi_x")
    roi = _roi(place)
    size = os.path.getsize(roi) if os.path.isfile(roi) else None  # noqa: PTH113, PTH202, the path is a text
    regions = []
    for number, words in _rows(place):
        try:
            trigger, x, y, width, height, offset = (int(float(word)) for word in (words[0], *words[first : first + 5]))
        except (ValueError, OverflowError):
            found.reject(place, number, "row of the .adc that cannot be read")
            continue
        if width == 0 or height == 0:
            continue
        if size is None:
            found.reject(place, number, "its .roi is missing")
        elif width < 0 or height < 0 or offset < 0 or offset + width * height > size:
            found.reject(place, number, "lies outside of its .roi")
        elif width * height > MAX_PIXELS:
            found.reject(place, number, f"too large: {width} x {height} pixels")
        else:
            regions.append(_Region(number, trigger, x, y, width, height, offset))
    return columns, regions


def _features(bins: Sequence[Container]) -> Iterator[tuple[Sequence[str], Mapping[str, np.ndarray]]]:
    for place in bins:
        columns = _columns(place)
        rows = _rows(place)
        while piece := list(islice(rows, 8192)):
            table = np.array([_numbers(words, len(columns)) for _, words in piece])
            keys = [f"{place.key}/{number:06d}" for number, _ in piece]
            yield keys, {name: table[:, i] for i, name in enumerate(columns) if name != _NO_FEATURE}


def _numbers(words: Sequence[str], num: int) -> list[float]:
    values = []
    for word in words[:num]:
        try:
            values.append(float(word))
        except ValueError:
            values.append(math.nan)
    return values + [math.nan] * (num - len(values))


def _rows(place: Container) -> Iterator[tuple[int, list[str]]]:
    """Yield number and words of each row."""
    try:
        with open(place.path, encoding="latin-1") as file:
            if os.fstat(file.fileno()).st_size > _MOST_ADC_BYTES:
                raise damaged(place.path, "an .adc of more than 1 GiB")
            number = 0
            while line := file.readline(_MOST_LINE):
                if line.strip(" \0\r\n"):
                    number += 1
                    yield number, line.split(",")
    except OSError as error:
        raise damaged(place.path, error.strerror) from None


def _columns(place: Container) -> list[str]:
    name = place.key.rpartition("/")[2]
    if name[:1] not in ("D", "I"):
        raise DataError(
            f"{storable(place.path)} must have the name that the instrument gave it, D20130526T095207_IFCB013 or "
            f"IFCB5_2012_028_081515, got {storable(name)!r}: the meaning of the columns depends on it. "
            "Restore the name."
        )
    return _NEW if name.startswith("D") else _OLD


def _bin(file: Container) -> Container:
    key = _stem(file.key)
    return file._replace(key=key, group=storable(key) if file.group == storable(file.key) else file.group)


def _stem(key: str) -> str:
    return key[:-4]


def _roi(place: Container) -> str:
    """Return the path of the .roi beside an .adc, in the same case."""
    front, ending = place.path[:-4], place.path[-4:]
    return front + (".ROI" if ending == ".ADC" else ".roi")


def _adc(roi: str) -> str:
    return roi[:-4] + (".ADC" if roi.endswith(".ROI") else ".adc")
