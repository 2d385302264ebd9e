"""A large manifest as files that are mapped into memory: read from Parquet and checked once, then shared.

Each column of numbers is one array in a NumPy file; columns of text are in one Arrow file of many batches. All
processes of a machine that open the data set share the pages of these files, and a page that nobody reads takes no
memory. The files are in the user's cache folder, never in the data set: rows of a data set from an untrusted source are
only trusted after this machine has checked them. They are made again if ``manifest.parquet`` or ``dataset.json`` has
changed::

    cache folder/manifests/HASH OF THE PATH/facts.json     what the files were made from; written last
                                            NAME/*.npy     columns of numbers; classes, encodings, groups as numbers
                                            NAME/texts.arrow
                                            NAME/groups.json
"""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from filelock import FileLock

from fastcell.dataset.decode import ENCODINGS
from fastcell.dataset.parquet import PART_ROWS, read_parquet_parts
from fastcell.dataset.rows.byte_values import byte_values
from fastcell.dataset.rows.cell_groups import CellGroups, GroupNumbers
from fastcell.dataset.rows.manifest_checks import ManifestChecks
from fastcell.dataset.schema import SCHEMA
from fastcell.storage.whole_files import make_scratch_folder, read_json_file, write_json
from fastcell.system.resources import cache_dir

_FORMAT = 2
_TEXTS, _GROUPS = "texts.arrow", "groups.json"
_SPARE = 1.2  # free disk space for each byte of the columns

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class MappedRows:
    """Columns of a manifest, mapped from files.

    Attributes:
        table: N rows of `SCHEMA`.
        class_codes: (N,) signed integers, index into the classes of ``dataset.json``, -1 for a cell without a class.
        encoding_codes: (N,) int8, index into `fastcell.dataset.decode.ENCODINGS`.
        groups: group of each cell; None if no cell has a group.
    """

    table: pa.Table
    class_codes: np.ndarray
    encoding_codes: np.ndarray
    groups: CellGroups | None


def map_rows(path: Path, info: Any, finish: Callable[[pa.Table], object]) -> MappedRows | None:
    """Return the rows of a large manifest; the first call for a content reads the Parquet file and checks every row.

    Args:
        path: ``manifest.parquet``.
        info: `DatasetInfo`, checked.
        finish: called with the rows after they were read again, to check other files of the data set against them.

    Returns:
        The rows; None if the cache folder cannot hold them, or if the file is missing.

    Raises:
        DataError: the file is damaged, or a row violates a rule.
    """
    if not path.is_file():
        return None
    entry = cache_dir() / "manifests" / blake2b(os.fsencode(path.absolute()), digest_size=16).hexdigest()
    found = _find(entry, path, info)
    if found is not None:
        return found
    with _lock(entry) as is_held:
        if is_held and (_find(entry, path, info) is not None or _make(entry, path, info, finish)):
            return _find(entry, path, info)
    return None


def _find(entry: Path, path: Path, info: Any) -> MappedRows | None:
    """Return the rows of finished files; None if there are none, or if they were made from other content."""
    facts = read_json_file(entry / "facts.json")
    if not isinstance(facts, dict) or facts.get("format") != _FORMAT or facts.get("info") != _info_hash(info):
        return None
    now = _stamps(path)
    if facts["stamps"] != now:  # copied, or only touched
        sizes = [{name: stamp[0] for name, stamp in stamps.items()} for stamps in (facts["stamps"], now)]
        if sizes[0] != sizes[1] or facts["hashes"] != _hashes(path):
            return None
        with suppress(OSError):
            write_json(entry / "facts.json", {**facts, "stamps": now})
    folder = entry / facts["folder"]
    try:
        if any((folder / name).stat().st_size != size for name, size in facts["files"].items()):
            return None
        return _open(folder, info.num_cells)
    except FileNotFoundError:  # removed by the user, or made again by another process at this moment
        return None


def _open(folder: Path, num_rows: int) -> MappedRows:
    texts = pa.ipc.open_file(pa.memory_map(str(folder / _TEXTS))).read_all()
    columns = []
    for field in SCHEMA:
        if _is_text(field):
            columns.append(texts.column(field.name))
        else:
            values = np.load(folder / f"{field.name}.npy", mmap_mode="r")
            buffers = [None, pa.py_buffer(values)]
            columns.append(pa.chunked_array([pa.Array.from_buffers(field.type, num_rows, buffers)]))
    names = ("class_codes", "encoding_codes", "group_codes")
    classes, encodings, groups = (np.asarray(np.load(folder / f"{name}.npy", mmap_mode="r")) for name in names)
    named = json.loads((folder / _GROUPS).read_text())
    rows = pa.Table.from_arrays(columns, schema=SCHEMA)
    return MappedRows(rows, classes, encodings, None if named is None else CellGroups(groups, named))


def _make(entry: Path, path: Path, info: Any, finish: Callable[[pa.Table], object]) -> bool:
    """Read and check the rows, and write the files.

    Returns:
        False if the disk is full or cannot be written, or the file cannot be what ``dataset.json`` says.
    """
    try:
        metadata = pq.read_metadata(path)
    except (OSError, pa.ArrowException):
        return False  # the usual reading says what is wrong
    if metadata.num_rows != info.num_cells:
        return False
    stored = sum(metadata.row_group(number).total_byte_size for number in range(metadata.num_row_groups))
    needed = _SPARE * max(stored, info.num_cells * SCHEMA.field("cell_id").type.byte_width)
    try:
        _remove_orphans(entry)
        free = shutil.disk_usage(entry).free
        if free < needed:
            raise OSError(f"{free:,} bytes are free, {needed:,.0f} needed")
        scratch = make_scratch_folder(entry)
    except OSError as error:
        logger.info("the rows of %s are read into memory: %s (%s)", path, error, entry)
        return False
    try:
        stamps, hashes = _stamps(path), _hashes(path)
        _write(scratch, path, info)
        finish(_open(scratch, info.num_cells).table)
        name = f"columns-{os.urandom(4).hex()}"
        files = {file.name: file.stat().st_size for file in scratch.iterdir()}
        scratch.rename(entry / name)
        facts = {"format": _FORMAT, "path": str(path.absolute()), "folder": name, "files": files}
        write_json(entry / "facts.json", {**facts, "info": _info_hash(info), "stamps": stamps, "hashes": hashes})
        for old in entry.glob("columns-*"):
            if old.name != name:
                shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        logger.info("the rows of %s are read into memory: %s", path, error)
        return False
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return True


def _write(folder: Path, path: Path, info: Any) -> None:
    """Write the columns of a manifest into a folder, in parts, with all checks."""
    num_rows, checks = info.num_cells, ManifestChecks(info, path)
    numbers = {
        field.name: _new_column(folder, field.name, field.type, num_rows) for field in SCHEMA if not _is_text(field)
    }
    classes, encodings = pa.array(info.classes, pa.string()), pa.array(ENCODINGS)
    codes = {
        "class": _new_array(folder, "class_codes", np.min_scalar_type(-len(classes) - 1), (num_rows,)),
        "encoding": _new_array(folder, "encoding_codes", np.dtype(np.int8), (num_rows,)),
    }
    groups, groups_known = _new_array(folder, "group_codes", np.dtype(np.int32), (num_rows,)), GroupNumbers()
    texts = [field.name for field in SCHEMA if _is_text(field)]
    begin, has_groups = 0, False
    with pa.OSFile(str(folder / _TEXTS), "wb") as sink, pa.ipc.new_file(sink, _select(texts)) as writer:
        for table in read_parquet_parts(path, SCHEMA):
            checks.add(table)
            end = begin + table.num_rows
            for name, target in numbers.items():
                target[begin:end] = _values(table.column(name))
            for name, known in (("class", classes), ("encoding", encodings)):
                index = pc.index_in(table.column(name), value_set=known, skip_nulls=True).fill_null(-1)
                codes[name][begin:end] = index.to_numpy()
            column = table.column("group")
            groups[begin:end] = groups_known.add(column.chunk(0))
            has_groups = has_groups or column.null_count < len(column)
            writer.write_table(table.select(texts))
            begin = end
        checks.finish()
    names, rank = groups_known.sorted()
    for part in np.array_split(groups, num_rows // PART_ROWS + 1):
        part[:] = rank[part]
    (folder / _GROUPS).write_text(json.dumps(names if has_groups else None))
    for array in [*numbers.values(), *codes.values(), groups]:
        array.flush()
    for file in folder.iterdir():
        with open(file, "rb") as opened:
            os.fsync(opened.fileno())


def _is_text(field: pa.Field) -> bool:
    return bool(pa.types.is_string(field.type))


def _select(names: Iterable[str]) -> pa.Schema:
    return pa.schema([SCHEMA.field(name) for name in names])


def _new_column(folder: Path, name: str, kind: pa.DataType, num_rows: int) -> np.memmap:
    if pa.types.is_fixed_size_binary(kind):
        return _new_array(folder, name, np.dtype(np.uint8), (num_rows, kind.byte_width))
    return _new_array(folder, name, np.dtype(kind.to_pandas_dtype()), (num_rows,))


def _new_array(folder: Path, name: str, dtype: np.dtype[Any], shape: tuple[int, ...]) -> np.memmap:
    return np.lib.format.open_memmap(folder / f"{name}.npy", "w+", dtype, shape)


def _values(column: pa.ChunkedArray) -> np.ndarray:
    """Return numbers as (n,), fixed binary values as (n, width) uint8."""
    if not pa.types.is_fixed_size_binary(column.type):
        return column.to_numpy()
    return byte_values(column)


def _sources(path: Path) -> list[Path]:
    """Return the files of a data set that are checked together: the manifest, and the blocks if there are any."""
    return [path, *filter(Path.exists, [path.with_name("blocks.parquet")])]


def _stamps(path: Path) -> dict[str, list[int]]:
    """Return size, inode and times of modification and of change of the files; a copy of equal content differs."""
    found = {}
    for file in _sources(path):
        status = file.stat()
        found[file.name] = [status.st_size, status.st_ino, status.st_mtime_ns, status.st_ctime_ns]
    return found


def _hashes(path: Path) -> dict[str, str]:
    found = {}
    for file in _sources(path):
        digest = blake2b(digest_size=16)
        with open(file, "rb", buffering=0) as opened:
            while data := opened.read(1 << 20):
                digest.update(data)
        found[file.name] = digest.hexdigest()
    return found


def _info_hash(info: Any) -> str:
    """Return a hash of what dataset.json says about the rows."""
    facts = {name: value for name, value in asdict(info).items() if name in ("classes", "layout", "window", "shards")}
    return blake2b(json.dumps([facts, info.num_cells], sort_keys=True).encode(), digest_size=16).hexdigest()


@contextmanager
def _lock(entry: Path) -> Iterator[bool]:
    """Hold the lock of a folder and yield True; yield False if the folder cannot be made or locked."""
    try:
        entry.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = FileLock(entry / "lock")
        lock.acquire()
    except (OSError, NotImplementedError) as error:
        logger.info("no manifest is mapped: %s", error)
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


def _remove_orphans(entry: Path) -> None:
    """Remove the files of other data sets that are no longer there."""
    for facts_path in entry.parent.glob("*/facts.json"):
        facts = read_json_file(facts_path)
        gone = not isinstance(facts, Mapping) or not Path(str(facts.get("path"))).exists()
        if gone and facts_path.parent != entry:
            shutil.rmtree(facts_path.parent, ignore_errors=True)
