"""Read WebDataset tars for their index: list the samples, decode every cell once, save the finished parts."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from fastcell.dataset import tar
from fastcell.dataset.decoder_messages import DecoderMessages
from fastcell.dataset.grey_window import Window
from fastcell.dataset.image_headers import MAX_FILE_BYTES
from fastcell.dataset.schema import SCHEMA, make_table
from fastcell.errors import BadCell, DataError
from fastcell.packing.quarantine import quarantine_row, quarantine_table
from fastcell.packing.records import CellTable, Record, ShardResult
from fastcell.packing.tar_sources import TarSource
from fastcell.sources.containers import file_reason
from fastcell.sources.image_folder import Pattern
from fastcell.sources.webdataset_samples import TarSample, list_samples, read_facts, sample_fields
from fastcell.storage.saved_pieces import load_pieces, save_pieces
from fastcell.system.messages import printer
from fastcell.system.progress_line import Progress
from fastcell.system.worker_processes import num_workers, run_tasks

_PART_CELLS = 2_000
_ONE_PROCESS_CELLS = 4_000  # starting workers takes longer than reading this many cells
_ONE_PROCESS_BYTES = 1 << 28
_MAX_LABEL_BYTES = 1 << 20


class _Tar(NamedTuple):
    """One tar to list, as sent to a worker; `saved` and the number of a part form the name of the part's saved file."""

    source: TarSource
    saved: str


class _Listed(NamedTuple):
    """The contents of one tar.

    Attributes:
        stamp: size and modification time of the tar.
        samples: the samples; None if all parts of the tar are saved.
        num: number of samples.
        others: how many members of each other extension were skipped.
        error: why the tar cannot be read; None if it can.
    """

    stamp: str
    samples: list[TarSample] | None
    num: int
    others: Counter[str]
    error: Exception | None = None


class _Part(NamedTuple):
    """Samples `start` to `start + num` of one tar, as sent to a worker; the samples are None if all parts are saved."""

    tar: _Tar
    shard: str
    listed: _Listed
    start: int
    num: int
    window: Window
    um_per_px: float
    pattern: Pattern | None

    @property
    def saved_path(self) -> Path:
        return _saved_path(self.tar, self.start)


class PartResult(NamedTuple):
    """Rows and quarantine of one part, with the text of the label as class, the number of unreadable labels,
    and the number of cells for which each option gave the value, see `check_index_options`."""

    rows: pa.Table
    quarantine: pa.Table
    num_unreadable: int
    used: Mapping[str, int]


def read_tars(
    sources: Sequence[TarSource],
    saved_dir: Path,
    common: tuple[Window, float, Pattern | None],
    jobs: int | None,
    verbose: bool,
) -> tuple[list[PartResult], list[ShardResult]]:
    """Read the samples of all tars, or load them from an earlier run.

    Args:
        sources: the tars.
        saved_dir: folder for the saved parts.
        common: window, micrometres per pixel and pattern, for all cells.
        jobs: number of worker processes; None to choose it.
        verbose: print notes, rate and remaining time to stderr.

    Returns:
        The results of the parts, and one result per tar, each joined from its parts.

    Raises:
        ArgumentError: If the pattern does not match a name, or there are 16-bit cells and no window.
        DataError: If no tar holds an image.
    """
    shards = [source.name for source in sources]
    strange = next((name for name in shards if not name.isprintable()), None)
    if strange is not None:
        raise DataError(f"names of tars must have no control characters, got {strange!r}. Rename the file.")
    names = [blake2b(os.fsencode(shard), digest_size=12).hexdigest() for shard in shards]
    tars = [_Tar(source, str(saved_dir / name)) for source, name in zip(sources, names, strict=True)]
    parts, unread = _list_parts(tars, shards, common, jobs, verbose)
    done = _measure(parts, jobs, verbose)
    return done, _join(sources, parts, done, unread)


def _list_parts(
    tars: Sequence[_Tar],
    shards: Sequence[str],
    common: tuple[Window, float, Pattern | None],
    jobs: int | None,
    verbose: bool,
) -> tuple[list[_Part], dict[str, str]]:
    """List the samples of all tars in parts of 2,000, and print which members were skipped.

    Returns:
        The parts, and the reason for each tar that cannot be read or holds no image.
    """
    few = sum(found.source.num_bytes for found in tars) < _ONE_PROCESS_BYTES
    listings = list(run_tasks(_list_tar, tars, 1 if few and jobs is None else jobs))
    pattern = common[2]
    if pattern is not None:
        for sample in (sample for listed in listings for sample in listed.samples or ()):
            sample_fields(pattern, sample)  # refuses names that do not match
    _say_others(sum((listed.others for listed in listings), Counter()), verbose)
    parts = []
    unread = {
        shard: "no image in the file" if listed.error is None else file_reason(found.source.path, listed.error)
        for found, shard, listed in zip(tars, shards, listings, strict=True)
        if not listed.num
    }
    for found, shard, listed in zip(tars, shards, listings, strict=True):
        for start in range(0, listed.num, _PART_CELLS):
            num = min(_PART_CELLS, listed.num - start)
            samples = None if listed.samples is None else listed.samples[start : start + num]
            parts.append(_Part(found, shard, listed._replace(samples=samples), start, num, *common))
    if not parts:
        error = next((listed.error for listed in listings if listed.error is not None), None)
        if error is not None:
            raise error
        more = " and the other tars" * (len(tars) > 1)
        raise DataError(f"no usable cell: no jpg, png, tif or npy in {tars[0].source.path}{more}. Check the folder.")
    return parts, unread


def _saved_path(found: _Tar, start: int) -> Path:
    return Path(f"{found.saved}-{start}.saved")


def _list_tar(found: _Tar) -> _Listed:
    """List the samples of a tar; if all its parts are saved, return only their number, without reading the tar."""
    stamp = found.source.stamp
    first = load_pieces(_saved_path(found, 0), stamp)
    if first is not None:
        num = first.facts["num_samples"]
        if all(_saved_path(found, start).exists() for start in range(0, num, _PART_CELLS)):
            return _Listed(stamp, None, num, Counter(first.facts["others"]))
    try:
        with found.source.opened() as path:
            samples, others = list_samples(path)
    except (DataError, OSError) as error:
        return _Listed(stamp, [], 0, Counter(), error)
    return _Listed(stamp, samples, len(samples), others)


def _measure(parts: Sequence[_Part], jobs: int | None, verbose: bool) -> list[PartResult]:
    """Decode every cell once."""
    num_cells, done = sum(part.num for part in parts), []
    few = num_cells <= _ONE_PROCESS_CELLS
    jobs = 1 if few and jobs is None else jobs
    finished = [part.saved_path.exists() for part in parts]
    with (
        Progress(num_cells, "cells", show=verbose, warmup=num_workers(jobs)) as progress,
        closing(run_tasks(_index_part, parts, jobs)) as results,
    ):
        for part, result, reused in zip(parts, results, finished, strict=True):
            done.append(result)
            progress.advance(part.num, reused)
    return done


def _index_part(part: _Part) -> PartResult:
    """Return the rows of a part: load the saved ones, or read the part."""
    stamp, samples, num, others = part.listed[:4]
    saved = load_pieces(part.saved_path, stamp)
    if saved is not None:
        return PartResult(saved.tables[0], saved.tables[1], saved.facts["num_unreadable"], saved.facts["used"])
    if samples is None:  # the saved part was damaged after it was listed
        with part.tar.source.opened() as path:
            samples = list_samples(path)[0][part.start : part.start + part.num]
    result = _read_part(part, samples)
    facts = {"stamp": stamp, "num_samples": num, "others": others, "num_unreadable": result.num_unreadable}
    facts |= {"used": result.used}
    save_pieces(part.saved_path, facts, [result.rows, result.quarantine])
    return result


def _read_part(part: _Part, samples: Sequence[TarSample]) -> PartResult:
    table, num_unreadable = CellTable(part.shard, part.window), 0
    used: Counter[str] = Counter()
    with (
        part.tar.source.opened() as path,
        open(path, "rb", buffering=0) as file,
        DecoderMessages() as messages,
    ):
        handle = file.fileno()
        for sample in samples:
            facts = read_facts(_read_label(handle, sample.cls), _read_label(handle, sample.json))
            num_unreadable += not facts.readable
            told = (part.pattern.match(sample.image.name) if part.pattern else None) or {}
            own = {"class": facts.label, "group": facts.group, "collection": facts.collection}
            used.update(field for field in told if not own.get(field))
            used["um_per_px"] += math.isnan(facts.um_per_px)
            data = _read_image(handle, sample.image)
            record = Record(
                sample.image.name,
                data,
                sample.image.name.rpartition(".")[2].lower(),
                facts.label or told.get("class"),
                facts.group or told.get("group"),
                facts.collection or told.get("collection"),
                part.um_per_px if math.isnan(facts.um_per_px) else facts.um_per_px,
                part.shard,
            )
            cell = table.decode(record, messages)
            if cell is not None and isinstance(data, bytes):
                table.admit(record, cell, sample.image.offset, data)
    used["window"] = table.num_deep
    return PartResult(table.rows(), table.quarantine(), num_unreadable, used)


def _read_image(handle: int, member: tar.Member) -> bytes | BadCell:
    if not member.plain:
        return BadCell("link or sparse file in the tar")
    if member.size > MAX_FILE_BYTES:
        return BadCell(f"too large: {member.size:,} bytes")
    return os.pread(handle, member.size, member.offset)


def _read_label(handle: int, member: tar.Member | None) -> bytes | None:
    """Return the bytes of a label file; empty bytes, which count as unreadable, if it is larger than any label."""
    if member is None or not member.plain:
        return None
    return b"" if member.size > _MAX_LABEL_BYTES else os.pread(handle, member.size, member.offset)


def _join(
    sources: Sequence[TarSource],
    parts: Sequence[_Part],
    done: Sequence[PartResult],
    unread: Mapping[str, str],
) -> list[ShardResult]:
    """Return one result per tar, with keys that are unique in the whole data set; without rows for an unread tar."""
    mine: dict[str, list[PartResult]] = {}
    for part, result in zip(parts, done, strict=True):
        mine.setdefault(part.shard, []).append(result)
    results = []
    for source in sources:
        shard = source.name
        if shard in mine:
            rows = pa.concat_tables([result.rows for result in mine[shard]])
            bad = pa.concat_tables([result.quarantine for result in mine[shard]])
            results.append(ShardResult(shard, source.num_bytes, rows, bad))
        else:
            bad = quarantine_table([quarantine_row(shard, shard, None, None, None, unread[shard])])
            results.append(ShardResult(shard, source.num_bytes, make_table([], SCHEMA), bad))
    counts = pc.value_counts(pa.concat_tables([result.rows for result in results]).column("key"))
    if len(counts) == sum(result.rows.num_rows for result in results):
        return results
    return [result._replace(rows=_unique_keys(result.rows, result.name)) for result in results]


def _unique_keys(rows: pa.Table, shard: str) -> pa.Table:
    """Prefix each key with the name of its tar; repeated keys in one tar get the suffix `#2`, `#3`, ..."""
    seen: Counter[str] = Counter()
    keys = []
    for key in rows.column("key").to_pylist():
        seen[key] += 1
        keys.append(f"{shard}/{key}" + (f"#{seen[key]}" if seen[key] > 1 else ""))
    return replace_column(rows, "key", keys)


def replace_column(table: pa.Table, column: str, values: Sequence[str | None]) -> pa.Table:
    """Return `table` with the texts `values` in the column `column`."""
    return table.set_column(table.schema.get_field_index(column), column, pa.array(values, pa.string()))


def _say_others(others: Counter[str], verbose: bool) -> None:
    say = printer(verbose)
    num_without = others.pop("", 0)
    if num_without:
        say(f"note: samples without an image are left out: {num_without:,}.")
    if others:
        listed = ", ".join(f".{name} {count:,}" for name, count in others.most_common(6))
        say(f"note: members that are not read: {listed}{', ...' if len(others) > 6 else ''}.")
