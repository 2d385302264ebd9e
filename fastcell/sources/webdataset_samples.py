"""Samples of WebDataset tars that other programs wrote: find image and labels of each sample, and read the labels.

WebDataset defines a sample by file names: the path up to the first dot of the file name is the key, the rest is the
extension. Tars in practice deviate from this: members of one key are not adjacent, names contain further dots, keys are
repeated.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeGuard

from fastcell.dataset import tar
from fastcell.dataset.schema import PITCHES
from fastcell.dataset.tables.dialect import read_lines
from fastcell.errors import ArgumentError, DataError, invalid
from fastcell.sources.image_folder import Pattern
from fastcell.storage.places import local_path
from fastcell.system.text import natural_key, natural_sorted, one_form

IMAGE_EXTENSIONS = ("jpg", "jpeg", "png", "tif", "tiff", "npy")
CLASS_FILES = ("classes.txt", "labels.txt")

_COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")
_LABEL_KEYS = ("class_name", "class", "label", "cls")
_GROUP_KEYS = ("group", "donor", "run")
_INTEGER = re.compile(r"[+-]?\d{1,18}")
_MAX_LABEL = 256  # maximum number of characters of a class, group or collection


class TarSample(NamedTuple):
    """One cell of a tar: its image member, and its `.cls` and `.json` members or None."""

    image: tar.Member
    cls: tar.Member | None
    json: tar.Member | None


def sample_fields(pattern: Pattern, sample: TarSample) -> dict[str, str]:
    """Return the fields that the name of a sample's image has by a pattern.

    Raises:
        ArgumentError: the name does not match.
    """
    fields = pattern.match(sample.image.name)
    if fields is None:
        hint = f"It does not match {sample.image.name}; * matches any part of one name, **/ any folders"
        raise invalid("--pattern", "one that matches the names of all images in the tars", pattern.text, hint)
    return fields


class Facts(NamedTuple):
    """Values in the label files of a sample.

    Attributes:
        label: class name or number as text; None if there is no label, or the number is negative.
        group: donor or run; None if not given.
        collection: None if not given.
        um_per_px: micrometres per pixel; NaN if not given.
        readable: False if there is a label file, but it holds no usable label.
    """

    label: str | None = None
    group: str | None = None
    collection: str | None = None
    um_per_px: float = math.nan
    readable: bool = True


def find_tars(root: Path) -> list[Path]:
    """List all `*.tar` in a folder and its subfolders in natural order, except in hidden folders.

    Returns:
        Paths of the tars.

    Raises:
        ArgumentError: If the folder does not exist.
        DataError: If it holds no tar, or compressed tars.
    """
    root = local_path("TARS", root)
    if not root.is_dir():
        what = "a file" if root.exists() else "nothing there"
        raise ArgumentError(f"TARS must be a folder with WebDataset tars, got {str(root)!r} ({what}). Check the path.")
    found: list[str] = []
    for folder, folders, files in os.walk(root):
        folders[:] = [name for name in folders if not name.startswith(".")]
        paths = (Path(folder) / file for file in files if not file.startswith("."))
        found += (path.relative_to(root).as_posix() for path in paths if path.is_file())  # a pipe may block for ever
    return [root / name for name in check_tar_names(str(root), found)]


def check_tar_names(place: str, names: Iterable[str]) -> list[str]:
    """Return the names that are of tars, in natural order.

    Args:
        place: folder or address that has the files, for messages.
        names: names of files in it.

    Raises:
        DataError: If there is no tar, or there are compressed tars.
    """
    tars: list[str] = []
    compressed: list[str] = []
    for name in names:
        if name.lower().endswith(".tar"):
            tars.append(name)
        elif name.lower().endswith(_COMPRESSED):
            compressed.append(name)
    if compressed:
        raise DataError(
            f"{place} holds {len(compressed)} compressed tars, the first {min(compressed)}; only uncompressed tars are "
            "read. Decompress them, or move them out of the folder."
        )
    if not tars:
        raise DataError(f"{place} must hold WebDataset tars, got none. For a folder of images use `fastcell pack`.")
    return sorted(tars, key=natural_key)


def list_samples(path: Path) -> tuple[list[TarSample], Counter[str]]:
    """List the samples of a tar, in the stored order of their images.

    Returns:
        The samples, and the number of skipped members by extension (empty extension: samples without an image).

    Raises:
        DataError: If the tar cannot be read, see `tar.walk_members`.
    """
    groups: list[dict[str, tar.Member]] = []
    current: dict[str, dict[str, tar.Member]] = {}
    for member in tar.walk_members(path):
        folder, _, base = member.name.rpartition("/")
        stem, _, extension = base.partition(".")
        if not stem:
            continue  # hidden files, among them the `._` files that macOS adds
        key, extension = f"{folder}/{stem}", extension.lower()
        if key not in current or extension in current[key]:
            current[key] = {}
            groups.append(current[key])
        current[key][extension] = member
    samples: list[TarSample] = []
    others: Counter[str] = Counter()
    for group in groups:
        samples += _samples_of(group, others)
    samples.sort(key=lambda sample: sample.image.offset)
    return samples, others


def _samples_of(group: dict[str, tar.Member], others: Counter[str]) -> list[TarSample]:
    images = [extension for extension in IMAGE_EXTENSIONS if extension in group]
    if images:
        others.update(set(group) - {images[0], "cls", "json"})
        return [TarSample(group[images[0]], group.get("cls"), group.get("json"))]
    dotted = [extension for extension in group if extension.rpartition(".")[2] in IMAGE_EXTENSIONS]
    if not dotted:
        others[""] += 1
    samples = []
    for extension in dotted:  # `cell.01.jpg`: the name contains a dot; the label is `cell.01.cls` or `cell.cls`
        front = extension.rpartition(".")[0]
        cls, facts = (group.get(f"{front}.{kind}", group.get(kind)) for kind in ("cls", "json"))
        samples.append(TarSample(group[extension], cls, facts))
    return samples


def read_facts(cls: bytes | None, described: bytes | None) -> Facts:
    """Read the values of `.cls` and `.json` of a sample; the class in `.cls` takes precedence.

    The class is a number or a name. In `.json`, the class is the value of class_name, class, label or cls, and the
    group is the value of group, donor or run; collection and um_per_px are optional.

    Args:
        cls: bytes of `.cls`; None if there is no such file.
        described: bytes of `.json`; None if there is no such file.

    Returns:
        The values; those that are missing or unusable have their defaults.
    """
    facts = Facts() if described is None else _json_facts(described)
    if cls is None:
        return facts
    try:
        label = one_form(cls.decode("utf-8").strip())
    except UnicodeDecodeError:
        label = ""
    if len(label) > _MAX_LABEL:
        label = ""
    return facts._replace(label=_known(label), readable=facts.readable and bool(label))


def _json_facts(described: bytes) -> Facts:
    try:
        values = json.loads(described)
    except (ValueError, RecursionError):
        return Facts(readable=False)
    if not isinstance(values, dict):
        label = _text(values)
        return Facts(label=None if label is None else _known(label), readable=label is not None)
    label = next((text for key in _LABEL_KEYS if (text := _text(values.get(key))) is not None), None)
    group = next((text for key in _GROUP_KEYS if (text := _text(values.get(key))) is not None), None)
    pitch = values.get("um_per_px")
    return Facts(
        label=None if label is None else _known(label),
        group=group,
        collection=_text(values.get("collection")),
        um_per_px=float(pitch) if _is_number(pitch) and PITCHES[0] <= pitch <= PITCHES[1] else math.nan,
        readable=label is not None or not any(values.get(key) is not None for key in _LABEL_KEYS),
    )


def _text(value: Any) -> str | None:
    """Return a JSON value as a name: a text of 1 to 256 characters, or a whole number; None for any other value."""
    if isinstance(value, str):
        text = one_form(value.strip())
        return text if 0 < len(text) <= _MAX_LABEL else None
    return str(int(value)) if _is_number(value) and abs(value) < 1e18 and value == int(value) else None


def _is_number(value: Any) -> TypeGuard[int | float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _known(label: str) -> str | None:
    return None if not label or (_INTEGER.fullmatch(label) and int(label) < 0) else label


def name_classes(labels: Iterable[str], names: Sequence[str] | None) -> tuple[list[str], dict[str, str]]:
    """Assign class names to the labels.

    Args:
        labels: labels from the label files, each at least once. If all of them are numbers, they are class numbers;
            otherwise all of them are names.
        names: class names in the order of their numbers, or None.

    Returns:
        The classes in the order of their numbers, and the class of each label. Without `names`, class numbers get the
        names "0", "1", ..., and class names are put in natural order.

    Raises:
        DataError: If `names` has no class for a label.
    """
    found = set(labels)
    if found and all(_INTEGER.fullmatch(label) for label in found):
        numbers = {label: int(label) for label in found}
        if names is None:
            return [str(number) for number in sorted(set(numbers.values()))], {
                label: str(number) for label, number in numbers.items()
            }
        if max(numbers.values()) >= len(names):
            raise DataError(
                f"{' or '.join(CLASS_FILES)} must name every class, got {len(names)} names for a class number "
                f"{max(numbers.values())}. Write one name per line, class 0 first."
            )
        return list(names), {label: names[number] for label, number in numbers.items()}
    if names is None:
        return natural_sorted(found), {label: label for label in found}
    unknown = natural_sorted(found - set(names))
    if unknown:
        raise DataError(
            f"{' or '.join(CLASS_FILES)} must name every class, got none for label {unknown[0]!r}. Add it or remove "
            "the file."
        )
    return list(names), {label: label for label in found}


def read_class_file(folder: Path) -> list[str] | None:
    """Read class names from classes.txt or labels.txt in a folder, one per line; return None without such a file.

    Raises:
        ArgumentError: If a name is repeated.
        DataError: If the file is empty, has an empty line or is not UTF-8 text.
    """
    path = next((folder / name for name in CLASS_FILES if (folder / name).is_file()), None)
    if path is None:
        return None
    names = [one_form(line.strip()) for line in read_lines(path)]
    while names and not names[-1]:
        names.pop()
    if not names or not all(names):
        raise DataError(f"{path} must hold one class name per line, got an empty line. Correct the file.")
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise invalid(str(path), "made of different names", twice[0], "Correct the file")
    return names
