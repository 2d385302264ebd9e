"""Source: the layout of the data that Meng et al. 2019 released (doi 10.21227/H2QW97)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fastcell.dataset.tables.dialect import read_lines
from fastcell.errors import DataError
from fastcell.sources.base import (
    Channel,
    Listing,
    Rejected,
    SourceItem,
    channel_words,
    check_channel,
    encoding_of,
    file_stamp,
    image_data,
)
from fastcell.sources.image_folder import find_images, read_image
from fastcell.system.text import one_name

_LISTS = {"train": "train", "valid": "valid", "val": "valid", "validation": "valid", "test": "test"}
_LABEL_FILES = ("labels", "label")


@dataclass(frozen=True)
class ReleasedLists:
    """A folder in the layout of the paper's released data (doi 10.21227/H2QW97).

    The lists `Train.txt`, `Valid.txt` and `Test.txt` have a line `relative/path label` per image. `labels.txt` or
    `label.txt` has a line `name number` per class. The case of the file names is ignored. The classes keep the order of
    their numbers, and the lists become the split `paper`.

    Attributes:
        root: the folder.
        channel: number, from 0, or name of the channel of TIFF images; None if there is one.
    """

    root: Path
    channel: Channel = None

    @property
    def name(self) -> str:
        return self.root.resolve().name

    def describe(self) -> str:
        lists = ", ".join(path.name for path, _ in self._lists())
        return f"lists {lists} in {self.root}{channel_words(self.channel)}"

    def scan(self) -> Listing:
        """Read the lists. Missing files and files listed a second time are rejected.

        Raises:
            DataError: If there is no list of classes, or a line cannot be read (the message names file and line
                number).
        """
        numbers = self._read_classes()
        images = find_images(self.root)[0]
        there = {one_name(key): key for key in images}
        seen: dict[str, str] = {}
        cells: list[tuple[SourceItem, str]] = []
        rejected = []
        for path, subset in self._lists():
            for place, key, number in _read_lines(path):
                if number not in numbers:
                    known = ", ".join(map(str, numbers))
                    raise DataError(f"{place}: the label must be one of {known}, got {number}. Correct the line.")
                if key.startswith("/") or ".." in key.split("/"):
                    raise DataError(f"{place}: the path must lie in the folder, got {key!r}. Correct the line.")
                key = there.get(one_name(key), key)
                item = SourceItem(key, encoding_of(key), numbers[number])
                if key in seen:
                    rejected.append(Rejected(item, path.name, f"listed twice, first in {seen[key]}"))
                elif one_name(key) not in there and not (self.root / key).is_file():
                    rejected.append(Rejected(item, path.name, "file is missing"))
                elif item.encoding == "":
                    rejected.append(Rejected(item, path.name, "not a kind of image that can be read"))
                else:
                    cells.append((item, subset))
                seen.setdefault(key, f"{path.name} line {place.rpartition(' ')[2]}")
        cells.sort(key=lambda cell: cell[0].key)
        unlisted = sum(key not in seen for key in images)
        notes = [f"images that no list names are left out: {unlisted}."] if unlisted else []
        if list(numbers) != list(range(len(numbers))):
            notes.append(f"The label numbers {', '.join(map(str, numbers))} are replaced by 0 to {len(numbers) - 1}.")
        if not seen:
            raise DataError(f"{self.root}: the lists must name at least one image, got none. Check the lists.")
        items = [item for item, _ in cells]
        check_channel(self.channel, items)
        return Listing(items, list(numbers.values()), {"paper": [subset for _, subset in cells]}, rejected, notes)

    def load(self, item: SourceItem) -> bytes | np.ndarray:
        return image_data(read_image(f"{self.root}/{item.key}"), self.channel, item.key)

    def stamp(self, item: SourceItem) -> str:
        return file_stamp(f"{self.root}/{item.key}")

    def _lists(self) -> list[tuple[Path, str]]:
        order = list(_LISTS)
        found = [path for path in _text_files(self.root) if path.stem.lower() in _LISTS]
        found.sort(key=lambda path: (order.index(path.stem.lower()), path.name))
        return [(path, _LISTS[path.stem.lower()]) for path in found]

    def _read_classes(self) -> dict[int, str]:
        """Return the class names by number, in the order of the numbers."""
        files = [path for path in _text_files(self.root) if path.stem.lower() in _LABEL_FILES]
        if len(files) != 1:
            got = ", ".join(path.name for path in files) or "none"
            raise DataError(
                f"{self.root} must hold one list of classes, labels.txt with a line 'name number' for each, got {got}. "
                "Add it, or give --pattern to read the folder by its paths."
            )
        numbers: dict[int, str] = {}
        for place, name, number in _read_lines(files[0]):
            if number in numbers or name in numbers.values() or number < 0:
                raise DataError(
                    f"{place}: name and number must be new and >= 0, got {name} {number}. Correct the line."
                )
            numbers[number] = name
        if not numbers:
            raise DataError(f"{files[0]} must name at least one class, got none. Write a line 'name number' for each.")
        return dict(sorted(numbers.items()))


def has_lists(root: Path) -> bool:
    """Return True if a folder holds a training list, or another list together with a list of classes."""
    stems = {path.stem.lower() for path in _text_files(root)}
    return "train" in stems or bool(stems & set(_LISTS) and stems & set(_LABEL_FILES))


def _read_lines(path: Path) -> Iterator[tuple[str, str, int]]:
    """Yield (place, text, number) of each line `text number`; empty lines are skipped."""
    lines = read_lines(path)
    for i, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        text, _, number = line.strip().replace("\t", " ").rpartition(" ")
        if not text.strip() or not re.fullmatch(r"-?[0-9]{1,18}", number):
            raise DataError(f"{path} line {i}: must be 'text number', got {line.strip()!r}. Correct the line.")
        yield f"{path} line {i}", text.strip().replace("\\", "/").removeprefix("./"), int(number)


def _text_files(root: Path) -> list[Path]:
    return sorted(path for path in root.iterdir() if path.suffix.lower() == ".txt" and path.is_file())
