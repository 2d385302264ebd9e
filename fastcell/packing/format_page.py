"""Texts on the formats that `pack` reads, made from tables in code: `pack --formats`, `docs/reference/formats.md`."""

from __future__ import annotations

import textwrap
from dataclasses import fields

from fastcell.packing.option_effects import PACK_OPTIONS
from fastcell.sources.path_table import (
    COLLECTION_COLUMNS,
    GROUP_COLUMNS,
    LABEL_COLUMNS,
    PATH_COLUMNS,
    PITCH_COLUMNS,
    SPLIT_COLUMNS,
)
from fastcell.sources.registry import FORMATS, ReadOptions

_WIDTH = 100
_HEAD = """\
# Formats that are read

This page is made by `fastcell.packing.format_page.format_page`; a test compares it with the code. What fastcell does
not read is refused, or goes to the quarantine with its reason; it is never silently read as something else.
"""
_TABLES = """\
## Tables

Labels, groups, verdicts, splits, features and predictions may come from a table. It is CSV, TSV or any text with a
header, or Parquet. Recognised are UTF-8 and UTF-16 with a byte-order mark (anything else is refused by name), the
delimiters comma, semicolon, tab, bar and (for `write.table` of R) blank, `sep=`, comments (`#`) and empty lines before
the header, decimal comma, row names and unnamed index columns, which are not features, and the line of types of
EcoTaxa. An empty field means unknown; `NA` is a name. `1.0` is the class `1`. Names that differ only in their Unicode
form are one name. Columns with other names become features if they hold numbers; a note names the columns that are not
read.
"""


def describe_formats() -> str:
    """Return the text of `fastcell pack --formats`: for each format what it is, what is read and what is not."""
    lines = ["formats:"]
    for name, kind in FORMATS.items():
        lines.append(f"  {name:<7} {kind.help}")
        for title, text in (("read", kind.read), ("not", kind.unread)):
            lines += textwrap.wrap(text, _WIDTH, initial_indent=f"    {title + ':':<6}", subsequent_indent=" " * 10)
    return "\n".join(lines)


def format_page() -> str:
    """Return the text of `docs/reference/formats.md`."""
    rows = [f"| `{name}` | {kind.help} | {kind.read} | {kind.unread} |" for name, kind in FORMATS.items()]
    columns = {
        "path of the image, or key of the cell": PATH_COLUMNS,
        "class": LABEL_COLUMNS,
        "group": GROUP_COLUMNS,
        "collection": COLLECTION_COLUMNS,
        "micrometres per pixel": PITCH_COLUMNS,
        "train, valid or test": SPLIT_COLUMNS,
    }
    named = [f"| {title} | {', '.join(f'`{name}`' for name in names)} |" for title, names in columns.items()]
    return "\n".join(
        [
            _HEAD,
            "| format | files | read | not read |\n|---|---|---|---|",
            *rows,
            "\n## Options\n\nAn option that has no effect on a source is an error.\n",
            f"| option | {' | '.join(FORMATS)} |\n|---|{'---|' * len(FORMATS)}",
            *_option_rows(),
            "\n| option | acts on |\n|---|---|",
            *(f"| `{_flag(name)}` | {acts} |" for name, acts in PACK_OPTIONS.items()),
            "",
            _TABLES,
            "| meaning | names of the column, in capital or small letters |\n|---|---|",
            *named,
            "",
        ]
    )


def _option_rows() -> list[str]:
    rows = []
    for option in (field.name for field in fields(ReadOptions) if field.name != "format"):
        marks = ("yes" if option in kind.options else "error" for kind in FORMATS.values())
        rows.append(f"| `{_flag(option)}` | {' | '.join(marks)} |")
    return rows


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")
