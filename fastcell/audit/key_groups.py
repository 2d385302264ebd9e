"""Look for recordings in the keys of cells without groups: a start or an end that determines the class."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fastcell.audit.findings import Finding
from fastcell.dataset.manifest import Manifest
from fastcell.splits.obstacles import STRAYS

_KEY, _TITLE = "recordings_in_keys", "recordings in the keys"
_BETWEEN = re.compile(r"[/\\_\-. ]+")
_DEEPEST = 4  # tokens of a part
_LEAST_CELLS = 5  # a part of fewer cells is the number of a cell, not the name of a recording
_MOST_SMALL = 0.2  # share of the cells that may have such a part
_MOST_NAMES = 5


@dataclass(frozen=True)
class KeyParts:
    """Parts of the keys that look like the names of recordings.

    Attributes:
        place: ``start`` or ``end`` of the key.
        names: the G parts.
        table: (K, G) int64, labelled cells by class and part.
        determines: whether every part holds cells of one class, except for a share `STRAYS` of its cells and of the
            class.
    """

    place: str
    names: list[str]
    table: np.ndarray
    determines: bool


def find_key_parts(keys: Sequence[str], labels: np.ndarray, classes: Sequence[str]) -> KeyParts | None:
    """Return the shortest parts that determine the class, else the shortest starts like recordings; None if none.

    A key is divided into tokens at ``/ _ - .`` and spaces; its ending and tokens that are the name of its own class are
    left out. A part is the first one to four tokens, or else the last, never all of them. It must be shared by 5 cells
    or more, except for a fifth of the cells.

    Args:
        keys: N keys.
        labels: (N,) int, index into `classes`, -1 for a cell without a class; such cells are left out.
        classes: K names.
    """
    rows = np.flatnonzero(labels >= 0)
    if len(np.unique(labels[rows])) < 2:
        return None
    own = [{token.lower() for token in (name, *_BETWEEN.split(name)) if token} for name in classes]
    tokens = [_tokens(keys[row], own[labels[row]]) for row in rows.tolist()]
    first = None
    for place, cut in (("start", slice), ("end", lambda depth: slice(-depth, None))):
        for depth in range(1, _DEEPEST + 1):
            parts = [" ".join(words[cut(depth)]) if len(words) > depth else "" for words in tokens]
            found = _count(place, parts, labels[rows], len(classes))
            if found is not None and found.determines:
                return found
            first = first or (found if place == "start" else None)  # many cells end in the same numbers
    return first


def _tokens(key: str, own: set[str]) -> list[str]:
    stem = re.sub(r"\.[A-Za-z0-9]{1,5}$", "", key)
    return [token for token in _BETWEEN.split(stem) if token and token.lower() not in own]


def _count(place: str, parts: Sequence[str], labels: np.ndarray, num_classes: int) -> KeyParts | None:
    names, code, counts = np.unique(np.array(parts, str), return_inverse=True, return_counts=True)
    small = (counts < _LEAST_CELLS) | (names == "")
    if counts[small].sum() > _MOST_SMALL * len(labels) or (~small).sum() < 2:
        return None
    table = np.zeros((num_classes, len(names)), np.int64)
    np.add.at(table, (labels, code.reshape(-1)), 1)
    table = table[:, ~small]
    if (table.sum(axis=1) > 0).sum() < 2:
        return None
    return KeyParts(place, names[~small].tolist(), table, _determines(table))


def _determines(table: np.ndarray) -> bool:
    of_part, of_class = table.sum(axis=0), table.sum(axis=1)
    if (table.max(axis=0) < (1 - STRAYS) * of_part).any():
        return False
    known = np.zeros(len(table), np.int64)
    np.add.at(known, table.argmax(axis=0), table.max(axis=0))
    told = (of_class > 0) & (known >= (1 - STRAYS) * of_class)
    return bool(told.sum() > 1 and of_class[told].sum() >= (1 - STRAYS) * of_class.sum())


def key_finding(manifest: Manifest) -> Finding:
    """Return the finding on recordings in the keys of a data set without groups."""
    if manifest.groups is not None:
        return Finding(_KEY, _TITLE, verdict="skipped", notes=("the cells have groups.",))
    keys = manifest.table.column("key").to_pylist()
    found = find_key_parts(keys, np.where(manifest.verdicts(), manifest.labels, -1), manifest.info.classes)
    if found is None:
        return Finding(_KEY, _TITLE, verdict="ok", says={"else": "no start or end of the keys looks like a recording."})
    details = {
        "place": found.place,
        "parts": found.names,
        "table": found.table.tolist(),
        "determines": found.determines,
    }
    way = (
        "if these are recordings or donors, pack again with {group} in --pattern, or fastcell split --group-by PATTERN"
    )
    listed = ", ".join(found.names[:_MOST_NAMES]) + (", ..." if len(found.names) > _MOST_NAMES else "")
    if not found.determines:
        says = f"{len(found.names):,} starts of the keys ({listed}) are shared by many cells, of several classes."
        return Finding(_KEY, _TITLE, verdict="ok", says={"else": says}, advice={"ok": way}, details=details)
    classes = manifest.info.classes
    most, of_class = found.table.max(axis=1), found.table.sum(axis=1)
    alone = [
        f"{classes[label]} has {found.names[int(found.table[label].argmax())]} alone"
        for label in np.flatnonzero((of_class > 0) & (most >= (1 - STRAYS) * of_class)).tolist()
    ]
    strays = int((found.table.sum(axis=0) - found.table.max(axis=0)).sum())
    which = f"all but {strays:,} of the cells" if strays else "every cell"
    says = f"the {found.place} of the key predicts the class of {which}: {len(found.names):,} names ({listed}), each "
    says += "of one class. If they are recordings, a score may measure the recording instead of the class"
    says += f"; {', '.join(alone[:_MOST_NAMES])}: no split can separate them there." if alone else "."
    return Finding(_KEY, _TITLE, verdict="warning", says={"else": says}, advice={"warning": way}, details=details)
