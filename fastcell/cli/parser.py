"""Parse the words of a command with a jsonargparse parser made from the signature of its function."""

from __future__ import annotations

import functools
import itertools
import json
import operator
import re
import typing
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from fastcell.cli.help_page import help_of
from fastcell.cli.signature import REQUIRED, Argument, Command, CommandFunction, folded, parts_of, read_command
from fastcell.cli.slips import Setting, kind_of, missing, of_jsonargparse, outside_choices, unknown_words
from fastcell.errors import ArgumentError
from fastcell.system.messages import print_line

_OPTION = re.compile("--?[A-Za-z]")
_MOST = (1 << 63) - 1


def entry(function: CommandFunction) -> Callable[[Sequence[str]], int]:
    """Return the entry point of a command, which parses the words after its name and calls the function.

    Args:
        function: see `fastcell.cli.signature.read_command`.
    """

    def main(argv: Sequence[str]) -> int:
        command = read_command(function)
        if any(word in ("-h", "--help") for word in itertools.takewhile(lambda word: word != "--", argv)):
            print_line(help_of(command))
            return 0
        return command.call(parse_words(command, argv))

    return main


def parse_words(command: Command, words: Sequence[str]) -> dict[str, Any]:
    """Return the value of every argument.

    Args:
        command: the command.
        words: words after its name.

    Raises:
        ArgumentError: an option is unknown, an argument is missing or given twice, or a value has the wrong type.
    """
    command = _without_required(command, words)
    given = _sort_words(command, words)
    parser = make_parser(command, {argument.dest for argument in command.positionals} - given.by_name)
    values = dict(parser.parse_args([*given.options, *(["--", *given.placed] if given.placed else [])]))
    for argument in command.arguments:
        value = values.get(argument.dest)
        if isinstance(value, int) and abs(value) > _MOST:
            raise ArgumentError(f"{argument.label} must be a whole number from -2^63 to 2^63 - 1, got {value}.")
        if argument.spelled.takes_dotted:
            values[argument.dest] = given.dotted
        elif argument.num_values > 1 and values[argument.dest] is not None:
            values[argument.dest] = tuple(values[argument.dest])
    return values


def _without_required(command: Command, words: Sequence[str]) -> Command:
    """Return the command, without required arguments if an option that stands alone is given."""
    alone = {argument.flag for argument in command.arguments if argument.spelled.alone}
    if alone.isdisjoint(
        folded(word).replace("_", "-") for word in itertools.takewhile(lambda word: word != "--", words)
    ):
        return command
    free = (entry._replace(default=None) if entry.default is REQUIRED else entry for entry in command.arguments)
    return command._replace(arguments=tuple(free))


class _Given(NamedTuple):
    """Sorted words: options spelled in full, positional arguments, and options that are passed on."""

    options: list[str]
    placed: list[str]
    dotted: list[str]
    by_name: set[str]
    """Positionals that were given as options."""


def _sort_words(command: Command, words: Sequence[str]) -> _Given:
    """Separate positional arguments from options, and spell every option as its parser does."""
    options, placed, dotted, by_name, unknown = [], [], [], set(), []
    passes_on = any(argument.spelled.takes_dotted for argument in command.arguments)
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if word == "--":
            placed += rest
            break
        if not _OPTION.match(word):
            placed.append(word)
            continue
        name, equals, value = word.partition("=")
        argument = _argument_named(command, name)
        if argument is None and not name.startswith("--") and len(name) > 2:  # -oFILE
            name, equals, value = word[:2], "=", word[2:]
            argument = _argument_named(command, name)
        if argument is None and passes_on and "." in name:
            dotted += [word, *([] if equals else _take(rest, 1))]
        elif argument is None:
            unknown.append(word)
        else:
            if equals and argument.num_values == 0:
                raise ArgumentError(f"{argument.flag} takes no value, got {value!r}.")
            values = [value] if equals else _take(rest, argument.num_values)
            options += _spell_out(argument, values)
            by_name |= {argument.dest} if argument.positional else set()
    if unknown:
        labels = [argument.label for argument in command.positionals]
        raise ArgumentError(f"{unknown_words(unknown, command.option_names, labels)}\n{_where_help_is(command)}")
    _check_positionals(command, placed, by_name)
    return _Given(options, placed, dotted, by_name)


def _argument_named(command: Command, name: str) -> Argument | None:
    """Return the argument of an option, which may be given by an unambiguous beginning of its name.

    Raises:
        ArgumentError: the beginning is ambiguous.
    """
    names = {folded(spelling): entry for entry in command.arguments for spelling in entry.spellings}
    wanted = folded(name)
    if wanted in names:
        return names[wanted]
    longer = [other for other in names if name.startswith("--") and other.startswith(wanted)]
    found = {names[other].dest: names[other] for other in longer}
    if len(found) > 1:
        flags = " or ".join(entry.flag for entry in found.values())
        raise ArgumentError(f"{name} is ambiguous: it could be {flags}.")
    return next(iter(found.values()), None)


def _take(rest: list[str], most: int) -> list[str]:
    """Remove up to `most` values from the front of the words."""
    values: list[str] = []
    while rest and len(values) < most and not _OPTION.match(rest[0]) and rest[0] != "--":
        values.append(rest.pop(0))
    return values


def _spell_out(argument: Argument, values: list[str]) -> list[str]:
    """Return an option in the form of the parser.

    Raises:
        ArgumentError: the number of values is wrong, or an entry of a list is not among its choices.
    """
    if len(values) != argument.num_values:
        count = "a value" if argument.num_values == 1 else f"{argument.num_values} values"
        raise ArgumentError(f"{argument.flag} needs {count}.")
    if argument.is_list:
        names = [name.strip() for name in values[0].split(",")]
        for name in names:
            if argument.choices and name not in argument.choices:
                raise ArgumentError(outside_choices(argument.label, argument.choices, name))
        values = [json.dumps(names)]
    return [f"{argument.flag}={values[0]}"] if len(values) == 1 else [argument.flag, *values]


def _check_positionals(command: Command, placed: Sequence[str], by_name: set[str]) -> None:
    """Raise ArgumentError for a missing argument, an argument given twice, or a superfluous word."""
    left = [argument for argument in command.positionals if argument.dest not in by_name]
    required = [argument for argument in left if argument.default is REQUIRED]
    if len(placed) < len(required):
        raise ArgumentError(missing([argument.label for argument in required[len(placed) :]], command.usage))
    if len(placed) > len(left) and not any(argument.repeated for argument in left):
        twice = [argument for argument in command.positionals if argument.dest in by_name]
        if twice:
            name = twice[0]
            raise ArgumentError(
                f"{name.label} must be given once, got {placed[-1]!r} and {name.spellings[-1]}. Leave one out."
            )
        raise ArgumentError(f"{unknown_words(placed[len(left) :], ())}\n{_where_help_is(command)}")


def _where_help_is(command: Command) -> str:
    return f"'fastcell {command.name} --help' shows the options."


def make_parser(command: Command, placed: Iterable[str] = ()) -> Any:
    """Return the jsonargparse parser of a command.

    Args:
        command: the command.
        placed: names of the arguments that are given by position; the others are options.
    """
    import jsonargparse

    class Parser(jsonargparse.ArgumentParser):
        def error(self, message: str, ex: Exception | None = None) -> Any:
            raise ArgumentError(of_jsonargparse(message, command.usage, _settings(command)))

    parser = Parser(prog=f"fastcell {command.name}")
    for argument in command.arguments:
        if not argument.spelled.takes_dotted:
            _add_argument(parser, argument, argument.dest in placed)
    return parser


def _add_argument(parser: Any, argument: Argument, by_place: bool) -> None:
    """Add an argument to a parser of jsonargparse."""
    needed = argument.default is REQUIRED
    given: dict[str, Any] = {"help": argument.text, "type": _union(_kinds(argument.hint))}
    if not needed:
        given["default"] = argument.default
    if by_place:
        if argument.repeated:
            given["nargs"] = "+"
        elif not needed:
            given["nargs"] = "?"
        parser.add_argument(argument.dest, **given)
        return
    if argument.num_values == 0:
        del given["type"]
        given["action"] = "store_true"
    elif argument.num_values > 1:
        given["nargs"] = argument.num_values
    parser.add_argument(argument.flag, dest=argument.dest, required=needed, **given)


def _kinds(hint: Any) -> list[Any]:
    """Return the alternative types of a value."""
    (first, *_) = kinds = parts_of(hint)
    return [typing.get_args(first)[0]] if typing.get_origin(first) is tuple else kinds


def _union(kinds: Sequence[Any]) -> Any:
    """Return the union of types."""
    return functools.reduce(operator.or_, kinds)


def _settings(command: Command) -> dict[str, Setting]:
    """Return the facts about each argument for error messages."""
    return {
        argument.dest: Setting(
            argument.label,
            argument.choices,
            kind_of("|".join(getattr(kind, "__name__", "") for kind in _kinds(argument.hint))),
        )
        for argument in command.arguments
    }
