"""Versions of the file formats: the number that this version writes, and the older ones that it reads.

The files of each format contain its number. A file without a number was written before formats had one and counts as
number 1. A file with a higher number is refused with the version to install.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from fastcell import __version__
from fastcell.errors import DataError


class NewerFormatError(DataError):
    """A newer version of fastcell wrote the file."""


class FileFormat(NamedTuple):
    """One file format.

    Attributes:
        number: number that this version writes.
        oldest: lowest number that this version reads.
        place: position of the number in the file.
        older: how files with lower numbers are read.
    """

    number: int
    oldest: int
    place: str
    older: str


FORMATS = {
    "data set": FileFormat(1, 1, "`format_version` in dataset.json", "none"),
    "checkpoint": FileFormat(
        3,
        1,
        "`fastcell_format` in every .ckpt, resume points included",
        "2: read. It has no statistics of training cells and no temperature, so nothing says which cells are unlike "
        "those of training, and probabilities are not calibrated. 1: read likewise. When such a run is resumed, "
        "labels, validation and test cells are not compared, and corrupt cells found before the stop are found again "
        "only if they are read again",
    ),
    "run": FileFormat(
        2,
        1,
        "`format` in environment.json",
        "1 (no number): read. config.yaml holds the resolved accelerator, precision and progress bar, and a "
        "resumed run keeps these",
    ),
    "predictions": FileFormat(
        1,
        1,
        "metadata `fastcell.format` of a .parquet file; a .csv file has only its columns",
        "files without a number: read",
    ),
    "marks": FileFormat(1, 1, "`fastcell_marks` in the first line of marks.jsonl", "none"),
    "shared model": FileFormat(1, 1, "`format` in config.json of a folder that fastcell export wrote", "none"),
}
"""Formats by name."""


def check_format(name: str, found: object, path: Path | str, made_by: object = None) -> None:
    """Check that this version reads a file.

    Args:
        name: a key of `FORMATS`.
        found: number in the file; None if it has none.
        path: the file, for the message.
        made_by: version of fastcell that wrote it, if known.

    Raises:
        NewerFormatError: the number is newer than what this version reads.
        DataError: the number is older than what this version reads, or is not a number.
    """
    known, number = FORMATS[name], 1 if found is None else found
    rule = f"{path}: {name} format must be {_numbers(known)}, got {str(found)[:100]}."
    if not isinstance(number, int) or isinstance(number, bool) or number < known.oldest:
        raise DataError(f"{rule} The file is damaged, or too old for this version ({__version__}).")
    if number > known.number:
        wrote = isinstance(made_by, str) and 0 < len(made_by) <= 40 and made_by.isprintable()
        version = f"fastcell {made_by}" if wrote else "the version of fastcell that wrote it"
        raise NewerFormatError(f"{rule} Install {version} or a later version; this is {__version__}.")


def _numbers(known: FileFormat) -> str:
    return str(known.number) if known.oldest == known.number else f"{known.oldest} to {known.number}"
