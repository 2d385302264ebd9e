"""The last lines of a command: the usual next commands, ready to be copied."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from fastcell.errors import FastcellError
from fastcell.remote.addresses import scheme_of
from fastcell.system.messages import other_name, print_line

if TYPE_CHECKING:
    from fastcell.dataset.manifest import Manifest

Word = str | PathLike[str]


def next_lines(*commands: tuple[Word, ...]) -> Iterator[str]:
    """Return a line for each command, e.g. ``next: fastcell report runs/20260131-142501-donors-cellnet``.

    Args:
        commands: words of each command, its name first; they are quoted for the shell if needed.
    """
    for words in commands:
        yield "next: fastcell " + " ".join(_quoted(str(word)) for word in words)


def show_next(*commands: tuple[Word, ...]) -> None:
    """Print the lines of `next_lines`."""
    if commands:
        print_line("\n".join(next_lines(*commands)))


def _quoted(word: str) -> str:
    """Quote a word for a shell; control characters are written as escapes in ``$'...'``."""
    if word.isprintable():
        return shlex.quote(word)
    escaped = "".join(_escaped(character) for character in word.replace("\\", "\\\\").replace("'", "\\'"))
    return f"$'{escaped}'"


def _escaped(character: str) -> str:
    if character.isprintable():
        return character
    return "".join(f"\\x{byte:02x}" for byte in character.encode("utf-8", "surrogateescape"))


def run_words(checkpoint: Path) -> list[Word]:
    """Return the run folder of a checkpoint as a word of a command, or the checkpoint where it lies in none.

    Empty for a shared model, which has no predictions to report.
    """
    from fastcell.runs.run_folder import CONFIG_FILE
    from fastcell.runs.shared_model import is_shared_model

    if is_shared_model(checkpoint):
        return []
    return [checkpoint.parent if (checkpoint.parent / CONFIG_FILE).is_file() else checkpoint]


def after_predict(out: Path, checkpoint: Path) -> list[tuple[Word, ...]]:
    """Return the commands that may follow ``fastcell predict``."""
    run = run_words(checkpoint)
    if out.suffix == ".fcs" or other_name(str(out)) is not None:  # no command reads predictions at an address
        return [("report", *run)] if run else []
    return [*([("count", out, *run)] if run else []), ("convert", out, out.with_suffix(".fcs"))]


def data_of_run(run: Path) -> list[Word]:
    """Return the data set of a run as a list of one word for a command; empty if it is the default one or missing.

    Args:
        run: run folder, or a checkpoint in it.
    """
    from fastcell.runs.open_run import read_data_settings

    try:
        return existing_data(read_data_settings(run.parent if run.is_file() else run).get("path"))
    except FastcellError:
        return []


def fit_step(manifest: Manifest, split_name: str = "default") -> list[tuple[Word, ...]]:
    """Return the command that trains on a split; no command if its train subset has fewer than two classes."""
    from fastcell.dataset.rows.count_codes import count_codes

    columns = [(manifest.class_codes, len(manifest.info.classes))]
    if split_name in manifest.split_names():
        columns.append((manifest.split_codes(split_name) == 0, 1))  # 1: in the train subset
    counts = count_codes(*columns)[:-1]
    if (counts if counts.ndim == 1 else counts[:, 1]).astype(bool).sum() < 2:
        return []
    more = () if split_name == "default" else ("--data.split_name", split_name)
    return [("fit", manifest.place, *more)]


def existing_data(path: str | None) -> list[Word]:
    """Return the path of a data set as a list of one word for a command; empty if there is no data set."""
    if path is not None and path.isprintable() and scheme_of(path) is not None:
        return [path]
    if path is None or not path.isprintable() or not (Path(path) / "manifest.parquet").is_file():
        return []
    return [Path(path)]
