"""Check before any work that an output can be written, and reject addresses in place of paths."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from urllib.parse import unquote

from fastcell.errors import ArgumentError, invalid
from fastcell.storage.whole_files import is_special, make_scratch_folder

_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.:-]*://|([A-Za-z][A-Za-z0-9+.-]*):/(?!/)")
_SCHEMES = "abfs abfss adl az blob ftp ftps gcs gdrive gs hdfs hf http https oss s3 s3a s3n scp sftp smb ssh wasb wasbs"
_FREE_TEXT = ("--trainer.", "--name", "--collection", "--model-id", "--model_id", "--pattern", "--scheduler")
_NO_PATHS = (
    *_FREE_TEXT,
    "--source",
    "--licence",
    "--split",
    "--group",
    "--methods",
    "--freeze",
    "--trust",
    "--channel",
)
"""Beginnings of the options whose value is not a path, so that an address in it is only text."""
_OF_DATA = ("--data", "--apply", "--tta")
"""Beginnings of the options that may precede the address of a data set, which is their value or follows them."""
_OF_A_SET = (
    "dataset.json manifest.parquet features.parquet quality.parquet quarantine.parquet duplicates.parquet "
    "blocks.parquet verdicts.csv marks.jsonl"
)
_OF_A_RUN = "config.yaml environment.json metrics.csv metrics.json predictions.parquet confusion.csv losses.csv"
_PROBE_BYTES = 1 << 16


def local_path(name: str, value: str | os.PathLike[str]) -> Path:
    """Return a value as a local path; ``file:///data`` becomes ``/data``.

    Args:
        name: the argument, as the user wrote it.
        value: the path. `pathlib` turns ``s3://bucket`` into ``s3:/bucket``; both are refused.

    Raises:
        ArgumentError: the value is an address such as ``s3://bucket/cells``, or contains a zero byte or bytes that are
            not UTF-8, which are not allowed in the paths of tables and figures.
    """
    text = os.fspath(value)
    if "\0" in text:
        raise invalid(name, "a path", text, "A path cannot contain a zero byte")
    if any("\ud800" <= letter <= "\udfff" for letter in text):  # bytes of a name that are no UTF-8
        raise invalid(name, "a path in UTF-8", text, "Rename the file or the folder")
    if found := re.match(r"file://(?:localhost)?(?=/)", text):
        return Path(unquote(text[found.end() :]))
    if is_address(text) and not Path(text).exists():
        hint = "Copy it to a disk, or mount its store; only data sets are taken at addresses"
        if ":///" in text:
            hint = "An address names a bucket or a host behind ://, as s3://bucket/cells does"
        raise invalid(name, "a path on this machine", text, hint)
    return Path(value)


def is_address(text: str) -> bool:
    """Return whether a text is an address: schemes followed by ``://``, or a known scheme followed by ``:/``."""
    found = _ADDRESS.match(text)
    return found is not None and (found[1] is None or found[1].lower() in _SCHEMES.split())


def local_words(
    words: Sequence[str],
    reads_addresses: bool = False,
    writes_addresses: bool = False,
    has_data_option: bool = False,
) -> list[str]:
    """Return the arguments of a command with ``file:///data`` as ``/data``.

    Args:
        words: the arguments.
        reads_addresses: the command takes addresses as an argument without an option, or in ``--data.path``, and
            refuses those that it does not take.
        writes_addresses: it takes them in ``--out``, too.
        has_data_option: it takes them in ``--data`` alone.

    Raises:
        ArgumentError: an argument is empty or an address, unless it is the value of an option that takes any text; or
            the value of an option is no UTF-8. Empty arguments are refused because an empty path, as from an unset
            variable in a shell script, would mean the current folder.
    """
    local, option = [], ""
    for word in words:
        name, equals, value = word.partition("=") if word.startswith("-") else ("", "", word)
        if name:
            option = name
        if not value and (equals or not name) and not option.startswith(_FREE_TEXT):
            raise invalid(option or "argument", "a value", value, "It is empty: leave it out, or give one")
        if "\0" in value:
            raise invalid(option or "argument", "a text", value, "It contains a zero byte")
        if option and any("\ud800" <= letter <= "\udfff" for letter in value):
            raise invalid(option, "a text in UTF-8", value, "Its bytes are not text: write it in UTF-8")
        may_be_address = (
            (reads_addresses and (not option or option.startswith(_OF_DATA)))
            or (writes_addresses and option in ("-o", "--out"))
            or (has_data_option and option == "--data")
        )
        if value and not option.startswith(_NO_PATHS) and not (may_be_address and "://" in value):
            value = str(local_path(option or "argument", value)) if "://" in value else value
        local.append(name + equals + value)
        option = "" if value else option
    return local


def check_output_file(name: str, path: str | os.PathLike[str], *inputs: str | os.PathLike[str]) -> Path:
    """Check that a file can be written, before its contents are computed.

    Args:
        name: the argument, as the user wrote it.
        path: the file; an existing one is replaced.
        inputs: files that are read, and must not be replaced.

    Returns:
        The path.

    Raises:
        ArgumentError: it is an address, a folder, a device, an input, or a file of a data set or a run; its folder is
            missing or cannot be written, its name is too long, or the disk is full.
    """
    out = local_path(name, path)
    with _explained(name, out):
        if (owner := _owner(out)) is not None:
            raise invalid(name, "a file of its own", str(out), f"It belongs to the {owner}: choose another name")
        if out.is_dir():
            raise invalid(name, "a file", str(out), "It is a folder: name a file in it")
        if is_special(out):
            raise invalid(name, "a file", str(out), "It is a device or a pipe: name a file")
        for source in inputs:
            if out.exists() and Path(source).exists() and out.samefile(source):
                raise invalid(name, "a different file from the input", str(out), "Choose another name")
        _probe(name, "a file", out, out.absolute().parent)
    return out


def check_output_folder(name: str, path: str | os.PathLike[str], parents: bool = False) -> Path:
    """Check that a folder can be created or written to, before its contents are computed.

    Args:
        name: the argument, as the user wrote it.
        path: the folder.
        parents: missing folders above it will be made too.

    Returns:
        The path.

    Raises:
        ArgumentError: it is an address or a file, the folder that it is to be in is missing or cannot be written, its
            name is too long, or the disk is full.
    """
    out = local_path(name, path)
    with _explained(name, out):
        if out.is_dir():
            _probe(name, "a folder", out, out)
        elif out.exists() or out.is_symlink():
            raise invalid(name, "a folder", str(out), "It is not a folder: name another one")
        else:
            above = out.absolute().parent
            while parents and not os.path.lexists(above):
                above = above.parent
            _probe(name, "a folder", out, above)
    return out


def _owner(out: Path) -> str | None:
    """Return ``data set`` or ``run`` if an existing file is part of one; None otherwise."""
    folder = out.absolute().parent
    if not out.exists():
        return None
    if (folder / "dataset.json").exists() and (out.name in _OF_A_SET.split() or out.suffix == ".tar"):
        return "data set"
    if folder.name == "splits" and (folder.parent / "dataset.json").exists() and out.suffix == ".parquet":
        return "data set"
    is_run = (folder / "config.yaml").exists() and (folder / "environment.json").exists()
    return "run" if is_run and (out.name in _OF_A_RUN.split() or out.suffix == ".ckpt") else None


class _explained:  # noqa: N801, used as a context
    """Turn errors of the file system into an ArgumentError that names the argument."""

    def __init__(self, name: str, out: Path) -> None:
        self._name, self._out = name, out

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError):
            reason = (error.strerror or str(error)).lower()
            hint = "Free some space, change the permissions, or name another path"
            raise ArgumentError(
                f"{self._name} must be a path that can be written, got {str(self._out)!r} ({reason}). {hint}."
            ) from error


def _probe(name: str, kind: str, out: Path, folder: Path) -> None:
    """Check by writing some bytes that `folder` can hold a file with the name of `out`."""
    if not folder.is_dir():
        what = "is not a folder" if folder.exists() else "does not exist"
        raise invalid(name, f"{kind} in an existing folder", str(out), f"{str(folder)!r} {what}: create it first")
    with suppress(FileNotFoundError):
        out.lstat()  # raises an error if the name is too long
    scratch = make_scratch_folder(folder)
    try:
        (scratch / "probe").write_bytes(bytes(_PROBE_BYTES))
    finally:
        (scratch / "probe").unlink(missing_ok=True)
        scratch.rmdir()
