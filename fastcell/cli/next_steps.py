"""The last lines of a command: what to do next, as commands that can be copied."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from os import PathLike

Word = str | PathLike[str]


def next_lines(*commands: tuple[Word, ...]) -> Iterator[str]:
    """Return a line for each command, e.g. ``next: fastcell report runs/20260131-142501-demo``.

    Args:
        commands: the words of each, the name of the command first; they are quoted where a shell asks for it.
    """
    for words in commands:
        yield "next: fastcell " + " ".join(shlex.quote(str(word)) for word in words)


def show_next(*commands: tuple[Word, ...]) -> None:
    """Print the lines of `next_lines`."""
    print("\n".join(next_lines(*commands)), flush=True)
