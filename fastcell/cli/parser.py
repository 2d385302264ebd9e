"""The parser of a command: ``-`` and ``_`` alike in option names, short messages, a help of one layout."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

from fastcell.cli.slips import missing, of_argparse, unknown_words
from fastcell.errors import ArgumentError


class HelpLayout(argparse.RawDescriptionHelpFormatter):
    """Layout of a help text, the same under every Python: ``-o, --out FILE``."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        paragraphs = text.split("\n\n")
        filled = (
            super(argparse.RawDescriptionHelpFormatter, self)._fill_text(paragraph, width, indent)
            if "\n" not in paragraph.strip()
            else super(HelpLayout, self)._fill_text(paragraph, width, indent)
            for paragraph in paragraphs
        )
        return "\n\n".join(filled)

    def _format_action_invocation(self, action: argparse.Action) -> str:
        if not action.option_strings or action.nargs == 0:
            return super()._format_action_invocation(action)
        values = self._format_args(action, self._get_default_metavar_for_optional(action))
        return f"{', '.join(action.option_strings)} {values}"


class CommandParser(argparse.ArgumentParser):
    """The parser of a command.

    Args:
        prog: the command, e.g. ``fastcell pack``.
        words: how its arguments are written, e.g. ``SRC OUT``.
        description: what it does.
        epilog: text behind the options.
        allow_abbrev: whether the beginning of an option name is enough.
    """

    def __init__(
        self, prog: str, words: str, description: str, epilog: str | None = None, allow_abbrev: bool = True
    ) -> None:
        usage = " ".join(f"{prog} {words} [options]".split())
        super().__init__(
            prog=prog,
            usage=usage.replace("%", "%%"),
            description=description,
            epilog=epilog,
            formatter_class=HelpLayout,
            allow_abbrev=allow_abbrev,
        )
        self.written = usage
        self.needed: dict[str, str] = {}
        """Arguments that may be given in more than one way, of which one is needed: dest -> name in messages."""
        self._given: Sequence[str] = ()

    @property
    def options(self) -> list[str]:
        """Names of the options that the help shows, long ones."""
        shown = (action for action in self._actions if action.help != argparse.SUPPRESS)
        return [name for action in shown for name in action.option_strings if name.startswith("--")]

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse, with ``-`` and ``_`` alike in option names."""
        if args is not None:
            args = self._given = same_spelling(args, self._option_string_actions)
        found, rest = super().parse_known_args(args, namespace)
        absent = [name for dest, name in self.needed.items() if getattr(found, dest, None) is None]
        if absent:
            self.error(f"the following arguments are required: {', '.join(absent)}")
        return found, rest

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse; an argument that is not known raises an ArgumentError with the nearest right one."""
        found, rest = self.parse_known_args(args, namespace)
        if rest:
            self.refuse_unknown(rest)
        return found

    def error(self, message: str) -> NoReturn:
        """Raise the ArgumentError that says in this program's words what argparse refuses."""
        if message.startswith("the following arguments are required"):
            unknown = [word for word in self._given if self._is_unknown(word)]
            if unknown:
                self.refuse_unknown(unknown)
            given = re.sub("^.*?: ", "", message).split(", ")
            raise ArgumentError(missing([name.split("/")[-1] for name in given], self.written))
        raise ArgumentError(of_argparse(message, self.written))

    def refuse_unknown(self, words: Sequence[str]) -> NoReturn:
        """Raise the ArgumentError for arguments that the command does not take; a second line names the help."""
        raise ArgumentError(f"{unknown_words(words, self.options)}\n'{self.prog} --help' shows the options.")

    def _is_unknown(self, word: str) -> bool:
        name = word.partition("=")[0]
        return re.match("--[A-Za-z]", name) is not None and not any(
            option.startswith(name) for option in self._option_string_actions
        )


def same_spelling(words: Sequence[str], known: Iterable[str] | None = None) -> list[str]:
    """Return the arguments with the option names spelled as the parser knows them.

    Args:
        words: the arguments.
        known: option names of the parser; dotted names get ``_``, as all do if None.
    """
    names = {_folded(name): name for name in known or ()}
    result = []
    for word in words:
        if re.match("--[A-Za-z]", word):
            name, equals, value = word.partition("=")
            name = names.get(_folded(name), _folded(name) if known is None or "." in name else name)
            word = name + equals + value
        result.append(word)
    return result


def _folded(name: str) -> str:
    return "--" + name[2:].replace("-", "_") if name.startswith("--") else name
