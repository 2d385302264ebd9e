"""Add the scores of a classifier to RT-DC files (.rtdc, HDF5) as machine-learning features.

The score of a class is the feature ``ml_score_xxx``, from 0 to 1, where xxx are three characters a-z or 0-9.
``ml_class`` is the index of the largest score in the sorted list of these features, and -1 for events without scores
and for unsure events. dclab accepts no other feature names than those it defines, so confidence and flags are in the
user-defined features ``userdef0`` to ``userdef9`` that the file does not use; ``logs/fastcell`` names them. Source:
documentation of dclab, "Machine learning features" (dclab.readthedocs.io, sec_av_feat_ml), and its features
(dclab.definitions.feat_const).
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from fastcell import __version__
from fastcell.errors import DataError, invalid
from fastcell.storage.whole_files import replace_file

_KEY = re.compile(r"(?P<file>.+\.rtdc)/(?P<event>\d{1,18})", re.IGNORECASE | re.DOTALL)
_LOG_BYTES = 100
_MOST_LOG_LINES = 10_000
_FREE_EVENTS = 4_096
_TAG = re.compile(r"[a-z0-9]{3}")
_OLD = re.compile(r"ml_score_[a-z0-9]{3}|ml_class")
_FLAGS = ("confidence", "unsure", "unlike_training", "unlike_score", "reason", "unlike_reason")
_FLAG_LINE = re.compile(rf"(?P<feature>userdef\d), (?:{'|'.join(_FLAGS)})(?:$|:)")
_USER_FEATURES = tuple(f"userdef{number}" for number in range(10))
_LOG_HEADER = "fastcell "


@dataclass(frozen=True)
class EventScores:
    """Predictions for n events of one file.

    Attributes:
        events: (n,) int64, event numbers.
        scores: (n, K) float32 probabilities; NaN for an event without a prediction.
        flags: (n,) float32 each, by name, see `fastcell.predictions.gate_columns.GateColumns.numbers`.
        texts: texts of the codes 1, 2, ... of the flags that are codes.
    """

    events: np.ndarray
    scores: np.ndarray
    flags: Mapping[str, np.ndarray] = field(default_factory=dict)
    texts: Mapping[str, list[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class WrittenScores:
    """Result of writing: the number of events in the file, and the user-defined feature of each flag that has one."""

    num_events: int
    flags: dict[str, str]


def is_rtdc_key(key: str) -> bool:
    """Return True if the key is that of an RT-DC event: ``<file>.rtdc/<number>``."""
    return _KEY.fullmatch(key) is not None


def events_by_file(keys: list[str]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Group events by RT-DC file.

    Args:
        keys: keys of the cells, ``<file>.rtdc/<number>``.

    Returns:
        For each file, by its path in the keys, the rows in `keys` and the event numbers, both (n,) int64.

    Raises:
        DataError: If a key is not from an RT-DC file, or its path leads out of the folder.
    """
    found: dict[str, tuple[list[int], list[int]]] = {}
    for row, key in enumerate(keys):
        match = _KEY.fullmatch(key)
        if match is None or match["file"].startswith("/") or ".." in match["file"].split("/"):
            raise DataError(
                f"cell {key!r} must be an event of an RT-DC file, with a key such as M001.rtdc/000012. "
                "Pack the files with fastcell pack and classify that."
            )
        rows, events = found.setdefault(match["file"], ([], []))
        rows.append(row)
        events.append(int(match["event"]))
    return {name: (np.array(rows, np.int64), np.array(events, np.int64)) for name, (rows, events) in found.items()}


def score_tags(classes: list[str]) -> list[str]:
    """Return a unique tag for each class, three characters a-z or 0-9.

    The tag is the first three letters or digits of the class name; if that tag is taken, a number replaces its end.
    """
    tags: list[str] = []
    for name in classes:
        letters = re.sub(r"[^a-z0-9]", "", name.lower())
        stem = (letters + "xxx")[:3]
        numbered = (f"{stem[: 3 - len(str(number))]}{number}" for number in range(1, 1000))
        tags.append(next(tag for tag in (stem, *numbered) if tag not in tags))
    return tags


def check_tags(tags: list[str], classes: list[str]) -> list[str]:
    """Return `tags` after checking them.

    Raises:
        ArgumentError: If there is not exactly one tag per class, a tag is repeated, or a tag is not three characters
            a-z or 0-9.
    """
    if len(tags) != len(classes) or len(set(tags)) != len(tags) or not all(map(_TAG.fullmatch, tags)):
        raise invalid(
            "--scores",
            f"{len(classes)} different names of three characters a-z or 0-9, in the order of {', '.join(classes)}",
            ",".join(tags),
            "Leave it out for the first letters of the classes",
        )
    return tags


def write_scores(source: Path, out: Path, answers: EventScores, classes: list[str], tags: list[str]) -> WrittenScores:
    """Copy an RT-DC file and add scores and flags to the copy; those of an earlier classifier are replaced.

    Args:
        source: the RT-DC file; it is not changed.
        out: path of the copy; it appears only when it is complete.
        answers: scores and flags of some of its events. Other events get NaN, and -1 as ml_class.
        classes: K names.
        tags: K tags of three characters, see `score_tags`.

    Returns:
        Number of events of the file, and the user-defined features of the flags.

    Raises:
        DataError: If `source` is not an RT-DC file, has too few events, or is the same file as `out`.
    """
    events = answers.events
    if not source.is_file():
        raise DataError(f"{source} must be the RT-DC file that was packed, got no file. Check --rtdc-source.")
    if out.exists() and out.samefile(source):
        raise DataError(f"{out} must be another file than the one it is a copy of. Choose another place.")
    written: list[WrittenScores] = []

    def write(path: Path) -> None:
        shutil.copyfile(source, path)
        with _opened(path, source) as file:
            num_events = _num_events(file, source)
            if len(events) and (events.max() >= num_events or len(np.unique(events)) < len(events)):
                raise DataError(
                    f"{source} has {num_events:,} events, got cells up to {events.max():,}, each once. "
                    "Name the files that were packed with --rtdc-source."
                )
            written.append(WrittenScores(num_events, _add(file, answers, num_events, classes, tags)))

    replace_file(out, write)
    return written[0]


def describe_flags(placed: Mapping[str, str], flags: Mapping[str, Any]) -> str:
    """Return one line with the user-defined feature of each flag, and the flags for which no feature is free."""
    there = ", ".join(f"{placed[name]} {name}" for name in _FLAGS if name in placed)
    absent = ", ".join(name for name in _FLAGS if name in flags and name not in placed)
    taken = f"no user-defined feature is free for {absent}" if absent else ""
    return "; ".join(filter(None, [there, taken]))


def ml_class(scores: np.ndarray, tags: list[str], unsure: np.ndarray | None = None) -> np.ndarray:
    """Return the index of the largest score among the sorted tags, (n,) int32.

    The first of equal scores is used. The index is -1 if no score is above 0, and for an unsure event.

    Args:
        scores: (n, K) float32, NaN for an event without scores.
        tags: K tags, in the order of the columns.
        unsure: (n,) 1 for an unsure event; None if no event is.
    """
    order = np.argsort(tags)
    ranked = np.nan_to_num(scores[:, order], nan=0.0)
    called = ranked.max(axis=1, initial=0.0) > 0
    if unsure is not None:
        called &= unsure != 1
    return np.where(called, ranked.argmax(axis=1), -1).astype(np.int32)


@contextmanager
def _opened(path: Path, source: Path) -> Iterator[Any]:
    import h5py

    try:
        path.chmod(0o600)  # the original may be read-only
        with h5py.File(path, "r+") as file:
            yield file
    except (OSError, KeyError, ValueError, RuntimeError, TypeError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200].rstrip(".")
        raise DataError(f"{source} cannot be used as an RT-DC file ({reason}). Take another copy of it.") from error


def _num_events(file: Any, source: Path) -> int:
    """Return the number of events of an open file.

    Its groups must not be links, because the target of a link must not be modified.

    Raises:
        DataError: If the file has no group `events` of its own or no images, or gives more events than fit into memory.
    """
    import h5py

    if not isinstance(file.get("events", getlink=True), h5py.HardLink) or not isinstance(file["events"], h5py.Group):
        raise DataError(f"{source} must hold a group events, as RT-DC files do. Check --rtdc-source.")
    image = file["events"].get("image")
    if not isinstance(image, h5py.Dataset) or image.ndim != 3:
        raise DataError(f"{source} must hold events/image, one image for each event. Check --rtdc-source.")
    num_events, size = int(image.shape[0]), source.stat().st_size
    if num_events > max(_FREE_EVENTS, size):  # the scores of all these events would fill the memory
        raise DataError(
            f"{source} has {size:,} bytes and claims to hold {num_events:,} events. Take another copy of it."
        )
    return num_events


def log_lines(line: str) -> list[bytes]:
    """Split a line of a log into pieces of at most 100 bytes of UTF-8, the limit that dclab checks.

    Pieces after the first start with two blanks.
    """
    pieces = [b""]
    for character in line:
        data = character.encode()
        if len(pieces[-1]) + len(data) > _LOG_BYTES:
            pieces.append(b"  ")
        pieces[-1] += data
    return pieces


def _add(file: Any, answers: EventScores, num_events: int, classes: list[str], tags: list[str]) -> dict[str, str]:
    """Write scores, flags and log into an open file; return the user-defined feature of each flag."""
    events = file["events"]
    for name in [name for name in events if _OLD.fullmatch(name)]:
        del events[name]
    for name in _earlier_flags(file):
        del events[name]
    packed = {"compression": "gzip", "fletcher32": True} if num_events else {}
    scores = _of_all_events(answers.scores, answers.events, num_events)
    flags = {name: _of_all_events(values, answers.events, num_events) for name, values in answers.flags.items()}
    for column, tag in enumerate(tags):
        events.create_dataset(f"ml_score_{tag}", data=np.ascontiguousarray(scores[:, column]), **packed)
    events.create_dataset("ml_class", data=ml_class(scores, tags, flags.get("unsure")), **packed)
    free = (name for name in _USER_FEATURES if name not in events)
    placed = dict(zip((name for name in _FLAGS if name in flags), list(free), strict=False))
    for name, feature in placed.items():
        events.create_dataset(feature, data=flags[name], **packed)
    number = {tag: place for place, tag in enumerate(sorted(tags))}
    lines = [f"{_LOG_HEADER}{__version__}", "feature, ml_class, class"]
    lines += [f"ml_score_{tag}, {number[tag]}, {name}" for tag, name in zip(tags, classes, strict=True)]
    for name, feature in placed.items():
        codes = [f"{code} {text}" for code, text in enumerate(answers.texts.get(name, []), 1)]
        lines.append(f"{feature}, {name}" + (f": {'; '.join(['0 none', *codes])}" if name in answers.texts else ""))
    _write_log(file, lines)
    return placed


def _of_all_events(values: np.ndarray, events: np.ndarray, num_events: int) -> np.ndarray:
    """Return values of all events of a file, (num_events, ...) float32: NaN for those not in `events`."""
    every = np.full((num_events, *values.shape[1:]), np.nan, np.float32)
    every[events] = values
    return every


def _earlier_flags(file: Any) -> list[str]:
    """Return the user-defined features that an earlier run of this program wrote, by its log."""
    import h5py

    log = file.get("logs/fastcell")
    if not isinstance(log, h5py.Dataset) or log.ndim != 1:
        return []
    lines = log[:_MOST_LOG_LINES].tolist()
    texts = [line.decode("utf-8", "replace") if isinstance(line, bytes) else str(line) for line in lines]
    if not texts or not texts[0].startswith(_LOG_HEADER):
        return []
    found = (_FLAG_LINE.match(text) for text in texts)
    return [match["feature"] for match in found if match is not None and match["feature"] in file["events"]]


def _write_log(file: Any, lines: list[str]) -> None:
    """Write the log and the name of the program; the group of logs must not be a link to another file."""
    import h5py

    if "logs" not in file:
        file.create_group("logs")
    if isinstance(file.get("logs", getlink=True), h5py.HardLink):
        if "fastcell" in file["logs"]:
            del file["logs"]["fastcell"]
        text = np.array([piece for line in lines for piece in log_lines(line)])
        file["logs"].create_dataset("fastcell", data=text)
    before = file.attrs.get("setup:software version", "")
    before = before.decode("utf-8", "replace") if isinstance(before, bytes) else str(before)
    file.attrs["setup:software version"] = " | ".join(filter(None, [before, f"fastcell {__version__}"]))
