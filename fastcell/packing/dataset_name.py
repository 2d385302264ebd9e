"""Default name of a data set: the last part of the source's path that is more specific than `images`."""

from __future__ import annotations

import os
import re
from pathlib import Path

from fastcell.sources.base import encoding_of
from fastcell.system.text import storable

_WORDS = """
    all archive array arrays bin bins cell cells cls crop cropped crops data dataset datasets default demo
    desktop dir documents downloads events experiment export exported exports file files final folder frame
    frames gray grey hdf home image images img imgs in index input jpeg jpg label labeled labelled labels mat
    media mnt montage new npy npz old out output outputs packed page pages patch patches pic pics picture
    pictures pixel pixels png processed public raw result results roi rois root rtdc sample samples set shard
    shards single source src stack stacks subset tar tars temp test testing tests tif tiff tile tiles tmp train
    training unlabeled unlabelled user users val valid validate validation version volumes wds webdataset zip
"""
GENERIC_WORDS = frozenset(_WORDS.split())
"""Words that do not tell one data set from another, in lower case."""

_SCRATCH = re.compile(
    r"tmp[a-z0-9_]{8}|tmp\.\w{6,}|\.?(tmp|temp)[-_.]?\d*|pytest-(of-.+|\d+)"  # mkdtemp, mktemp, pytest
    r"|\{?[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\}?|(?=.*[a-f])[0-9a-f]{16,}",  # UUID, digest
    re.IGNORECASE,
)
_WORD = re.compile(r"[^\W\d_]+|\d+")
_DATE_DIGITS = 4


def name_dataset(source: str | os.PathLike[str], out: str | os.PathLike[str] | None = None) -> str:
    """Return a name for the data set of a source.

    The name is the last part of the path that is not generic, e.g. `2024-05-03_donorA` for
    `/data/2024-05-03_donorA/images`. A part is generic if it consists of `GENERIC_WORDS` and of numbers below 1000, or
    is a name that a program made for a temporary folder. The user's home folder and the folders above it do not count.
    If every part is generic, the name is that of the new folder, or else that of the source.

    Args:
        source: file or folder of cells.
        out: folder of the data set; None if it is next to the source.
    """
    path = Path(source).resolve()
    names = [_without_endings(path.name) if path.is_file() else path.name]
    names += [parent.name for parent in path.parents if parent.name and not _is_above_home(parent)]
    if out is not None:
        names.append(Path(out).absolute().name)
    return str(storable(next((name for name in names if not _is_generic(name)), names[-1] if out else names[0])))


def _without_endings(name: str) -> str:
    stem = Path(name).stem
    while encoding_of(stem) or Path(stem).suffix.lower() in (".ome", ".tar"):
        stem = Path(stem).stem
    return stem


def _is_generic(name: str) -> bool:
    if _SCRATCH.fullmatch(name):
        return True
    words = _WORD.findall(name.lower())
    return all(word in GENERIC_WORDS or (word.isdecimal() and len(word) < _DATE_DIGITS) for word in words)


def _is_above_home(folder: Path) -> bool:
    homes = [Path.home(), Path(os.sep, "root")]
    return any(folder == home or folder in home.parents for home in homes) or folder.parent.name in ("home", "Users")
