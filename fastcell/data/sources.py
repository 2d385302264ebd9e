"""Sources: where cells come from before they are packed, one reader for each format.

A source is small and can be pickled. `scan` lists its cells, `load` reads the stored bytes of one of them; a worker on
another machine that sees the same disk can do the latter. `open_source` finds the reader that fits the input.
"""

from __future__ import annotations

import math
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Protocol

from fastcell.data.natural import natural_sorted
from fastcell.data.records import storable
from fastcell.errors import ArgumentError, DataError, invalid

ENCODINGS = {"jpg": "jpg", "jpeg": "jpg", "png": "png", "tif": "tif", "tiff": "tif", "npy": "npy"}
DEFAULT_PATTERN = "{class}/{name}"

_FIELDS = ("class", "group", "collection", "name")
_FIELD = re.compile(r"\{([^{}]*)\}|(\*\*/)|(\*)")
_LISTS = {"train": "train", "valid": "valid", "val": "valid", "validation": "valid", "test": "test"}
_LABEL_FILES = ("labels", "label")


class SourceItem(NamedTuple):
    """One cell of a source.

    key: its path in the source, with "/". encoding: jpg, png, tif or npy. class_name, group, collection: None for none.
    um_per_px: micrometres per pixel, NaN for unknown.
    """

    key: str
    encoding: str
    class_name: str | None = None
    group: str | None = None
    collection: str | None = None
    um_per_px: float = math.nan


class Rejected(NamedTuple):
    """A cell that is known to be unusable before its bytes are read."""

    item: SourceItem
    source: str
    reason: str


@dataclass(frozen=True)
class Listing:
    """What a scan found.

    Attributes:
        items: the cells, sorted by key; keys are unique.
        classes: class names in the order of their numbers; empty where nothing is labelled.
        splits: splits that the source brings along: name -> side of each item, in the order of items.
        rejected: cells for the quarantine.
        notes: what the user should know, one sentence each.
    """

    items: list[SourceItem]
    classes: list[str]
    splits: dict[str, list[str]] = field(default_factory=dict)
    rejected: list[Rejected] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


class Source(Protocol):
    """A reader of one format."""

    @property
    def name(self) -> str:
        """Name for the packed data set."""

    def describe(self) -> str:
        """One line: format and place."""

    def scan(self) -> Listing:
        """List the cells without reading their pixels. Raises ArgumentError or DataError."""

    def load(self, item: SourceItem) -> bytes:
        """Stored bytes of one cell. Raises OSError."""


class Pattern:
    """How class, group and collection stand in a path, e.g. `{group}/{class}/{name}` or `{class}_{name}`.

    Fields: `{class}`, `{group}`, `{collection}`, each at most once, and `{name}`, once. A field matches within one
    folder or file name and ends at the first place where the rest fits (`{class}_{name}` ends at the first `_`). `*`
    matches any text within one name, `**/` any number of folders. Without `{class}` the cells are unlabelled.
    """

    def __init__(self, text: str) -> None:
        """Raises ArgumentError for unknown, repeated or missing fields."""
        self.text = text
        way_out = "Write for example --pattern '{group}/{class}/{name}'"
        pieces, found, end = [], [], 0
        for match in _FIELD.finditer(text):
            pieces.append(re.escape(text[end : match.start()]))
            end = match.end()
            name = match.group(1)
            if name is None:
                pieces.append("(?:[^/]+/)*?" if match.group(2) else "[^/]*?")
                continue
            if name not in _FIELDS or name in found:
                rule = "made of {class}, {group}, {collection} and {name}, each at most once"
                raise invalid("--pattern", rule, text, way_out)
            found.append(name)
            pieces.append(f"(?P<{name}>[^/]+?)")
        if "name" not in found:
            raise invalid("--pattern", "a path with {name} in it", text, way_out)
        self.fields = tuple(found)
        self._regex = re.compile("".join(pieces) + re.escape(text[end:]))

    def match(self, key: str) -> dict[str, str] | None:
        """Fields of a path, or None where the pattern does not fit."""
        match = self._regex.fullmatch(key)
        return match.groupdict() if match else None


@dataclass(frozen=True)
class ImageFolder:
    """A folder of image files whose class, group and collection stand in their paths.

    Attributes:
        root: the folder.
        pattern: see `Pattern`; None: `{class}/{name}`, if that fits every image.
    """

    root: Path
    pattern: str | None = None

    @property
    def name(self) -> str:
        return self.root.resolve().name

    def describe(self) -> str:
        return f"folder of images {self.root}, pattern {self.pattern or DEFAULT_PATTERN}"

    def scan(self) -> Listing:
        """List the images. Hidden files and other kinds of file are left out and counted.

        Raises:
            DataError: no image, or images that the pattern does not fit; then the message shows how else to read them.
        """
        keys, notes = _find_images(self.root)
        if not keys:
            kinds = " ".join(sorted(ENCODINGS))
            raise DataError(f"{self.root} must hold images ({kinds}), got none. {' '.join(notes)}".rstrip())
        pattern = Pattern(self.pattern or DEFAULT_PATTERN)
        items = []
        for key in keys:
            fields = pattern.match(key)
            if fields is None:
                raise _unread(self.root, keys, key, self.pattern)
            told = {name: storable(text) for name, text in fields.items()}
            items.append(SourceItem(key, _encoding(key), told.get("class"), told.get("group"), told.get("collection")))
        names = {item.class_name for item in items if item.class_name is not None}
        return Listing(items, natural_sorted(names), notes=notes)

    def load(self, item: SourceItem) -> bytes:
        with open(f"{self.root}/{item.key}", "rb") as file:
            return file.read()


@dataclass(frozen=True)
class ReleasedLists:
    """The layout of the paper's released data (doi 10.21227/H2QW97).

    Lists `Train.txt`, `Valid.txt`, `Test.txt` with a line `relative/path label` for each image, and `labels.txt` or
    `label.txt` with a line `name number` for each class, in any spelling of case. Classes keep their numbers; the
    lists become the split `paper`.

    Attributes:
        root: the folder.
    """

    root: Path

    @property
    def name(self) -> str:
        return self.root.resolve().name

    def describe(self) -> str:
        lists = ", ".join(path.name for path, _ in self._lists())
        return f"released lists {lists} in {self.root}"

    def scan(self) -> Listing:
        """Read the lists. Files that are not there, or listed a second time, are rejected.

        Raises:
            DataError: no list of classes, or a line that cannot be read (with file and line number).
        """
        numbers = self._read_classes()
        seen: dict[str, str] = {}
        cells: list[tuple[SourceItem, str]] = []
        rejected = []
        for path, side in self._lists():
            for place, key, number in _read_lines(path):
                if number not in numbers:
                    known = ", ".join(map(str, numbers))
                    raise DataError(f"{place}: the label must be one of {known}, got {number}. Mend the line.")
                if key.startswith("/") or ".." in key.split("/"):
                    raise DataError(f"{place}: the path must lie in the folder, got {key!r}. Mend the line.")
                item = SourceItem(key, _encoding(key), numbers[number])
                if key in seen:
                    rejected.append(Rejected(item, path.name, f"listed twice, first in {seen[key]}"))
                elif not (self.root / key).is_file():
                    rejected.append(Rejected(item, path.name, "file is missing"))
                elif item.encoding == "":
                    rejected.append(Rejected(item, path.name, "not a kind of image that can be read"))
                else:
                    cells.append((item, side))
                seen.setdefault(key, f"{path.name} line {place.rpartition(' ')[2]}")
        cells.sort(key=lambda cell: cell[0].key)
        unlisted = sum(key not in seen for key in _find_images(self.root)[0])
        notes = [f"{unlisted} images that no list names are left out."] if unlisted else []
        if list(numbers) != list(range(len(numbers))):
            notes.append(f"The label numbers {', '.join(map(str, numbers))} become 0 to {len(numbers) - 1}.")
        if not seen:
            raise DataError(f"{self.root}: the lists must name at least one image, got none. Look at the lists.")
        items = [item for item, _ in cells]
        return Listing(items, list(numbers.values()), {"paper": [side for _, side in cells]}, rejected, notes)

    def load(self, item: SourceItem) -> bytes:
        with open(f"{self.root}/{item.key}", "rb") as file:
            return file.read()

    def _lists(self) -> list[tuple[Path, str]]:
        order = list(_LISTS)
        found = [path for path in _text_files(self.root) if path.stem.lower() in _LISTS]
        found.sort(key=lambda path: (order.index(path.stem.lower()), path.name))
        return [(path, _LISTS[path.stem.lower()]) for path in found]

    def _read_classes(self) -> dict[int, str]:
        """Class names by number, in the order of the numbers."""
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
                raise DataError(f"{place}: name and number must be new and >= 0, got {name} {number}. Mend the line.")
            numbers[number] = name
        if not numbers:
            raise DataError(f"{files[0]} must name at least one class, got none. Write a line 'name number' for each.")
        return dict(sorted(numbers.items()))


def open_source(path: str | os.PathLike[str], pattern: str | None = None) -> Source:
    """The reader for a path: released lists where they are there and no pattern is given, else a folder of images.

    Raises:
        ArgumentError: no such folder, or a pattern that cannot be read.
    """
    root = Path(path)
    if not root.is_dir():
        what = "a file" if root.exists() else "nothing there"
        raise ArgumentError(f"SRC must be a folder of images, got {str(root)!r} ({what}). Check the path.")
    if pattern is not None:
        return ImageFolder(root, Pattern(pattern).text)
    stems = {path.stem.lower() for path in _text_files(root)}
    if "train" in stems or (stems & set(_LISTS) and stems & set(_LABEL_FILES)):
        return ReleasedLists(root)
    return ImageFolder(root)


def _find_images(root: Path) -> tuple[list[str], list[str]]:
    """Keys of all images below root, sorted, and notes on what was left out."""
    keys: list[str] = []
    hidden = 0
    others: Counter[str] = Counter()
    for name, key in _walk(root, "", ()):
        if name.startswith("."):
            hidden += 1
        elif _encoding(name):
            keys.append(key)
        else:
            others[storable(Path(name).suffix or name)] += 1
    notes = []
    if others:
        kinds = ", ".join(f"{kind} {num}" for kind, num in others.most_common(5))
        notes.append(f"{sum(others.values())} other files are left out ({kinds}{', ...' if len(others) > 5 else ''}).")
    if hidden:
        notes.append(f"{hidden} hidden files or folders are left out.")
    keys.sort()
    return keys, notes


def _walk(root: Path, prefix: str, above: tuple[tuple[int, int], ...]) -> Iterator[tuple[str, str]]:
    """(name, key) of every file below root, links followed, hidden folders as one entry."""
    with os.scandir(root / prefix) as entries:
        for entry in entries:
            if not entry.is_dir() or entry.name.startswith("."):
                yield entry.name, prefix + entry.name
                continue
            status = entry.stat()
            identity = (status.st_dev, status.st_ino)
            if identity not in above:  # a link to a folder above it would never end
                yield from _walk(root, f"{prefix}{entry.name}/", (*above, identity))


def _unread(root: Path, keys: Sequence[str], key: str, pattern: str | None) -> DataError:
    """The error for a path that the pattern does not fit, with the ways in which it could be read."""
    depth = key.count("/") + 1
    if pattern is None and all("/" not in other for other in keys):
        readings = ["{class}_{name}", "{name}"]
        what = f"{storable(str(root))} has no class folders, so the default pattern {DEFAULT_PATTERN} does not fit"
    else:
        above = "*/" * max(0, depth - 3)
        readings = {1: ["{name}", "{class}_{name}"], 2: ["{class}/{name}", "{group}/{name}"]}.get(
            depth, ["{class}/**/{name}", above + "{group}/{class}/{name}"]
        )
        what = f"the pattern {pattern or DEFAULT_PATTERN} does not fit every image in {storable(str(root))}"
    lines = []
    for reading in readings:
        fields = Pattern(reading).match(key)
        if fields is not None:
            said = ", ".join(f"{name} {fields[name]!r}" for name in _FIELDS if name in fields and name != "name")
            lines.append(f"--pattern '{reading}' reads it as {said or 'an unlabelled cell'}")
    depths = Counter(other.count("/") + 1 for other in keys)
    spread = (
        ""
        if len(depths) == 1
        else " Depths found: " + ", ".join(f"{level} ({num} images)" for level, num in sorted(depths.items())) + "."
    )
    return DataError(
        f"{what}: {storable(key)!r} is {depth} level{'s' if depth > 1 else ''} deep and may mean several things. "
        f"{'; '.join(lines)}. Give the one that is meant.{spread}"
    )


def _read_lines(path: Path) -> Iterator[tuple[str, str, int]]:
    """(place, text, number) of each line `text number`; empty lines are passed over."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f"{path} must be UTF-8 text, got {error.reason}. Save it as UTF-8.") from None
    for i, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        text, _, number = line.strip().replace("\t", " ").rpartition(" ")
        if not text.strip() or not re.fullmatch(r"-?\d+", number):
            raise DataError(f"{path} line {i}: must be 'text number', got {line.strip()!r}. Mend the line.")
        yield f"{path} line {i}", text.strip().replace("\\", "/").removeprefix("./"), int(number)


def _text_files(root: Path) -> list[Path]:
    return sorted(path for path in root.iterdir() if path.suffix.lower() == ".txt" and path.is_file())


def _encoding(name: str) -> str:
    """Kind of image by the ending, in any case; empty for another kind of file."""
    return ENCODINGS.get(name.rpartition(".")[2].lower(), "") if "." in name else ""
