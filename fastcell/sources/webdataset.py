"""Source: WebDataset tars, from other programs or from a packed set, to be packed again in another layout or order."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fastcell.dataset import tar
from fastcell.dataset.image_headers import MAX_FILE_BYTES
from fastcell.dataset.manifest import Manifest
from fastcell.dataset.marks.corrected_labels import note_labels
from fastcell.dataset.open_files import look_again, read_at
from fastcell.errors import BadCell, DataError
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
from fastcell.sources.containers import file_reason
from fastcell.sources.image_folder import Pattern, check_fields_used
from fastcell.sources.webdataset_samples import (
    Facts,
    TarSample,
    find_tars,
    list_samples,
    name_classes,
    read_class_file,
    read_facts,
    sample_fields,
)
from fastcell.system.text import storable

_MOST_LABEL_BYTES = 1 << 20


@dataclass(frozen=True)
class Tars:
    """A tar, or a folder of tars, with `KEY.jpg|jpeg|png|tif|tiff|npy` and `KEY.cls` or `KEY.json`.

    For a packed set, classes and groups are read from its manifest, because the tars do not contain the groups.

    Attributes:
        root: file or folder.
        pattern: position of class, group and collection in the names inside the tars, for values that the labels do not
            contain.
        channel: number, from 0, or name of the channel of TIFF images; None if there is one.
    """

    root: Path
    pattern: str | None = None
    channel: Channel = None

    @property
    def name(self) -> str:
        return self.root.resolve().name.removesuffix(".tar")

    def describe(self) -> str:
        return f"tars {self.root}, pattern {self.pattern or 'none'}{channel_words(self.channel)}"

    def scan(self) -> Listing:
        """List the samples from the headers of the tars, and read their labels.

        Raises:
            ArgumentError: If the pattern does not fit the names.
            DataError: If there is no tar or no sample, a tar cannot be read, a label has no class, or a packed set has
                the block layout.
        """
        look_again()
        alone = not self.root.is_dir()
        folder = self.root.parent if alone else self.root
        pattern = None if self.pattern is None else Pattern(self.pattern)
        packed = _packed(folder)
        known = {} if packed is None else _facts_of(packed)
        cells: list[tuple[str, TarSample, Facts]] = []
        others: Counter[str] = Counter()
        rejected: list[Rejected] = []
        errors: list[Exception] = []
        for path in [self.root] if alone else find_tars(self.root):
            shard = path.relative_to(folder).as_posix()
            try:
                samples, passed = list_samples(path)
            except (DataError, OSError) as error:
                errors.append(error)
                rejected.append(Rejected(SourceItem(shard, ""), shard, file_reason(str(path), error)))
                continue
            if not samples:
                rejected.append(Rejected(SourceItem(shard, ""), shard, "no image in the file"))
            others += passed
            for sample in samples:
                facts = known.get((shard, sample.image.offset)) or read_facts(
                    _label(path, sample.cls), _label(path, sample.json)
                )
                cells.append((shard, sample, facts))
        if not cells and errors:
            raise errors[0]
        if not cells:
            raise DataError(f"{storable(str(self.root))}: no usable cell: no tar holds an image. Check the path.")
        told = [_told(pattern, sample) for _, sample, _ in cells]
        if pattern is not None:
            own = {"class": "label", "group": "group", "collection": "collection"}
            full = [name for name, part in own.items() if all(getattr(facts, part) for *_, facts in cells)]
            check_fields_used(pattern, full, "a .cls or .json")
        labels = [facts.label or fields.get("class") for (*_, facts), fields in zip(cells, told, strict=True)]
        found = {label for label in labels if label is not None}
        if packed is None:
            classes, name_of = name_classes(found, read_class_file(folder))
        else:
            classes = packed.info.classes
            name_of = {str(i): name for i, name in enumerate(classes)} | {name: name for name in classes}
            if not found <= set(name_of):
                lost = min(found - set(name_of))
                raise DataError(f"{storable(str(folder))}/dataset.json must name every class, got none for {lost!r}.")
        counts = Counter(sample.image.name for _, sample, _ in cells)
        seen: Counter[str] = Counter()
        items = []
        for (shard, sample, facts), fields, label in zip(cells, told, labels, strict=True):
            key = sample.image.name
            if len(counts) < len(cells):  # the same rule as in `fastcell index`
                key = f"{shard}/{key}"
                seen[key] += 1
                key += f"#{seen[key]}" if seen[key] > 1 else ""
            items.append(
                SourceItem(
                    key,
                    encoding_of(sample.image.name),
                    None if label is None else name_of[label],
                    facts.group or fields.get("group"),
                    facts.collection or fields.get("collection"),
                    facts.um_per_px,
                    (str(folder / shard), sample.image.offset, sample.image.size if sample.image.plain else -1),
                )
            )
        check_channel(self.channel, items)
        notes = _notes(others, sum(not facts.readable for *_, facts in cells))
        if packed is not None:
            notes.append("classes and groups are read from the packed set; its splits, features and verdicts are not.")
            if by_hand := note_labels(packed.marked):
                notes.append(f"{by_hand}; the new set records them as its classes.")
        return Listing(items, classes, rejected=rejected, notes=notes)

    def load(self, item: SourceItem) -> bytes | np.ndarray:
        path, offset, size = str(item.place[0]), int(item.place[1]), int(item.place[2])
        if size < 0:
            raise BadCell("link or sparse file in the tar")
        if size > MAX_FILE_BYTES:
            raise BadCell(f"too large: {size:,} bytes")
        return image_data(read_at(path, offset, size), self.channel, item.key)

    def stamp(self, item: SourceItem) -> str:
        return file_stamp(str(item.place[0]))


def _packed(folder: Path) -> Manifest | None:
    """Return the manifest of the packed set to which the tars belong; None if other programs wrote them."""
    if not ((folder / "dataset.json").is_file() and (folder / "manifest.parquet").is_file()):
        return None
    manifest = Manifest.open(folder)
    if manifest.info.layout != "cell":
        shown = storable(str(folder))
        raise DataError(
            f"{shown} must be of layout cell to be packed again, got layout block. Pack its source instead."
        )
    return manifest


def _facts_of(manifest: Manifest) -> dict[tuple[str, int], Facts]:
    """Return class, group, collection and pixel size from a manifest, by shard and offset."""
    names = ("shard", "offset", "class", "group", "collection", "um_per_px")
    return {
        (shard, offset): Facts(label, group, collection, pitch)
        for shard, offset, label, group, collection, pitch in zip(*map(manifest.column, names), strict=True)
    }


def _label(path: Path, member: tar.Member | None) -> bytes | None:
    """Return the bytes of a label file; empty bytes, which count as unreadable, if it is larger than any label."""
    if member is None or not member.plain:
        return None
    return b"" if member.size > _MOST_LABEL_BYTES else read_at(str(path), member.offset, member.size)


def _told(pattern: Pattern | None, sample: TarSample) -> dict[str, str]:
    if pattern is None:
        return {}
    return {name: storable(text) for name, text in sample_fields(pattern, sample).items()}


def _notes(others: Counter[str], num_unreadable: int) -> list[str]:
    notes = []
    num_without = others.pop("", 0)
    if num_unreadable:
        notes.append(f"cells whose label cannot be read count as unlabelled: {num_unreadable:,}.")
    if num_without:
        notes.append(f"samples without an image are left out: {num_without:,}.")
    if others:
        listed = ", ".join(f".{name} {count:,}" for name, count in others.most_common(6))
        notes.append(f"members that are not read: {listed}{', ...' if len(others) > 6 else ''}.")
    return notes
