"""Classify the cells of a folder or file while it is being written.

The source is listed repeatedly. A cell is classified when two consecutive listings contain it and its file has the
same size and modification time in both; in a file of many cells that grows, all cells but the last are classified. A
file that cannot be decoded yet is tried again when it has changed. At the end, every cell is read again and its hash is
compared with that of the classified pixels, so that the table equals that of ``fastcell predict``, even if a cell was
read too early.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path

import numpy as np

from fastcell.dataset.open_files import look_again
from fastcell.errors import DataError, FastcellError
from fastcell.inference.classifier import Classifier
from fastcell.inference.classify_files import ClassifiedPart, SourceAnswers
from fastcell.inference.source_cells import SourceCells, SourceChunk
from fastcell.live.watch_journal import WatchJournal, cell_hash
from fastcell.predictions.from_source import write_source_answers
from fastcell.predictions.table import Predictions
from fastcell.sources.base import SourceItem, file_stamp
from fastcell.sources.hdf5 import close_files
from fastcell.storage.staging import Staging, describe_job, open_staging_of
from fastcell.system.signals import handle_signals

JOURNAL_VERSION = 1

_LISTINGS_PER_TIME = 5  # listing a large folder takes at most a fifth of the time
_LAST_TRIES = 5  # a source that is being written when the command ends may be unreadable for a moment
_SAY_EVERY_S = 10.0


@dataclass(frozen=True)
class WatchTask:
    """Task of watching a source.

    Attributes:
        classifier: the classifier.
        open_source: function that lists the source; called repeatedly.
        source: path of the source, for messages and the journal.
        out: table to write: .csv, .parquet or .fcs.
        checkpoint: file from which the classifier was loaded.
        min_confidence: a cell with a lower confidence is unsure.
        until_idle_s: end after this time without a change [s]; None to wait for a signal.
        poll_s: time between two listings [s].
        jobs: worker processes that decode; None for one per CPU, or none if the cells are few.
    """

    classifier: Classifier
    open_source: Callable[[], SourceCells]
    source: Path
    out: Path
    checkpoint: Path
    min_confidence: float = 0.0
    until_idle_s: float | None = None
    poll_s: float = 1.0
    jobs: int | None = None


def watch(task: WatchTask, say: Callable[[str], None]) -> Predictions:
    """Classify cells while they appear, until SIGTERM, Ctrl-C or an idle time. Then write the table.

    The same call resumes a killed run.

    Returns:
        The table that was written.

    Raises:
        BusyError: another run writes the same file.
        DataError: the source cannot be read, or has no usable cell at the end.
        ArgumentError: there are 16-bit cells and no window.
    """
    with open_staging_of(task.out, say) as stage:
        stage.begin(_job(task))
        journal = WatchJournal(stage.saved_dir, len(task.classifier.classes), task.classifier.known is not None)
        watcher = _Watcher(task, journal, say)
        with _end_on_signal() as ended:
            watcher.until_end(ended)
        return _write(task, journal, stage, say)


def _job(task: WatchTask) -> dict[str, object]:
    network = task.classifier.backend
    return {
        **describe_job("watch", JOURNAL_VERSION),
        "source": str(task.source.resolve()),
        "checkpoint": blake2b(task.checkpoint.read_bytes(), digest_size=16).hexdigest(),
        "tta": task.classifier.tta,
        "backend": [network.name, network.precision, str(getattr(network, "version", ""))],
    }


@contextlib.contextmanager
def _end_on_signal() -> Iterator[threading.Event]:
    """Yield an event that SIGTERM or Ctrl-C sets; a second signal interrupts."""
    ended = threading.Event()

    def end() -> None:
        if ended.is_set():
            raise KeyboardInterrupt
        ended.set()

    with handle_signals(end):
        yield ended


class _Watcher:
    """Listings of a source, one after the other, and the cells that each one adds."""

    def __init__(self, task: WatchTask, journal: WatchJournal, say: Callable[[str], None]) -> None:
        self._task, self._journal, self._say = task, journal, say
        self._seen: dict[str, str] = {}
        self._tried: dict[str, str] = {}
        self._state = ""
        self._problem = ""
        self._said = time.monotonic()
        self._told = len(journal)

    def until_end(self, ended: threading.Event) -> None:
        """List and classify until `ended`, or until the source is idle."""
        changed = time.monotonic()
        while not ended.is_set():
            begin = time.monotonic()
            if self._look(ended):
                changed = time.monotonic()
            idle = self._task.until_idle_s
            if idle is not None and time.monotonic() - changed >= idle:
                return
            taken = time.monotonic() - begin
            ended.wait(max(self._task.poll_s, taken * (_LISTINGS_PER_TIME - 1) if taken > 1 else 0))

    def _look(self, ended: threading.Event) -> bool:
        """List the source and classify the complete cells; return whether anything has changed."""
        look_again()
        close_files()
        try:
            cells = self._task.open_source()
        except (FastcellError, OSError) as error:
            self._tell_problem(str(error))
            state = f"{error} {_sizes(self._task.source)}"
            changed, self._state = state != self._state, state
            return changed
        new, state = self._settled(cells)
        changed, self._state = state != self._state, state
        try:
            found = self._classify(cells, new, ended)
        except DataError as error:  # a file that changes while it is read
            self._tell_problem(str(error))
            return changed
        self._problem = ""
        return found or changed

    def _settled(self, cells: SourceCells) -> tuple[list[SourceItem], str]:
        """Return the cells that are to be classified now, and a hash of the listing."""
        digest = blake2b(digest_size=16)
        new: list[SourceItem] = []
        seen: dict[str, str] = {}
        containers: dict[str, str] = {}
        last = {item.place[0]: item.key for item in cells.listing.items if item.place}
        for item in cells.order:
            stamp = self._stamp(cells, item, containers)
            digest.update(f"{item.key}\0{stamp}\n".encode("utf-8", "surrogateescape"))
            if item.key in self._journal:
                continue
            seen[item.key] = stamp
            before = self._seen.get(item.key)
            growing = bool(item.place) and last[item.place[0]] != item.key
            if before is not None and (before == stamp or growing) and self._tried.get(item.key) != stamp:
                new.append(item)
        self._seen = seen
        return new, digest.hexdigest()

    def _stamp(self, cells: SourceCells, item: SourceItem, containers: dict[str, str]) -> str:
        if not item.place:
            return cells.source.stamp(item)
        path = str(item.place[0])
        if path not in containers:
            containers[path] = cells.source.stamp(item)
        return containers[path]

    def _classify(self, cells: SourceCells, new: list[SourceItem], ended: threading.Event) -> bool:
        """Classify new cells and put the answers into the journal; return whether there were any."""
        some = replace(cells, order=new)
        found = False
        for chunk in some.chunks(self._task.classifier.chunk, 0, self._task.jobs) if new else ():
            for number in chunk.bad_numbers.tolist():
                self._tried[new[number].key] = self._seen[new[number].key]  # until its file changes
            if len(chunk.numbers):
                pitches = some.pitches(chunk.numbers)
                answers = self._task.classifier.classify_chunk(chunk.cells, some.window, pitches)
                self._journal.add(some.keys(chunk.numbers), _hashes(some, chunk), answers)
                found = True
            if ended.is_set():
                break
        now = time.monotonic()
        if len(self._journal) > self._told and now - self._said >= _SAY_EVERY_S:
            waiting = sum(key not in self._journal for key in self._seen)
            self._say(f"{len(self._journal):,} cells classified, {waiting:,} not complete yet")
            self._said, self._told = now, len(self._journal)
        return found

    def _tell_problem(self, text: str) -> None:
        if text != self._problem:
            self._say(f"waiting: {text}")
        self._problem = text


def _sizes(path: Path) -> str:
    """Return a hash of sizes and times of change of a file, or of all files in a folder."""
    digest = blake2b(file_stamp(str(path)).encode(), digest_size=16)
    for folder, _, names in os.walk(path):
        for name in sorted(names):
            place = os.path.join(folder, name)  # noqa: PTH118, of many files
            digest.update(f"{place} {file_stamp(place)}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def _hashes(cells: SourceCells, chunk: SourceChunk) -> list[bytes]:
    pitches = cells.pitches(chunk.numbers).tolist()
    return [cell_hash(cell, um, cells.window) for cell, um in zip(chunk.cells, pitches, strict=True)]


def _write(task: WatchTask, journal: WatchJournal, stage: Staging, say: Callable[[str], None]) -> Predictions:
    """Read all cells again, classify those whose present content is not in the journal, and write the table."""
    for rest in reversed(range(_LAST_TRIES)):
        look_again()
        close_files()
        try:
            cells = task.open_source()
            break
        except DataError:
            if not rest:
                raise
            time.sleep(task.poll_s)
    answers = SourceAnswers(list(task.classifier.classes), cells)
    begin = 0
    for chunk in cells.chunks(task.classifier.chunk, 0, task.jobs):
        hashes = _hashes(cells, chunk)
        keys = cells.keys(chunk.numbers)
        places = np.array([journal.find(key, digest) for key, digest in zip(keys, hashes, strict=True)], np.int64)
        rest = np.flatnonzero(places < 0).tolist()
        if rest:
            pitches = cells.pitches(chunk.numbers[rest])
            found = task.classifier.classify_chunk([chunk.cells[place] for place in rest], cells.window, pitches)
            journal.add([keys[place] for place in rest], [hashes[place] for place in rest], found)
            for place in rest:
                places[place] = journal.find(keys[place], hashes[place])
        found = journal.at(places.tolist()) if len(places) else task.classifier.no_answers()
        answers.parts.append(ClassifiedPart(begin, chunk.end, chunk.numbers, found, chunk.bad, chunk.bad_numbers))
        begin = chunk.end
    return write_source_answers(answers, task.out, stage, say, task.min_confidence)
