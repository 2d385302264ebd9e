"""Arguments of a command: names, types and defaults from its function's signature, texts from its docstring."""

from __future__ import annotations

import inspect
import re
import typing
from collections.abc import Callable, Iterator
from types import NoneType, UnionType
from typing import Any, NamedTuple

from docstring_parser import Docstring, DocstringStyle, parse

REQUIRED = inspect.Parameter.empty
OPTIONS = "options"
"""Title of the options that belong to no group."""

CommandFunction = Callable[..., int]


class Spelled(NamedTuple):
    """Spelling of an argument beyond its name and type; used in ``Annotated``.

    Attributes:
        value: placeholder of the value in help and messages, e.g. ``FILE`` or ``LO HI``.
        also: further spellings in the help, e.g. ``("-o", "--out")``. A positional with such spellings may be given
            as an option, too.
        former: old spellings, which are accepted but not shown.
        shown: whether help and completion list the argument.
        takes_dotted: whether the parameter receives the options of ``fastcell fit``, whose names have a dot, unread.
        alone: whether the option makes all other arguments optional.
    """

    value: str = ""
    also: tuple[str, ...] = ()
    former: tuple[str, ...] = ()
    shown: bool = True
    takes_dotted: bool = False
    alone: bool = False


class Argument(NamedTuple):
    """One argument of a command.

    Attributes:
        dest: parameter of the function, or field of the group.
        hint: type, without ``Annotated``.
        default: value if the argument is left out; `REQUIRED` if it must be given.
        text: help text.
        group: parameter of the function that takes the group as a named tuple, else `OPTIONS`.
        positional: whether it is positional.
        repeated: whether a positional takes all further words.
        spelled: see `Spelled`.
    """

    dest: str
    hint: Any
    default: Any
    text: str
    group: str = OPTIONS
    positional: bool = False
    repeated: bool = False
    spelled: Spelled = Spelled()

    @property
    def flag(self) -> str:
        """Name as an option: ``--shard-cells`` of ``shard_cells``."""
        return "--" + self.dest.rstrip("_").replace("_", "-")

    @property
    def spellings(self) -> tuple[str, ...]:
        """All names as an option, including old ones; empty for an argument that is only positional."""
        if self.positional or self.spelled.takes_dotted:
            return (*self.spelled.also, *self.spelled.former)
        return (*self.spelled.also, self.flag, *self.spelled.former)

    @property
    def shown_spellings(self) -> tuple[str, ...]:
        """Option names that the help lists, short ones first."""
        names = [name for name in self.spellings if name not in self.spelled.former]
        return tuple(sorted(names, key=lambda name: (name.startswith("--"), name != self.flag)))

    @property
    def label(self) -> str:
        """Name in messages: ``--shard-cells``, or ``SRC`` for a positional."""
        return (self.spelled.value or self.dest.upper()) if self.positional else self.flag

    @property
    def choices(self) -> list[str]:
        """Values that the type allows; empty if any value is allowed."""
        return choices_of(self.hint)

    @property
    def is_list(self) -> bool:
        """Whether the value consists of names separated by commas."""
        return any(typing.get_origin(part) is list for part in parts_of(self.hint))

    @property
    def num_values(self) -> int:
        """Number of words after the option: 0 for a switch, 2 for a pair."""
        (kind, *_) = parts_of(self.hint)
        if kind is bool:
            return 0
        return len(typing.get_args(kind)) if typing.get_origin(kind) is tuple else 1

    @property
    def value(self) -> str:
        """Placeholder of the value, or the choices; empty for a switch."""
        if self.num_values == 0:
            return ""
        if self.choices:
            return ("," if self.is_list else "|").join(self.choices)
        if self.spelled.value:
            return self.spelled.value
        (kind, *_) = parts_of(self.hint)
        return self.dest.upper() if self.positional else {int: "N", float: "X"}.get(kind, "TEXT")


class Command(NamedTuple):
    """One command.

    Attributes:
        name: name of the command.
        function: function that runs it and returns the exit status.
        description: first paragraph of its docstring.
        notes: further paragraphs.
        examples: command lines.
        arguments: in the order of the signature.
    """

    name: str
    function: CommandFunction
    description: str
    notes: str
    examples: tuple[str, ...]
    arguments: tuple[Argument, ...]

    @property
    def positionals(self) -> list[Argument]:
        """Positional arguments."""
        return [argument for argument in self.arguments if argument.positional]

    @property
    def usage(self) -> str:
        """Form of the command, e.g. ``fastcell pack SRC OUT [options]``."""
        words = ["fastcell", self.name]
        for argument in self.positionals:
            value = argument.value
            words.append(value if argument.default is REQUIRED else f"[{value}]")
            words += [f"[{value} ...]"] if argument.repeated else []
        needed = [entry for entry in self.arguments if entry.default is REQUIRED and not entry.positional]
        words += [f"{entry.flag} {entry.value}" for entry in needed]
        return " ".join([*words, "[options]"])

    @property
    def option_names(self) -> list[str]:
        """Long names of the options, without hidden ones; those that the help lists come first."""
        shown = [argument for argument in self.arguments if argument.spelled.shown]
        listed = [name for argument in shown for name in argument.shown_spellings]
        former = [name for argument in shown for name in argument.spelled.former]
        return [name for name in ["--help", *listed, *former] if name.startswith("--")]

    def call(self, values: dict[str, Any]) -> int:
        """Call the function.

        Args:
            values: values by name of the argument.
        """
        repeated: list[Any] = []
        named: dict[str, Any] = {}
        groups: dict[str, dict[str, Any]] = {}
        for argument in self.arguments:
            value = values[argument.dest]
            if argument.repeated:
                repeated = value
            elif argument.group == OPTIONS:
                named[argument.dest] = value
            else:
                groups.setdefault(argument.group, {})[argument.dest] = value
        hints = typing.get_type_hints(self.function)
        return self.function(*repeated, **named, **{name: hints[name](**fields) for name, fields in groups.items()})


def read_command(function: CommandFunction) -> Command:
    """Return the command that a function describes.

    Positional parameters are positional arguments (``*runs`` takes one or more words), keyword-only parameters are
    options. A parameter whose type is a named tuple is a group of options.

    Args:
        function: typed function with a docstring in Google's style.
    """
    described = parse(inspect.getdoc(function) or "", DocstringStyle.GOOGLE)
    texts = {entry.arg_name: _one_line(entry.description) for entry in described.params}
    hints = typing.get_type_hints(function, include_extras=True)
    arguments: list[Argument] = []
    for entry in inspect.signature(function).parameters.values():
        hint = hints[entry.name]
        if hasattr(hint, "_fields"):
            arguments += arguments_of_group(entry.name, hint)
            continue
        places = (entry.POSITIONAL_OR_KEYWORD, entry.VAR_POSITIONAL)
        plain, spelled = _spelled(hint)
        arguments.append(
            Argument(
                entry.name,
                plain,
                entry.default,
                texts[entry.name],
                positional=entry.kind in places,
                repeated=entry.kind == entry.VAR_POSITIONAL,
                spelled=spelled,
            )
        )
    description, _, notes = _text_of(described).partition("\n\n")
    return Command(
        function.__name__,
        function,
        _one_line(description),
        notes,
        tuple(line for entry in described.examples for line in (entry.description or "").splitlines() if line),
        tuple(arguments),
    )


def _text_of(described: Docstring) -> str:
    """Return the paragraphs before the sections, separated by blank lines."""
    between = "\n\n" if described.blank_after_short_description else "\n"
    return f"{described.short_description or ''}{between}{described.long_description or ''}".strip()


def arguments_of_group(group: str, kind: Any) -> Iterator[Argument]:
    """Return the arguments that are the fields of a named tuple.

    Args:
        group: its name, the title of the options in the help.
        kind: the named tuple; its docstring has a section ``Attributes``.
    """
    texts = {entry.arg_name: _one_line(entry.description) for entry in parse(inspect.getdoc(kind) or "").params}
    for name, hint in typing.get_type_hints(kind, include_extras=True).items():
        plain, spelled = _spelled(hint)
        default = kind._field_defaults.get(name, REQUIRED)
        yield Argument(name, plain, default, texts[name], group, spelled=spelled)


def _spelled(hint: Any) -> tuple[Any, Spelled]:
    """Return a type without ``Annotated``, and its spelling."""
    if typing.get_origin(hint) is not typing.Annotated:
        return hint, Spelled()
    plain, *extras = typing.get_args(hint)
    return plain, next((extra for extra in extras if isinstance(extra, Spelled)), Spelled())


def _one_line(text: str | None) -> str:
    return re.sub(r"\s+", " ", text or "").strip()


def parts_of(hint: Any) -> list[Any]:
    """Return the members of a union type, without None."""
    if typing.get_origin(hint) not in (typing.Union, UnionType):
        return [hint]
    return [part for part in typing.get_args(hint) if part is not NoneType]


def choices_of(hint: Any) -> list[str]:
    """Return the values that a Literal, a list of it, or a union of Literals, dict and None allows; else empty.

    In a union with str they are the known values, besides which there may be others.
    """
    found: list[str] = []
    for part in parts_of(hint):
        # A class path with its arguments, as an alternative to the names; names that installed packages add.
        if typing.get_origin(part) is dict or part is str:
            continue
        (part,) = typing.get_args(part) if typing.get_origin(part) is list else (part,)
        if typing.get_origin(part) is not typing.Literal:
            return []
        found += [str(value) for value in typing.get_args(part)]
    return list(dict.fromkeys(found))


def folded(name: str) -> str:
    """Return the name of an option with ``_`` for every ``-`` inside, as Lightning spells names."""
    return "--" + name[2:].replace("-", "_") if name.startswith("--") else name
