"""Recognise how a text table is written: encoding, lines before the header, delimiter and column names.

Spreadsheets and statistics programs write CSV in many ways. Recognised are UTF-8 and UTF-16 (with a byte-order mark),
comma, semicolon, tab, vertical bar and, if the header has a known name, blanks as the delimiter; a line `sep=;`, empty
lines and lines of comment (`#`) before the header; row names of R, which have no name in the header; delimiters at the
end of lines; and the line of types below the header of EcoTaxa (`[t]`, `[f]`).
"""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple

from fastcell.errors import DataError
from fastcell.system.text import storable

_MARKS = "\t;,|"
_LOOKED_AT_BYTES = 1 << 20
_LOOKED_AT_LINES = 64
#: A whole number with zeros behind the point or comma; `1,000` may be a thousand.
WHOLE_NUMBER = r"^([+-]?[0-9]+)(\.0+|,0{1,2})$"
_SEPARATOR = re.compile(r'"?sep=(.)"?', re.IGNORECASE)
_WORKBOOKS = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")
_TYPE = re.compile(r"\[[a-z]\]", re.IGNORECASE)


class Dialect(NamedTuple):
    """How a text table is written.

    Attributes:
        encoding: `utf-8`, `utf-8-sig` or `utf-16`.
        delimiter: one character.
        names: names of the columns without surrounding blanks; empty for a column without a name.
        num_skipped: number of lines before the first row of values.
        types: types of the columns, `t` for text or `f` for a number, if a line below the header gives them.
    """

    encoding: str
    delimiter: str
    names: list[str]
    num_skipped: int
    types: Sequence[str] = ()


def read_dialect(path: Path, known: Collection[str] = ()) -> Dialect:
    """Recognise how a text table is written, from its first lines.

    Args:
        path: path of the file.
        known: names of columns, in lower case, of which the header should have one: they decide between delimiters.

    Raises:
        DataError: The file is empty or is not UTF-8 or UTF-16 text.
        OSError: The file cannot be read.
    """
    with open(path, "rb") as file:
        start = file.read(_LOOKED_AT_BYTES)
    encoding = encoding_of_text(path, start)
    try:
        text = codecs.getincrementaldecoder(encoding)().decode(start, final=len(start) < _LOOKED_AT_BYTES)
    except UnicodeDecodeError:
        raise not_utf8(path) from None
    lines = _lines(text)[:_LOOKED_AT_LINES]
    first, told = _find_header(lines, known)
    if first == len(lines):
        raise DataError(f"{storable(str(path))} must have a header line with names of columns, got an empty file.")
    delimiter = told or _delimiter(lines[first:], known)
    reader = csv.reader(lines[first:], delimiter=delimiter, skipinitialspace=delimiter == " ")
    names = _names(next(reader))
    num_skipped = first + reader.line_num
    row = next((row for row in reader if any(row)), [])
    types = []
    if row and all(_TYPE.fullmatch(word.strip()) for word in row):
        types, num_skipped = [word.strip()[1].lower() for word in row], first + reader.line_num
    if len(row) == len(names) + 1:  # row names of R, or a delimiter at the end of each line
        names = [*names, ""] if not row[-1].strip() else ["", *names]
    while len(row) < len(names) and names[-1] == "":
        names.pop()
    return Dialect(encoding, delimiter, names, num_skipped, types)


def encoding_of_text(path: Path, start: bytes) -> str:
    """Return the encoding of a text file by its first bytes.

    Raises:
        DataError: The bytes are those of UTF-16 or UTF-32 without a byte-order mark, or of no text.
    """
    if start.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
        raise DataError(f"{storable(str(path))} must be UTF-8 text, got UTF-32. Save it as UTF-8.")
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    if start.startswith(_WORKBOOKS):
        raise DataError(f"{storable(str(path))} must be text, got an Excel workbook. Save it as CSV UTF-8.")
    if b"\0" in start[:4096]:
        raise DataError(
            f"{storable(str(path))} must be UTF-8 text, got zero bytes, as in UTF-16 without a byte-order mark. "
            "Save it as UTF-8."
        )
    return "utf-8-sig" if start.startswith(codecs.BOM_UTF8) else "utf-8"


def not_utf8(path: Path) -> DataError:
    """Return the error for a file that is not UTF-8 text; it names the first line that is not."""
    place = ""
    with open(path, "rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as error:
                near = line[max(0, error.start - 20) : error.start + 20].decode("latin-1").strip()
                place = f", got byte 0x{line[error.start]:02x} in line {number:,} (in Latin-1: {near!r})"
                break
    return DataError(
        f"{storable(str(path))} must be UTF-8 text{storable(place)}. Save it as UTF-8 (in Excel: CSV UTF-8)."
    )


def read_lines(path: Path) -> list[str]:
    """Return the lines of a small text file, with their ends.

    Raises:
        DataError: The file is not UTF-8 or UTF-16 text.
    """
    data = path.read_bytes()
    try:
        return _lines(data.decode(encoding_of_text(path, data)))
    except UnicodeDecodeError:
        raise not_utf8(path) from None


def read_rows(path: Path) -> list[list[str]]:
    """Read a small text table without interpreting a header: the fields of each line, without surrounding blanks.

    An empty line is an empty list. Lines at the end that hold only delimiters are dropped.

    Raises:
        DataError: The file is not UTF-8 or UTF-16 text, or is not a table.
    """
    lines = read_lines(path)
    told = _SEPARATOR.fullmatch(lines[0].strip()) if lines else None
    lines = lines[1:] if told else lines
    delimiter = told[1] if told else _delimiter(lines[:_LOOKED_AT_LINES])
    try:
        rows = [[word.strip() for word in row] for row in csv.reader(lines, delimiter=delimiter)]
    except csv.Error as error:
        raise DataError(f"{storable(str(path))} cannot be read as a table ({error}). Save it as CSV, UTF-8.") from None
    while rows and len(rows[-1]) > 1 and not any(rows[-1]):
        rows.pop()
    return rows


def whole_text(text: str) -> str:
    """Return `1` for `1.0`, which programs write for whole numbers in columns with gaps; else the text unchanged."""
    return re.sub(WHOLE_NUMBER, r"\1", text)


def _find_header(lines: list[str], known: Collection[str]) -> tuple[int, str | None]:
    """Return the number of lines before the header, and the delimiter if a line `sep=` gives it.

    A line that starts with `#` is a comment, unless it holds a known name (`#path,label`).
    """
    told = None
    for number, line in enumerate(lines):
        match = _SEPARATOR.fullmatch(line.strip())
        if match and number == 0:
            told = match[1]
        elif line.strip() and not (line.startswith("#") and not _holds(line[1:], known)):
            return number, told
    return len(lines), told


def _holds(line: str, known: Collection[str]) -> bool:
    words = next(csv.reader([line], delimiter=_delimiter([line], known)), [])
    return any(name.lower() in known for name in _names(words))


def _delimiter(lines: list[str], known: Collection[str] = ()) -> str:
    """Return the delimiter that gives the most fields per line, and the same number in each line."""
    best, chosen = (False, False, 1), ","
    for mark in _MARKS + " " * bool(known):
        try:
            rows = [row for row in csv.reader(lines, delimiter=mark, skipinitialspace=mark == " ") if row]
        except csv.Error:
            continue
        if not rows or len(rows[0]) < 2:
            continue
        names = {name.lower() for name in _names(rows[0])}
        # the last line may be incomplete
        even = all(len(row) in (len(rows[0]), len(rows[0]) + 1) for row in rows[1:-1] or rows[1:])
        score = (bool(names & set(known)), even, len(rows[0]))
        if score > best and (mark != " " or (score[0] and even and not best[0])):
            best, chosen = score, mark
    return chosen


def _lines(text: str) -> list[str]:
    return list(io.StringIO(text, newline=""))  # str.splitlines also breaks lines at characters that fields may hold


def _names(row: list[str]) -> list[str]:
    names = [name.strip().strip("\ufeff") for name in row]
    if names and names[0].startswith("#"):
        names[0] = names[0][1:].strip()
    return names
