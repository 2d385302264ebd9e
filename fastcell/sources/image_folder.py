"""Source: a folder of image files, with class, group and collection in their paths."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fastcell.dataset.image_headers import MAX_FILE_BYTES
from fastcell.errors import BadCell, DataError, invalid
from fastcell.sources.base import (
    ENCODING_OF_ENDING,
    Channel,
    Listing,
    SourceItem,
    channel_words,
    check_channel,
    encoding_of,
    file_stamp,
    image_data,
)
from fastcell.sources.listings.item_columns import ItemColumns
from fastcell.system.text import natural_sorted, one_form, one_name, storable

DEFAULT_PATTERN = "{class}/{name}"

_MOST_LINKS = 64  # maximum number of paths by which links may reach one folder
_FIELDS = ("class", "group", "collection", "name")
_FIELD = re.compile(r"\{([^{}]*)\}|(\*\*/)|(\*)")


class Pattern:
    """Pattern of a path that contains class, group and collection, e.g. `{group}/{class}/{name}` or `{class}_{name}`.

    The fields are `{class}`, `{group}` and `{collection}`, each at most once, and `{name}`, once. A field matches text
    within one folder or file name, as short as possible: in `{class}_{name}` the class ends at the first `_`. `*`
    matches any text within one name, `**/` any number of folders. For example, `{class}_{name}` reads `S_phase_01.png`
    as class `S`; class names that contain `_` need class folders. Without `{class}` the cells are unlabelled.
    """

    def __init__(self, text: str, needs_name: bool = True) -> None:
        """Compile a pattern.

        Args:
            text: the pattern.
            needs_name: require `{name}`; paths of files of many cells do not need it.

        Raises:
            ArgumentError: If a field is unknown, repeated or missing.
        """
        self.text = text = one_form(text)
        hint = "Write for example --pattern '{group}/{class}/{name}'"
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
                raise invalid("--pattern", rule, text, hint)
            found.append(name)
            pieces.append(f"(?P<{name}>[^/]+?)")
        if needs_name and "name" not in found:
            raise invalid("--pattern", "a path that contains {name}", text, hint)
        self.fields = tuple(found)
        self._regex = re.compile("".join(pieces) + re.escape(text[end:]))

    def match(self, key: str) -> dict[str, str] | None:
        """Return the fields of a path, or None if the pattern does not fit."""
        match = self._regex.fullmatch(one_form(key))
        return match.groupdict() if match else None


def check_fields_used(pattern: Pattern, told: Iterable[str], by: str) -> None:
    """Check that no field of a pattern is overridden for every cell.

    Args:
        pattern: the pattern.
        told: fields that every cell has from elsewhere.
        by: what gives them, for the message.

    Raises:
        ArgumentError: If the pattern has one of these fields.
    """
    for field in told:
        if field != "name" and field in pattern.fields:
            hint = "Replace it by *, or leave the pattern out"
            raise invalid("--pattern", f"without {{{field}}}, which {by} gives for every cell", pattern.text, hint)


@dataclass(frozen=True)
class ImageFolder:
    """A folder of image files, with class, group and collection in their paths.

    Attributes:
        root: the folder.
        pattern: see `Pattern`; None for `{class}/{name}`, which must fit every image.
        channel: number, from 0, or name of the channel of TIFF images; None if there is one.
        mixed: True if there are images of other encodings than TIFF. Then a TIFF with several channels is a stray file,
            which is quarantined; otherwise the user must name the channel.
    """

    root: Path
    pattern: str | None = None
    channel: Channel = None
    mixed: bool = False

    @property
    def name(self) -> str:
        return self.root.resolve().name

    def describe(self) -> str:
        channel = channel_words(self.channel)
        return f"folder of images {self.root}, pattern {self.pattern or DEFAULT_PATTERN}{channel}"

    def scan(self) -> Listing:
        """List the images. Hidden files and other kinds of files are left out and counted.

        Raises:
            ArgumentError: If the pattern is invalid, or a channel is chosen and there is no TIFF.
            DataError: If there is no image, or the pattern does not fit an image; the message then suggests patterns.
        """
        keys, notes = find_images(self.root)
        if not keys:
            kinds = " ".join(sorted(ENCODING_OF_ENDING))
            left_out = "".join(f" {note[0].upper()}{note[1:]}" for note in notes)
            raise DataError(
                f"{self.root} must hold images ({kinds}), got none.{left_out} Check the path, or save the "
                "images as one of these kinds."
            )
        pattern = Pattern(self.pattern or DEFAULT_PATTERN)

        def read() -> Iterator[SourceItem]:
            for key in keys:
                fields = pattern.match(key)
                if fields is None:
                    raise unread(self.root, keys, key, self.pattern)
                told = [one_name(fields.get(name)) for name in ("class", "group", "collection")]
                yield SourceItem(key, encoding_of(key), *told)

        items = ItemColumns.of(read())
        check_channel(self.channel, items)
        names = [name for name in items.different("class_name") if name is not None]
        return Listing(items, natural_sorted(names), notes=notes)

    def load(self, item: SourceItem) -> bytes | np.ndarray:
        return image_data(read_image(f"{self.root}/{item.key}"), self.channel, item.key, self.mixed)

    def stamp(self, item: SourceItem) -> str:
        return file_stamp(f"{self.root}/{item.key}")


@dataclass(frozen=True)
class ImageFiles:
    """Image files in the order of the user, with one cell each. The key of a cell is its path as given by the user.

    Attributes:
        paths: paths of the files.
        channel: number, from 0, or name of the channel of TIFF images; None if there is one.
    """

    paths: tuple[str, ...]
    channel: Channel = None

    @property
    def name(self) -> str:
        return "images"

    @staticmethod
    def is_one(path: Path) -> bool:
        """Return True for the path of a file that holds one image: JPEG or PNG."""
        return encoding_of(path.name) in ("jpg", "png") and not path.is_dir()

    def describe(self) -> str:
        first = f", the first {self.paths[0]}" if self.paths else ""
        return f"{len(self.paths)} image files{first}{channel_words(self.channel)}"

    def scan(self) -> Listing:
        """List the files, which are checked when they are read.

        Raises:
            ArgumentError: If a channel is chosen and there is no TIFF.
        """
        items = [SourceItem(path, encoding_of(path)) for path in self.paths]
        check_channel(self.channel, items)
        return Listing(items, [])

    def load(self, item: SourceItem) -> bytes | np.ndarray:
        """Return the bytes of an image file, or the pixels of a TIFF; see `fastcell.sources.base.Source.load`."""
        return image_data(read_image(item.key), self.channel, item.key, mixed=True)

    def stamp(self, item: SourceItem) -> str:
        return file_stamp(item.key)


def read_image(path: str) -> bytes:
    """Return the stored bytes of one image.

    Raises:
        BadCell: If the file is larger than any image of a cell. Sparse files can be large without using disk space.
        OSError: If the file cannot be read.
    """
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)  # for millions of small files `open` takes 4 us longer
    try:
        size = os.fstat(file).st_size
        if size > MAX_FILE_BYTES:
            raise BadCell(f"too large: {size:,} bytes")
        data = os.read(file, size)  # allocates as much as it is asked for
        while len(data) < size and (more := os.read(file, size - len(data))):
            data += more
        return data
    finally:
        os.close(file)


def find_images(root: Path) -> tuple[list[str], list[str]]:
    """Return the sorted keys of all images below `root`, and notes on files that were left out."""
    return find_files(root, lambda name: bool(encoding_of(name)))


def find_files(root: Path, wanted: Callable[[str], bool]) -> tuple[list[str], list[str]]:
    """Return the sorted keys of all files below `root` whose name is `wanted`, and notes on the other files."""
    keys: list[str] = []
    hidden = 0
    others: Counter[str] = Counter()
    for name, key in walk_files(root):
        if name.startswith("."):
            hidden += 1
        elif wanted(name):
            keys.append(key)
        else:
            others[storable(Path(name).suffix or name)] += 1
    notes = []
    if others:
        kinds = ", ".join(f"{kind} {num}" for kind, num in others.most_common(5))
        notes.append(
            f"files of other kinds are left out: {sum(others.values())} ({kinds}{', ...' if len(others) > 5 else ''})."
        )
    if hidden:
        notes.append(f"hidden files or folders are left out: {hidden}.")
    keys.sort()
    return keys, notes


def walk_files(root: Path) -> Iterator[tuple[str, str]]:
    """Yield (name, key) of every file below `root`; links are followed, and a hidden folder is yielded as one entry.

    Pipes, sockets and devices are skipped, because reading one may block for ever. Links to a parent folder are
    skipped, because they would never end. The number of paths to one folder is limited, because links between many
    folders would take too long.

    Raises:
        DataError: If links reach one folder by more than 64 paths.
    """
    visits: Counter[tuple[int, int]] = Counter()
    waiting: list[tuple[str, tuple[tuple[int, int], ...]]] = [("", ())]
    while waiting:
        prefix, above = waiting.pop()
        with os.scandir(root / prefix) as entries:
            for entry in entries:
                if not entry.is_dir() or entry.name.startswith("."):
                    if entry.is_file() or entry.is_dir() or not Path(entry).exists():  # last: a broken link
                        yield entry.name, prefix + entry.name
                    continue
                status = entry.stat()
                identity = (status.st_dev, status.st_ino)
                if identity in above:
                    continue
                visits[identity] += 1
                if visits[identity] > _MOST_LINKS:
                    raise DataError(
                        f"{storable(str(root))}: the folder {storable(prefix + entry.name)!r} may be reached by at "
                        f"most {_MOST_LINKS} paths, links give more. Remove links, or name a folder inside."
                    )
                waiting.append((f"{prefix}{entry.name}/", (*above, identity)))


def unread(root: Path, keys: Sequence[str], key: str, pattern: str | None, what: str = "image") -> DataError:
    """Return the error for a path that the pattern does not fit, with suggested patterns.

    Args:
        root: folder of the source.
        keys: all paths in it, relative to `root`.
        key: path that the pattern does not fit.
        pattern: the given pattern, or None.
        what: word for one file in the message, such as `image`.
    """
    depth = key.count("/") + 1
    if pattern is None and all("/" not in other for other in keys):
        readings = ["{class}_{name}", "{name}"]
        why = f"{storable(str(root))} has no class folders, so the default pattern {DEFAULT_PATTERN} does not match"
    else:
        above = "*/" * max(0, depth - 3)
        readings = {1: ["{name}", "{class}_{name}"], 2: ["{class}/{name}", "{group}/{name}"]}.get(
            depth, ["{class}/**/{name}", above + "{group}/{class}/{name}"]
        )
        why = f"the pattern {pattern or DEFAULT_PATTERN} does not match every {what} in {storable(str(root))}"
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
        else " Depths found: " + ", ".join(f"{level} ({num} {what}s)" for level, num in sorted(depths.items())) + "."
    )
    return DataError(
        f"{why}: {storable(key)!r} is {depth} level{'s' if depth > 1 else ''} deep and can be read in several ways. "
        f"{'; '.join(lines)}. Give the right pattern.{spread}"
    )
