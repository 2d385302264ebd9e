"""Read tables that users write, CSV of any dialect or Parquet: columns as texts or numbers.

Texts are not changed: only an empty field means that a value is unknown, and `NA` is a name. A column is read as
numbers if all its fields are numbers, `TRUE` and `FALSE`, or words for a missing value. A decimal comma is recognised
if no field of the column can be a number with a comma between thousands, or if another column of the table has a
decimal comma.
"""

from __future__ import annotations

import csv as words
import io
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow import csv

from fastcell.dataset.parquet import check_claims, first_line
from fastcell.dataset.tables.dialect import WHOLE_NUMBER, Dialect, not_utf8, read_dialect
from fastcell.dataset.tables.numbers import MISSING, looks_numeric, parse_numbers
from fastcell.errors import DataError
from fastcell.system.text import one_form, storable

_MOST_CSV_BYTES = 1 << 32
_INDEX_NAMES = re.compile(r"|Unnamed: \d+|__index_level_\d+__")


@dataclass(frozen=True)
class UserTable:
    """Content of a table file.

    Attributes:
        path: path of the file.
        names: names of the columns without surrounding blanks, in Unicode form NFC; empty for one without a name.
        columns: a column for each name. In a text table, the requested columns are texts. The others are numbers if
            Arrow can read them as numbers.
        rows: (N,) number of each row in the file, from 0; rows without any value are left out.
        types: types given in a line below the header, or empty.
    """

    path: Path
    names: list[str]
    columns: list[pa.ChunkedArray]
    rows: np.ndarray
    types: Sequence[str]

    def __len__(self) -> int:
        return len(self.rows)

    def place(self, wanted: Sequence[str]) -> int | None:
        """Return the number of the column that has the first of these names, ignoring case; None without one.

        Raises:
            DataError: Several columns have that name.
        """
        lower = [name.lower() for name in self.names]
        name = next((name for name in wanted if name in lower), None)
        if name is None:
            return None
        if lower.count(name) > 1:
            raise DataError(
                f"{storable(str(self.path))} must have one column {name}, got {lower.count(name)}. Rename the others."
            )
        return lower.index(name)

    def texts(self, place: int) -> list[str | None]:
        """Return a column as texts without surrounding blanks, in Unicode form NFC; None for an empty field.

        Whole numbers written as `1.0`, which programs do for columns with gaps, are returned as `1`.
        """
        return self.text_column(place).to_pylist()  # type: ignore[no-any-return]

    def text_column(self, place: int) -> pa.ChunkedArray:
        """Return a column as `texts` does, as strings of Arrow."""
        return _text_column(self.columns[place], self.path, self.names[place])

    def numbers(self, place: int, decimal_comma: bool = False) -> np.ndarray | None:
        """Return a column as (N,) float64, NaN for a missing value; None if it is not a column of numbers."""
        column = self.columns[place]
        if _is_text(column.type):
            return parse_numbers(column, decimal_comma)
        if not _is_number(column.type):
            return None
        if pa.types.is_decimal(column.type):
            column = column.cast(pa.float64(), safe=False)
        return column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)  # type: ignore[no-any-return]

    def has_decimal_comma(self) -> bool:
        """Return True if a column has fields that are numbers with a decimal comma and can be nothing else."""
        return any(
            parse_numbers(column, False) is not None and bool(pc.any(pc.match_substring(column, ",")).as_py())
            for column in self.columns
            if _is_text(column.type)
        )

    def looks_numeric(self, place: int) -> bool:
        """Return True if most fields of a column of texts look like numbers."""
        column = self.columns[place]
        return _is_text(column.type) and looks_numeric(column)

    def is_index(self, place: int) -> bool:
        """Return True for a column that only numbers the rows (unnamed, as from pandas and R) or is empty."""
        return _INDEX_NAMES.fullmatch(self.names[place]) is not None


def read_table(path: Path, text_columns: Collection[str], hint: str = "Save it as CSV with a header") -> UserTable:
    """Read a table.

    Args:
        path: path of a CSV (or TSV, or text) or Parquet file.
        text_columns: names, in lower case, of columns that are read as texts.
        hint: hint for the error message, without a full stop.

    Raises:
        DataError: The file does not exist, is not UTF-8 or UTF-16 text, is not a table, or claims more than it can
            hold.
    """
    shown = storable(str(path))
    if not path.is_file():
        raise DataError(f"{shown} must be a table, got no file. Check the path.")
    try:
        if path.suffix.lower() == ".parquet":
            return _read_parquet(path)
        if path.stat().st_size > _MOST_CSV_BYTES:
            raise DataError(f"{shown} must be a table of at most 4 GiB, got {path.stat().st_size:,} bytes.")
        return _read_text(path, text_columns)
    except PermissionError:
        raise
    except UnicodeDecodeError:
        raise not_utf8(path) from None
    except (pa.ArrowException, words.Error, ValueError, KeyError, OSError, OverflowError) as error:
        if "invalid UTF8" in str(error):
            raise not_utf8(path) from None
        raise DataError(f"{shown} cannot be read ({first_line(error)[:200]}). {hint}.") from None


def read_text_columns(path: Path, wanted: Sequence[str], hint: str = "Save it as CSV with a header") -> pa.Table:
    """Read those of the wanted columns that a table has, as texts; an empty field is null.

    Args:
        path: path of a CSV or Parquet file.
        wanted: names of columns; upper and lower case are not distinguished.
        hint: hint for the error message, without a full stop.

    Returns:
        The columns, under the wanted names. The schema's metadata `names` holds the names of all columns of the file.

    Raises:
        DataError: See `read_table`; or two columns have one of the names.
    """
    lower = {name.lower(): name for name in wanted}
    table = read_table(path, lower, hint)
    places = {name: table.place([folded]) for folded, name in lower.items()}
    found = {name: table.text_column(place) for name, place in places.items() if place is not None}
    return pa.table(found).replace_schema_metadata({"names": ", ".join(table.names)})


def csv_options(dialect: Dialect) -> tuple[csv.ReadOptions, csv.ParseOptions]:
    """Return Arrow's options for a text table. Columns are named by their numbers."""
    encoding = "utf-16" if dialect.encoding == "utf-16" else "utf8"
    names = [str(place) for place in range(len(dialect.names))]
    return (
        csv.ReadOptions(column_names=names, skip_rows=dialect.num_skipped, encoding=encoding),
        csv.ParseOptions(delimiter=dialect.delimiter, newlines_in_values=True),
    )


def _read_text(path: Path, text_columns: Collection[str]) -> UserTable:
    dialect = read_dialect(path, text_columns)
    texts = {
        str(place): pa.string()
        for place, name in enumerate(dialect.names)
        if name.lower() in text_columns or "t" in dialect.types[place : place + 1]
    }
    reading, parsing = csv_options(dialect)
    converting = csv.ConvertOptions(
        column_types=texts,
        null_values=MISSING,
        strings_can_be_null=False,
        true_values=["true", "True", "TRUE"],
        false_values=["false", "False", "FALSE"],
        timestamp_parsers=["%Y-%m-%dT%H:%M:%S.never"],  # dates stay texts
    )
    try:
        table = csv.read_csv(path, reading, parsing, converting)
    except pa.ArrowInvalid as error:
        if "Empty CSV file" in str(error) or "CSV file got out of" in str(error):
            table = pa.table({name: pa.array([], pa.string()) for name in reading.column_names})
        elif "Expected" not in str(error):
            raise
        else:
            reading = csv.ReadOptions(column_names=reading.column_names)
            table = csv.read_csv(_mended(path, dialect), reading, csv.ParseOptions(newlines_in_values=True), converting)
    _check_quotes(path, dialect, table)
    rows = np.arange(table.num_rows)
    filled = _filled(table)
    if not filled.all():
        table, rows = table.filter(pa.array(filled)), rows[filled]
    return UserTable(path, list(map(one_form, dialect.names)), table.columns, rows, dialect.types)


def _check_quotes(path: Path, dialect: Dialect, table: pa.Table) -> None:
    """Check that the last field ends with its quote: an open quote would extend it over the rest of the file.

    Raises:
        DataError: The number of quotes is odd.
    """
    last = table.slice(max(0, table.num_rows - 1))
    fields = [column[0].as_py() for column in last.columns if len(column) and _is_text(column.type)]
    if not any(field and ("\n" in field or "\r" in field) for field in fields):
        return
    num = 0
    with open(path, encoding=dialect.encoding, newline="") as file:
        while piece := file.read(1 << 20):
            num += piece.count('"')
    if num % 2:
        raise DataError(
            f'{storable(str(path))} must close each quote ("), got an odd number of them: the last field would include '
            "the rest of the file. Correct it."
        )


def _mended(path: Path, dialect: Dialect) -> io.BytesIO:
    """Return the rows with the number of fields of the header. Some programs add or omit empty fields at the end.

    Raises:
        DataError: A row has more fields that are not empty.
    """
    num = len(dialect.names)
    out = io.StringIO(newline="")
    writer = words.writer(out, lineterminator="\n", quoting=words.QUOTE_MINIMAL)
    with open(path, encoding=dialect.encoding, newline="") as file:
        for _ in range(dialect.num_skipped):
            file.readline()
        reader = words.reader(file, delimiter=dialect.delimiter, skipinitialspace=dialect.delimiter == " ")
        for row in reader:
            if any(row[num:]):
                line = dialect.num_skipped + reader.line_num
                raise DataError(
                    f"{storable(str(path))} must have {num} fields in each line as in its header, got {len(row)} in "
                    f"line {line:,} ({storable(dialect.delimiter.join(row))[:80]!r}). Correct the line."
                )
            if row:
                writer.writerow([*row[:num], *[""] * (num - len(row))])
    return io.BytesIO(out.getvalue().encode())


def _read_parquet(path: Path) -> UserTable:
    with open(path, "rb") as file:
        metadata = pq.read_metadata(file)
        check_claims(path, path.stat().st_size, metadata)
    table = pq.read_table(path, partitioning=None)
    table.validate(full=True)
    names = [one_form(name.strip()) for name in table.column_names]
    return UserTable(path, names, table.columns, np.arange(table.num_rows), ())


def _filled(table: pa.Table) -> np.ndarray:
    """Return which rows have a value, (N,) bool."""
    filled = np.zeros(table.num_rows, bool)
    for column in table.columns:
        if filled.all():
            break
        there = column.is_valid()
        if _is_text(column.type):
            there = pc.and_(there, pc.greater(pc.utf8_length(pc.utf8_trim_whitespace(column)), 0))
        filled |= there.to_numpy(zero_copy_only=False).astype(bool)
    return filled


def _text_column(column: pa.ChunkedArray, path: Path, name: str) -> pa.ChunkedArray:
    kind = column.type
    if pa.types.is_dictionary(kind):
        column, kind = column.cast(kind.value_type), kind.value_type
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return pa.chunked_array([[_number_as_text(value) for value in column.to_pylist()]], pa.string())
    try:
        column = column.cast(pa.string())
    except pa.ArrowException as error:
        raise DataError(
            f"{storable(str(path))}: the column {storable(name)} must hold texts or numbers ({first_line(error)}). "
            "Correct it."
        ) from None
    column = pc.replace_substring_regex(pc.utf8_trim_whitespace(column), WHOLE_NUMBER, r"\1")
    if not pc.all(pc.string_is_ascii(column), min_count=0).as_py():
        column = pc.utf8_normalize(column, "NFC")
    return pc.if_else(pc.equal(column, ""), None, column)


def _number_as_text(value: Any) -> str | None:
    if value is None or value != value:  # NaN
        return None
    return str(int(value)) if value == value // 1 and abs(value) < 1 << 63 else str(value)


def _is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _is_number(kind: pa.DataType) -> bool:
    tests = (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean, pa.types.is_decimal)
    return any(test(kind) for test in tests)
