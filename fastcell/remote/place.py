"""One address and the file system of `fsspec` behind it: listing, versions, reads of ranges, with retries by name."""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import random
import re
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, TypeVar

from fastcell.errors import ArgumentError, DataError, FastcellError, invalid
from fastcell.remote.addresses import WEB, join_address, scheme_of
from fastcell.system.optional_packages import install_hint

T = TypeVar("T")

logger = logging.getLogger(__name__)

TRIES = 7
"""Attempts at a request before it counts as failed; the waits between them are 0.25 s, 0.5 s, ... 8 s, with jitter."""
_FIRST_WAIT_S = 0.25
_MOST_S = 300.0
"""Time after which a request that fails is not repeated any more."""
_TOLD_AFTER = 3
"""Attempts after which the user is told."""
_SILENCE_S, _CONNECT_S = 60.0, 30.0
"""Time that a web server may take to send something more, and to accept a connection."""
_PIECE_BYTES = 1 << 20
_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_SENDS_RANGES: dict[str, bool] = {}
_STAMPS = (
    "ETag",
    "etag",
    "e_tag",
    "md5Hash",
    "md5",
    "Content-MD5",
    "Digest",
    "blob_id",
    "content_settings",
    "generation",
)
_TIMES = ["LastModified", "last_modified", "Last-Modified", "lastModified", "mtime", "modified", "updated", "created"]
_LIBRARIES = re.compile(
    "(adlfs|aiobotocore|aiohttp|anyio|asyncssh|azure|boto3|botocore|concurrent|fsspec|gcsfs|google|http|httpcore|httpx|"
    "huggingface_hub|paramiko|pyarrow|requests|s3fs|smbclient|smbprotocol|ssl|urllib3|webdav4)([.].*)?"
)
"""Modules of the exceptions of stores."""
_GONE = (404, 410)
_RETRIED_STATUS = (408, 425, 429)
_NO_CREDENTIALS = ("NoCredentialsError", "PartialCredentialsError", "DefaultCredentialsError", "ProfileNotFound")


class Version(NamedTuple):
    """Size and stamp that distinguish one version of an object from another.

    Attributes:
        size: bytes; None if the server does not tell.
        stamp: hash, entity tag or time of the object as text; empty if the server gives none.
    """

    size: int | None
    stamp: str

    def may_be(self, other: Version) -> bool:
        """Return whether both can be one version; a size that the server did not tell may be any."""
        return self.stamp == other.stamp and (None in (self.size, other.size) or self.size == other.size)


@dataclass(frozen=True)
class RemotePlace:
    """A folder or an object at an address. It may be pickled; each process connects by itself.

    Attributes:
        address: the address, without credentials.
    """

    address: str

    @property
    def is_web(self) -> bool:
        """Whether the address is of a web server, which nothing can be written to."""
        return scheme_of(self.address) in WEB

    @cached_property
    def _opened(self) -> tuple[Any, str]:
        """The file system and the path in it.

        Raises:
            ArgumentError: fsspec knows no such scheme.
            FastcellError: the package for the scheme is not installed.
        """
        try:
            import fsspec
            from fsspec.core import url_to_fs
        except ModuleNotFoundError as error:
            raise _missing(self.address, error) from None
        scheme = scheme_of(self.address)
        if scheme not in (*fsspec.available_protocols(), *fsspec.registry):
            hint = "Use s3://, https://, gs://, az://, hf:// or another scheme of fsspec"
            raise invalid("address", "one whose scheme is known", self.address, hint)
        try:
            options = _web_options(scheme) if self.is_web else {}
            system, path = url_to_fs(self.address, use_listings_cache=False, **options)
        except ImportError as error:
            raise _missing(self.address, error) from None
        except (ValueError, TypeError) as error:
            raise ArgumentError(f"{self.address} is not a valid address ({_reason(error)}). Correct it.") from None
        return system, path

    def __getstate__(self) -> dict[str, str]:
        return {"address": self.address}

    def below(self, name: str) -> RemotePlace:
        """Return the place of an object below this one."""
        return RemotePlace(join_address(self.address, name))

    @property
    def sends_ranges(self) -> bool | None:
        """Whether the server sends ranges of the objects in this folder; None if it is not known yet."""
        return _SENDS_RANGES.get(self.address.rsplit("/", 1)[0]) if self.is_web else True

    def connect(self) -> None:
        """Find the library for the scheme.

        Raises:
            FastcellError: the scheme is unknown, or its package is not installed.
        """
        self._opened  # noqa: B018

    def names(self, folder: str = "") -> dict[str, Version] | None:
        """Return the objects directly in a folder below this place, by name; None if the server lists nothing.

        A web server lists names in an index page, if it has one; their versions are not known then (size None).

        Raises:
            DataError: the store cannot be reached or refuses the request.
        """
        place = self.below(folder) if folder else self
        system, path = place._opened

        def listed() -> dict[str, Version]:
            found = system.ls(path + "/" * self.is_web, detail=True)
            own = path.rstrip("/")  # an object is listed as the only one below it
            files = [item for item in found if item.get("type", "file") == "file" and item["name"].rstrip("/") != own]
            return {str(item["name"]).rstrip("/").rsplit("/", 1)[-1]: _version(item) for item in files}

        try:
            return place._tried(listed, "listed")
        except FileNotFoundError:
            return None if self.is_web else {}
        except DataError:
            if self.is_web:  # many servers refuse to list
                return None
            raise

    def names_below(self) -> dict[str, Version] | None:
        """Return all objects below this place by their names relative to it; None if the server lists nothing.

        Of a web server, only the objects directly in the folder are found, in its index page.

        Raises:
            DataError: the store cannot be reached or refuses the request.
        """
        if self.is_web:
            return self.names()
        system, path = self._opened
        start = f"{path.rstrip('/')}/"
        found = self._tried(lambda: system.find(path, detail=True), "listed")
        return {name.removeprefix(start): _version(found[name]) for name in found if name.startswith(start)}

    def version(self) -> Version:
        """Return the present version of the object.

        Raises:
            FileNotFoundError: there is no such object.
            DataError: the store cannot be reached or refuses the request.
        """
        system, path = self._opened

        def asked() -> Version:
            found = system.info(path)
            if found.get("type") == "directory":
                raise FileNotFoundError(self.address)
            return _version(found)

        return self._tried(asked, "read")

    def read(self) -> bytes:
        """Return the whole object; for small ones.

        Raises:
            FileNotFoundError: there is no such object.
            DataError: the store cannot be reached or refuses the request.
        """
        system, path = self._opened
        return self._tried(lambda: bytes(system.cat_file(path)), "read")

    def read_ranges(self, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        """Read ranges of the object at the same time, or from the whole object if the server sends no ranges.

        Args:
            ranges: (start, end) in bytes; each lies in the object.

        Raises:
            FileNotFoundError: there is no such object.
            DataError: the store cannot be reached or refuses the request.
        """
        system, path = self._opened
        parts: dict[int, bytes] = {}

        def asked() -> None:  # for those that are missing: of many ranges some may fail each time
            left = [place for place in range(len(ranges)) if place not in parts]
            if self.sends_ranges is None:  # a server that knows none would send the whole object for each
                left = left[:1]
            starts, ends = zip(*(ranges[place] for place in left), strict=True)
            found = system.cat_ranges([path] * len(left), list(starts), list(ends), on_error="return")
            failed: list[Exception] = []
            for place, start, end, part in zip(left, starts, ends, found, strict=True):
                if isinstance(part, Exception):
                    failed.append(part)
                elif len(part) == end - start:
                    parts[place] = bytes(part)
                    if start > 0:
                        self._note(True)
                elif len(part) >= max(end for _, end in ranges):  # the whole object
                    parts.update({place: bytes(part[start:end]) for place, (start, end) in enumerate(ranges)})
                    self._note(False)
                    return
                else:
                    failed.append(EOFError(f"{len(part):,} bytes were sent, {end - start:,} were asked for"))
            if failed:
                raise failed[0]

        while len(parts) < len(ranges):
            self._tried(asked, "read")
        return [parts[place] for place in range(len(ranges))]

    def copy_whole(self, file: BinaryIO, size: int, between: Callable[[], None] = lambda: None) -> None:
        """Write the whole object into a file in one request, for a server that sends no ranges.

        Args:
            file: a file of this machine; what it holds is discarded.
            size: bytes of the object; what the server sends behind them is left out.
            between: called between pieces; an exception of it ends the download.

        Raises:
            FileNotFoundError: there is no such object.
            DataError: the store cannot be reached or refuses the request.
            OSError: the file cannot be written.
        """
        system, path = self._opened

        def asked() -> None:
            file.seek(0)
            file.truncate()
            with system.open(path, block_size=0) as source:
                while data := source.read(_PIECE_BYTES):
                    between()
                    file.write(data)
            if file.tell() < size:
                raise EOFError(f"{file.tell():,} bytes were sent, {size:,} were asked for")
            file.truncate(size)

        self._tried(asked, "read")

    def _note(self, sends_ranges: bool) -> None:
        if self.is_web:
            _SENDS_RANGES[self.address.rsplit("/", 1)[0]] = sends_ranges

    def write(self, source: str) -> None:
        """Write a file of this machine as the object.

        Raises:
            DataError: the store cannot be reached or refuses the request.
        """
        system, path = self._opened
        try:
            self._tried(lambda: system.put_file(source, path), "written")
        except FileNotFoundError:
            hint = "Check the names of bucket and folder"
            raise DataError(f"{self.address} cannot be written (no such bucket or folder). {hint}.") from None

    def check_writable(self, scratch: Path) -> None:
        """Check by a small object that something can be written below this place.

        The object ``.probe`` stays there if it cannot be removed.

        Args:
            scratch: folder of this machine for the content of the object.

        Raises:
            DataError: the store cannot be reached or refuses to write.
        """
        probe, path = self.below(".probe"), scratch / f".probe-{os.urandom(8).hex()}"
        path.write_bytes(b"fastcell")
        try:
            probe.write(str(path))
            with suppress(DataError):  # rights to write need not be rights to remove
                probe.remove()
        finally:
            path.unlink()

    def remove(self) -> None:
        """Remove the object, if it is there.

        Raises:
            DataError: the store cannot be reached or refuses the request.
        """
        system, path = self._opened
        try:
            self._tried(lambda: system.rm_file(path), "removed")
        except FileNotFoundError:
            return

    def _tried(self, work: Callable[[], T], what: str) -> T:
        """Return the result of a request; repeat it after failures that may pass.

        Raises:
            FileNotFoundError: there is no such object.
            DataError: the request fails for good; the message names the address.
        """
        begin = time.monotonic()
        for attempt in range(TRIES):
            try:
                return work()
            except FastcellError:
                raise
            except Exception as raised:
                error = _behind(raised)
                if isinstance(error, FileNotFoundError):
                    raise FileNotFoundError(self.address) from None
                if not _is_of_store(error):
                    raise
                is_last = attempt == TRIES - 1 or time.monotonic() - begin > _MOST_S
                if is_last or not _may_pass(error):
                    raise _failed(self.address, what, error) from None
                if attempt + 1 == _TOLD_AFTER:
                    logger.warning("%s cannot be %s (%s): it is tried again", self.address, what, _reason(error))
            time.sleep(_FIRST_WAIT_S * 2**attempt * random.uniform(0.5, 1))
        raise AssertionError


def digest_of(*texts: str) -> str:
    """Return a hash of texts as 32 hexadecimal digits, for names of files."""
    return hashlib.blake2b("\0".join(texts).encode(), digest_size=16).hexdigest()


def _web_options(scheme: str | None) -> dict[str, Any]:
    """Return the options of fsspec for a web server: no compressed answers, no limit for the time of a whole answer."""
    import aiohttp
    from fsspec.config import conf

    given = conf.get(scheme, {})
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_S, sock_read=_SILENCE_S)
    return {
        "headers": {"Accept-Encoding": "identity", **given.get("headers", {})},
        "client_kwargs": {"timeout": timeout, **given.get("client_kwargs", {})},
    }


def _version(found: dict[str, Any]) -> Version:
    size = found.get("size", found.get("Size"))
    stamps = [str(found[name]) for name in _STAMPS if found.get(name)][:1]
    stamps = stamps or [_time_text(found[name]) for name in _TIMES if found.get(name)][:1]
    return Version(int(size) if isinstance(size, int) else None, stamps[0] if stamps else "")


def _time_text(moment: Any) -> str:
    """Return a time as text; some file systems list seconds and tell a date when they are asked for one object."""
    seconds = moment.timestamp() if isinstance(moment, datetime) else moment
    return f"{seconds:.6f}" if isinstance(seconds, int | float) else str(seconds)


def _behind(error: Exception) -> Exception:
    """Return the error behind one of a web server: fsspec says not found where any request for the size fails."""
    cause = error.__cause__
    if not isinstance(error, FileNotFoundError) or not isinstance(cause, Exception):
        return error
    failed = isinstance(cause, OSError | TimeoutError) and not isinstance(cause, FileNotFoundError)
    return cause if failed or getattr(cause, "status", _GONE[0]) not in _GONE else error


def _is_of_store(error: Exception) -> bool:
    if isinstance(error, OSError) and error.errno in _DISK_ERRORS:
        return False
    modules = [kind.__module__ for kind in type(error).__mro__]
    return isinstance(error, OSError | TimeoutError | EOFError) or any(map(_LIBRARIES.fullmatch, modules))


def _may_pass(error: Exception) -> bool:
    status = getattr(error, "status", None)
    if isinstance(status, int) and 400 <= status < 500:
        return status in _RETRIED_STATUS
    return not isinstance(error, PermissionError | NotADirectoryError | IsADirectoryError) and not _lacks_rights(error)


def _lacks_rights(error: Exception) -> bool:
    return isinstance(error, PermissionError) or type(error).__name__ in _NO_CREDENTIALS


def _failed(address: str, what: str, error: Exception) -> DataError:
    hint = "Check the address, the connection and the server, and run the command again"
    if _lacks_rights(error) or getattr(error, "status", None) in (401, 403):
        hint = "Give the rights or credentials where the store's own library looks for them"
    return DataError(f"{address} cannot be {what} ({_reason(error)}). {hint}.")


def _reason(error: BaseException) -> str:
    text = (str(error).strip().splitlines() or [""])[0][:200].rstrip(".")
    status = getattr(error, "status", None)
    if isinstance(status, int):
        return f"status {status} {getattr(error, 'message', '')}".strip()
    return text or type(error).__name__


def _missing(address: str, error: ImportError) -> FastcellError:
    package = {"s3": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "az": "adlfs", "abfs": "adlfs", "hf": "huggingface_hub"}
    scheme = scheme_of(address) or ""
    name = package.get(scheme) or ("aiohttp" if scheme in WEB else error.name or "fsspec")
    hint = install_hint(name) if scheme in ("gs", "gcs", "az", "abfs", "hf") else install_hint(extra="remote")
    return FastcellError(f"{scheme}:// needs the package {name}, which is not installed. {hint}")
