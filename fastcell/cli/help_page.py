"""Help of a command on one screen: usage, arguments in groups with types and defaults, notes, examples."""

from __future__ import annotations

import re
import shutil
import textwrap
from collections.abc import Iterable, Mapping, Sequence

from fastcell.cli.signature import REQUIRED, Argument, Command

LEAST_COLUMNS, MOST_COLUMNS = 60, 100
_NO_BREAK = "\N{NO-BREAK SPACE}"

Row = tuple[str, str]
"""An argument in its written form, and its text."""


def help_of(command: Command) -> str:
    """Return the help of a command that a typed function describes."""
    shown = [argument for argument in command.arguments if argument.spelled.shown]
    groups: dict[str, list[Row]] = {}
    for argument in shown:
        if not argument.positional:
            groups.setdefault(argument.group, []).append(row_of(argument))
    placed = [row_of(argument) for argument in shown if argument.positional]
    return lay_out(command.usage, command.description, placed, groups, command.notes, command.examples)


def row_of(argument: Argument) -> Row:
    """Return the entry of an argument in the help."""
    if argument.positional:
        names = ", ".join(argument.shown_spellings)
        return argument.label, argument.text + (f" (also {names})" if names else "")
    default = default_text(argument.default) if argument.value else ""
    return f"{', '.join(argument.shown_spellings)} {argument.value}".strip(), argument.text + default


def default_text(default: object) -> str:
    """Return the default as shown after a text; empty for None and for an empty text, which the text explains."""
    if default in (None, "") or default is REQUIRED:
        return ""
    if isinstance(default, bool):
        default = str(default).lower()
    elif isinstance(default, float):
        default = f"{default:g}"
    return f" [default: {default}]"


def lay_out(
    usage: str,
    description: str,
    placed: Sequence[Row],
    groups: Mapping[str, Sequence[Row]],
    notes: str,
    examples: Iterable[str],
    closing: Iterable[str] = (),
    widest: int | None = None,
) -> str:
    """Return a help text, at most `MOST_COLUMNS` wide, and no wider than the terminal if that has `LEAST_COLUMNS`.

    Args:
        usage: form of the command.
        description: what it does.
        placed: positional arguments.
        groups: options by title.
        notes: paragraphs after the options. A paragraph with an indented line keeps its line breaks.
        examples: command lines.
        closing: last lines.
        widest: maximum length of an argument for its text to be on the same line; by default 46 if there are dotted
            names, which are long, else 28.
    """
    width = max(LEAST_COLUMNS, min(MOST_COLUMNS, shutil.get_terminal_size().columns))
    rows = [*placed, *(row for group in groups.values() for row in group)]
    if widest is None:
        widest = 46 if any(re.search(r"--\w+\.", name) for name, _ in rows) else 28
    column = max((len(name) for name, _ in rows if len(name) <= widest), default=0) + 4
    blocks = [f"usage: {usage}", textwrap.fill(description, width)]
    for title, group in {"": placed, **groups}.items():
        lines = [line for row in group for line in _lines_of(row, column, width)]
        if lines:
            blocks.append("\n".join([*([f"{title}:"] if title else []), *lines]))
    for paragraph in filter(None, notes.split("\n\n")):
        blocks.append(paragraph if "\n " in paragraph else textwrap.fill(" ".join(paragraph.split()), width))
    lines = [f"  {example}" for example in examples]
    if lines:
        blocks.append("\n".join(["examples:", *lines]))
    return "\n\n".join([*blocks, *(["\n".join(closing)] if closing else [])])


def _lines_of(row: Row, column: int, width: int) -> list[str]:
    """Return an argument and its text as lines; the text begins at `column`."""
    name, text = row
    whole = text.replace("[default: ", f"[default:{_NO_BREAK}")
    lines = [line.replace(_NO_BREAK, " ") for line in textwrap.wrap(whole, width - column, break_on_hyphens=False)]
    lines = lines or [""]
    if len(name) + 4 > column:
        return [f"  {name}", *(f"{'':{column}}{line}" for line in lines)]
    return [f"  {name:<{column - 2}}{lines[0]}", *(f"{'':{column}}{line}" for line in lines[1:])]
