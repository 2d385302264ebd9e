"""The description of a packed data set, ``dataset.json``: classes, layout, shards, window."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastcell.dataset.rows.manifest_checks import check_info
from fastcell.dataset.schema import FORMAT_VERSION
from fastcell.errors import DataError, did_you_mean
from fastcell.remote.addresses import scheme_of
from fastcell.remote.object_cache import ObjectCache
from fastcell.storage.formats import check_format

if TYPE_CHECKING:
    from fastcell.remote.remote_dataset import RemoteDataset

_MOST_INFO_BYTES = 1 << 26


@dataclass
class DatasetInfo:
    """Description of a data set; the content of ``dataset.json``.

    Attributes:
        name: shown in reports.
        classes: class names in the order of their labels; empty for a data set without classes.
        layout: ``cell`` (one cell per record) or ``block`` (several hundred cells per record).
        shards: one ``{"name", "bytes", "num_cells"}`` per tar, in stored order.
        num_cells: number of rows of the manifest.
        num_quarantined: number of rows of the quarantine table when the data set was made.
        window: [low, high], grey levels of 16-bit sources that map to 0 and 255; None for 8-bit sources.
        um_per_px: micrometres per raw pixel if all cells share one value; None if unknown or different between cells.
        synthetic: True if the cells come from a simulator.
        generator: name and version of that simulator.
        seed: random seed of the stored order of the cells.
        created_by: program and version.
        source: where the cells come from, as given when packing.
        licence: licence of the cells, as given when packing.
        command: command that packs the same set; empty if another command made it.
        shards_at: address that the names of the shards are relative to; None for the place of the data set.
        format_version: version of this file layout.
    """

    name: str
    classes: list[str] = field(default_factory=list)
    layout: str = "cell"
    shards: list[dict[str, Any]] = field(default_factory=list)
    num_cells: int = 0
    num_quarantined: int = 0
    window: list[float] | None = None
    um_per_px: float | None = None
    synthetic: bool = False
    generator: str | None = None
    seed: int = 0
    created_by: str = ""
    source: str = ""
    licence: str = ""
    command: str = ""
    shards_at: str | None = None
    format_version: int = FORMAT_VERSION

    def to_json(self) -> str:
        """Return the text of ``dataset.json``."""
        values = asdict(self)
        if self.shards_at is None:
            del values["shards_at"]
        return json.dumps(values, indent=1, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str, path: Path | str) -> DatasetInfo:
        """Parse the text of ``dataset.json``.

        Args:
            text: content of the file.
            path: path or address of the file, for error messages.

        Raises:
            DataError: the text is not JSON, has another format version, lacks fields, or has an invalid value.
        """
        try:
            values = json.loads(text)
            made_by = str(values.get("created_by", "")).removeprefix("fastcell ")
            check_format("data set", values.get("format_version", "none"), path, made_by)
            names = {item.name for item in fields(cls)}
            known = {name: value for name, value in values.items() if name in names}
            check_info(known, path)
            return cls(**known)
        except (ValueError, TypeError, AttributeError, RecursionError) as error:
            raise DataError(
                f"{path} is not a dataset.json of fastcell ({error}). Pack or index the data again."
            ) from None


def read_info(path: str | os.PathLike[str], cache: ObjectCache | None = None) -> DatasetInfo:
    """Read only ``dataset.json`` of a folder or address ``path`` (fast: reads no Parquet file).

    Args:
        path: folder or address.
        cache: cache of a data set at an address; None for the default one.

    Raises:
        DataError: the folder or the file does not exist, or the file cannot be read.
    """
    remote = remote_at(path, cache)
    return info_in(Path(path) if remote is None else remote.folder, str(remote or path))


def remote_at(path: str | os.PathLike[str], cache: ObjectCache | None) -> RemoteDataset | None:
    """Return the data set at an address, with its tables copied; None for a path of this machine."""
    text = os.fspath(path)
    if scheme_of(text) is None or Path(text).exists():
        return None
    from fastcell.remote.remote_dataset import RemoteDataset

    return RemoteDataset.open(text, ObjectCache.of() if cache is None else cache)


def _near_data_set(folder: Path) -> str:
    """Return the question whether a data set of a similar name beside a missing folder was meant; empty if none is."""
    try:
        names = [path.parent.name for path in folder.parent.glob("*/dataset.json")]
    except OSError:
        return ""
    meant = did_you_mean(folder.name, names)
    return meant and f"Did you mean {folder.parent / meant.removeprefix('Did you mean ')}"


def info_in(folder: Path, place: str) -> DatasetInfo:
    """Read ``dataset.json`` in a folder; `place` is what the user calls the folder."""
    file = folder / "dataset.json"
    try:
        if file.exists() and (not file.is_file() or file.stat().st_size > _MOST_INFO_BYTES):
            raise DataError(
                f"{file} must be a file of at most {_MOST_INFO_BYTES:,} bytes. Pack or index the data again."
            )
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        what = "no such folder" if not folder.is_dir() else "no dataset.json in it"
        near = _near_data_set(folder) if scheme_of(place) is None and not folder.is_dir() else ""
        if near:
            raise DataError(f"{place} is not a packed data set ({what}). {near}") from None
        raise DataError(
            f"{place} is not a packed data set ({what}). Make one with `fastcell pack SRC {place}`, or "
            f"`fastcell index {place}` for WebDataset tars that are there."
        ) from None
    except (NotADirectoryError, UnicodeDecodeError):
        raise DataError(f"{place} is not a packed data set. Make one with `fastcell pack SRC OUT`.") from None
    return DatasetInfo.from_json(text, file if scheme_of(place) is None else f"{place}/dataset.json")
