"""Make the manifest of WebDataset tars that others wrote.

The tars stay as they are. Headers are walked first, then every cell is decoded once, so that a bad one is known before
a run; what comes out are manifest, splits and quarantine, beside the tars or in a folder of their own.
"""

from __future__ import annotations

import math
import os
import shutil
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import closing
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fastcell import __version__
from fastcell.dataset import tar
from fastcell.dataset.decode import MAX_FILE_BYTES, BadCell, DecoderMessages
from fastcell.dataset.manifest import DatasetInfo, Manifest, read_info
from fastcell.dataset.schema import FORMAT_VERSION
from fastcell.errors import DataError, StrictError, invalid
from fastcell.packing.keep_copies_together import keep_exact_copies_together
from fastcell.packing.quarantine import CellTable, Record, ShardResult, Window
from fastcell.packing.shard_writer import describe_reasons, write_sidecars
from fastcell.sources.base import file_stamp
from fastcell.sources.image_folder import Pattern
from fastcell.sources.webdataset_samples import (
    Sample,
    find_tars,
    list_samples,
    name_classes,
    read_class_file,
    read_facts,
)
from fastcell.splits.leakproof import Copies, make_leakproof_splits
from fastcell.splits.make_splits import SplitOptions, make_splits
from fastcell.storage.saved_pieces import load, save
from fastcell.storage.staging import describe_job, open_staging, open_staging_in, put_in_place
from fastcell.system.messages import explained, printer
from fastcell.system.progress_line import Progress
from fastcell.system.worker_processes import check_jobs, run_tasks

_CREATOR = " index"
_PART_CELLS = 2_000
_ONE_PROCESS_CELLS = 4_000  # starting workers takes longer than reading so few
_ONE_PROCESS_BYTES = 1 << 28
_MAX_LABEL_BYTES = 1 << 20


class _Tar(NamedTuple):
    """One tar to list, as it goes to a worker; `saved` and the number of a part make the name of what a part saves."""

    path: Path
    saved: str


class _Listed(NamedTuple):
    """What a tar holds: its stamp, its samples (None where all its parts are saved) and their number; how often each
    other extension is passed over."""

    stamp: str
    samples: list[Sample] | None
    num: int
    others: Counter[str]


class _Part(NamedTuple):
    """Samples `start` to `start + num` of one tar, as they go to a worker; None where they are saved."""

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


class _PartResult(NamedTuple):
    """Rows and quarantine with the label's text in the place of the class; samples whose label cannot be read."""

    rows: pa.Table
    quarantine: pa.Table
    num_unreadable: int


def index(
    folder: str | os.PathLike[str],
    *,
    out: str | os.PathLike[str] | None = None,
    pattern: str | None = None,
    split: SplitOptions | None = None,
    window: Window = None,
    um_per_px: float | None = None,
    name: str | None = None,
    jobs: int | None = None,
    strict: bool = False,
    overwrite: bool = False,
    verbose: bool = False,
) -> Manifest:
    """Make the manifest of the WebDataset tars in `folder` and its subfolders.

    A run that was interrupted or killed leaves what it has read, by tar and 2,000 cells; the same call goes on from
    there. Tars that were changed since, by size or time, are read again.

    Args:
        folder: with `*.tar`; `classes.txt` or `labels.txt` in it names the classes, one per line, class 0 first.
        out: folder to be made for manifest and sidecars; None: beside the tars.
        pattern: how class, group and collection stand in the names inside the tars, see
            `fastcell.sources.image_folder.Pattern`; used for what `.cls` and `.json` do not tell.
        split: shares, seed and folds; None: 65/15/20.
        window: grey levels (low, high) of 16-bit cells that map to 0 and 255.
        um_per_px: micrometres per pixel of cells whose `.json` does not tell.
        name: of the data set; None: that of the folder.
        jobs: worker processes; None: those of the surrounding `joblib.parallel_config`, else one for each CPU.
        strict: refuse bad cells.
        overwrite: replace a manifest that `fastcell index` has made before.
        verbose: print notes, rate and time left to stderr.

    Raises:
        ArgumentError: an argument out of its rule, a manifest that is there already, 16-bit cells without window.
        BusyError: another run indexes the same place.
        DataError: no tar, one that cannot be read, no usable cell, or labels that cannot be.
        StrictError: bad cells, where `strict`; nothing is written then.
    """
    root = Path(folder)
    _check_numbers(window, um_per_px)
    check_jobs(jobs)
    path_pattern = None if pattern is None else Pattern(pattern)
    paths = find_tars(root)
    if out is None and not os.access(root, os.W_OK):
        raise invalid("DIR", "writable", str(root), "Name a folder for the manifest with --out")
    names = read_class_file(root)
    base = (root if out is None else Path(out)).resolve()
    say = printer(verbose)
    common = (window, math.nan if um_per_px is None else um_per_px, path_pattern)
    opened = open_staging_in(root, say) if out is None else open_staging(out, say, "part")
    with explained(f"{root} cannot be indexed"), opened as stage:
        if out is None:
            _check_place(root, overwrite)
        job = {"tars": str(root.resolve()), "arguments": repr((*common[:2], pattern))}
        stage.begin(describe_job("index", FORMAT_VERSION) | job)
        done, results = _read_tars(paths, base, stage.saved_dir, common, jobs, verbose)
        bad = pa.concat_tables([result.quarantine for result in results])
        results = [result for result in results if result.rows.num_rows]
        if not results:
            raise DataError(f"{root} has no usable cell: {describe_reasons(bad)}. Check the tars.")
        if strict and bad.num_rows:
            raise StrictError(f"--strict refuses {describe_reasons(bad)}. Mend the tars, or index without --strict.")
        num_unreadable = sum(part.num_unreadable for part in done)
        if num_unreadable:
            say(f"note: the label of {num_unreadable:,} cells cannot be read; they count as unlabelled.")
        classes, results, bad = _name(results, bad, names)
        info = DatasetInfo(
            name=name or root.resolve().name,
            classes=classes,
            window=None if window is None else [float(window[0]), float(window[1])],
            um_per_px=um_per_px,
            seed=0 if split is None else split.seed,
            created_by=f"fastcell {__version__}{_CREATOR}",
        )
        splits, notes = _sides(base, results, info, split or SplitOptions())
        for note in notes:
            say(f"note: {note}")
        write_sidecars(stage.data_dir, results, info, splits, bad)
        if out is None:
            _clear(root)
        return Manifest.open(put_in_place(stage.data_dir, base))


def _check_numbers(window: Window, um_per_px: float | None) -> None:
    if window is not None and not (all(map(math.isfinite, window)) and 0 <= window[0] < window[1]):
        raise invalid(
            "--window", "two grey levels, the lower one first", tuple(window), "For example --window 400 1400"
        )
    if um_per_px is not None and not (math.isfinite(um_per_px) and um_per_px > 0):
        raise invalid("--um-per-px", "above 0", um_per_px, "Leave it out where it is unknown")


def _read_tars(
    paths: Sequence[Path],
    base: Path,
    saved_dir: Path,
    common: tuple[Window, float, Pattern | None],
    jobs: int | None,
    verbose: bool,
) -> tuple[list[_PartResult], list[ShardResult]]:
    """Parts and, put together, tars: decoded, or taken over from an earlier run."""
    shards = [os.path.relpath(path.resolve(), base).replace(os.sep, "/") for path in paths]
    names = [blake2b(os.fsencode(shard), digest_size=12).hexdigest() for shard in shards]
    tars = [_Tar(path.resolve(), str(saved_dir / name)) for path, name in zip(paths, names, strict=True)]
    parts = _list_parts(tars, shards, common, jobs, verbose)
    done = _measure(parts, jobs, verbose)
    return done, _join(paths, shards, parts, done)


def _list_parts(
    tars: Sequence[_Tar],
    shards: Sequence[str],
    common: tuple[Window, float, Pattern | None],
    jobs: int | None,
    verbose: bool,
) -> list[_Part]:
    """The samples of all tars, in parts of 2,000; says what was passed over."""
    few = sum(found.path.stat().st_size for found in tars) < _ONE_PROCESS_BYTES
    listings = list(run_tasks(_list_tar, tars, 1 if few and jobs is None else jobs))
    pattern = common[2]
    if pattern is not None:
        _check_pattern(pattern, (sample for listed in listings for sample in listed.samples or ()))
    _say_others(sum((listed.others for listed in listings), Counter()), verbose)
    parts = []
    for found, shard, listed in zip(tars, shards, listings, strict=True):
        for start in range(0, listed.num, _PART_CELLS):
            num = min(_PART_CELLS, listed.num - start)
            samples = None if listed.samples is None else listed.samples[start : start + num]
            parts.append(_Part(found, shard, listed._replace(samples=samples), start, num, *common))
    if not parts:
        raise DataError(
            f"no usable cell: {tars[0].path}{' and the others' if len(tars) > 1 else ''} hold no jpg, png, tif or npy. "
            "Check the folder."
        )
    return parts


def _saved_path(found: _Tar, start: int) -> Path:
    return Path(f"{found.saved}-{start}.saved")


def _list_tar(found: _Tar) -> _Listed:
    """The samples of a tar; where all its parts are saved, their number alone, without reading it."""
    stamp = file_stamp(str(found.path))
    first = load(_saved_path(found, 0), stamp)
    if first is not None:
        num = first.facts["num_samples"]
        if all(_saved_path(found, start).exists() for start in range(0, num, _PART_CELLS)):
            return _Listed(stamp, None, num, Counter(first.facts["others"]))
    samples, others = list_samples(found.path)
    return _Listed(stamp, samples, len(samples), others)


def _measure(parts: Sequence[_Part], jobs: int | None, verbose: bool) -> list[_PartResult]:
    """Decode every cell once."""
    num_cells, done = sum(part.num for part in parts), []
    few = num_cells <= _ONE_PROCESS_CELLS
    with (
        Progress(num_cells, "cells", show=verbose) as progress,
        closing(run_tasks(_index_part, parts, 1 if few and jobs is None else jobs)) as results,
    ):
        for part, result in zip(parts, results, strict=True):
            done.append(result)
            progress.advance(part.num)
    return done


def _check_place(root: Path, overwrite: bool) -> None:
    if not (root / "dataset.json").exists():
        return
    rule = "a folder without a manifest"
    try:
        mine = read_info(root).created_by.endswith(_CREATOR)
    except DataError:
        mine = True  # damaged: it may be replaced, on demand
    if not mine:
        raise invalid("DIR", rule, str(root), "It was packed by fastcell, which needs no index: use it as it is")
    if not overwrite:
        raise invalid("DIR", rule, str(root), "Give --overwrite to replace the one of an earlier index")
    if (root / "verdicts.csv").exists():
        way_out = "Move verdicts.csv away: its cell_ids are those of the manifest that is to be replaced"
        raise invalid("DIR", "without verdicts", str(root), way_out)


def _check_pattern(pattern: Pattern, samples: Iterable[Sample]) -> None:
    for sample in samples:
        if pattern.match(sample.image.name) is None:
            way_out = f"It does not fit {sample.image.name}; * stands for any part of one name, **/ for any folders"
            raise invalid("--pattern", "one that fits the names of all images in the tars", pattern.text, way_out)


def _clear(root: Path) -> None:
    """Remove what an earlier index has left, dataset.json first."""
    for name in ("dataset.json", "manifest.parquet", "quarantine.parquet", "quality.parquet", "duplicates.parquet"):
        (root / name).unlink(missing_ok=True)
    splits = root / "splits"
    if splits.is_symlink():  # splits are written into a folder of ours, not to where a link points
        splits.unlink()
    shutil.rmtree(splits, ignore_errors=True)


def _index_part(part: _Part) -> _PartResult:
    """Rows of a part: those that are saved, or by reading it."""
    stamp, samples, num, others = part.listed
    saved = load(part.saved_path, stamp)
    if saved is not None:
        return _PartResult(saved.tables[0], saved.tables[1], saved.facts["num_unreadable"])
    if samples is None:  # what was saved has been damaged since
        samples = list_samples(part.tar.path)[0][part.start : part.start + part.num]
    result = _read_part(part, samples)
    facts = {"stamp": stamp, "num_samples": num, "others": others, "num_unreadable": result.num_unreadable}
    save(part.saved_path, facts, [result.rows, result.quarantine])
    return result


def _read_part(part: _Part, samples: Sequence[Sample]) -> _PartResult:
    table, num_unreadable = CellTable(part.shard, part.window), 0
    with open(part.tar.path, "rb", buffering=0) as file, DecoderMessages() as messages:
        handle = file.fileno()
        for sample in samples:
            facts = read_facts(_read_label(handle, sample.cls), _read_label(handle, sample.json))
            num_unreadable += not facts.readable
            told = (part.pattern.match(sample.image.name) if part.pattern else None) or {}
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
    return _PartResult(table.rows(), table.quarantine(), num_unreadable)


def _read_image(handle: int, member: tar.Member) -> bytes | BadCell:
    if not member.plain:
        return BadCell("link or sparse file in the tar")
    if member.size > MAX_FILE_BYTES:
        return BadCell(f"too large: {member.size:,} bytes")
    return os.pread(handle, member.size, member.offset)


def _read_label(handle: int, member: tar.Member | None) -> bytes | None:
    """Bytes of a label file; empty, which is none that can be read, where it is larger than any label."""
    if member is None or not member.plain:
        return None
    return b"" if member.size > _MAX_LABEL_BYTES else os.pread(handle, member.size, member.offset)


def _join(
    paths: Sequence[Path], shards: Sequence[str], parts: Sequence[_Part], done: Sequence[_PartResult]
) -> list[ShardResult]:
    """One result per tar, with keys that are unique in the whole data set."""
    mine: dict[str, list[_PartResult]] = {}
    for part, result in zip(parts, done, strict=True):
        mine.setdefault(part.shard, []).append(result)
    results = []
    for path, shard in zip(paths, shards, strict=True):
        if shard in mine:
            rows = pa.concat_tables([result.rows for result in mine[shard]])
            bad = pa.concat_tables([result.quarantine for result in mine[shard]])
            results.append(ShardResult(shard, path.stat().st_size, rows, bad))
    counts = pc.value_counts(pa.concat_tables([result.rows for result in results]).column("key"))
    if len(counts) == sum(result.rows.num_rows for result in results):
        return results
    return [result._replace(rows=_unique_keys(result.rows, result.name)) for result in results]


def _unique_keys(rows: pa.Table, shard: str) -> pa.Table:
    """Keys with the name of their tar in front; a key that comes again in one tar gets `#2`, `#3`, ..."""
    seen: Counter[str] = Counter()
    keys = []
    for key in rows.column("key").to_pylist():
        seen[key] += 1
        keys.append(f"{shard}/{key}" + (f"#{seen[key]}" if seen[key] > 1 else ""))
    return _replace(rows, "key", keys)


def _name(
    results: Sequence[ShardResult], bad: pa.Table, names: Sequence[str] | None
) -> tuple[list[str], list[ShardResult], pa.Table]:
    """Classes, and the tables with class names in the place of what the labels say."""
    labels: set[str] = set()
    for result in results:
        labels.update(result.rows.column("class").unique().drop_null().to_pylist())
    classes, name_of = name_classes(labels, names)

    def named(table: pa.Table) -> pa.Table:
        found = table.column("class").to_pylist()
        return _replace(table, "class", [None if label is None else name_of.get(label, label) for label in found])

    return classes, [result._replace(rows=named(result.rows)) for result in results], named(bad)


def _replace(table: pa.Table, column: str, values: Sequence[str | None]) -> pa.Table:
    return table.set_column(table.schema.get_field_index(column), column, pa.array(values, pa.string()))


def _sides(
    base: Path, results: Sequence[ShardResult], info: DatasetInfo, options: SplitOptions
) -> tuple[dict[str, np.ndarray], list[str]]:
    """All splits in the order of the results, exact copies together, and notes."""
    table = pa.concat_tables([result.rows.select(["key", "class", "group"]) for result in results])
    number = {name: index for index, name in enumerate(info.classes)}
    labels = np.array([number.get(name, -1) for name in table.column("class").to_pylist()], dtype=np.int64)
    groups = table.column("group").to_pylist()
    named = groups if any(groups) else None
    keys = table.column("key").to_pylist()

    def remake(copies: Copies) -> tuple[dict[str, np.ndarray], list[str]]:
        return make_leakproof_splits(labels, named, options, copies, keys.__getitem__)

    splits = make_splits(labels, named, options)
    return keep_exact_copies_together(base, results, info, keys, splits, remake)


def _say_others(others: Counter[str], verbose: bool) -> None:
    say = printer(verbose)
    num_without = others.pop("", 0)
    if num_without:
        say(f"note: {num_without:,} samples have no image and are left out.")
    if others:
        listed = ", ".join(f".{name} {count:,}" for name, count in others.most_common(6))
        say(f"note: passed over beside the images: {listed}{', ...' if len(others) > 6 else ''}.")
