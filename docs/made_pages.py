"""Pages and parts of the site that are made from the code: commands, public names, the tree of contents."""

from __future__ import annotations

import contextlib
import io
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import fastcell
from fastcell.cli.main import COMMANDS, main

COMMANDS_FOLDER = "_commands"
LIGHTNING = ("fit", "validate", "test", "predict")
_LINK = re.compile(r"\[[^\]\n]*\]\(([^)#\s]+\.md)\)")


def contents(text: str) -> str:
    """Return the trees of contents of the site, from the index page.

    Args:
        text: the index page; its tables hold links, and the first cell of a table's head names its part.
    """
    trees: list[tuple[str, list[str]]] = []
    seen: set[str] = set()
    for line in text.splitlines():
        head = re.match(r"\| ([a-zA-Z: ]+) \| *\|$", line)
        if head is not None:
            trees.append((head[1], []))
        elif not line.startswith("|"):
            trees += [("more", [])] if _LINK.search(line) and trees and trees[-1][0] != "more" else []
        if trees:
            trees[-1][1].extend(page for page in _LINK.findall(line) if page not in seen)
            seen.update(_LINK.findall(line))
    return "".join(
        f"\n```{{toctree}}\n:hidden:\n:caption: {caption[0].upper()}{caption[1:]}\n\n" + "\n".join(pages) + "\n```\n"
        for caption, pages in trees
        if pages
    )


def public_names() -> str:
    """Return directives that describe every public name."""
    lines = [""]
    for name in sorted(set(fastcell.__all__) - {"__version__"}, key=str.lower):
        kind = "autoclass" if name[0].isupper() else "autofunction"
        members = ["   :members:"] if kind == "autoclass" else []
        lines += [f"## {name}", "", "```{eval-rst}", f".. {kind}:: fastcell.{name}", *members, "```", ""]
    return "\n".join(lines)


def write_command_pages(folder: Path) -> None:
    """Write a page for each command, from its help with all options."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name in COMMANDS:
        (folder / f"{name}.md").write_text(command_page(name, help_text(name)), encoding="utf-8")


def help_text(name: str) -> str:
    """Return what a command prints for ``--help``, with all options."""
    text = io.StringIO()
    with contextlib.redirect_stdout(text), contextlib.suppress(SystemExit):
        main([name, "--help_all" if name in LIGHTNING else "--help"])
    return text.getvalue()


def command_page(name: str, text: str) -> str:
    """Return a help text as Markdown: options in tables, examples as code."""
    usage, description, *blocks = text.strip().split("\n\n")
    usage = usage.removeprefix("usage: ")
    lines = [f"# fastcell {name}", "", " ".join(description.split()), "", "```sh", usage, "```", ""]
    for block in blocks:
        title, _, rest = block.partition("\n")
        if title == "examples:":
            lines += ["## Examples", "", "```sh", *(line.strip() for line in rest.splitlines()), "```", ""]
        elif title.startswith("  ") or re.match(r"[\w. ]+:$", title):
            named = not title.startswith("  ")
            lines += [f"## {title[0].upper()}{title[1:-1]}", ""] if named else []
            rows = (f"| {_cell(option)} | {_cell(said)} |" for option, said in rows_of(rest if named else block))
            lines += ["| | |", "|---|---|", *rows, ""]
        elif "\n " in block:
            lines += ["```text", block, "```", ""]
        else:
            lines += [_plain(" ".join(block.split())), ""]
    return "\n".join(lines)


def rows_of(block: str) -> Iterator[tuple[str, str]]:
    """Yield the arguments of a block of a help, each with its text."""
    name, words = "", []
    for line in block.splitlines():
        if re.match(r"  \S", line):
            if name:
                yield name, " ".join(words)
            name, _, said = line.strip().partition("  ")
            words = said.split()
        else:
            words += line.split()
    if name:
        yield name, " ".join(words)


def _plain(text: str) -> str:
    """Return text in which Markdown sees no markup."""
    return re.sub(r"([\\*_<>\[\]{}$#`|~])", r"\\\1", text)


def _cell(text: str) -> str:
    """Return a cell of a table: options as code, other words as they are."""
    if text.startswith("-") or text.isupper():
        return "`" + text.replace("|", r"\|") + "`"
    return _plain(text)
