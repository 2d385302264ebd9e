"""Files of a data set, in a folder or at an address."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from fastcell.dataset.dataset_info import DatasetInfo
from fastcell.storage.places import check_output_folder

if TYPE_CHECKING:
    from fastcell.remote.remote_dataset import RemoteDataset


@dataclass(frozen=True, repr=False)
class DatasetFiles:
    """A data set as files.

    Attributes:
        path: folder of the tables; a copy of them for a data set at an address.
        info: content of ``dataset.json``.
        remote: the data set at its address, or the shards there of a data set on this machine; None if all is on this
            machine.
    """

    path: Path
    info: DatasetInfo
    remote: RemoteDataset | None = field(default=None, kw_only=True)

    @property
    def place(self) -> str:
        """Folder or address of the data set, as commands take it."""
        return str(self.remote if self.is_at_address else self.path)

    def place_of(self, name: str) -> str:
        """Return the path or address of a file of the data set, for messages."""
        return str(self.path / name) if self.remote is None else self.remote.place_of(name)

    @property
    def is_at_address(self) -> bool:
        """Whether the tables are at an address, too."""
        return self.remote is not None and not self.remote.tables_here

    @property
    def whole_place(self) -> str:
        """Absolute path or address of the data set, for files that are read elsewhere."""
        return str(self.remote if self.is_at_address else self.path.absolute())

    def check_writable(self) -> None:
        """Check before any work that files can be written into the data set.

        Raises:
            ArgumentError: the folder cannot be written, or the address is of a web server.
            DataError: the store refuses to write.
        """
        if self.remote is None or self.remote.tables_here:
            check_output_folder("DATA", self.path)
        else:
            self.remote.check_writable()

    def written(self, name: str) -> None:
        """Bring a file that was written into `path` to the data set; does nothing for a folder of this machine.

        Args:
            name: name of the file in `path`, e.g. ``verdicts.csv``.

        Raises:
            DataError: the store cannot be reached or refuses to write.
        """
        if self.remote is not None and not self.remote.tables_here:
            self.remote.upload(name)

    def remove(self, name: str) -> None:
        """Remove a file of the data set, which need not exist, from `path` and from its address.

        Args:
            name: name of the file in `path`, e.g. ``splits/by-group.parquet``.

        Raises:
            DataError: another machine has written the file since it was copied, or the store refuses.
        """
        if self.remote is not None and not self.remote.tables_here:
            self.remote.remove(name)
        (self.path / name).unlink(missing_ok=True)

    def shard_path(self, index: int) -> Path:
        """Return the path of a shard, given its index into ``info.shards``; one at an address is downloaded first."""
        shard = self.info.shards[index]
        if self.remote is not None:
            return self.remote.fetch_shard(shard["name"], shard["bytes"])
        return self.path / shard["name"]

    def open_shard(self, name: str, flags: int = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK) -> int:
        """Return a file descriptor of a shard by name; one at an address is downloaded first.

        Raises:
            OSError: the shard is missing or cannot be opened.
            DataError: the shard has vanished or changed since the data set was opened, or cannot be downloaded.
        """
        if self.remote is not None:
            return self.remote.open_shard(name, self.shard_sizes[name], flags)
        return os.open(self.path / name, flags)  # without O_NONBLOCK, opening a named pipe would block

    def has_shards(self) -> bool:
        """Return whether any shard is there."""
        if self.remote is not None:
            return any(self.remote.has_shard(shard["name"]) for shard in self.info.shards)
        return any((self.path / shard["name"]).exists() for shard in self.info.shards)

    @cached_property
    def shard_sizes(self) -> dict[str, int]:
        """Bytes of each shard by name."""
        return {shard["name"]: shard["bytes"] for shard in self.info.shards}
